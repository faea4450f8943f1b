/* tests/unit/gdb_wire.c: packets in and out of bytes: checksums, escapes, run lengths, garbage, lengths. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include <stdio.h>

#include "gdb/wire.h"

static enum wire_event feed(struct wire_reader *f, const char *bytes, size_t len)
{
    enum wire_event last = WIRE_NONE;
    for (size_t i = 0; i < len; i++) {
        enum wire_event e = wire_feed(f, (uint8_t)bytes[i], true);
        if (e != WIRE_NONE)
            last = e;
    }
    return last;
}

#define FEED(f, s) feed(f, s, sizeof(s) - 1)

static void test_in(void **state)
{
    (void)state;
    struct wire_reader f = {0};
    assert_int_equal(FEED(&f, "+"), WIRE_ACK);
    assert_int_equal(FEED(&f, "-"), WIRE_NAK);
    assert_int_equal(FEED(&f, "\003"), WIRE_BREAK);
    assert_int_equal(FEED(&f, "$#00"), WIRE_PACKET);
    assert_int_equal(f.data.len, 0);
    assert_int_equal(FEED(&f, "$g#67"), WIRE_PACKET);
    assert_memory_equal(f.data.data, "g", 1);
    assert_int_equal(FEED(&f, "$g#68"), WIRE_BAD);
    assert_int_equal(FEED(&f, "$g#zz"), WIRE_BAD);
    assert_int_equal(FEED(&f, "garbage without beginning#67"), WIRE_NONE);
    assert_int_equal(FEED(&f, "$half$g#67"), WIRE_PACKET);
    assert_int_equal(f.data.len, 1);
    assert_int_equal(FEED(&f, "$a}\x03}\x04}]}\x0a" "#d2"), WIRE_BAD);
    assert_int_equal(FEED(&f, "$}\x03#80"), WIRE_PACKET); /* an escaped '#' */
    assert_memory_equal(f.data.data, "#", 1);
    assert_int_equal(FEED(&f, "$}#7d"), WIRE_BAD);
    assert_int_equal(FEED(&f, "$a\003b#c6"), WIRE_PACKET); /* 0x03 inside a packet is data */
    assert_int_equal(f.data.len, 3);
    wire_reader_deinit(&f);
}

static void test_no_check(void **state)
{
    (void)state;
    struct wire_reader f = {0};
    const char *s = "$g#00";
    enum wire_event e = WIRE_NONE;
    for (; *s; s++)
        e = wire_feed(&f, (uint8_t)*s, false);
    assert_int_equal(e, WIRE_PACKET);
    wire_reader_deinit(&f);
}

static void test_too_long(void **state)
{
    (void)state;
    struct wire_reader f = {0};
    wire_feed(&f, '$', true);
    for (unsigned i = 0; i < 3 * WIRE_MAX; i++)
        assert_int_equal(wire_feed(&f, 0, true), WIRE_NONE);
    assert_true(f.data.room <= 2 * WIRE_MAX);
    assert_int_equal(FEED(&f, "#00"), WIRE_TOO_LONG);
    assert_int_equal(FEED(&f, "$g#67"), WIRE_PACKET);
    wire_reader_deinit(&f);
}

/* What gdb does with a packet: check it, expand run lengths, then undo escapes. */
static void decode(const struct text *wire, struct text *out)
{
    uint8_t sum = 0, previous = 0;
    char end[4];
    struct text plain = {0};
    assert_int_equal(wire->data[0], '$');
    for (size_t i = 1; i < wire->len - 3; i++) {
        uint8_t c = wire->data[i];
        assert_true(c != '#' && c != '$');
        sum = (uint8_t)(sum + c);
        if (c == '*') {
            uint8_t count = wire->data[++i];
            assert_in_range(count, 32, 126);
            assert_true(count != '#' && count != '$');
            sum = (uint8_t)(sum + count);
            for (int n = count - 29; n > 0; n--)
                text_char(&plain, (char)previous);
        } else {
            text_char(&plain, (char)c);
        }
        previous = c;
    }
    snprintf(end, sizeof(end), "#%02x", sum);
    assert_memory_equal(wire->data + wire->len - 3, end, 3);
    for (size_t i = 0; i < plain.len; i++)
        text_char(out, (char)(plain.data[i] == '}' ? plain.data[++i] ^ 0x20 : plain.data[i]));
    text_deinit(&plain);
}

static void round_trip(const uint8_t *data, size_t len)
{
    struct text wire = {0}, back = {0};
    wire_write(&wire, data, len);
    decode(&wire, &back);
    assert_int_equal(back.len, len);
    if (len)
        assert_memory_equal(back.data, data, len);
    text_deinit(&wire);
    text_deinit(&back);
}

static void test_out(void **state)
{
    (void)state;
    uint8_t data[1000];
    round_trip(NULL, 0);
    for (unsigned c = 0; c < 256; c++)
        for (size_t n = 1; n < 300; n++) {
            memset(data, (int)c, n);
            round_trip(data, n);
        }
    srand(1);
    for (unsigned round = 0; round < 2000; round++) {
        size_t len = 0;
        while (len < 900) {
            uint8_t c = (uint8_t)(rand() % 4 ? "}*#$0x"[rand() % 6] : rand());
            for (int n = rand() % 3 ? 1 : rand() % 120; n > 0 && len < sizeof(data); n--)
                data[len++] = c;
        }
        round_trip(data, len);
    }
}

static void test_out_is_short(void **state)
{
    (void)state;
    struct text wire = {0};
    uint8_t zeroes[4096];
    memset(zeroes, '0', sizeof(zeroes));
    wire_write(&wire, zeroes, sizeof(zeroes));
    assert_true(wire.len < sizeof(zeroes) / 25);
    text_deinit(&wire);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_in), cmocka_unit_test(test_no_check), cmocka_unit_test(test_too_long),
        cmocka_unit_test(test_out), cmocka_unit_test(test_out_is_short),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
