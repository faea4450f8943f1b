/* tests/fuzz/fuzz_log.c: libFuzzer over the reader of recordings, from memory. Whatever the bytes, the reader ends
 * with events or a one-line error of the right kind, the same ones when it reads again after a seek; and the events
 * that it delivers can be written and read back. tests/fuzz/make_log_corpus.py writes the seeds.
 *
 * A fuzzer cannot guess checksums, so this program has its own frame.c, in which they all match; the linker then
 * leaves the library's aside. */
#define FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
#include "logfmt/frame.c"

#include "tests/unit/logfmt_util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum { EVENTS_MAX = 20000 }; /* a frame of zeroes unpacks to very many */

static void check_error(struct err *e)
{
    if (!e)
        return;
    CHECK(err_code(e) == ERR_CORRUPT || err_code(e) == ERR_UNSUPPORTED, "%s", err_message(e));
    CHECK(!strchr(err_message(e), '\n'), "%s", err_message(e));
    err_destroy(e);
}

static struct err *count_bytes(void *arg, const uint8_t *data, size_t len)
{
    (void)data;
    *(uint64_t *)arg += len;
    return NULL;
}

static void read_blobs(struct log_reader *r)
{
    for (size_t i = 0; i < log_reader_blob_count(r); i++) {
        const struct log_blob *b = log_reader_blob(r, i);
        uint64_t len = 0;
        struct err *e = b->len <= MIB(4) ? log_reader_blob_stream(r, b, count_bytes, &len) : NULL;
        CHECK(e || len == b->len || b->len > MIB(4), "%s has %" PRIu64 " bytes", b->role, len);
        check_error(e);
    }
}

/* Read on to the end; what comes goes to `out` and, when there is one, into `w`. */
static void read_events(struct log_reader *r, FILE *out, struct log_writer *w)
{
    struct log_pos pos, last = {0};
    struct log_event ev;
    struct err *e;
    for (unsigned n = 0; !(e = log_reader_next(r, &pos, &ev)) && ev.id != LOG_EV_NONE && n < EVENTS_MAX; n++) {
        CHECK(!n || (pos.seq > last.seq && pos.ticks >= last.ticks), "positions do not advance");
        last = pos;
        log_event_print(out, (struct log_pos){n, pos.ticks}, &ev, true); /* skipped events leave gaps in seq */
        if (w && pos.ticks < INT64_MAX) {
            struct err *we = log_writer_event(w, pos.ticks, &ev);
            CHECK(!we, "%s", err_message(we));
        }
    }
    check_error(e);
}

struct text {
    char *data;
    size_t len;
};

static struct text text_of(struct log_reader *r, struct log_writer *w)
{
    struct text t;
    FILE *out = open_memstream(&t.data, &t.len);
    CHECK(out, "out of memory");
    read_events(r, out, w);
    fclose(out);
    return t;
}

static void check_same(struct text *a, struct text *b, bool b_may_be_shorter)
{
    CHECK((a->len == b->len || (b_may_be_shorter && b->len < a->len)) && !memcmp(a->data, b->data, b->len),
          "read twice, it differs");
    free(b->data);
}

/* Ticks that no machine reaches are not written. */
static void read_back(const struct memory_file *copy, struct text *want)
{
    struct memory_file f = *copy;
    struct log_source src = memory_source(&f);
    struct log_reader *r;
    struct err *e = log_reader_open_source(&src, "copy", &r);
    CHECK(!e, "%s", err_message(e));
    struct text t = text_of(r, NULL);
    check_same(want, &t, true);
    log_reader_close(r);
}

/* Lists are bounded by the frames they are in, and name frames that were found. */
static void read_checkpoints(struct log_reader *r)
{
    struct log_checkpoint c;
    size_t count, pages = 0;
    const uint8_t *data;
    struct err *e = log_reader_find_checkpoints(r, &count);
    CHECK(!e, "%s", err_message(e));
    for (size_t i = 0; i < count && !e; i++) {
        e = log_reader_checkpoint(r, i, &c);
        struct log_checkpoint_page last = {.kind = LOG_PAGE_ZERO};
        if (!e && c.pages)
            last = c.page[c.pages - 1];
        CHECK(e || c.pages <= LOG_FRAME_RAW_MAX, "%zu pages", c.pages);
        for (size_t k = 1; !e && k < c.pages; k++)
            CHECK(c.page[k].page > c.page[k - 1].page, "page %" PRIu32 " is out of order", c.page[k].page);
        if (last.kind == LOG_PAGE_STORED)
            e = log_reader_checkpoint_content(r, last.at, &data, &pages);
        CHECK(e || last.kind != LOG_PAGE_STORED || pages, "a frame without pages");
    }
    check_error(e);
}

static void check_reader(struct log_reader *r)
{
    struct memory_file copy = {0};
    struct log_sink sink = memory_sink(&copy);
    struct log_writer *w;
    struct err *e = log_writer_create_sink(&sink, "copy", log_reader_header(r), &w);
    CHECK(!e, "%s", err_message(e));
    read_blobs(r);
    read_checkpoints(r);
    struct text first = text_of(r, w);
    e = log_writer_flush(w);
    CHECK(!e, "%s", err_message(e));
    log_writer_destroy(w);
    read_back(&copy, &first);
    free(copy.data);

    e = log_reader_seek_ticks(r, log_reader_summary(r).last.ticks / 2);
    check_error(e);
    free(text_of(r, NULL).data);
    e = log_reader_seek(r, 0);
    if (!e) {
        struct text again = text_of(r, NULL);
        check_same(&first, &again, false);
    }
    check_error(e);
    free(first.data);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct memory_file f = {0};
    if (len)
        memory_append(&f, data, len);
    struct log_source src = memory_source(&f);
    struct log_reader *r;
    struct err *e = log_reader_open_source(&src, "input", &r);
    if (!e) {
        check_reader(r);
        log_reader_close(r);
    }
    check_error(e);
    free(f.data);
    return 0;
}
