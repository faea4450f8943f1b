/* logfmt/log.h: writing and reading recordings (.hwr). The bytes are described in docs/recording-format.md.
 *
 * This library knows no machine: a header's facts and a state digest's register image are the caller's. A writer and
 * a reader each belong to one thread; any number may exist.
 *
 *     struct log_writer *w;                          struct log_reader *r;
 *     log_writer_create("a.hwr", &header, &w);       log_reader_open("a.hwr", &r);
 *     log_writer_blob(w, "kernel", bytes, len);      log_reader_blob_load(r, log_reader_blob_find(r, "kernel"), ...);
 *     log_writer_event(w, ticks, &event);            while (!log_reader_next(r, &pos, &ev) && ev.id != LOG_EV_NONE)
 *     log_writer_flush(w);  (once a second)              ...
 *     log_writer_finish(w, ticks);                   log_reader_close(r);
 *     log_writer_destroy(w);
 */
#ifndef HW_LOGFMT_LOG_H
#define HW_LOGFMT_LOG_H

#include "core/base/base.h"
#include "core/base/err.h"
#include "logfmt/event.h"

enum {
    LOG_VERSION = 1,    /* what this library writes */
    LOG_MIN_READER = 1, /* the oldest reader that understands what it writes */
};

/* Limits of the format: a reader refuses what exceeds them before it allocates anything. */
enum {
    LOG_HEADER_MAX = 1 << 20,      /* bytes of the file header */
    LOG_FACTS_MAX = 512,           /* facts in it */
    LOG_FACT_KEY_MAX = 64,         /* bytes of a key, 1 at least */
    LOG_FACT_VALUE_MAX = 4096,     /* bytes of a value */
    LOG_FRAME_RAW_MAX = 1 << 20,   /* bytes of a frame's payload, unpacked */
    LOG_FRAME_EVENTS_MAX = 1 << 15, /* events in a frame */
    LOG_BLOBS_MAX = 64,            /* blobs in a recording */
    LOG_BLOB_ROLE_MAX = 64,        /* bytes of a role, 1 at least */
    LOG_CHECKPOINT_PAGE = 4096,    /* bytes of a page of a checkpoint */
    LOG_CHECKPOINT_FRAME_PAGES = 256, /* pages in a frame */
    LOG_CHECKPOINTS_MAX = 1 << 20, /* checkpoints in a recording */
};
#define LOG_BLOB_LEN_MAX GIB(4)     /* bytes of a blob */
#define LOG_INDEX_MAX (UINT32_C(1) << 26) /* event frames in a recording (two years of one a second) */

enum log_clock { LOG_CLOCK_HOST, LOG_CLOCK_VIRTUAL };
enum log_tick_unit { LOG_TICK_STEP /* instruction, REP iteration, or delivery */ };

/* A statement about the recorded machine, its CPU model, its host class or the recording itself. Keys are unique words
 * of a-z, 0-9 and ".-_": "machine.ram_len", "cpu.features", "host.flags_and", "created.program". */
struct log_fact {
    const char *key;
    const char *value; /* one line of UTF-8 text, no control characters; numbers in decimal or 0x-hexadecimal */
};

struct log_header {
    uint16_t version, min_reader; /* set by the reader; the writer puts its own */
    enum log_clock clock;
    enum log_tick_unit tick_unit;
    uint64_t digest_period; /* ticks; events at multiples of it are stored shortest. 0: none */
    const struct log_fact *facts;
    size_t fact_count;
};

/* The value of a fact, NULL when it is not stated; as a number, false when it is none. */
const char *log_header_fact(const struct log_header *h, const char *key);
bool log_header_fact_u64(const struct log_header *h, const char *key, uint64_t *out);

/* ---- Writing ---- */

/* Where a writer's bytes go. Results are as those of the system calls, with -errno for failures. A thread of the writer's
 * own may call write and truncate (log_writer_checkpoint()), but nobody calls at the same time. */
struct log_sink {
    void *self;
    int64_t (*write)(void *self, const void *data, size_t len); /* appends; may be short */
    int (*truncate)(void *self, uint64_t len);
    int (*sync)(void *self);
    void (*close)(void *self); /* called once, by log_writer_destroy() or a failing create */
};

