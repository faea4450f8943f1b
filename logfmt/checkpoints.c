/* logfmt/checkpoints.c: the checkpoints of an open recording.
 *
 * No index names them: their frames fill the gaps between event frames, so whoever walks over the headers there finds
 * them. A checkpoint is complete with its state frame; page frames without one are what a recorder left behind that
 * died. */
#include "logfmt/reader.h"
#include "logfmt/words.h"

struct checkpoint_entry {
    uint64_t offset;          /* of the state frame */
    size_t frames_at, frames; /* its page frames, in r->checkpoint_frames */
    struct log_pos pos;
};

static struct err *no_memory(const struct log_reader *r)
{
    return err_new(ERR_HOST, "out of memory while reading the recording %s", r->name);
}

static size_t page_frames(const struct log_reader *r)
{
    return r->checkpoint_frames.len / sizeof(uint64_t);
}

static size_t found(const struct log_reader *r)
{
    return r->checkpoints.len / sizeof(struct checkpoint_entry);
}

static bool holds_pages(unsigned part) { return part == CHECKPOINT_PAGES || part == CHECKPOINT_WORDS; }

/* One checkpoint frame. *first: index of the first page frame of the checkpoint that is not complete yet. */
static struct err *add_frame(struct log_reader *r, const struct pulled *p, size_t *first)
{
    struct checkpoint_entry entry = {p->offset, *first, page_frames(r) - *first, p->frame.first};
    bool ok = true;
    if (holds_pages(p->frame.events))
        ok = buf_put(&r->checkpoint_frames, &p->offset, sizeof(p->offset));
    else if (p->frame.events == CHECKPOINT_STATE)
        ok = buf_put(&r->checkpoints, &entry, sizeof(entry));
    if (p->frame.events == CHECKPOINT_STATE)
        *first = page_frames(r);
    return ok ? NULL : no_memory(r);
}

/* Checkpoint frames in [from, to). *damaged: something else is there. */
static struct err *walk_gap(struct log_reader *r, uint64_t from, uint64_t to, bool *damaged)
{
    struct err *e = NULL;
    size_t first = page_frames(r);
    for (uint64_t offset = from; !e && offset < to && !*damaged;) {
        struct pulled p;
        e = pull_frame(r, offset, &p);
        if (e)
            break;
        *damaged = p.fault || p.end > to || found(r) == LOG_CHECKPOINTS_MAX;
        if (!*damaged && p.frame.type == FRAME_CHECKPOINT)
            e = add_frame(r, &p, &first);
        offset = p.end;
    }
    return e;
}

struct err *log_reader_find_checkpoints(struct log_reader *r, size_t *count_out)
{
    struct err *e = NULL;
    bool damaged = false;
    r->checkpoints.len = r->checkpoint_frames.len = 0;
    for (size_t i = 0; i < r->index_count && !e && !damaged; i++) {
        struct pulled p;
        uint64_t to = i + 1 < r->index_count ? index_at(r, i + 1)->offset : r->events_end;
        e = pull_frame(r, index_at(r, i)->offset, &p);
        damaged = !e && p.fault;
        if (!e && !damaged)
            e = walk_gap(r, p.end, to, &damaged);
    }
    *count_out = found(r);
    return e;
}

static struct err *corrupt_checkpoint(const struct log_reader *r, uint64_t offset, const char *reason)
{
    return err_new(ERR_CORRUPT, "%s is damaged: checkpoint frame at offset %" PRIu64 ": %s", r->name, offset, reason);
}

/* A checkpoint frame into r->raw. */
static struct err *pull_part(struct log_reader *r, uint64_t offset, unsigned *part)
{
    struct pulled p;
    struct err *e = pull_frame(r, offset, &p);
    if (!e && !p.fault && p.frame.type != FRAME_CHECKPOINT)
        pulled_fault(&p, FAULT_BAD, "it is another frame than it should be");
    r->loaded = false; /* the payload takes the place of the events */
    if (!e && !p.fault)
        e = pull_payload(r, &p);
    if (e)
        return e;
    *part = p.frame.events;
    return p.fault ? corrupt_checkpoint(r, offset, p.reason) : NULL;
}

/* A checkpoint's list of pages while it is read. */
struct listing {
    uint64_t page;             /* the last one */
    uint64_t content, end;     /* numbers: of the next content stored with this checkpoint; the first behind them */
    struct page_places places;
};

/* Where the content with this number is. False: in no frame that comes before the end of this checkpoint. */
static bool locate(const struct log_reader *r, const struct listing *l, uint64_t number,
                   struct log_checkpoint_page *out)
{
    if (number >= l->end)
        return false;
    out->kind = LOG_PAGE_STORED;
    out->at = ((const uint64_t *)(const void *)r->checkpoint_frames.data)[number / LOG_CHECKPOINT_FRAME_PAGES];
    out->slot = number % LOG_CHECKPOINT_FRAME_PAGES;
    return true;
}

