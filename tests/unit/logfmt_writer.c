/* tests/unit/logfmt_writer.c: writes that fail, full disks, and a recorder that is killed. Numbers in parentheses are
 * the rules in logfmt/writer.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/logfmt_util.h"

/* The events that are in the file, which is not closed, are the first ones of the sample. */
static uint64_t check_prefix(struct memory_file *f)
{
    struct memory_file whole = sample_recording(true);
    struct log_reader *r = reader_of(f), *whole_reader = reader_of(&whole);
    struct contents c = contents_read(r), want = contents_read(whole_reader);
    succeeds(c.error);
    assert_int_equal(log_reader_summary(r).state, LOG_TRUNCATED);
    assert_true(c.len <= want.len);
    assert_memory_equal(c.text, want.text, c.len);
    free(c.text);
    free(want.text);
    log_reader_close(r);
    log_reader_close(whole_reader);
    free(whole.data);
    return c.events;
}

/* The n-th write fails, with nothing or a part of it done before; the file may or may not be cut back (5). */
static void test_nth_write_fails(void **state)
{
    (void)state;
    static const int errnos[] = {ENOSPC, EFBIG, EDQUOT, EIO, 0};
    struct memory_file whole = sample_recording(true);
    assert_true(whole.writes > 8);
    for (uint64_t n = 1; n <= whole.writes; n++)
        for (unsigned variant = 0; variant < 4 * ARRAY_LEN(errnos); variant++) {
            struct memory_file f = {.fail_at = n, .fail_errno = errnos[variant / 4], .short_by = variant & 1 ? 25 : 0,
                                    .truncate_fails = variant & 2};
            struct log_sink sink = memory_sink(&f);
            struct err *e = sample_write(&sink, true);
            assert_non_null(e);
            assert_int_equal(err_code(e), ERR_HOST);
            assert_non_null(strstr(err_message(e), strerror(errnos[variant / 4] ? errnos[variant / 4] : ENOSPC)));
            err_destroy(e);
            assert_true(f.closed);
            if (n > 1) /* the first is the header */
                check_prefix(&f);
            free(f.data);
        }
    free(whole.data);
}

static void test_failure_stays(void **state)
{
    (void)state;
    struct memory_file f = {.fail_at = 2, .fail_errno = ENOSPC, .short_by = 10};
    struct log_sink sink = memory_sink(&f);
    struct log_writer *w;
    succeeds(log_writer_create_sink(&sink, "sample", &sample_header, &w));
    size_t header_len = f.len;
    for (unsigned i = 0; i < 3; i++) {
        struct err *e = i == 0 ? sample_blobs(w) : i == 1 ? sample_events(w) : log_writer_finish(w, SAMPLE_FINAL_TICKS);
        assert_non_null(e);
        assert_string_equal(err_message(e), "cannot write the recording sample: No space left on device");
        err_destroy(e);
        assert_int_equal(f.writes, 3); /* the short one, its rest, and none since */
        assert_int_equal(f.len, header_len);
    }
    log_writer_destroy(w);
    free(f.data);
}

static void test_sync_fails(void **state)
{
    (void)state;
    struct memory_file f = {.sync_fails = true};
    struct log_sink sink = memory_sink(&f);
    struct err *e = sample_write(&sink, true);
    assert_non_null(e);
    assert_int_equal(err_code(e), ERR_HOST);
    err_destroy(e);
    free(f.data);
}

static void test_facts_too_long(void **state)
{
    (void)state;
    char *value = malloc(LOG_FACT_VALUE_MAX + 2);
    memset(value, 'x', LOG_FACT_VALUE_MAX + 1);
    value[LOG_FACT_VALUE_MAX + 1] = 0;
    struct log_fact fact = {"host.long", value};
    struct log_header h = {.facts = &fact, .fact_count = 1};
    struct memory_file f = {0};
    struct log_sink sink = memory_sink(&f);
    struct log_writer *w;
    struct err *e = log_writer_create_sink(&sink, "facts", &h, &w);
    assert_non_null(e);
    assert_int_equal(err_code(e), ERR_HOST);
    err_destroy(e);
    free(value);
    free(f.data);
}

/* ---- Files ---- */

static char path[64];

static int make_path(void **state)
{
    (void)state;
    strcpy(path, "/tmp/hw-logfmt-XXXXXX");
    int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int remove_path(void **state)
{
    (void)state;
    return unlink(path);
}

static void test_overwrite(void **state)
{
    (void)state;
    struct log_writer *w;
    for (unsigned i = 0; i < 2; i++) {
        succeeds(log_writer_create(path, &sample_header, &w));
        if (i == 0)
            succeeds(sample_blobs(w));
        succeeds(sample_events(w));
        succeeds(log_writer_finish(w, SAMPLE_FINAL_TICKS));
        uint64_t len = log_writer_file_len(w);
        log_writer_destroy(w);
        struct log_reader *r;
        succeeds(log_reader_open(path, &r));
        assert_int_equal(log_reader_summary(r).state, LOG_CLOSED);
        assert_int_equal(log_reader_summary(r).file_len, len);
        assert_int_equal(log_reader_blob_count(r), i == 0 ? 4 : 0);
        log_reader_close(r);
    }
}

static void test_cannot_create(void **state)
{
    (void)state;
    static const char *const paths[] = {"/", "/nonexistent/a.hwr", "/dev/full"};
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        struct log_writer *w;
        struct err *e = log_writer_create(paths[i], &sample_header, &w);
        assert_non_null(e);
        assert_int_equal(err_code(e), ERR_HOST);
        assert_non_null(strstr(err_message(e), paths[i]));
        err_destroy(e);
    }
}

