/* logfmt/writer.c: the recorder's side of a recording.
 *
 * Crash safety rests on these rules, which tests/unit/logfmt_writer.c and logfmt_crash.c cite:
 *  (1) Bytes are only ever appended, whole frames at a time; what a reader accepted once stays valid.
 *  (2) A frame reaches the kernel in one write, so a killed process leaves at most one incomplete frame, at the end.
 *  (3) A frame needs nothing that comes after it.
 *  (4) The footer is the last thing written; a recording is closed exactly when it has one.
 *  (5) After a failed write the file is cut back to its last whole frame, and nothing is ever written again.
 *  (6) While a thread writes a checkpoint, the file, the scratch buffers and `failed` are its own. The recorder goes on
 *      collecting events, which needs none of them; whoever does joins the thread first (settle()). */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#define XXH_INLINE_ALL
#include <xxhash.h>
#include <zstd.h>

#include "core/base/check.h"
#include "core/base/hash.h"
#include "logfmt/codec.h"
#include "logfmt/file.h"
#include "logfmt/frame.h"

enum {
    FRAME_TARGET_LEN = 64 << 10, /* a frame is written when its events reach this many bytes */
    EVENTS_LEVEL = 12,           /* zstd levels: a frame of events is small, so a high one costs nothing */
    CONTENT_LEVEL = 3,
};

/* A checkpoint on its way to the file: what it was when it was taken, because the guest goes on. */
struct checkpoint_job {
    bool running; /* by `thread` */
    pthread_t thread;
    struct log_pos at;
    struct buf pages;        /* contents that are not written yet */
    struct buf list, state;  /* which pages they are; the last frame */
};

struct log_writer {
    struct log_sink sink;
    char *name;
    uint64_t salt;
    uint64_t len; /* bytes of the file: whole frames only */
    uint64_t frames;
    struct err *failed; /* (5); NULL while all is well */
    bool finished;

    ZSTD_CCtx *zstd;
    struct encoder encoder;
    struct log_pos first; /* of the frame being collected */
    uint64_t next_seq, last_ticks;
    struct buf payload, frame; /* scratch */

    struct buf index; /* struct index_entry[] */
    size_t blob_count;
    struct blob_entry blobs[LOG_BLOBS_MAX];

    struct checkpoint_job job;
};

/* (5). Takes over `e` and returns another of the same text. */
static struct err *fail(struct log_writer *w, struct err *e)
{
    w->failed = e;
    w->sink.truncate(w->sink.self, w->len);
    return err_new(err_code(e), "%s", err_message(e));
}

static struct err *fail_memory(struct log_writer *w)
{
    return fail(w, err_new(ERR_HOST, "out of memory while writing the recording %s", w->name));
}

static struct err *write_all(struct log_writer *w, const uint8_t *data, size_t len)
{
    for (size_t done = 0; done < len;) {
        int64_t n = w->sink.write(w->sink.self, data + done, len - done);
        if (n <= 0)
            return err_errno(ERR_HOST, n ? (int)-n : ENOSPC, "cannot write the recording %s", w->name);
        done += (uint64_t)n;
    }
    w->len += len;
    return NULL;
}

/* Pack `raw` behind the room for a frame header. Content that does not shrink is stored as it is. */
static bool pack(struct log_writer *w, struct frame *f, const uint8_t *raw, int level)
{
    w->frame.len = 0;
    uint8_t *out = buf_reserve(&w->frame, FRAME_HEADER_LEN + f->raw_len);
    if (!out)
        return false;
    out += FRAME_HEADER_LEN;
    size_t n = 0;
    if (level && f->raw_len)
        n = ZSTD_compressCCtx(w->zstd, out, f->raw_len - 1, raw, f->raw_len, level);
    if (n && !ZSTD_isError(n)) {
        f->flags |= FRAME_ZSTD;
        f->stored_len = (uint32_t)n;
    } else {
        f->stored_len = f->raw_len;
        if (f->raw_len)
            memcpy(out, raw, f->raw_len);
    }
    return true;
}

/* level: of zstd, 0 stores. */
static struct err *write_frame(struct log_writer *w, struct frame f, const uint8_t *raw, size_t raw_len, int level)
{
    f.raw_len = (uint32_t)raw_len;
    if (!pack(w, &f, raw, level))
        return fail_memory(w);
    f.payload_sum = hash64(w->frame.data + FRAME_HEADER_LEN, f.stored_len, w->salt);
    frame_header_encode(&f, w->salt, w->frame.data);
    struct err *e = write_all(w, w->frame.data, FRAME_HEADER_LEN + f.stored_len); /* (2) */
    if (e)
        return fail(w, e);
    w->frames++;
    return NULL;
}

