/* logfmt/reader.h: what the parts of the reader share. Internal to logfmt/.
 *     pull.c    bytes and frames from the source, checked
 *     open.c    header, content directory, index or scan
 *     reader.c  the events
 *     content.c the blobs */
#ifndef HW_LOGFMT_READER_H
#define HW_LOGFMT_READER_H

#include <zstd.h>

#include "logfmt/codec.h"
#include "logfmt/frame.h"

struct log_reader {
    struct log_source src;
    char *name;
    struct header_storage header;
    uint64_t header_len, salt;
    uint64_t events_offset; /* where content ends */
    uint64_t content_frames;
    struct log_summary summary;
    const char *damage;     /* LOG_DAMAGED: what is wrong */

    ZSTD_DCtx *zstd;
    struct buf stored, raw; /* scratch; `raw` holds the payload that `decoder` reads */

    size_t blob_count;
    struct blob_entry blobs[LOG_BLOBS_MAX];
    struct buf index; /* struct index_entry[] */
    size_t index_count;
    uint64_t events_end; /* where the last frame that was found whole ends, index and footer not counted */

    struct buf checkpoints; /* struct checkpoint_entry[] */
    struct buf checkpoint_frames; /* uint64_t[]: offsets of page frames */
    struct buf checkpoint_pages; /* scratch: struct log_checkpoint_page[] */
    struct buf unpacked;    /* scratch: contents of a page frame */

    /* The events. Invariant: the next one to return is the first with seq >= want.seq and ticks >= want.ticks, and it
     * is not in a frame before `frame`. So whatever fails can be tried again, with the same result. */
    struct log_pos want;
    size_t frame;
    bool loaded; /* `decoder` is in `frame` */
    struct decoder decoder;
};

static inline const struct index_entry *index_at(const struct log_reader *r, size_t i)
{
    return (const struct index_entry *)r->index.data + i;
}

/* ---- pull.c ---- */

enum fault {
    FAULT_NONE,
    FAULT_SHORT, /* the file ends too early */
    FAULT_BAD,
};

struct pulled {
    struct frame frame;
    uint64_t offset, end; /* of the frame, and behind its payload */
    enum fault fault;
    const char *reason;   /* when there is a fault */
};

/* Exactly `len` bytes, or FAULT_SHORT. Errors of all these: ERR_HOST only; what is wrong with the file is a fault. */
must_check struct err *pull_bytes(struct log_reader *r, uint64_t offset, void *buf, size_t len, enum fault *out);
/* The frame header at `offset`; its payload lies within the file. */
must_check struct err *pull_frame(struct log_reader *r, uint64_t offset, struct pulled *out);
/* The payload of a frame without a fault and of a known type into r->stored, checked but packed. Faults go to `p`. */
must_check struct err *pull_stored(struct log_reader *r, struct pulled *p);
/* The same, and unpacked into r->raw. */
must_check struct err *pull_payload(struct log_reader *r, struct pulled *p);
/* The rest of the file is zeroes: space that a crash of the host left behind. */
must_check struct err *pull_zeroes(struct log_reader *r, uint64_t offset, bool *out);

static inline void pulled_fault(struct pulled *p, enum fault fault, const char *reason)
{
    p->fault = fault;
    p->reason = reason;
}

#endif
