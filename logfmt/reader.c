/* logfmt/reader.c: iterating over the events of an open recording. */
#include "logfmt/file.h"
#include "logfmt/reader.h"

struct err *log_reader_open(const char *path, struct log_reader **out)
{
    struct log_source src;
    struct err *e = file_source_open(path, &src);
    return e ? e : log_reader_open_source(&src, path, out);
}

void log_reader_close(struct log_reader *r)
{
    if (!r)
        return;
    if (r->src.close)
        r->src.close(r->src.self);
    header_storage_deinit(&r->header);
    ZSTD_freeDCtx(r->zstd);
    buf_deinit(&r->stored);
    buf_deinit(&r->raw);
    buf_deinit(&r->index);
    buf_deinit(&r->checkpoints);
    buf_deinit(&r->checkpoint_frames);
    buf_deinit(&r->checkpoint_pages);
    buf_deinit(&r->unpacked);
    free(r->name);
    free(r);
}

const struct log_header *log_reader_header(const struct log_reader *r)
{
    return &r->header.h;
}

struct log_summary log_reader_summary(const struct log_reader *r)
{
    return r->summary;
}

static struct err *corrupt_events(const struct log_reader *r, const char *reason)
{
    return err_new(ERR_CORRUPT, "%s is damaged: event frame %zu at offset %" PRIu64 ": %s", r->name, r->frame,
                   index_at(r, r->frame)->offset, reason);
}

static struct err *load_frame(struct log_reader *r)
{
    struct pulled p;
    const struct index_entry *entry = index_at(r, r->frame);
    struct err *e = pull_frame(r, entry->offset, &p);
    if (e)
        return e;
    if (!p.fault && (p.frame.type != FRAME_EVENTS || p.frame.first.seq != entry->first.seq ||
                     p.frame.first.ticks != entry->first.ticks))
        pulled_fault(&p, FAULT_BAD, "the index contradicts it");
    if (!p.fault)
        e = pull_payload(r, &p);
    if (e)
        return e;
    if (p.fault)
        return corrupt_events(r, p.reason);
    if (!decoder_begin(&r->decoder, r->header.h.digest_period, r->raw.data, r->raw.len, p.frame.events, p.frame.first))
        return corrupt_events(r, "its columns are malformed");
    r->loaded = true;
    return NULL;
}

/* The frame was read to its end; does the next one, or the footer, continue it? */
static struct err *leave_frame(struct log_reader *r)
{
    bool is_last = r->frame + 1 == r->index_count;
    struct log_pos end = r->decoder.next;
    struct log_pos next = is_last ? r->summary.last : index_at(r, r->frame + 1)->first;
    if (end.seq != next.seq || end.ticks > next.ticks)
        return corrupt_events(r, "its events do not lead to what follows");
    r->frame++;
    r->loaded = false;
    return NULL;
}

static struct err *at_end(const struct log_reader *r, struct log_event *ev)
{
    *ev = (struct log_event){.id = LOG_EV_NONE};
    if (r->summary.state != LOG_DAMAGED)
        return NULL;
    return err_new(ERR_CORRUPT, "%s is damaged: frame %" PRIu64 " at offset %" PRIu64 ": %s", r->name,
                   r->summary.damage_frame, r->summary.damage_offset, r->damage);
}

/* One step of the decoder. *found_out: `pos` and `ev` are the event wanted. */
static struct err *step(struct log_reader *r, struct log_pos *pos, struct log_event *ev, bool *found_out)
{
    switch (decoder_next(&r->decoder, pos, ev)) {
    case DECODED_EVENT: *found_out = pos->seq >= r->want.seq && pos->ticks >= r->want.ticks; return NULL;
    case DECODED_SKIPPED: return NULL;
    case DECODED_END: return leave_frame(r);
    case DECODED_UNKNOWN:
        return err_new(ERR_UNSUPPORTED, "%s needs a newer version of this program: event %" PRIu64 " is of a new kind",
                       r->name, r->decoder.next.seq);
    case DECODED_BAD: break;
    }
    return corrupt_events(r, "its columns are malformed");
}

struct err *log_reader_next(struct log_reader *r, struct log_pos *pos, struct log_event *ev)
{
    bool found = false;
    while (!found) {
        struct err *e = NULL;
        if (r->loaded)
            e = step(r, pos, ev, &found);
        else if (r->frame < r->index_count)
            e = load_frame(r);
        else
            return at_end(r, ev);
        if (e) {
            r->loaded = false;
            return e;
        }
    }
    r->want = (struct log_pos){pos->seq + 1, pos->ticks};
    return NULL;
}

/* Go to the frame that starts with the event wanted, which must not depend on the one before; otherwise to the last that starts
 * before it: an event of the same ticks may end the frame before. */
static struct err *seek(struct log_reader *r, struct log_pos want)
{
    size_t low = 0, high = r->index_count; /* frames below `low` start before it, those from `high` on do not */
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        struct log_pos first = index_at(r, mid)->first;
        if (first.seq < want.seq || first.ticks < want.ticks)
            low = mid + 1;
        else
            high = mid;
    }
    r->want = want;
    bool first_here = !want.ticks && low < r->index_count && index_at(r, low)->first.seq == want.seq;
    r->frame = first_here ? low : low - (low > 0);
    r->loaded = false;
    return r->frame < r->index_count ? load_frame(r) : NULL;
}

struct err *log_reader_seek(struct log_reader *r, uint64_t seq)
{
    return seek(r, (struct log_pos){.seq = seq});
}

struct err *log_reader_seek_ticks(struct log_reader *r, uint64_t ticks)
{
    return seek(r, (struct log_pos){.ticks = ticks});
}