/* (6) */
static void settle(struct log_writer *w)
{
    if (!w->job.running)
        return;
    pthread_join(w->job.thread, NULL);
    w->job.running = false;
    buf_deinit(&w->job.pages); /* a boot's first checkpoint is large, those behind it are not */
    w->job.pages = (struct buf){0};
}

/* Every public function that writes begins with this: (5), (6), and nothing follows log_writer_finish(). */
static struct err *check_usable(struct log_writer *w)
{
    settle(w);
    CHECK(!w->finished, "the recording %s is closed already", w->name);
    return w->failed ? err_new(err_code(w->failed), "%s", err_message(w->failed)) : NULL;
}

static struct err *write_header(struct log_writer *w, const struct log_header *h)
{
    w->payload.len = 0;
    struct err *e = header_encode(h, &w->payload);
    if (e)
        return err_wrap(e, "creating the recording %s", w->name);
    w->salt = header_salt(w->payload.data);
    return write_all(w, w->payload.data, w->payload.len);
}

struct err *log_writer_create_sink(const struct log_sink *sink, const char *name, const struct log_header *h,
                                   struct log_writer **out)
{
    struct log_writer *w = calloc(1, sizeof(*w));
    if (!w) {
        sink->close(sink->self);
        return err_new(ERR_HOST, "out of memory");
    }
    w->sink = *sink;
    w->name = strdup(name);
    w->zstd = ZSTD_createCCtx();
    encoder_init(&w->encoder, h->digest_period);
    struct err *e = w->name && w->zstd ? write_header(w, h) : err_new(ERR_HOST, "out of memory");
    if (e) {
        log_writer_destroy(w);
        return e;
    }
    *out = w;
    return NULL;
}

struct err *log_writer_create(const char *path, const struct log_header *h, struct log_writer **out)
{
    struct log_sink sink;
    struct err *e = file_sink_open(path, &sink);
    return e ? e : log_writer_create_sink(&sink, path, h, out);
}

void log_writer_destroy(struct log_writer *w)
{
    if (!w)
        return;
    settle(w);
    w->sink.close(w->sink.self);
    err_destroy(w->failed);
    encoder_deinit(&w->encoder);
    ZSTD_freeCCtx(w->zstd);
    buf_deinit(&w->payload);
    buf_deinit(&w->frame);
    buf_deinit(&w->index);
    buf_deinit(&w->job.pages);
    buf_deinit(&w->job.list);
    buf_deinit(&w->job.state);
    free(w->name);
    free(w);
}

/* ---- Content ---- */

static struct err *write_pieces(struct log_writer *w, const uint8_t *data, struct blob_entry *b)
{
    for (uint64_t done = 0; done < b->blob.len; b->pieces++) {
        size_t len = MIN(b->blob.len - done, (uint64_t)LOG_FRAME_RAW_MAX);
        struct frame f = {.type = FRAME_CONTENT, .first.ticks = done};
        struct err *e = write_frame(w, f, data + done, len, CONTENT_LEVEL);
        if (e)
            return e;
        done += len;
    }
    return NULL;
}

static const struct blob_entry *find_content(const struct log_writer *w, const struct log_blob *b)
{
    for (size_t i = 0; i < w->blob_count; i++) {
        const struct log_blob *other = &w->blobs[i].blob;
        if (other->len == b->len && other->hash[0] == b->hash[0] && other->hash[1] == b->hash[1])
            return &w->blobs[i];
    }
    return NULL;
}

struct err *log_writer_blob(struct log_writer *w, const char *role, const void *data, uint64_t len)
{
    struct err *e = check_usable(w);
    if (e)
        return e;
    CHECK(w->next_seq == 0 && w->blob_count < LOG_BLOBS_MAX, "content %s comes too late or is too much", role);
    CHECK(name_good(role) && strlen(role) <= LOG_BLOB_ROLE_MAX, "role %s", role);
    if (len > LOG_BLOB_LEN_MAX)
        return err_new(ERR_HOST, "%s has %" PRIu64 " bytes, a recording holds up to %" PRIu64, role, len,
                       LOG_BLOB_LEN_MAX);

