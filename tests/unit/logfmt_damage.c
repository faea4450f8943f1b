/* tests/unit/logfmt_damage.c: every bit of a recording flipped, every length it can be cut to, blocks of it zeroed or
 * exchanged, and files that are none. Whatever a reader then delivers before it reports the damage is true. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <unistd.h>

#include "logfmt/frame.h"
#include "tests/unit/logfmt_util.h"

static void fails(struct err *e, enum err_code code)
{
    assert_non_null(e);
    if (err_code(e) != code)
        fail_msg("wrong code %d: %s", err_code(e), err_message(e));
    assert_null(strchr(err_message(e), '\n'));
    err_destroy(e);
}

static struct err *open_file(struct memory_file *f, struct log_reader **out)
{
    struct log_source src = memory_source(f);
    return log_reader_open_source(&src, "sample", out);
}

struct truth {
    struct memory_file file;
    struct contents contents;
    uint8_t *kernel;
};

static struct truth truth_make(bool finish)
{
    struct truth t = {.file = sample_recording(finish)};
    struct log_reader *r;
    struct err *e = open_file(&t.file, &r);
    assert_null(e);
    t.contents = contents_read(r);
    assert_null(t.contents.error);
    e = log_reader_blob_load(r, log_reader_blob_find(r, "kernel"), 4096, &t.kernel);
    assert_null(e);
    log_reader_close(r);
    return t;
}

static void truth_free(struct truth *t)
{
    free(t->file.data);
    free(t->contents.text);
    free(t->kernel);
}

/* Count a fault, which must be of the recording. */
static unsigned is_corrupt(struct err *e)
{
    if (!e)
        return 0;
    if (err_code(e) != ERR_CORRUPT)
        fail_msg("wrong code %d: %s", err_code(e), err_message(e));
    err_destroy(e);
    return 1;
}

static unsigned check_blobs(const struct truth *t, struct log_reader *r)
{
    unsigned faults = 0;
    for (size_t i = 0; i < log_reader_blob_count(r); i++) {
        const struct log_blob *b = log_reader_blob(r, i);
        uint8_t *data = NULL;
        struct err *e = log_reader_blob_load(r, b, 4096, &data);
        if (!e && b->len == 1500)
            assert_memory_equal(data, t->kernel, 1500);
        else if (!e && b->len)
            assert_memory_equal(data, "console=ttyS0 panic=-1", 22);
        faults += is_corrupt(e);
        free(data);
    }
    return faults;
}

/* Read everything. The events must be the beginning of the truth. Returns the number of faults reported. */
static unsigned check_reader(const struct truth *t, struct log_reader *r, uint64_t *events_out)
{
    unsigned faults = check_blobs(t, r);
    struct contents c = contents_read(r);
    assert_true(c.len <= t->contents.len);
    assert_memory_equal(c.text, t->contents.text, c.len);
    *events_out = c.events;
    free(c.text);
    return faults + is_corrupt(c.error);
}

static unsigned check_file(const struct truth *t, struct memory_file *f, struct log_summary *summary,
                           uint64_t *events_out)
{
    struct log_reader *r;
    struct err *e = open_file(f, &r);
    if (e)
        return is_corrupt(e);
    unsigned faults = check_reader(t, r, events_out);
    *summary = log_reader_summary(r);
    log_reader_close(r);
    return faults;
}

static void test_every_bit(void **state)
{
    (void)state;
    for (int finish = 0; finish < 2; finish++) {
        struct truth t = truth_make(finish);
        for (size_t i = 0; i < t.file.len * 8; i++) {
            struct log_summary s;
            uint64_t events;
            t.file.data[i / 8] ^= (uint8_t)(1 << i % 8);
            if (check_file(&t, &t.file, &s, &events) == 0)
                fail_msg("bit %zu of byte %zu of a %s recording is checked by nothing", i % 8, i / 8,
                         finish ? "closed" : "running");
            t.file.data[i / 8] ^= (uint8_t)(1 << i % 8);
        }
        print_message("%zu bits\n", t.file.len * 8);
        truth_free(&t);
    }
}

static void test_every_length(void **state)
{
    (void)state;
    struct truth t = truth_make(true);
    size_t full_len = t.file.len;
    uint64_t events = 0, events_before = 0;
    for (t.file.len = 0; t.file.len < full_len; t.file.len++) {
        struct log_summary s;
        struct log_reader *r;
        if (t.file.len < get_le32(t.file.data + 12)) { /* the header is not whole */
            fails(open_file(&t.file, &r), ERR_CORRUPT);
            continue;
        }
        assert_int_equal(check_file(&t, &t.file, &s, &events), 0);
        assert_int_equal(s.state, LOG_TRUNCATED);
        assert_int_equal(s.last.seq, events);
        assert_true(events >= events_before);
        events_before = events;
    }
    assert_int_equal(events, t.contents.events);
    truth_free(&t);
}

