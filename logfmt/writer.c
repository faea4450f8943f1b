/* logfmt/writer.c: the recorder's side of a recording.
 *
 * Crash safety rests on these rules, which tests/unit/logfmt_writer.c and logfmt_crash.c cite:
 *  (1) Bytes are only ever appended, whole frames at a time; what a reader accepted once stays valid.
 *  (2) A frame reaches the kernel in one write, so a killed process leaves at most one incomplete frame, at the end.
 *  (3) A frame needs nothing that comes after it.
 *  (4) The footer is the last thing written; a recording is closed exactly when it has one.
 *  (5) After a failed write the file is cut back to its last whole frame, and nothing is ever written again.
 *  (6) While a thread writes a checkpoint, the file, the scratch buffers and `failed` are its own. The recorder goes on
 *      collecting events, which needs none of them; whoever does joins the thread first (writer_settle()). */
#include "logfmt/writer.h"

#include <errno.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "core/base/check.h"
#include "core/base/hash.h"
#include "logfmt/file.h"

enum {
    FRAME_TARGET_LEN = 64 << 10, /* a frame is written when its events reach this many bytes */
    EVENTS_LEVEL = 12,           /* zstd levels: a frame of events is small, so a high one costs nothing */
    CONTENT_LEVEL = 3,
};

/* (5). Takes over `e` and returns another of the same text. */
static struct err *fail(struct log_writer *w, struct err *e)
{
    w->failed = e;
    w->sink.truncate(w->sink.self, w->len);
    return err_new(err_code(e), "%s", err_message(e));
}

struct err *writer_fail_memory(struct log_writer *w)
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

struct err *writer_send(struct log_writer *w, struct frame f, uint8_t *bytes)
{
    f.payload_sum = hash64(bytes + FRAME_HEADER_LEN, f.stored_len, w->salt);
    frame_header_encode(&f, w->salt, bytes);
    struct err *e = write_all(w, bytes, FRAME_HEADER_LEN + f.stored_len); /* (2) */
    if (e)
        return fail(w, e);
    w->frames++;
    return NULL;
}

struct err *writer_frame(struct log_writer *w, struct frame f, const uint8_t *raw, size_t raw_len, int level)
{
    f.raw_len = (uint32_t)raw_len;
    return pack(w, &f, raw, level) ? writer_send(w, f, w->frame.data) : writer_fail_memory(w);
}

/* Every public function that writes begins with this: (5), (6), and nothing follows log_writer_finish(). */
struct err *writer_check_usable(struct log_writer *w)
{
    writer_settle(w);
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

struct err *log_writer_create_fd(int fd, const char *name, const struct log_header *h, struct log_writer **out)
{
    struct log_sink sink;
    struct err *e = file_sink_of(fd, name, &sink);
    return e ? e : log_writer_create_sink(&sink, name, h, out);
}

void log_writer_destroy(struct log_writer *w)
{
    if (!w)
        return;
    writer_settle(w);
    w->sink.close(w->sink.self);
    err_destroy(w->failed);
    encoder_deinit(&w->encoder);
    ZSTD_freeCCtx(w->zstd);
    buf_deinit(&w->payload);
    buf_deinit(&w->frame);
    buf_deinit(&w->index);
    writer_job_deinit(&w->job);
    known_deinit(&w->known);
    free(w->name);
    free(w);
}

/* ---- Content ---- */

static struct err *write_pieces(struct log_writer *w, const uint8_t *data, struct blob_entry *b)
{
    for (uint64_t done = 0; done < b->blob.len; b->pieces++) {
        size_t len = MIN(b->blob.len - done, (uint64_t)LOG_FRAME_RAW_MAX);
        struct frame f = {.type = FRAME_CONTENT, .first.ticks = done};
        struct err *e = writer_frame(w, f, data + done, len, CONTENT_LEVEL);
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
    struct err *e = writer_check_usable(w);
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
        return writer_fail_memory(w);
    w->blob_count++;
    return writer_frame(w, (struct frame){.type = FRAME_BLOB}, w->payload.data, w->payload.len, 0);
}

/* ---- Events ---- */

struct err *log_writer_flush(struct log_writer *w)
{
    struct err *e = writer_check_usable(w);
    if (e || w->encoder.events == 0)
        return e;
    struct frame f = {.type = FRAME_EVENTS, .events = (uint16_t)w->encoder.events, .first = w->first};
    struct index_entry entry = {w->len, w->first};
    w->payload.len = 0;
    if (!encoder_take(&w->encoder, &w->payload) || !buf_put(&w->index, &entry, sizeof(entry)))
        return writer_fail_memory(w);
    return writer_frame(w, f, w->payload.data, w->payload.len, EVENTS_LEVEL);
}

struct err *log_writer_event(struct log_writer *w, uint64_t ticks, const struct log_event *ev)
{
    /* (6): a failure of the thread is told by the next flush. */
    struct err *e = w->job.running ? NULL : writer_check_usable(w);
    if (e)
        return e;
    CHECK(ticks >= w->last_ticks && ticks < INT64_MAX, "event at %" PRIu64 " after one at %" PRIu64, ticks,
          w->last_ticks);
    if (w->encoder.events == 0)
        w->first = (struct log_pos){w->next_seq, ticks};
    if (!encoder_add(&w->encoder, ticks, ev)) {
        e = writer_check_usable(w);
        return e ? e : writer_fail_memory(w);
    }
    w->next_seq++;
    w->last_ticks = ticks;
    bool full = w->encoder.len >= FRAME_TARGET_LEN || w->encoder.events == LOG_FRAME_EVENTS_MAX;
    return full ? log_writer_flush(w) : NULL;
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
                return writer_fail_memory(w);
        struct err *e = writer_frame(w, f, w->payload.data, w->payload.len, EVENTS_LEVEL);
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
    return writer_frame(w, f, payload, sizeof(payload), 0);
}

struct err *log_writer_finish(struct log_writer *w, uint64_t final_ticks)
{
    struct err *e = writer_check_usable(w);
    if (e)
        return e;
    CHECK(final_ticks >= w->last_ticks, "the end at %" PRIu64 " lies before the last event", final_ticks);
    e = log_writer_flush(w);
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
    writer_settle(w);
    return w->len;
}
