/* logfmt/content.c: the blobs of a recording. One piece is in memory at a time. */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "logfmt/reader.h"

size_t log_reader_blob_count(const struct log_reader *r) { return r->blob_count; }

const struct log_blob *log_reader_blob(const struct log_reader *r, size_t i) { return &r->blobs[i].blob; }

const struct log_blob *log_reader_blob_find(const struct log_reader *r, const char *role)
{
    for (size_t i = 0; i < r->blob_count; i++)
        if (!strcmp(r->blobs[i].role, role))
            return &r->blobs[i].blob;
    return NULL;
}

static struct err *corrupt_content(const struct log_reader *r, const struct log_blob *b, const char *reason)
{
    return err_new(ERR_CORRUPT, "%s is damaged: its %s: %s", r->name, b->role, reason);
}

/* The piece at `offset`, which must be the one that starts at `done`, into r->raw. */
static struct err *pull_piece(struct log_reader *r, const struct log_blob *b, uint64_t offset, uint64_t done,
                              uint64_t *end_out)
{
    struct pulled p;
    struct err *e = pull_frame(r, offset, &p);
    if (e)
        return e;
    if (!p.fault && (p.frame.type != FRAME_CONTENT || p.frame.first.ticks != done || p.frame.raw_len > b->len - done))
        pulled_fault(&p, FAULT_BAD, "a piece of it is missing");
    if (!p.fault)
        e = pull_payload(r, &p);
    if (e)
        return e;
    *end_out = p.end;
    return p.fault ? corrupt_content(r, b, p.reason) : NULL;
}

struct err *log_reader_blob_stream(struct log_reader *r, const struct log_blob *b,
                                   struct err *(*fn)(void *arg, const uint8_t *data, size_t len), void *arg)
{
    const struct blob_entry *entry = (const struct blob_entry *)((const char *)b - offsetof(struct blob_entry, blob));
    uint64_t offset = entry->pieces_offset, done = 0;
    XXH3_state_t hash;
    XXH3_128bits_reset(&hash);
    r->loaded = false; /* the pieces go through the event decoder's memory */
    for (uint32_t i = 0; i < entry->pieces; i++) {
        struct err *e = pull_piece(r, b, offset, done, &offset);
        if (!e)
            e = fn(arg, r->raw.data, r->raw.len);
        if (e)
            return e;
        XXH3_128bits_update(&hash, r->raw.data, r->raw.len);
        done += r->raw.len;
    }
    XXH128_hash_t h = XXH3_128bits_digest(&hash);
    if (done != b->len || !sums_equal(h.low64, b->hash[0]) || !sums_equal(h.high64, b->hash[1]))
        return corrupt_content(r, b, "the whole does not have the hash it should have");
    return NULL;
}

struct growing { /* a blob on its way into memory */
    uint8_t *data;
    uint64_t len;
};

static struct err *append(void *arg, const uint8_t *data, size_t len)
{
    struct growing *g = arg;
    memcpy(g->data + g->len, data, len);
    g->len += len;
    return NULL;
}

struct err *log_reader_blob_load(struct log_reader *r, const struct log_blob *b, uint64_t max_len, uint8_t **out)
{
    if (b->len > max_len)
        return err_new(ERR_CORRUPT, "%s: its %s has %" PRIu64 " bytes, more than %" PRIu64, r->name, b->role, b->len,
                       max_len);
    struct growing g = {.data = malloc(b->len + 1)};
    if (!g.data)
        return err_new(ERR_HOST, "out of memory: the %s of %s has %" PRIu64 " bytes", b->role, r->name, b->len);
    struct err *e = log_reader_blob_stream(r, b, append, &g);
    if (e) {
        free(g.data);
        return e;
    }
    g.data[b->len] = 0;
    *out = g.data;
    return NULL;
}