/* Write frames until it fails; the file must then be readable and end with the last whole frame. */
static void fill_until_full(const char *file)
{
    struct log_writer *w;
    struct err *e = NULL;
    uint64_t random = 1, n = 0;
    succeeds(log_writer_create(file, &sample_header, &w));
    while (!e && n < 1000000) {
        e = sample_digests(w, &random, n + 1, n + 100);
        n += 100;
        if (!e)
            e = log_writer_flush(w);
    }
    assert_non_null(e);
    assert_int_equal(err_code(e), ERR_HOST);
    err_destroy(e);
    uint64_t len = log_writer_file_len(w);
    log_writer_destroy(w);

    struct log_reader *r;
    succeeds(log_reader_open(file, &r));
    struct contents c = contents_read(r);
    struct log_summary s = log_reader_summary(r);
    succeeds(c.error);
    assert_int_equal(s.state, LOG_TRUNCATED);
    assert_int_equal(s.file_len, len);
    assert_int_equal(c.events, n - 100);
    free(c.text);
    log_reader_close(r);
}

static void test_file_size_limit(void **state)
{
    (void)state;
    struct rlimit old, small = {100000, RLIM_INFINITY};
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &old);
    small.rlim_max = old.rlim_max;
    setrlimit(RLIMIT_FSIZE, &small);
    fill_until_full(path);
    setrlimit(RLIMIT_FSIZE, &old);
}

/* Mounting needs privileges of one's own; where there are none the test is skipped. */
static void test_full_disk(void **state)
{
    (void)state;
    enum { SKIPPED = 77 };
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        char dir[] = "/tmp/hw-logfmt-mount-XXXXXX", file[64];
        if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) || !mkdtemp(dir))
            _exit(SKIPPED);
        if (mount("tmpfs", dir, "tmpfs", 0, "size=128k")) {
            rmdir(dir);
            _exit(SKIPPED);
        }
        snprintf(file, sizeof(file), "%s/full.hwr", dir);
        fill_until_full(file); /* a failed assertion ends this process with another status */
        umount(dir);
        rmdir(dir);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == SKIPPED)
        skip();
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* ---- SIGKILL ---- */

/* Records digests without end; *flushed is the number of events that were handed to the kernel. */
static void record_until_killed(volatile uint64_t *flushed)
{
    struct log_writer *w;
    uint64_t random = 1, n = 0;
    if (log_writer_create(path, &sample_header, &w))
        _exit(1);
    for (;;) {
        uint64_t count = 1 + sample_random(&random) % 50;
        uint64_t values = 9; /* digests do not depend on how they fall into frames */
        if (sample_digests(w, &values, n + 1, n + count) || log_writer_flush(w))
            _exit(1);
        n += count;
        *flushed = n;
    }
}

/* (1) to (4): whatever was flushed is there, and nothing wrong. */
static void test_kill(void **state)
{
    (void)state;
    volatile uint64_t *flushed = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(flushed != MAP_FAILED);
    for (unsigned round = 0; round < 40; round++) {
        *flushed = 0;
        fflush(NULL);
        pid_t pid = fork();
        if (pid == 0)
            record_until_killed(flushed);
        while (!*flushed)
            usleep(100);
        usleep(round * 137);
        kill(pid, SIGKILL);
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status));

        struct log_reader *r;
        succeeds(log_reader_open(path, &r));
        struct contents c = contents_read(r);
        succeeds(c.error);
        assert_int_equal(log_reader_summary(r).state, LOG_TRUNCATED);
        assert_int_equal(log_reader_summary(r).last.seq, c.events);
        assert_int_equal(log_reader_summary(r).last.ticks, c.events * SAMPLE_PERIOD);
        assert_true(c.events >= *flushed);
        free(c.text);
        log_reader_close(r);
    }
    munmap((void *)flushed, 4096);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nth_write_fails),
        cmocka_unit_test(test_failure_stays),
        cmocka_unit_test(test_sync_fails),
        cmocka_unit_test(test_facts_too_long),
        cmocka_unit_test(test_cannot_create),
        cmocka_unit_test_setup_teardown(test_overwrite, make_path, remove_path),
        cmocka_unit_test_setup_teardown(test_file_size_limit, make_path, remove_path),
        cmocka_unit_test(test_full_disk),
        cmocka_unit_test_setup_teardown(test_kill, make_path, remove_path),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
