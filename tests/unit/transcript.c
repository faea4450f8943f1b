/* Unit tests of replay/transcript.h: stretches of a text that come in any order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "replay/transcript.h"

enum { LEN = 600, STRETCHES = 40, STRETCH_MAX = 40, ROUNDS = 200 };

static char text[LEN];
static bool known[LEN];

/* Byte i is printed at tick 10 * i. */
static void print(struct transcript *t, size_t from, size_t to)
{
    t->at = from;
    for (size_t i = from; i < to; i++) {
        transcript_add(t, 10 * i, (const uint8_t *)text + i, 1);
        known[i] = true;
    }
    assert_int_equal(t->at, to);
}

/* The first line's begin may be forgotten (`cut`), and its ticks still known. */
static void compare_at(struct transcript *t, size_t at, bool cut)
{
    size_t from = at, len;
    while (from && known[from - 1])
        from--;
    t->at = at;
    const uint8_t *got = transcript_text(t, &len);
    assert_int_equal(len, at - from);
    if (len)
        assert_memory_equal(got, text + from, len);
    for (size_t i = from, line = from; i < at; i++) {
        if (i > from && text[i - 1] == '\n')
            line = i;
        uint64_t ticks = transcript_ticks(t, i - from);
        assert_true(ticks == 10 * line || (cut && line == from && ticks < 10 * line));
    }
}

static void new_text(void)
{
    memset(known, 0, sizeof(known));
    for (size_t i = 0; i < LEN; i++)
        text[i] = (char)(rand() % 8 ? 'a' + rand() % 26 : '\n');
}

static void test_any_order(void **state)
{
    (void)state;
    srand(1);
    for (int round = 0; round < ROUNDS; round++) {
        struct transcript t = {0};
        new_text();
        for (int i = 0; i < STRETCHES; i++) {
            size_t from = (size_t)rand() % LEN, to = from + (size_t)rand() % STRETCH_MAX;
            print(&t, from, MIN(to, (size_t)LEN));
            compare_at(&t, (size_t)rand() % (LEN + 1), false);
        }
        for (size_t at = 0; at <= LEN; at++)
            compare_at(&t, at, false);
        print(&t, 0, LEN);
        compare_at(&t, LEN, false);
        transcript_deinit(&t);
    }
}

/* The test's own idea of what is forgotten. */
static void forget(struct transcript *t, size_t keep)
{
    size_t count = 0;
    for (size_t i = 0; i < LEN; i++)
        count += known[i];
    assert_int_equal(t->len, count);
    for (size_t i = 0; count / TRANSCRIPT_SLACK > keep && i < LEN; i++)
        known[i] = known[i] && i + keep >= t->at && i < t->at + keep;
    transcript_trim(t, keep);
}

static void test_trimmed(void **state)
{
    (void)state;
    srand(2);
    for (int round = 0; round < ROUNDS; round++) {
        struct transcript t = {0};
        size_t keep = (size_t)rand() % (LEN / TRANSCRIPT_SLACK);
        new_text();
        for (int i = 0; i < STRETCHES; i++) {
            size_t from = (size_t)rand() % LEN, to = from + (size_t)rand() % STRETCH_MAX;
            print(&t, from, MIN(to, (size_t)LEN));
            forget(&t, keep);
            for (size_t at = 0; at <= LEN; at++)
                compare_at(&t, at, true);
        }
        transcript_deinit(&t);
    }
}

static void test_far_away(void **state)
{
    struct transcript t = {.at = UINT64_MAX - 4};
    size_t len;
    (void)state;
    transcript_add(&t, 1, (const uint8_t *)"ab", 2);
    assert_memory_equal(transcript_text(&t, &len), "ab", 2);
    assert_int_equal(len, 2);
    t.at = 7;
    assert_null(transcript_text(&t, &len));
    assert_int_equal(len, 0);
    transcript_deinit(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_any_order), cmocka_unit_test(test_trimmed),
                                      cmocka_unit_test(test_far_away)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
