/* tests/unit/logfmt.c: what is written is read back; seeking; what a newer version may have written; the dumps. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/base/hash.h"
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

static void close_file(struct log_reader *r, struct memory_file *f)
{
    log_reader_close(r);
    free(f->data);
}

/* ---- The sample ---- */

static void test_header(void **state)
{
    (void)state;
    struct memory_file f = sample_recording(true);
    assert_true(f.closed);
    struct log_reader *r = reader_of(&f);
    const struct log_header *h = log_reader_header(r);
    uint64_t v;
    assert_int_equal(h->version, LOG_VERSION);
    assert_int_equal(h->min_reader, LOG_MIN_READER);
    assert_int_equal(h->digest_period, SAMPLE_PERIOD);
    assert_int_equal(h->clock, LOG_CLOCK_HOST);
    assert_int_equal(h->fact_count, ARRAY_LEN(sample_facts));
    assert_true(log_header_fact_u64(h, "machine.ram_len", &v) && v == 536870912);
    assert_true(log_header_fact_u64(h, "cpu.features", &v) && v == 0x1f);
    assert_false(log_header_fact_u64(h, "created.program", &v));
    assert_false(log_header_fact_u64(h, "created.note", &v));
    assert_string_equal(log_header_fact(h, "created.note"), "");
    assert_null(log_header_fact(h, "absent"));
    struct log_summary s = log_reader_summary(r);
    assert_int_equal(s.state, LOG_CLOSED);
    assert_int_equal(s.last.ticks, SAMPLE_FINAL_TICKS);
    assert_int_equal(s.event_frames, 3);
    assert_int_equal(s.file_len, f.len);
    close_file(r, &f);
}

static void test_blobs(void **state)
{
    (void)state;
    struct memory_file f = sample_recording(true);
    struct log_reader *r = reader_of(&f);
    uint8_t *data;
    assert_int_equal(log_reader_blob_count(r), 4);
    assert_string_equal(log_reader_blob(r, 0)->role, "kernel");
    assert_null(log_reader_blob_find(r, "firmware"));

    succeeds(log_reader_blob_load(r, log_reader_blob_find(r, "cmdline"), 100, &data));
    assert_string_equal(data, "console=ttyS0 panic=-1");
    free(data);
    fails(log_reader_blob_load(r, log_reader_blob_find(r, "cmdline"), 21, &data), ERR_CORRUPT);
    succeeds(log_reader_blob_load(r, log_reader_blob_find(r, "initrd"), 0, &data));
    free(data);

    uint8_t kernel[300];
    uint64_t random = 7;
    sample_fill(&random, kernel, sizeof(kernel));
    for (unsigned i = 0; i < 2; i++) { /* the second was not stored again */
        succeeds(log_reader_blob_load(r, log_reader_blob_find(r, i ? "module" : "kernel"), 2000, &data));
        assert_memory_equal(data, kernel, sizeof(kernel));
        assert_int_equal(data[1499], 0x90);
        free(data);
    }
    assert_true(log_reader_summary(r).blob_bytes < 1500);
    close_file(r, &f);
}

/* Bytes that do not shrink, over several pieces, the last one short; then in between two events of the reader. */
static void test_large_blob(void **state)
{
    (void)state;
    uint64_t random = 3;
    size_t len = 2 * LOG_FRAME_RAW_MAX + 12345;
    uint8_t *big = malloc(len), *data;
    sample_fill(&random, big, len);
    struct memory_file f = {0};
    struct log_sink sink = memory_sink(&f);
    struct log_writer *w;
    succeeds(log_writer_create_sink(&sink, "big", &sample_header, &w));
    succeeds(log_writer_blob(w, "kernel", big, len));
    succeeds(sample_events(w));
    succeeds(log_writer_finish(w, SAMPLE_FINAL_TICKS));
    log_writer_destroy(w);

    struct log_reader *r = reader_of(&f);
    struct log_pos pos;
    struct log_event ev;
    succeeds(log_reader_next(r, &pos, &ev));
    succeeds(log_reader_next(r, &pos, &ev));
    succeeds(log_reader_blob_load(r, log_reader_blob_find(r, "kernel"), len, &data));
    assert_memory_equal(data, big, len);
    succeeds(log_reader_next(r, &pos, &ev));
    assert_int_equal(pos.seq, 2);
    free(data);
    free(big);
    close_file(r, &f);
}

