/* logfmt/open.c: opening a recording.
 *
 *   header -> content directory -> footer good? -> index good? -> LOG_CLOSED
 *                                       |              |
 *                                       +---> scan <---+  -> LOG_TRUNCATED at an incomplete frame or the file's end,
 *                                                            LOG_DAMAGED at a wrong one
 *
 * After this every kind of recording looks the same to the event reader: an index of event frames. */
#include "core/base/check.h"
#include "logfmt/reader.h"

static struct err *corrupt_at(const struct log_reader *r, const struct pulled *p, uint64_t frame)
{
    return err_new(ERR_CORRUPT, "%s is damaged: frame %" PRIu64 " at offset %" PRIu64 ": %s", r->name, frame, p->offset,
                   p->reason);
}

static struct err *newer_frame(const struct log_reader *r, const struct pulled *p)
{
    return err_new(ERR_UNSUPPORTED, "%s needs a newer version of this program: frame type %u at offset %" PRIu64,
                   r->name, p->frame.type, p->offset);
}

static bool known_type(const struct frame *f) { return f->type >= FRAME_CONTENT && f->type <= FRAME_FOOTER; }

/* ---- Header ---- */

static struct err *read_header(struct log_reader *r)
{
    uint8_t prefix[HEADER_PREFIX_LEN];
    uint32_t len;
    enum fault fault;
    struct err *e = pull_bytes(r, 0, prefix, sizeof(prefix), &fault);
    if (!e && fault)
        e = err_new(ERR_CORRUPT, "this is no recording, or nothing but its first bytes");
    if (!e)
        e = header_prefix_decode(prefix, &len);
    if (e)
        return err_wrap(e, "%s", r->name);

    uint8_t *data = len <= r->src.len ? buf_reserve(&r->stored, len) : NULL;
    if (len > r->src.len)
        return err_new(ERR_CORRUPT, "%s: the recording ends inside its header", r->name);
    if (!data)
        return err_new(ERR_HOST, "out of memory");
    e = pull_bytes(r, 0, data, len, &fault);
    if (!e && fault)
        e = err_new(ERR_CORRUPT, "the recording ends inside its header");
    if (!e)
        e = header_decode(data, len, &r->header);
    if (e)
        return err_wrap(e, "%s", r->name);
    r->header_len = len;
    r->salt = header_salt(data);
    return NULL;
}

/* ---- Content directory ---- */

static const char *add_blob(struct log_reader *r, uint64_t entry_offset)
{
    struct blob_entry *b = &r->blobs[r->blob_count];
    if (r->blob_count == LOG_BLOBS_MAX)
        return "there are too many content entries";
    if (!blob_entry_decode(r->raw.data, r->raw.len, b))
        return "the content entry is malformed";
    uint64_t pieces_max = (entry_offset - r->header_len) / FRAME_HEADER_LEN;
    if (b->pieces_offset < r->header_len || b->pieces_offset > entry_offset || b->pieces > pieces_max ||
        b->pieces > b->blob.len || b->blob.len > (uint64_t)b->pieces * LOG_FRAME_RAW_MAX)
        return "the content entry contradicts the file";
    b->blob.role = b->role;
    if (log_reader_blob_find(r, b->role))
        return "two content entries have one role";
    r->blob_count++;
    return NULL;
}

/* One frame of the content part. *done_out: it is the first that does not belong to it. */
static struct err *read_content_frame(struct log_reader *r, struct pulled *p, bool *done_out)
{
    *done_out = known_type(&p->frame) && p->frame.type != FRAME_CONTENT && p->frame.type != FRAME_BLOB;
    if (!known_type(&p->frame) && !(p->frame.flags & FRAME_SKIPPABLE))
        return newer_frame(r, p);
    if (p->frame.type != FRAME_BLOB)
        return NULL;
    struct err *e = pull_payload(r, p);
    if (e || p->fault)
        return e;
    const char *bad = add_blob(r, p->offset);
    if (bad)
        pulled_fault(p, FAULT_BAD, bad);
    return NULL;
}

/* A piece's payload is checked when the blob is read. */
static struct err *read_content_directory(struct log_reader *r)
{
    r->events_offset = r->header_len;
    for (bool done = false; r->events_offset < r->src.len;) {
        struct pulled p;
        bool zeroes = false;
        struct err *e = pull_frame(r, r->events_offset, &p);
        if (!e && !p.fault)
            e = read_content_frame(r, &p, &done);
        if (!e && p.fault == FAULT_BAD)
            e = pull_zeroes(r, p.offset, &zeroes);
        if (e)
            return e;
        if (p.fault == FAULT_BAD && !zeroes)
            return corrupt_at(r, &p, r->content_frames);
        if (p.fault || done)
            break;
        r->events_offset = p.end;
        r->content_frames++;
    }
    r->summary.blob_bytes = r->events_offset - r->header_len;
    return NULL;
}

