/* tests/unit/logfmt_util.h: recordings in memory, and one small recording that has everything in it, for the tests and
 * the fuzz harness of logfmt/. */
#ifndef HW_TESTS_LOGFMT_UTIL_H
#define HW_TESTS_LOGFMT_UTIL_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/check.h"
#include "logfmt/log.h"

static inline void succeeds(struct err *e) { CHECK(!e, "%s", err_message(e)); }

/* ---- A file in memory, as sink and as source ---- */

struct memory_file {
    uint8_t *data;
    size_t len;
    /* Faults of the sink */
    uint64_t writes;     /* write calls so far */
    uint64_t fail_at;    /* the write call that fails, from 1; 0: none */
    int fail_errno;      /* 0: it returns 0 */
    size_t short_by;     /* before it, this many bytes of that call still get through: a short write */
    bool truncate_fails;
    bool sync_fails;
    bool closed;
};

static inline int64_t memory_append(struct memory_file *f, const void *data, size_t len)
{
    f->data = realloc(f->data, f->len + len + 1);
    CHECK(f->data, "out of memory");
    memcpy(f->data + f->len, data, len);
    f->len += len;
    return (int64_t)len;
}

static inline int64_t memory_write(void *self, const void *data, size_t len)
{
    struct memory_file *f = self;
    f->writes++;
    if (!f->fail_at || f->writes < f->fail_at)
        return memory_append(f, data, len);
    size_t fits = MIN(f->short_by, len);
    f->short_by = 0;
    if (fits)
        return memory_append(f, data, fits);
    return -f->fail_errno;
}

static inline int memory_truncate(void *self, uint64_t len)
{
    struct memory_file *f = self;
    if (f->truncate_fails)
        return -EIO;
    CHECK(len <= f->len, "truncate makes the file longer");
    f->len = len;
    return 0;
}

static inline int memory_sync(void *self)
{
    return ((struct memory_file *)self)->sync_fails ? -EIO : 0;
}

static inline void memory_close(void *self)
{
    ((struct memory_file *)self)->closed = true;
}

static inline int64_t memory_read_at(void *self, uint64_t offset, void *buf, size_t len)
{
    struct memory_file *f = self;
    if (offset >= f->len)
        return 0;
    size_t n = MIN(len, f->len - offset);
    memcpy(buf, f->data + offset, n);
    return (int64_t)n;
}

static inline struct log_sink memory_sink(struct memory_file *f)
{
    return (struct log_sink){f, memory_write, memory_truncate, memory_sync, memory_close};
}

static inline struct log_source memory_source(struct memory_file *f)
{
    return (struct log_source){f, f->len, memory_read_at, memory_close};
}

static inline struct log_reader *reader_of(struct memory_file *f)
{
    struct log_source src = memory_source(f);
    struct log_reader *r;
    succeeds(log_reader_open_source(&src, "sample", &r));
    return r;
}

/* ---- The sample ---- */

enum { SAMPLE_PERIOD = 1000000, SAMPLE_FINAL_TICKS = 12345678 };

static const struct log_fact sample_facts[] = {
    {"machine.ram_len", "536870912"},
    {"cpu.features", "0x1f"},
    {"host.class", "undefined-flags=intel-1"},
    {"created.program", "hyperwind 0.1.0"},
    {"created.note", ""},
};

static const struct log_header sample_header = {
    .clock = LOG_CLOCK_HOST,
    .tick_unit = LOG_TICK_STEP,
    .digest_period = SAMPLE_PERIOD,
    .facts = sample_facts,
    .fact_count = ARRAY_LEN(sample_facts),
};

/* The same bytes on every host and in every year: xorshift64*. */
static inline uint64_t sample_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state * UINT64_C(0x2545f4914f6cdd1d);
}

static inline void sample_fill(uint64_t *state, void *to, size_t len)
{
    for (size_t i = 0; i < len; i++)
        ((uint8_t *)to)[i] = (uint8_t)(sample_random(state) >> 56);
}

static inline struct err *sample_blobs(struct log_writer *w)
{
    uint64_t state = 7;
    uint8_t kernel[1500];
    sample_fill(&state, kernel, 300);
    memset(kernel + 300, 0x90, sizeof(kernel) - 300);
    struct err *e = log_writer_blob(w, "kernel", kernel, sizeof(kernel));
    if (!e)
        e = log_writer_blob(w, "cmdline", "console=ttyS0 panic=-1", 22);
    if (!e)
        e = log_writer_blob(w, "initrd", NULL, 0);
    return e ? e : log_writer_blob(w, "module", kernel, sizeof(kernel));
}

