/* logfmt/writer.h: what the parts of the writer share. Internal to logfmt/.
 *     writer.c            header, content, events, the end; the rules of crash safety
 *     writer_checkpoint.c checkpoints, and the thread that writes them */
#ifndef HW_LOGFMT_WRITER_H
#define HW_LOGFMT_WRITER_H

#include <pthread.h>
#include <zstd.h>

#include "logfmt/codec.h"
#include "logfmt/frame.h"
#include "logfmt/known.h"

/* A checkpoint on its way to the file: what it was when it was taken, because the guest goes on. */
struct checkpoint_job {
    bool running; /* by `thread` */
    pthread_t thread;
    struct log_pos at;
    uint8_t *parts;          /* frames of contents that are not written yet: room for a header, then pages */
    size_t pages;            /* so many are in there */
    struct buf list, state;  /* which pages the checkpoint has; the last frame */
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
    struct known known;     /* contents that checkpoints may refer to */
    uint64_t content_slots; /* places for contents that the frames of all checkpoints have together */
};

/* ---- writer.c. Errors are those of log_writer_blob(). ---- */

must_check struct err *writer_check_usable(struct log_writer *w);
must_check struct err *writer_fail_memory(struct log_writer *w);
/* A frame with this payload. level: of zstd, 0 stores; what does not shrink is stored as well. */
must_check struct err *writer_frame(struct log_writer *w, struct frame f, const uint8_t *raw, size_t raw_len,
                                    int level);
/* A frame with its lengths set, whose payload stands in `bytes` as it is to be stored, behind room for the header. */
must_check struct err *writer_send(struct log_writer *w, struct frame f, uint8_t *bytes);

/* ---- writer_checkpoint.c ---- */

void writer_settle(struct log_writer *w); /* rule (6) of writer.c: the thread has ended */
void writer_job_deinit(struct checkpoint_job *job);

#endif