static bool read_page(const struct log_reader *r, struct cursor *c, struct listing *l, struct log_checkpoint_page *out)
{
    uint64_t v = cursor_varint(c), number = 0;
    enum checkpoint_page kind = v & ((1 << CHECKPOINT_PAGE_BITS) - 1);
    if (kind == CHECKPOINT_PAGE_KNOWN || kind == CHECKPOINT_PAGE_FIRST)
        number = page_place_decode(&l->places, kind, cursor_varint(c));
    l->page += v >> CHECKPOINT_PAGE_BITS;
    *out = (struct log_checkpoint_page){.page = (uint32_t)l->page};
    if (c->bad || l->page > UINT32_MAX)
        return false;
    switch (kind) {
    case CHECKPOINT_PAGE_STORED:
        return locate(r, l, l->content++, out);
    case CHECKPOINT_PAGE_ZERO:
        out->kind = LOG_PAGE_ZERO;
        return true;
    case CHECKPOINT_PAGE_KNOWN:
        return locate(r, l, number, out);
    case CHECKPOINT_PAGE_FIRST:
        out->kind = LOG_PAGE_FIRST;
        out->at = number;
        return number <= UINT32_MAX;
    }
    return false;
}

/* *ok: the list is what it says, ascending. */
static struct err *read_page_list(struct log_reader *r, struct cursor *c, uint64_t pages,
                                  const struct checkpoint_entry *entry, bool *ok)
{
    struct listing l = {.content = (uint64_t)entry->frames_at * LOG_CHECKPOINT_FRAME_PAGES,
                        .end = (uint64_t)(entry->frames_at + entry->frames) * LOG_CHECKPOINT_FRAME_PAGES};
    r->checkpoint_pages.len = 0;
    *ok = pages <= cursor_left(c);
    for (uint64_t i = 0; *ok && i < pages; i++) {
        uint64_t before = l.page;
        struct log_checkpoint_page page;
        *ok = read_page(r, c, &l, &page) && (l.page > before || !i);
        if (*ok && !buf_put(&r->checkpoint_pages, &page, sizeof(page)))
            return no_memory(r);
    }
    return NULL;
}

struct err *log_reader_checkpoint(struct log_reader *r, size_t i, struct log_checkpoint *out)
{
    const struct checkpoint_entry entry = ((const struct checkpoint_entry *)r->checkpoints.data)[i];
    bool ok;
    unsigned part;
    struct err *e = pull_part(r, entry.offset, &part);
    if (e)
        return e;
    if (part != CHECKPOINT_STATE) /* the file changes under our eyes */
        return corrupt_checkpoint(r, entry.offset, "it is no state");
    struct cursor c = {r->raw.data, r->raw.data + r->raw.len, false};
    uint64_t frames = cursor_varint(&c), pages = cursor_varint(&c);
    e = read_page_list(r, &c, pages, &entry, &ok);
    if (e)
        return e;
    if (!ok || c.bad || frames != entry.frames)
        return corrupt_checkpoint(r, entry.offset, "its list of pages is malformed");
    *out = (struct log_checkpoint){.pos = entry.pos, .state = c.p, .state_len = cursor_left(&c), .pages = (size_t)pages,
                                   .page = (const struct log_checkpoint_page *)(const void *)r->checkpoint_pages.data};
    return NULL;
}

/* Contents packed by words, from r->raw into r->unpacked. *ok: they are what they say. */
static struct err *unpack_words(struct log_reader *r, bool *ok)
{
    const struct buf *in = &r->raw;
    size_t pages = in->len >= WORDS_HEAD_LEN ? get_le16(in->data) : 0;
    r->unpacked.len = 0;
    *ok = pages && pages <= LOG_CHECKPOINT_FRAME_PAGES;
    if (!*ok)
        return NULL;
    uint8_t *to = buf_reserve(&r->unpacked, pages * LOG_CHECKPOINT_PAGE);
    if (!to)
        return no_memory(r);
    r->unpacked.len = pages * LOG_CHECKPOINT_PAGE;
    *ok = words_unpack(in->data + WORDS_HEAD_LEN, in->len - WORDS_HEAD_LEN, to, r->unpacked.len);
    return NULL;
}

struct err *log_reader_checkpoint_content(struct log_reader *r, uint64_t offset, const uint8_t **data, size_t *pages)
{
    unsigned part;
    struct err *e = pull_part(r, offset, &part);
    if (e)
        return e;
    const struct buf *contents = part == CHECKPOINT_WORDS ? &r->unpacked : &r->raw;
    bool ok = holds_pages(part);
    if (part == CHECKPOINT_WORDS)
        e = unpack_words(r, &ok);
    if (e)
        return e;
    if (!ok || !contents->len || contents->len % LOG_CHECKPOINT_PAGE)
        return corrupt_checkpoint(r, offset, "it does not hold whole pages");
    *data = contents->data;
    *pages = contents->len / LOG_CHECKPOINT_PAGE;
    return NULL;
}