static inline struct err *sample_digests(struct log_writer *w, uint64_t *state, uint64_t from, uint64_t to)
{
    struct err *e = NULL;
    for (uint64_t n = from; n <= to && !e; n++) {
        struct log_event ev = {.id = LOG_EV_DIGEST};
        sample_fill(state, &ev.digest, sizeof(ev.digest));
        e = log_writer_event(w, n * SAMPLE_PERIOD, &ev);
    }
    return e;
}

static inline struct err *sample_state(struct log_writer *w, uint64_t *state, uint64_t ticks)
{
    uint8_t registers[96] = {0};
    sample_fill(state, registers, 32);
    struct log_event ev = {.id = LOG_EV_STATE_DIGEST};
    sample_fill(state, &ev.state_digest, offsetof(struct log_state_digest, registers));
    ev.state_digest.registers = (struct log_bytes){registers, sizeof(registers)};
    return log_writer_event(w, ticks, &ev);
}

static inline struct err *sample_anchor(struct log_writer *w, uint64_t ticks, uint64_t ns, uint64_t rate)
{
    struct log_event ev = {.id = LOG_EV_TIME_ANCHOR, .time_anchor = {ns, rate}};
    return log_writer_event(w, ticks, &ev);
}

/* Three frames; every kind of event, every column with more than one value somewhere. */
static inline struct err *sample_events(struct log_writer *w)
{
    uint64_t state = 42;
    struct log_event start = {.id = LOG_EV_START, .start.wall_ns = UINT64_C(1763697600000000000)};
    struct log_event typed = {.id = LOG_EV_CONSOLE_INPUT,
                              .console_input = {0, {(const uint8_t *)"ls \"\\\r\x1b\xff", 8}}};
    struct log_event wake = {.id = LOG_EV_WAKE, .wake.virtual_ns = 77};
    struct log_event end = {.id = LOG_EV_END,
                            .end = {LOG_END_DEBUG_EXIT, 33, 123456789, 4711, {(const uint8_t *)"all well", 8}}};
    sample_fill(&state, start.start.seed, sizeof(start.start.seed));
    struct err *e = log_writer_event(w, 0, &start);
    e = e ? e : sample_state(w, &state, 0);
    e = e ? e : log_writer_flush(w);
    e = e ? e : sample_anchor(w, 10, 1000, UINT64_C(15) << 32);
    e = e ? e : sample_digests(w, &state, 1, 5);
    e = e ? e : sample_anchor(w, 5000000, 1000 + UINT64_C(15) * 4999990, UINT64_C(14) << 32); /* as predicted */
    e = e ? e : log_writer_event(w, 5000001, &typed);
    e = e ? e : sample_anchor(w, 5000002, 1, 1); /* backwards, which only the format allows */
    typed.console_input = (struct log_console_input){3, {(const uint8_t *)"x", 1}};
    e = e ? e : log_writer_event(w, 5000002, &typed);
    e = e ? e : log_writer_flush(w);
    e = e ? e : log_writer_event(w, 5500000, &wake);
    e = e ? e : sample_digests(w, &state, 6, 12);
    e = e ? e : sample_state(w, &state, 12000000);
    return e ? e : log_writer_event(w, SAMPLE_FINAL_TICKS, &end);
}

static inline struct err *sample_write(const struct log_sink *sink, bool finish)
{
    struct log_writer *w;
    struct err *e = log_writer_create_sink(sink, "sample", &sample_header, &w);
    if (e)
        return e;
    e = sample_blobs(w);
    e = e ? e : sample_events(w);
    e = e ? e : finish ? log_writer_finish(w, SAMPLE_FINAL_TICKS) : log_writer_flush(w);
    log_writer_destroy(w);
    return e;
}

static inline struct memory_file sample_recording(bool finish)
{
    struct memory_file f = {0};
    struct log_sink sink = memory_sink(&f);
    succeeds(sample_write(&sink, finish));
    return f;
}

/* ---- Everything that a recording says, as text ---- */

struct contents {
    char *text; /* JSON lines; free() */
    size_t len;
    uint64_t events;
    struct err *error; /* NULL at the end of the events */
};

static inline struct contents contents_read(struct log_reader *r)
{
    struct contents c = {0};
    FILE *out = open_memstream(&c.text, &c.len);
    CHECK(out, "out of memory");
    struct log_pos pos;
    struct log_event ev;
    while (!(c.error = log_reader_next(r, &pos, &ev)) && ev.id != LOG_EV_NONE) {
        log_event_print(out, pos, &ev, true);
        c.events++;
    }
    fclose(out);
    return c;
}

#endif
