/* logfmt/pull.c: bytes and frames from the source. Everything is checked here: lengths against the limits and the
 * file's length before anything is allocated or read, checksums before anything is unpacked. */
#include "logfmt/reader.h"

static const char ends_inside[] = "the file ends inside it";

struct err *pull_bytes(struct log_reader *r, uint64_t offset, void *buf, size_t len, enum fault *out)
{
    *out = FAULT_NONE;
    if (offset > r->src.len || len > r->src.len - offset) {
        *out = FAULT_SHORT;
        return NULL;
    }
    for (size_t done = 0; done < len;) {
        int64_t n = r->src.read_at(r->src.self, offset + done, (uint8_t *)buf + done, len - done);
        if (n < 0)
            return err_errno(ERR_HOST, (int)-n, "cannot read the recording %s", r->name);
        if (n == 0) { /* the file shrank under our eyes */
            *out = FAULT_SHORT;
            return NULL;
        }
        done += (uint64_t)n;
    }
    return NULL;
}

struct err *pull_frame(struct log_reader *r, uint64_t offset, struct pulled *out)
{
    uint8_t header[FRAME_HEADER_LEN];
    enum fault fault;
    *out = (struct pulled){.offset = offset};
    struct err *e = pull_bytes(r, offset, header, sizeof(header), &fault);
    if (e)
        return e;
    if (fault) {
        pulled_fault(out, fault, ends_inside);
        return NULL;
    }
    const char *bad = frame_header_decode(header, r->salt, &out->frame);
    out->end = offset + FRAME_HEADER_LEN + out->frame.stored_len;
    if (bad)
        pulled_fault(out, FAULT_BAD, bad);
    else if (out->end > r->src.len)
        pulled_fault(out, FAULT_SHORT, ends_inside);
    return NULL;
}

static struct err *no_memory(const struct log_reader *r)
{
    return err_new(ERR_HOST, "out of memory while reading the recording %s", r->name);
}

struct err *pull_stored(struct log_reader *r, struct pulled *p)
{
    r->stored.len = 0;
    uint8_t *stored = buf_reserve(&r->stored, p->frame.stored_len + 1); /* + 1: never NULL for an empty payload */
    if (!stored)
        return no_memory(r);
    enum fault fault;
    struct err *e = pull_bytes(r, p->offset + FRAME_HEADER_LEN, stored, p->frame.stored_len, &fault);
    if (e)
        return e;
    r->stored.len = p->frame.stored_len;
    if (fault)
        pulled_fault(p, fault, ends_inside);
    else if (!frame_payload_good(&p->frame, r->salt, stored))
        pulled_fault(p, FAULT_BAD, "its payload's checksum is wrong");
    return NULL;
}

struct err *pull_payload(struct log_reader *r, struct pulled *p)
{
    struct err *e = pull_stored(r, p);
    if (e || p->fault)
        return e;
    r->raw.len = 0;
    uint8_t *raw = buf_reserve(&r->raw, p->frame.raw_len + 1);
    if (!raw)
        return no_memory(r);
    size_t n = p->frame.raw_len;
    if (p->frame.flags & FRAME_ZSTD)
        n = ZSTD_decompressDCtx(r->zstd, raw, p->frame.raw_len, r->stored.data, r->stored.len);
    else
        memcpy(raw, r->stored.data, n);
    if (n != p->frame.raw_len) /* zstd's errors are large numbers */
        pulled_fault(p, FAULT_BAD, "its payload does not unpack");
    r->raw.len = p->frame.raw_len;
    return NULL;
}

struct err *pull_zeroes(struct log_reader *r, uint64_t offset, bool *out)
{
    *out = true;
    while (*out && offset < r->src.len) {
        uint8_t chunk[4096];
        size_t len = MIN(r->src.len - offset, (uint64_t)sizeof(chunk));
        enum fault fault;
        struct err *e = pull_bytes(r, offset, chunk, len, &fault);
        if (e)
            return e;
        for (size_t i = 0; i < len && !fault; i++)
            *out = *out && chunk[i] == 0;
        offset += len;
    }
    return NULL;
}