static void test_events(void **state)
{
    (void)state;
    struct memory_file f = sample_recording(true);
    struct log_reader *r = reader_of(&f);
    struct contents c = contents_read(r);
    succeeds(c.error);
    assert_int_equal(c.events, log_reader_summary(r).last.seq);
    static const char *const lines[] = {
        "{\"seq\": 0, \"ticks\": 0, \"event\": \"start\", \"wall_ns\": 1763697600000000000, \"seed\": \"",
        "{\"seq\": 2, \"ticks\": 10, \"event\": \"time_anchor\", \"virtual_ns\": 1000, \"rate_q32\": 64424509440}\n",
        "{\"seq\": 7, \"ticks\": 5000000, \"event\": \"digest\", \"chain\": \"",
        "\"ticks\": 5000000, \"event\": \"time_anchor\", \"virtual_ns\": 75000850, \"rate_q32\": 60129542144",
        "\"event\": \"console_input\", \"channel\": 0, \"data\": \"ls \\\"\\\\\\r\\u001b\\u00ff\"}\n",
        "{\"seq\": 10, \"ticks\": 5000002, \"event\": \"time_anchor\", \"virtual_ns\": 1, \"rate_q32\": 1}\n",
        "{\"seq\": 11, \"ticks\": 5000002, \"event\": \"console_input\", \"channel\": 3, \"data\": \"x\"}\n",
        "{\"seq\": 12, \"ticks\": 5500000, \"event\": \"wake\", \"virtual_ns\": 77}\n",
        "{\"seq\": 21, \"ticks\": 12345678, \"event\": \"end\", \"reason\": \"debug-exit\", \"code\": 33, ",
        "\"virtual_ns\": 123456789, \"output_bytes\": 4711, \"detail\": \"all well\"}\n",
    };
    for (size_t i = 0; i < ARRAY_LEN(lines); i++)
        if (!strstr(c.text, lines[i]))
            fail_msg("not found: %s in\n%s", lines[i], c.text);
    struct log_pos pos;
    struct log_event ev;
    succeeds(log_reader_next(r, &pos, &ev)); /* the end stays the end */
    assert_int_equal(ev.id, LOG_EV_NONE);
    free(c.text);
    close_file(r, &f);
}

/* Every bit of every field survives: the text of the events is compared with that of the events as written. */
static void test_fields(void **state)
{
    (void)state;
    uint64_t random = 99, ticks = 0;
    uint8_t bytes[8192];
    struct memory_file f = {0};
    struct log_sink sink = memory_sink(&f);
    struct log_writer *w;
    char *text;
    size_t text_len;
    FILE *out = open_memstream(&text, &text_len);
    succeeds(log_writer_create_sink(&sink, "fields", &sample_header, &w));
    sample_fill(&random, bytes, sizeof(bytes));
    for (unsigned n = 0; n < 20000; n++) {
        struct log_event ev = {.id = LOG_EV_START + sample_random(&random) % LOG_EV_WAKE};
        sample_fill(&random, &ev.start, sizeof(ev) - offsetof(struct log_event, start));
        uint32_t len = sample_random(&random) % 257;
        if (ev.id == LOG_EV_CONSOLE_INPUT)
            ev.console_input.data = (struct log_bytes){bytes + n % 1000, len};
        else if (ev.id == LOG_EV_STATE_DIGEST)
            ev.state_digest.registers = (struct log_bytes){bytes, n % 8193};
        else if (ev.id == LOG_EV_END)
            ev.end.detail = (struct log_bytes){bytes + n % 1000, len};
        ticks += sample_random(&random) >> (1 + sample_random(&random) % 63) & 0xffffffffff;
        if (n % 5 == 0)
            ticks = align_up(ticks, 1) / SAMPLE_PERIOD * SAMPLE_PERIOD + SAMPLE_PERIOD;
        log_event_print(out, (struct log_pos){n, ticks}, &ev, true);
        succeeds(log_writer_event(w, ticks, &ev));
        if (sample_random(&random) % 1000 == 0)
            succeeds(log_writer_flush(w));
    }
    succeeds(log_writer_finish(w, ticks));
    log_writer_destroy(w);
    fclose(out);

    struct log_reader *r = reader_of(&f);
    struct contents c = contents_read(r);
    succeeds(c.error);
    assert_int_equal(c.len, text_len);
    assert_memory_equal(c.text, text, text_len);
    free(c.text);
    free(text);
    close_file(r, &f);
}