    XXH128_hash_t hash = XXH3_128bits(data, len);
    struct blob_entry *b = &w->blobs[w->blob_count];
    *b = (struct blob_entry){.blob = {.len = len, .hash = {hash.low64, hash.high64}}, .pieces_offset = w->len};
    strcpy(b->role, role);
    const struct blob_entry *same = find_content(w, &b->blob);
    if (same) {
        b->pieces_offset = same->pieces_offset;
        b->pieces = same->pieces;
    } else if ((e = write_pieces(w, data, b))) {
        return e;
    }
    w->payload.len = 0;
    if (!blob_entry_encode(b, &w->payload))
        return fail_memory(w);
    w->blob_count++;
    return write_frame(w, (struct frame){.type = FRAME_BLOB}, w->payload.data, w->payload.len, 0);
}

/* ---- Events ---- */

static struct err *flush_events(struct log_writer *w)
{
    struct err *e = check_usable(w);
    if (e || w->encoder.events == 0)
        return e;
    struct frame f = {.type = FRAME_EVENTS, .events = (uint16_t)w->encoder.events, .first = w->first};
    struct index_entry entry = {w->len, w->first};
    w->payload.len = 0;
    if (!encoder_take(&w->encoder, &w->payload) || !buf_put(&w->index, &entry, sizeof(entry)))
        return fail_memory(w);
    return write_frame(w, f, w->payload.data, w->payload.len, EVENTS_LEVEL);
}

struct err *log_writer_event(struct log_writer *w, uint64_t ticks, const struct log_event *ev)
{
    /* (6): a failure of the thread is told by the next flush. */
    struct err *e = w->job.running ? NULL : check_usable(w);
    if (e)
        return e;
    CHECK(ticks >= w->last_ticks && ticks < INT64_MAX, "event at %" PRIu64 " after one at %" PRIu64, ticks,
          w->last_ticks);
    if (w->encoder.events == 0)
        w->first = (struct log_pos){w->next_seq, ticks};
    if (!encoder_add(&w->encoder, ticks, ev)) {
        e = check_usable(w);
        return e ? e : fail_memory(w);
    }
    w->next_seq++;
    w->last_ticks = ticks;
    bool full = w->encoder.len >= FRAME_TARGET_LEN || w->encoder.events == LOG_FRAME_EVENTS_MAX;
    return full ? flush_events(w) : NULL;
}

struct err *log_writer_flush(struct log_writer *w)
{
    return flush_events(w);
}

/* ---- Checkpoints ---- */

enum {
    CHECKPOINT_LEVEL = 1,         /* they are many bytes, in the middle of a recording */
    JOB_PAGES_MAX = 16384,        /* that wait in memory for the thread; what is more is written before */
    PART_LEN = LOG_CHECKPOINT_FRAME_PAGES * LOG_CHECKPOINT_PAGE,
};

static struct err *write_part(struct log_writer *w, enum checkpoint_part part, const uint8_t *raw, size_t len)
{
    struct frame f = {.type = FRAME_CHECKPOINT, .flags = FRAME_SKIPPABLE, .events = (uint16_t)part, .first = w->job.at};
    return write_frame(w, f, raw, len, CHECKPOINT_LEVEL);
}

static struct err *write_pages(struct log_writer *w)
{
    struct buf *pages = &w->job.pages;
    struct err *e = NULL;
    for (size_t done = 0; done < pages->len && !e; done += PART_LEN)
        e = write_part(w, CHECKPOINT_PAGES, pages->data + done, MIN(pages->len - done, (size_t)PART_LEN));
    pages->len = 0;
    return e;
}

static void *write_job(void *arg)
{
    struct log_writer *w = arg;
    struct err *e = write_pages(w);
    if (!e)
        e = write_part(w, CHECKPOINT_STATE, w->job.state.data, w->job.state.len);
    err_destroy(e); /* (5): w->failed has it */
    return NULL;
}

/* Pages that are not zero, and the list of all. *frames: how many frames they will have taken. */
static struct err *copy_pages(struct log_writer *w, const struct log_checkpoint_source *c, size_t *frames)
{
    struct checkpoint_job *job = &w->job;
    uint32_t before = 0;
    size_t copied = 0;
    struct err *e = NULL;
    job->pages.len = job->list.len = 0;
    for (size_t i = 0; i < c->pages && !e; before = c->page[i++]) {
        const uint8_t *data = c->content(c->arg, c->page[i]);
        if (data && job->pages.len == (size_t)JOB_PAGES_MAX * LOG_CHECKPOINT_PAGE)
            e = write_pages(w);
        if (!buf_put_varint(&job->list, (uint64_t)(c->page[i] - before) << 1 | !data) ||
            (data && !buf_put(&job->pages, data, LOG_CHECKPOINT_PAGE)))
            return e ? e : fail_memory(w);
        copied += data != NULL;
    }
    *frames = (copied + LOG_CHECKPOINT_FRAME_PAGES - 1) / LOG_CHECKPOINT_FRAME_PAGES;
    return e;
}