/* ---- Index ---- */

static struct err *add_index(struct log_reader *r, const struct index_entry *entry)
{
    if (!buf_put(&r->index, entry, sizeof(*entry)))
        return err_new(ERR_HOST, "out of memory while reading the recording %s", r->name);
    r->index_count++;
    return NULL;
}

/* Entry `e` may follow the last one: frames, events and time only advance. */
static bool index_entry_fits(const struct log_reader *r, const struct index_entry *e, const struct footer *footer)
{
    const struct index_entry *last = r->index_count ? index_at(r, r->index_count - 1) : NULL;
    if (e->offset >= footer->index_offset || footer->index_offset - e->offset < FRAME_HEADER_LEN)
        return false;
    if (!last)
        return e->offset >= r->events_offset && e->first.seq == 0;
    return e->offset > last->offset && e->offset - last->offset > FRAME_HEADER_LEN && e->first.seq > last->first.seq &&
           e->first.ticks >= last->first.ticks;
}

/* The entries of the index frame in r->raw. */
static struct err *add_index_frame(struct log_reader *r, struct pulled *p, const struct footer *footer)
{
    struct cursor c = {r->raw.data, r->raw.data + r->raw.len, false};
    struct index_entry prev = {0}, entry;
    while (cursor_left(&c)) {
        if (!index_entry_decode(&c, &prev, &entry) || !index_entry_fits(r, &entry, footer) ||
            r->index_count == LOG_INDEX_MAX) {
            pulled_fault(p, FAULT_BAD, "the index is malformed");
            return NULL;
        }
        struct err *e = add_index(r, &entry);
        if (e)
            return e;
        prev = entry;
    }
    return NULL;
}

/* *ok_out: the index is whole. It contradicts nothing that is known so far; the frames themselves are compared with it
 * as they are read. */
static struct err *read_index(struct log_reader *r, const struct pulled *footer_frame, const struct footer *footer,
                              bool *ok_out)
{
    *ok_out = false;
    uint64_t offset = footer->index_offset;
    while (offset < footer_frame->offset) {
        struct pulled p;
        struct err *e = offset < r->events_offset ? NULL : pull_frame(r, offset, &p);
        if (e || offset < r->events_offset)
            return e;
        if (p.fault || p.frame.type != FRAME_INDEX || p.frame.first.seq != r->index_count ||
            p.end > footer_frame->offset)
            return NULL;
        e = pull_payload(r, &p);
        if (!e && !p.fault)
            e = add_index_frame(r, &p, footer);
        if (e || p.fault)
            return e;
        offset = p.end;
    }
    struct log_pos last = r->index_count ? index_at(r, r->index_count - 1)->first : (struct log_pos){0};
    bool none = r->index_count == 0;
    *ok_out = offset == footer_frame->offset && r->index_count == footer->event_frames &&
              none == (footer_frame->frame.first.seq == 0) && (none || last.seq < footer_frame->frame.first.seq) &&
              last.ticks <= footer_frame->frame.first.ticks;
    return NULL;
}

/* The fast way: footer and index from the end of the file. *ok_out false: scan. */
static struct err *open_closed(struct log_reader *r, bool *ok_out)
{
    *ok_out = false;
    uint64_t footer_len = FRAME_HEADER_LEN + FOOTER_LEN;
    if (r->src.len < r->events_offset || r->src.len - r->events_offset < footer_len)
        return NULL;
    struct pulled p;
    struct err *e = pull_frame(r, r->src.len - footer_len, &p);
    if (e || p.fault || p.frame.type != FRAME_FOOTER || p.frame.raw_len != FOOTER_LEN || p.end != r->src.len)
        return e;
    e = pull_payload(r, &p);
    if (e || p.fault)
        return e;
    struct footer footer;
    footer_decode(r->raw.data, &footer);
    e = read_index(r, &p, &footer, ok_out);
    if (!e && *ok_out) {
        r->summary.state = LOG_CLOSED;
        r->summary.last = p.frame.first;
        r->events_end = footer.index_offset;
    }
    return e;
}

/* ---- Scan ---- */

struct scan {
    struct log_pos next; /* what the next event frame must continue from */
    uint64_t frame;
    bool footer_seen;
};