static void test_seek(void **state)
{
    (void)state;
    for (int finish = 0; finish < 2; finish++) {
        struct memory_file f = sample_recording(finish);
        struct log_reader *r = reader_of(&f);
        uint64_t ticks_of[64], count = 0;
        struct log_pos pos;
        struct log_event ev;
        for (;; count++) {
            succeeds(log_reader_next(r, &pos, &ev));
            if (ev.id == LOG_EV_NONE)
                break;
            ticks_of[count] = pos.ticks;
        }
        for (uint64_t seq = count + 2; seq-- > 0;) {
            succeeds(log_reader_seek(r, seq));
            succeeds(log_reader_next(r, &pos, &ev));
            assert_int_equal(ev.id == LOG_EV_NONE, seq >= count);
            if (seq < count)
                assert_int_equal(pos.seq, seq);
        }
        for (uint64_t i = 0; i < count; i++)
            for (uint64_t ticks = ticks_of[i] ? ticks_of[i] - 1 : 0; ticks <= ticks_of[i] + 1; ticks++) {
                succeeds(log_reader_seek_ticks(r, ticks));
                succeeds(log_reader_next(r, &pos, &ev));
                uint64_t want = 0;
                while (want < count && ticks_of[want] < ticks)
                    want++;
                assert_int_equal(ev.id == LOG_EV_NONE, want == count);
                if (want < count)
                    assert_int_equal(pos.seq, want);
            }
        close_file(r, &f);
    }
}

static void test_no_events(void **state)
{
    (void)state;
    struct memory_file f = {0};
    struct log_sink sink = memory_sink(&f);
    struct log_writer *w;
    struct log_header h = {0};
    succeeds(log_writer_create_sink(&sink, "empty", &h, &w));
    succeeds(log_writer_flush(w));
    succeeds(log_writer_finish(w, 0));
    log_writer_destroy(w);
    struct log_reader *r = reader_of(&f);
    struct log_pos pos;
    struct log_event ev;
    assert_int_equal(log_reader_summary(r).state, LOG_CLOSED);
    succeeds(log_reader_next(r, &pos, &ev));
    assert_int_equal(ev.id, LOG_EV_NONE);
    succeeds(log_reader_seek(r, 5));
    close_file(r, &f);
}

/* ---- Other versions ---- */

/* Change the header and make its checksum right again, as the document says. */
static void reseal_header(struct memory_file *f)
{
    uint32_t len = get_le32(f->data + 12);
    put_le64(f->data + 16, hash64(f->data + 24, len - 24, hash64(f->data, 16, 0)));
}

static void test_newer_format(void **state)
{
    (void)state;
    struct memory_file f = sample_recording(true);
    put_le16(f.data + 8, LOG_VERSION + 5);
    put_le16(f.data + 10, LOG_VERSION + 1);
    struct log_source src = memory_source(&f);
    struct log_reader *r;
    fails(log_reader_open_source(&src, "newer", &r), ERR_CORRUPT); /* a flipped bit could be the reason */
    reseal_header(&f);
    fails(log_reader_open_source(&src, "newer", &r), ERR_UNSUPPORTED);
    free(f.data);
}