static bool put_state(struct log_writer *w, const struct log_checkpoint_source *c, size_t frames)
{
    struct buf *out = &w->job.state;
    out->len = 0;
    return buf_put_varint(out, frames) && buf_put_varint(out, c->pages) &&
           buf_put(out, w->job.list.data, w->job.list.len) && buf_put(out, c->state, c->state_len);
}

/* On a thread, that takes no signals meant for the program; without one, here. */
static void start_job(struct log_writer *w)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    w->job.running = pthread_create(&w->job.thread, NULL, write_job, w) == 0;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (!w->job.running)
        write_job(w);
}

/* Bytes of the list of pages. */
static size_t page_list_len(const struct log_checkpoint_source *c)
{
    size_t len = 0;
    uint32_t before = 0;
    for (size_t i = 0; i < c->pages; before = c->page[i++])
        for (uint64_t v = (uint64_t)(c->page[i] - before) << 1; v || !len; v >>= 7)
            len++;
    return len;
}

struct err *log_writer_checkpoint(struct log_writer *w, uint64_t ticks, const struct log_checkpoint_source *c, bool *written)
{
    struct err *e = check_usable(w);
    size_t frames = 0;
    *written = !e && page_list_len(c) + c->state_len + 2 * VARINT_MAX < LOG_FRAME_RAW_MAX;
    if (e || !*written)
        return e;
    CHECK(ticks >= w->last_ticks, "a checkpoint at %" PRIu64 " after an event at %" PRIu64, ticks, w->last_ticks);
    e = flush_events(w);
    w->job.at = (struct log_pos){w->next_seq, ticks};
    if (!e)
        e = copy_pages(w, c, &frames);
    if (e)
        return e;
    if (!put_state(w, c, frames))
        return fail_memory(w);
    start_job(w);
    return NULL;
}

/* ---- The end ---- */

static struct err *write_index(struct log_writer *w)
{
    const struct index_entry *entries = (const struct index_entry *)w->index.data;
    size_t count = w->index.len / sizeof(*entries);
    for (size_t i = 0; i < count;) {
        struct frame f = {.type = FRAME_INDEX, .first.seq = i};
        struct index_entry prev = {0};
        for (w->payload.len = 0; i < count && w->payload.len + 3 * VARINT_MAX <= LOG_FRAME_RAW_MAX; prev = entries[i++])
            if (!index_entry_encode(&entries[i], &prev, &w->payload))
                return fail_memory(w);
        struct err *e = write_frame(w, f, w->payload.data, w->payload.len, EVENTS_LEVEL);
        if (e)
            return e;
    }
    return NULL;
}

static struct err *write_footer(struct log_writer *w, uint64_t index_offset, uint64_t final_ticks)
{
    uint8_t payload[FOOTER_LEN];
    struct footer footer = {index_offset, w->index.len / sizeof(struct index_entry), w->frames};
    footer_encode(&footer, payload);
    struct frame f = {.type = FRAME_FOOTER, .first = {w->next_seq, final_ticks}};
    return write_frame(w, f, payload, sizeof(payload), 0);
}

struct err *log_writer_finish(struct log_writer *w, uint64_t final_ticks)
{
    struct err *e = check_usable(w);
    if (e)
        return e;
    CHECK(final_ticks >= w->last_ticks, "the end at %" PRIu64 " lies before the last event", final_ticks);
    e = flush_events(w);
    uint64_t index_offset = w->len;
    if (!e)
        e = write_index(w);
    if (!e)
        e = write_footer(w, index_offset, final_ticks); /* (4) */
    if (e)
        return e;
    int r = w->sink.sync(w->sink.self);
    if (r)
        return fail(w, err_errno(ERR_HOST, -r, "cannot save the recording %s", w->name));
    w->finished = true;
    return NULL;
}

uint64_t log_writer_next_seq(const struct log_writer *w) { return w->next_seq; }

uint64_t log_writer_file_len(struct log_writer *w)
{
    settle(w);
    return w->len;
}