struct log_writer;

/* Create the file and write the header; one that was there goes, but who reads it may go on. `h` is borrowed for the call.
 * Errors: ERR_HOST, also while another process writes it. */
must_check struct err *log_writer_create(const char *path, const struct log_header *h, struct log_writer **out);
/* Into a file that is open and empty; `fd` stays the caller's. `name` is for messages. */
must_check struct err *log_writer_create_fd(int fd, const char *name, const struct log_header *h, struct log_writer **out);
must_check struct err *log_writer_create_sink(const struct log_sink *sink, const char *name, const struct log_header *h,
                                              struct log_writer **out);

/* Store content under a role ("kernel", "initrd", "cmdline", "firmware"; a word as fact keys are). Before the first
 * event; each role once. The same bytes under a second role cost one small frame. len may be 0.
 * Errors of this and of the functions below: ERR_HOST. The file is then cut back to its last whole frame, so it stays
 * readable, and every later call returns the error again. */
must_check struct err *log_writer_blob(struct log_writer *w, const char *role, const void *data, uint64_t len);

/* Append an event at `ticks` (not less than the previous event's). Buffered: up to 64 KiB until a frame is written. */
must_check struct err *log_writer_event(struct log_writer *w, uint64_t ticks, const struct log_event *ev);

/* A state that a replay may start from: opaque bytes, and the pages that changed since the checkpoint before. It stands at
 * `ticks` (not less than the last event's), before the next event, and changes nothing for who does not know it. */
struct log_checkpoint_source {
    const uint8_t *state;
    size_t state_len;
    const uint32_t *page; /* numbers, ascending */
    size_t pages;
    const uint8_t *(*content)(void *arg, uint32_t page); /* LOG_CHECKPOINT_PAGE bytes; NULL: zeroes */
    void *arg;
};
/* What `c` points at is copied and may change afterwards: a thread of the writer's own writes it, while events go on being
 * added. Content that the recording has already is not stored again. Errors come with the next call that writes.
 * *written: false when it is too large for the format (more than some 300,000 pages): nothing was written then. */
must_check struct err *log_writer_checkpoint(struct log_writer *w, uint64_t ticks, const struct log_checkpoint_source *c,
                                             bool *written);
/* Before the first checkpoint: what a page holds at tick 0, which whoever reads checkpoints knows. */
must_check struct err *log_writer_first_page(struct log_writer *w, uint32_t page, const uint8_t *content);

/* Hand everything buffered to the kernel: from here on it survives the death of this process. Cheap when empty. */
must_check struct err *log_writer_flush(struct log_writer *w);

/* Flush, write index and footer, and wait until the disk has it all. The recording is closed; only
 * log_writer_destroy() may follow. final_ticks: where the machine stopped. */
must_check struct err *log_writer_finish(struct log_writer *w, uint64_t final_ticks);

/* Release everything. Without log_writer_finish() the file is left as a killed recorder would leave it, less what was
 * never flushed: readable, and marked as not closed. NULL is fine. */
void log_writer_destroy(struct log_writer *w);

uint64_t log_writer_next_seq(const struct log_writer *w);  /* the seq the next event gets */
uint64_t log_writer_file_len(struct log_writer *w);        /* bytes handed to the kernel so far */

/* ---- Reading ---- */

/* Where a reader's bytes come from. */
struct log_source {
    void *self;
    uint64_t len; /* bytes; the reader looks at no byte beyond */
    /* The number of bytes read, which may be short; 0 at the end; -errno. */
    int64_t (*read_at)(void *self, uint64_t offset, void *buf, size_t len);
    void (*close)(void *self); /* called once, by log_reader_close() or a failing open; may be NULL */
};

enum log_state {
    LOG_CLOSED,    /* footer and index are there */
    LOG_TRUNCATED, /* the recorder was killed, or the end of the file is missing; whole up to summary.last */
    LOG_DAMAGED,   /* bytes are wrong at summary.damage_offset; log_reader_next() says so when it gets there */
};

struct log_summary {
    enum log_state state;
    struct log_pos last;     /* closed: where the machine stopped, seq = number of events. Otherwise: the last readable
                                event's ticks, seq = number of readable events */
    uint64_t file_len;       /* bytes */
    uint64_t blob_bytes;     /* of these, stored content: headers of content frames included */
    uint64_t event_frames;
    uint64_t damage_frame, damage_offset; /* LOG_DAMAGED: number (from 0, all types) and file offset of the frame */
};