/* A recording that somebody mailed cannot send control characters to a terminal. */
static void test_no_control_characters(void **state)
{
    (void)state;
    struct log_reader *r;
    struct memory_file f = sample_recording(true);
    struct log_source src = memory_source(&f);
    char *value = memmem(f.data, f.len, "hyperwind", 9), *key = memmem(f.data, f.len, "cpu.feat", 8);
    assert_non_null(value);
    assert_non_null(key);
    value[3] = '\033';
    reseal_header(&f);
    fails(log_reader_open_source(&src, "escape", &r), ERR_CORRUPT);
    value[3] = 'e';
    key[3] = '\n';
    reseal_header(&f);
    fails(log_reader_open_source(&src, "line end", &r), ERR_CORRUPT);
    free(f.data);

    struct log_fact fact = {"created.note", "two\nlines"};
    struct log_writer *w;
    f = (struct memory_file){0};
    struct log_sink sink = memory_sink(&f);
    fails(log_writer_create_sink(&sink, "lines", &(struct log_header){.facts = &fact, .fact_count = 1}, &w), ERR_HOST);
    free(f.data);
}

/* One event frame made by hand behind the file header of an empty recording. */
static struct memory_file handmade(uint8_t type, uint8_t flags, uint16_t events, const uint8_t *payload, size_t len)
{
    struct memory_file f = {0};
    struct log_sink sink = memory_sink(&f);
    struct log_writer *w;
    succeeds(log_writer_create_sink(&sink, "handmade", &(struct log_header){.digest_period = 1000}, &w));
    log_writer_destroy(w);
    uint64_t salt = header_salt(f.data);
    uint8_t header[FRAME_HEADER_LEN];
    struct frame frame = {.type = type, .flags = flags, .events = events, .raw_len = (uint32_t)len,
                          .stored_len = (uint32_t)len, .first.ticks = 500, .payload_sum = hash64(payload, len, salt)};
    frame_header_encode(&frame, salt, header);
    memory_append(&f, header, sizeof(header));
    memory_append(&f, payload, len);
    return f;
}

/* Wakes at 500 and 1000, whose table row grew a column, and between them an event of the unknown kind 200, which may be
 * skipped when flags say so. */
static struct memory_file newer_events(uint8_t flags)
{
    const uint8_t payload[] = {2,                            /* two kinds */
                               7, 0, 3, 2, 3, 4,             /* 7 (wake), three columns: 2, 3 and 4 bytes */
                               0xc8, 1, flags, 2, 1, 5,      /* 200, two columns: 1 and 5 bytes */
                               0, 1, 0,                      /* the order of the events */
                               0, 3,                         /* wake: no tick later; the next multiple of 1000 */
                               0x85, 1, 9,                   /* virtual_ns: 133, 9 */
                               'n', 'e', 'w', '!',
                               2,                            /* 200: one tick later */
                               'h', 'e', 'l', 'l', 'o'};
    return handmade(FRAME_EVENTS, 0, 3, payload, sizeof(payload));
}

static void test_newer_events(void **state)
{
    (void)state;
    struct log_pos pos;
    struct log_event ev;
    for (uint8_t skippable = 0; skippable < 2; skippable++) {
        struct memory_file f = newer_events(skippable);
        struct log_reader *r = reader_of(&f);
        succeeds(log_reader_next(r, &pos, &ev));
        assert_int_equal(ev.id, LOG_EV_WAKE);
        assert_int_equal(ev.wake.virtual_ns, 133);
        assert_int_equal(pos.ticks, 500);
        for (unsigned i = 0; i < 2 && !skippable; i++) /* an error stays */
            fails(log_reader_next(r, &pos, &ev), ERR_UNSUPPORTED);
        if (skippable) {
            succeeds(log_reader_next(r, &pos, &ev));
            assert_int_equal(ev.wake.virtual_ns, 9);
            assert_int_equal(pos.seq, 2);
            assert_int_equal(pos.ticks, 1000);
            succeeds(log_reader_next(r, &pos, &ev));
            assert_int_equal(ev.id, LOG_EV_NONE);
        }
        close_file(r, &f);
    }
}