static struct err *scan_events(struct log_reader *r, struct scan *s, struct pulled *p)
{
    if (p->frame.first.seq != s->next.seq || p->frame.first.ticks < s->next.ticks || r->index_count == LOG_INDEX_MAX) {
        pulled_fault(p, FAULT_BAD, "it does not continue the frame before it");
        return NULL;
    }
    s->next = (struct log_pos){p->frame.first.seq + p->frame.events, p->frame.first.ticks};
    return add_index(r, &(struct index_entry){p->offset, p->frame.first});
}

static struct err *scan_frame(struct log_reader *r, struct scan *s, struct pulled *p)
{
    if (!known_type(&p->frame))
        return p->frame.flags & FRAME_SKIPPABLE ? NULL : newer_frame(r, p);
    struct err *e = pull_stored(r, p);
    if (e || p->fault)
        return e;
    if (s->footer_seen || p->frame.type == FRAME_CONTENT || p->frame.type == FRAME_BLOB)
        pulled_fault(p, FAULT_BAD, "it is not allowed here");
    else if (p->frame.type == FRAME_EVENTS)
        return scan_events(r, s, p);
    else if (p->frame.type == FRAME_FOOTER && p->end == r->src.len)
        pulled_fault(p, FAULT_BAD, "it contradicts the recording"); /* or open_closed() would have been content */
    s->footer_seen = s->footer_seen || p->frame.type == FRAME_FOOTER;
    return NULL;
}

static struct err *scan_stops(struct log_reader *r, const struct scan *s, const struct pulled *p)
{
    bool zeroes = false;
    struct err *e = p->fault == FAULT_BAD ? pull_zeroes(r, p->offset, &zeroes) : NULL;
    if (e)
        return e;
    if ((p->fault == FAULT_BAD && !zeroes) || s->footer_seen) {
        r->summary.state = LOG_DAMAGED;
        r->summary.damage_frame = s->frame;
        r->summary.damage_offset = p->offset;
        r->damage = p->reason;
    }
    return NULL;
}

/* Where the events end: the last event's ticks are known only to the frame itself. */
static struct err *find_last_event(struct log_reader *r)
{
    if (r->index_count == 0)
        return NULL;
    struct pulled p;
    const struct index_entry *last = index_at(r, r->index_count - 1);
    struct err *e = pull_frame(r, last->offset, &p);
    r->summary.last = last->first;
    if (!e && !p.fault)
        e = pull_payload(r, &p);
    if (e || p.fault)
        return e;
    if (!decoder_begin(&r->decoder, r->header.h.digest_period, r->raw.data, r->raw.len, p.frame.events, p.frame.first))
        return NULL; /* log_reader_next() will say it */
    struct log_pos pos;
    struct log_event ev;
    enum decoded d;
    while ((d = decoder_next(&r->decoder, &pos, &ev)) == DECODED_EVENT || d == DECODED_SKIPPED)
        r->summary.last = r->decoder.next;
    return NULL;
}

static struct err *open_unclosed(struct log_reader *r)
{
    struct scan s = {.frame = r->content_frames};
    r->index_count = 0;
    r->index.len = 0;
    r->events_end = r->events_offset;
    r->summary.state = LOG_TRUNCATED;
    for (uint64_t offset = r->events_offset; offset < r->src.len; s.frame++) {
        struct pulled p;
        struct err *e = pull_frame(r, offset, &p);
        if (!e && !p.fault)
            e = scan_frame(r, &s, &p);
        if (!e && p.fault)
            e = scan_stops(r, &s, &p);
        if (e)
            return e;
        if (p.fault)
            break;
        offset = r->events_end = p.end;
    }
    return find_last_event(r);
}

/* ---- All of it ---- */

static struct err *open_parts(struct log_reader *r)
{
    bool closed;
    struct err *e = read_header(r);
    if (!e)
        e = read_content_directory(r);
    if (!e)
        e = open_closed(r, &closed);
    if (!e && !closed)
        e = open_unclosed(r);
    r->summary.event_frames = r->index_count;
    return e;
}

struct err *log_reader_open_source(const struct log_source *src, const char *name, struct log_reader **out)
{
    struct log_reader *r = calloc(1, sizeof(*r));
    if (!r) {
        if (src->close)
            src->close(src->self);
        return err_new(ERR_HOST, "out of memory");
    }
    r->src = *src;
    r->name = strdup(name);
    r->zstd = ZSTD_createDCtx();
    r->summary.file_len = src->len;
    struct err *e = r->name && r->zstd ? open_parts(r) : err_new(ERR_HOST, "out of memory");
    if (e) {
        log_reader_close(r);
        return e;
    }
    *out = r;
    return NULL;
}