struct log_blob {
    const char *role;
    uint64_t len;    /* bytes, unpacked */
    uint64_t hash[2]; /* XXH3-128 of the content, low half first */
};

struct log_reader;

/* Open a recording and check its header, its content directory, and its end. A recording that is not closed is scanned
 * and opens as far as it is whole. What the reader allocates is bounded by the limits above and the file's length.
 * Errors: ERR_INPUT (no such file), ERR_CORRUPT (no recording, or damaged before the first event),
 * ERR_UNSUPPORTED (a newer format), ERR_HOST. */
must_check struct err *log_reader_open(const char *path, struct log_reader **out);
must_check struct err *log_reader_open_source(const struct log_source *src, const char *name, struct log_reader **out);
void log_reader_close(struct log_reader *r); /* NULL is fine */

const struct log_header *log_reader_header(const struct log_reader *r); /* lives as long as the reader */
struct log_summary log_reader_summary(const struct log_reader *r);

/* The next event; ev->id is LOG_EV_NONE after the last one. Bytes in it are valid until the next call on `r`.
 * Errors: ERR_CORRUPT (names frame and offset), ERR_UNSUPPORTED (an event of a newer format), ERR_HOST. After an error
 * the reader stays where it is: seek, or close. */
must_check struct err *log_reader_next(struct log_reader *r, struct log_pos *pos, struct log_event *ev);

/* Go on reading with the event number `seq`, or with the first event at or after `ticks`; past the last one is allowed
 * and means the end. Errors as above. */
must_check struct err *log_reader_seek(struct log_reader *r, uint64_t seq);
must_check struct err *log_reader_seek_ticks(struct log_reader *r, uint64_t ticks);

/* Checkpoints, in the order of their positions. Looking for them costs a look at each of their frames' headers. One that is
 * damaged ends the list. */
must_check struct err *log_reader_find_checkpoints(struct log_reader *r, size_t *count_out);
enum log_page_kind {
    LOG_PAGE_STORED, /* `at`: its frame, for log_reader_checkpoint_content(); `slot`: which of the contents there */
    LOG_PAGE_ZERO,
    LOG_PAGE_FIRST,  /* as the page `at` was at tick 0 */
};
struct log_checkpoint_page {
    uint32_t page;
    uint16_t slot;
    enum log_page_kind kind;
    uint64_t at;
};
struct log_checkpoint {
    struct log_pos pos;        /* seq: of the event that follows */
    const uint8_t *state;      /* borrowed until the next call on `r`, as is `page` */
    size_t state_len;
    const struct log_checkpoint_page *page; /* by ascending number */
    size_t pages;
};
must_check struct err *log_reader_checkpoint(struct log_reader *r, size_t i, struct log_checkpoint *out);
/* All contents of a page frame, LOG_CHECKPOINT_FRAME_PAGES or fewer: a slot may lie beyond. *data is borrowed until the
 * next call on `r`. */
must_check struct err *log_reader_checkpoint_content(struct log_reader *r, uint64_t offset, const uint8_t **data,
                                                     size_t *pages);

/* Content. Blobs live as long as the reader. */
size_t log_reader_blob_count(const struct log_reader *r);
const struct log_blob *log_reader_blob(const struct log_reader *r, size_t i);
const struct log_blob *log_reader_blob_find(const struct log_reader *r, const char *role); /* NULL when there is none */

/* Unpack a blob piece by piece; the memory used does not depend on its length. `fn` is called in order; the content is
 * proved good (hash) only when this returns NULL. */
must_check struct err *log_reader_blob_stream(struct log_reader *r, const struct log_blob *b,
                                              struct err *(*fn)(void *arg, const uint8_t *data, size_t len), void *arg);
/* The whole blob in fresh memory, followed by a NUL byte that does not count; free() it. ERR_CORRUPT when it is longer
 * than max_len. */
must_check struct err *log_reader_blob_load(struct log_reader *r, const struct log_blob *b, uint64_t max_len,
                                            uint8_t **out);

#endif
