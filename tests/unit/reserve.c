/* Unit tests of replay/reserve.h: blocks come as they should, however far the thread is with its reserve. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "replay/reserve.h"
#include "core/base/base.h"
#include "core/base/map.h"

enum { LEN = 4 * PAGE_SIZE, BLOCKS = 8, TAKEN = 5 * BLOCKS };

static struct reserve *created(size_t blocks)
{
    struct reserve *r;
    struct err *e = reserve_create(LEN, blocks, &r);
    if (e)
        fail_msg("%s", err_message(e));
    return r;
}

static void pause_ms(long ms)
{
    nanosleep(&(struct timespec){.tv_nsec = ms * 1000000}, NULL);
}

static void check_zero(const uint8_t *p)
{
    for (size_t i = 0; i < LEN; i++)
        assert_int_equal(p[i], 0);
}

/* Each is all zero and stays what its owner makes of it, from the reserve or beyond it. */
static void take_all(struct reserve *r, long every_ms)
{
    uint8_t *block[TAKEN];
    for (unsigned i = 0; i < TAKEN; i++) {
        if (every_ms && i % BLOCKS == 0)
            pause_ms(every_ms);
        block[i] = reserve_take(r);
        assert_non_null(block[i]);
        check_zero(block[i]);
        memset(block[i], (int)i + 1, LEN);
    }
    for (unsigned i = 0; i < TAKEN; i++) {
        for (size_t n = 0; n < LEN; n++)
            assert_int_equal(block[i][n], i + 1);
        map_free(block[i], LEN);
    }
}

static void test_taken(void **state)
{
    (void)state;
    for (long every_ms = 0; every_ms < 3; every_ms++) {
        struct reserve *r = created(BLOCKS);
        take_all(r, every_ms);
        reserve_destroy(r);
    }
}

static void test_no_reserve(void **state)
{
    (void)state;
    struct reserve *r = created(0);
    take_all(r, 0);
    reserve_destroy(r);
}

static void test_released(void **state)
{
    (void)state;
    for (long ms = 0; ms < 3; ms++) {
        struct reserve *r = created(BLOCKS);
        pause_ms(ms);
        reserve_release(r);
        take_all(r, 0);
        reserve_release(r);
        reserve_destroy(r);
    }
}

/* While the thread fills, when it is done, and when nobody took anything. */
static void test_ends(void **state)
{
    (void)state;
    for (long ms = 0; ms < 4; ms++) {
        struct reserve *r = created(100 * BLOCKS);
        pause_ms(ms);
        reserve_destroy(r);
    }
    reserve_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_taken),
        cmocka_unit_test(test_no_reserve),
        cmocka_unit_test(test_released),
        cmocka_unit_test(test_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