/* Columns that end too early or too late, an event of no kind, and one before its frame begins. */
static void test_malformed_columns(void **state)
{
    (void)state;
    const uint8_t early[] = {1, 7, 0, 2, 2, 1, 0, 0, 0, 3, 9}, late[] = {1, 7, 0, 2, 2, 3, 0, 0, 0, 3, 9, 9, 9};
    const uint8_t order[] = {1, 7, 0, 2, 2, 2, 0, 1, 0, 3, 9, 9}, back[] = {1, 7, 0, 2, 2, 2, 0, 0, 1, 3, 9, 9};
    const struct { const uint8_t *data; size_t len; unsigned good; } cases[] = {
        {early, sizeof(early), 1}, {late, sizeof(late), 2}, {order, sizeof(order), 1}, {back, sizeof(back), 0}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct memory_file f = handmade(FRAME_EVENTS, 0, 2, cases[i].data, cases[i].len);
        struct log_reader *r = reader_of(&f);
        struct contents c = contents_read(r);
        assert_int_equal(c.events, cases[i].good);
        fails(c.error, ERR_CORRUPT);
        free(c.text);
        close_file(r, &f);
    }
}

/* A recording of an older version lacks columns: they read as zero. And skipped events keep their numbers. */
static void test_older_events(void **state)
{
    (void)state;
    const uint8_t payload[] = {2, 7, 0, 1, 2, 0xc8, 1, 1, 1, 1, 0, 1, 0, 0, 3, 2};
    struct memory_file f = handmade(FRAME_EVENTS, 0, 3, payload, sizeof(payload));
    struct log_reader *r = reader_of(&f);
    struct log_pos pos;
    struct log_event ev;
    succeeds(log_reader_next(r, &pos, &ev));
    assert_int_equal(ev.wake.virtual_ns, 0);
    succeeds(log_reader_next(r, &pos, &ev));
    assert_int_equal(pos.seq, 2);
    assert_int_equal(pos.ticks, 1000);
    succeeds(log_reader_next(r, &pos, &ev));
    assert_int_equal(ev.id, LOG_EV_NONE);
    struct log_summary s = log_reader_summary(r);
    assert_int_equal(s.state, LOG_TRUNCATED);
    assert_int_equal(s.last.seq, 3);
    close_file(r, &f);
}

static void test_newer_frames(void **state)
{
    (void)state;
    struct memory_file f = handmade(FRAME_CHECKPOINT, FRAME_SKIPPABLE, 0, (const uint8_t *)"state", 5);
    struct log_reader *r = reader_of(&f);
    assert_int_equal(log_reader_summary(r).state, LOG_TRUNCATED);
    close_file(r, &f);
    f = handmade(99, 0, 0, (const uint8_t *)"what", 4);
    struct log_source src = memory_source(&f);
    fails(log_reader_open_source(&src, "newer", &r), ERR_UNSUPPORTED);
    free(f.data);
}

/* ---- Size ---- */

/* A boot as issue 2 has it: 9.4e9 ticks, a digest every million, anchors every 50 ms of host time in which only the
 * rate changes, a flush every second, whole-machine digests now and then. "Most of it digests": 9400 * 5 bytes. */