/* What a host that lost power can leave: the end of the file as zeroes, from any byte on. */
static void test_zeroed_tail(void **state)
{
    (void)state;
    struct truth t = truth_make(false);
    size_t full_len = t.file.len;
    for (size_t from = 0; from < full_len; from += 3) {
        struct memory_file f = {.data = malloc(full_len + 8192), .len = full_len + 8192};
        struct log_summary s = {0};
        uint64_t events;
        memcpy(f.data, t.file.data, from);
        memset(f.data + from, 0, f.len - from);
        check_file(&t, &f, &s, &events);
        free(f.data);
    }
    struct memory_file f = {.data = calloc(1, full_len + 8192), .len = full_len + 8192};
    struct log_summary s;
    uint64_t events;
    memcpy(f.data, t.file.data, full_len); /* at a frame's end it is no damage */
    assert_int_equal(check_file(&t, &f, &s, &events), 0);
    assert_int_equal(s.state, LOG_TRUNCATED);
    assert_int_equal(events, t.contents.events);
    free(f.data);
    truth_free(&t);
}

static void test_junk_at_end(void **state)
{
    (void)state;
    for (int finish = 0; finish < 2; finish++)
        for (size_t junk = 1; junk < 200; junk += 7) {
            struct truth t = truth_make(finish);
            struct log_summary s;
            uint64_t events, random = junk;
            uint8_t bytes[200];
            sample_fill(&random, bytes, junk);
            memory_append(&t.file, bytes, junk);
            unsigned faults = check_file(&t, &t.file, &s, &events);
            assert_int_equal(events, t.contents.events);
            /* Less than a frame header may be the beginning of one. */
            assert_int_equal(faults, finish || junk >= FRAME_HEADER_LEN);
            truth_free(&t);
        }
}

/* Frames of another recording of the same shape do not fit in. */
static void test_foreign_frames(void **state)
{
    (void)state;
    struct truth t = truth_make(true);
    struct memory_file other = {0};
    struct log_sink sink = memory_sink(&other);
    struct log_header h = sample_header;
    struct log_fact facts[ARRAY_LEN(sample_facts)];
    memcpy(facts, sample_facts, sizeof(facts));
    facts[0].value = "536870913";
    h.facts = facts;
    struct log_writer *w;
    struct err *e = log_writer_create_sink(&sink, "other", &h, &w);
    assert_null(e);
    e = sample_blobs(w);
    e = e ? e : sample_events(w);
    e = e ? e : log_writer_finish(w, SAMPLE_FINAL_TICKS);
    assert_null(e);
    log_writer_destroy(w);
    assert_int_equal(other.len, t.file.len);
    uint32_t header_len = get_le32(other.data + 12);
    memcpy(t.file.data + header_len, other.data + header_len, other.len - header_len);
    struct log_summary s;
    uint64_t events;
    assert_int_equal(check_file(&t, &t.file, &s, &events), 1);
    free(other.data);
    truth_free(&t);
}

/* The file shrinks after it was opened. */
static void test_shrinking(void **state)
{
    (void)state;
    struct truth t = truth_make(true);
    size_t full_len = t.file.len;
    for (size_t len = 0; len < full_len; len += 5) {
        struct log_reader *r;
        uint64_t events;
        t.file.len = full_len;
        struct err *e = open_file(&t.file, &r);
        assert_null(e);
        t.file.len = len;
        check_reader(&t, r, &events);
        log_reader_close(r);
    }
    truth_free(&t);
}

static int64_t failing_read(void *self, uint64_t offset, void *buf, size_t len)
{
    struct memory_file *f = self;
    return offset >= f->fail_at ? -EIO : memory_read_at(f, offset, buf, MIN(len, (size_t)7)); /* and short reads */
}

static void test_failing_reads(void **state)
{
    (void)state;
    struct truth t = truth_make(true);
    for (t.file.fail_at = 0; t.file.fail_at < t.file.len; t.file.fail_at += 11) {
        struct log_source src = {&t.file, t.file.len, failing_read, NULL};
        struct log_reader *r;
        fails(log_reader_open_source(&src, "failing", &r), ERR_HOST); /* the footer is read first */
    }
    struct log_source src = {&t.file, t.file.len, failing_read, NULL};
    struct log_reader *r;
    uint64_t events;
    struct err *e = log_reader_open_source(&src, "short reads", &r);
    assert_null(e);
    assert_int_equal(check_reader(&t, r, &events), 0);
    assert_int_equal(events, t.contents.events);
    log_reader_close(r);
    truth_free(&t);
}

static void test_no_recordings(void **state)
{
    (void)state;
    struct log_reader *r;
    fails(log_reader_open("/nonexistent/file.hwr", &r), ERR_INPUT);
    fails(log_reader_open("/", &r), ERR_INPUT);
    fails(log_reader_open("/dev/null", &r), ERR_INPUT);
    char path[] = "/tmp/hw-logfmt-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    fails(log_reader_open(path, &r), ERR_CORRUPT); /* empty */
    assert_int_equal(write(fd, "#!/bin/sh\necho this is a script, no recording\n", 45), 45);
    fails(log_reader_open(path, &r), ERR_CORRUPT);
    close(fd);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_bit),     cmocka_unit_test(test_every_length),   cmocka_unit_test(test_zeroed_tail),
        cmocka_unit_test(test_junk_at_end),   cmocka_unit_test(test_foreign_frames), cmocka_unit_test(test_shrinking),
        cmocka_unit_test(test_failing_reads), cmocka_unit_test(test_no_recordings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