static void test_size_of_boot(void **state)
{
    (void)state;
    uint64_t random = 5, ticks = 0, ns = 0, next_digest = SAMPLE_PERIOD;
    struct memory_file f = {0};
    struct log_sink sink = memory_sink(&f);
    struct log_writer *w;
    succeeds(log_writer_create_sink(&sink, "boot", &sample_header, &w));
    for (unsigned anchors = 0; ticks < UINT64_C(9400000000); anchors++) {
        uint64_t span = 2750000 + sample_random(&random) % 1000000; /* of 50 ms: 55 to 75 million ticks a second */
        uint64_t rate = (UINT64_C(50000000) << 32) / span;
        succeeds(sample_anchor(w, ticks, ns, rate));
        for (; next_digest <= ticks + span; next_digest += SAMPLE_PERIOD)
            succeeds(sample_digests(w, &random, next_digest / SAMPLE_PERIOD, next_digest / SAMPLE_PERIOD));
        ns += (uint64_t)((unsigned __int128)span * rate >> 32);
        ticks += span;
        if (anchors % 20 == 19)
            succeeds(log_writer_flush(w));
    }
    succeeds(log_writer_finish(w, ticks));
    log_writer_destroy(w);
    print_message("a boot of 9.4e9 ticks: %zu bytes\n", f.len);
    assert_in_range(f.len, 9400 * 5, 96 * 1024);
    free(f.data);
}

/* An idle second: ten anchors after long waits, one frame. */
static void test_size_of_idling(void **state)
{
    (void)state;
    uint64_t random = 5, ticks = 0, ns = 0;
    struct memory_file f = {0};
    struct log_sink sink = memory_sink(&f);
    struct log_writer *w;
    succeeds(log_writer_create_sink(&sink, "idle", &sample_header, &w));
    for (unsigned i = 0; i < 6000; i++) {
        ticks += 20000 + sample_random(&random) % 20000;
        ns += 100000000 + sample_random(&random) % 1000000;
        succeeds(sample_anchor(w, ticks, ns, (UINT64_C(15) << 32) + sample_random(&random) % 100000000));
        if (i % 10 == 9)
            succeeds(log_writer_flush(w));
    }
    succeeds(log_writer_finish(w, ticks));
    log_writer_destroy(w);
    print_message("ten idle minutes: %zu bytes\n", f.len);
    assert_true(f.len < 600 * 1024 / 4);
    free(f.data);
}

/* ---- Text ---- */

static void test_text_dump(void **state)
{
    (void)state;
    char *text;
    size_t len;
    uint8_t registers[100] = {0};
    FILE *out = open_memstream(&text, &len);
    struct log_event ev = {.id = LOG_EV_DIGEST, .digest = {0x12, 3, 4, 0xff}};
    log_event_print(out, (struct log_pos){7, 8}, &ev, false);
    ev = (struct log_event){.id = LOG_EV_END, .end = {.reason = LOG_END_POWER_OFF}};
    log_event_print(out, (struct log_pos){9, 10}, &ev, false);
    ev.end.reason = 200;
    log_event_print(out, (struct log_pos){9, 10}, &ev, true);
    ev = (struct log_event){.id = LOG_EV_STATE_DIGEST, .state_digest.registers = {registers, sizeof(registers)}};
    log_event_print(out, (struct log_pos){11, 12}, &ev, false);
    fclose(out);
    assert_non_null(strstr(text, "7 8 digest chain=0012 general=03 system=04 vector=ff\n"));
    assert_non_null(strstr(text, "9 10 end reason=power-off code=0 virtual_ns=0 output_bytes=0 detail=\"\"\n"));
    assert_non_null(strstr(text, "\"reason\": 200,"));
    assert_non_null(strstr(text, " registers=<100 bytes>\n"));
    assert_string_equal(log_end_reason_name(LOG_END_ERROR), "recorder-error");
    assert_string_equal(log_end_reason_name(255), "unknown");
    assert_string_equal(log_event_name(200), "unknown");
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_header),       cmocka_unit_test(test_blobs),         cmocka_unit_test(test_large_blob),
        cmocka_unit_test(test_events),       cmocka_unit_test(test_fields),        cmocka_unit_test(test_seek),
        cmocka_unit_test(test_no_events),    cmocka_unit_test(test_newer_format),  cmocka_unit_test(test_newer_events),
        cmocka_unit_test(test_older_events), cmocka_unit_test(test_newer_frames),
        cmocka_unit_test(test_malformed_columns),
        cmocka_unit_test(test_no_control_characters),
        cmocka_unit_test(test_size_of_boot), cmocka_unit_test(test_size_of_idling), cmocka_unit_test(test_text_dump),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
