/* tests/unit/mem.c: guest memory: layout, ROM, tracing, dirty tracking. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/mem.h"

static struct mem m;

static void make(uint64_t ram, uint64_t rom)
{
    assert_null(mem_init(&m, ram, rom));
}

static void layout_has_a_hole_below_4_gib(void **state)
{
    (void)state;
    make(GIB(5), 0);
    assert_int_equal(mem_page(&m, gpa(0)), 0);
    assert_int_equal(mem_page(&m, gpa(GIB(3) - 1)), (GIB(3) >> PAGE_SHIFT) - 1);
    assert_int_equal(mem_page(&m, gpa(GIB(3))), MEM_NO_PAGE);
    assert_int_equal(mem_page(&m, gpa(GIB(4) - 1)), MEM_NO_PAGE);
    assert_int_equal(mem_page(&m, gpa(GIB(4))), GIB(3) >> PAGE_SHIFT);
    assert_int_equal(mem_page(&m, gpa(GIB(6) - 1)), (GIB(5) >> PAGE_SHIFT) - 1);
    assert_int_equal(mem_page(&m, gpa(GIB(6))), MEM_NO_PAGE);
    assert_int_equal(mem_page(&m, gpa(UINT64_MAX)), MEM_NO_PAGE);
    for (uint32_t page = 0; page < m.page_count; page += 4097)
        assert_int_equal(mem_page(&m, mem_page_gpa(&m, page)), page);
    mem_deinit(&m);
}

static void rom_ignores_the_guest_and_takes_the_loader(void **state)
{
    (void)state;
    uint32_t x = 0x12345678, y;
    make(MIB(1), KIB(64));
    gpa_t top = gpa(GIB(4) - 4);
    assert_int_equal(mem_load(&m, top, &x, 4), 4);
    x = 0;
    mem_write(&m, top, &x, 4);
    assert_int_equal(mem_read(&m, top, &y, 4), 4);
    assert_int_equal(y, 0x12345678);
    assert_int_equal(mem_page(&m, gpa(GIB(4) - KIB(64) - 1)), MEM_NO_PAGE);
    mem_deinit(&m);
}

static void beyond_memory_reads_as_ones(void **state)
{
    (void)state;
    uint8_t buf[16];
    make(MIB(1), 0);
    memset(buf, 0, sizeof(buf));
    assert_int_equal(mem_write(&m, gpa(MIB(1) - 8), "abcdefghijklmnop", 16), 8);
    assert_int_equal(mem_read(&m, gpa(MIB(1) - 8), buf, 16), 8);
    assert_memory_equal(buf, "abcdefgh\xff\xff\xff\xff\xff\xff\xff\xff", 16);
    mem_deinit(&m);
}

static void dirty_pages_are_told_once_to_each(void **state)
{
    (void)state;
    struct dirty_set a, b;
    make(MIB(1), 0);
    assert_null(dirty_set_add(&m, &a));
    mem_write(&m, gpa(0x1000), "x", 1);
    mem_write(&m, gpa(0x4fff), "xy", 2);
    mem_write(&m, gpa(0x1800), "x", 1);
    assert_int_equal(a.count, 0);
    mem_dirty_collect(&m);
    assert_int_equal(a.count, 3);
    assert_int_equal(a.page[0], 1);
    assert_int_equal(a.page[1], 4);
    assert_int_equal(a.page[2], 5);
    mem_dirty_collect(&m);
    assert_int_equal(a.count, 3);
    dirty_set_clear(&a);
    assert_null(dirty_set_add(&m, &b));
    mem_write(&m, gpa(0x1000), "x", 1);
    mem_dirty_collect(&m);
    mem_write(&m, gpa(0x1000), "y", 1);
    mem_write(&m, gpa(0x3000), "y", 1);
    dirty_set_clear(&a);
    mem_dirty_collect(&m);
    assert_int_equal(a.count, 2);
    assert_int_equal(b.count, 2); /* page 1 once, though written in both rounds */
    dirty_set_remove(&m, &a);
    mem_write(&m, gpa(0x5000), "x", 1);
    mem_dirty_collect(&m);
    assert_int_equal(b.count, 3);
    dirty_set_remove(&m, &b);
    mem_deinit(&m);
}

static struct { unsigned writes, revokes; uint32_t page, off, len; } seen;

static void on_write(void *self, uint32_t page, uint32_t off, uint32_t len)
{
    (void)self;
    seen.writes++;
    seen.page = page;
    seen.off = off;
    seen.len = len;
}

static void on_revoke(void *self, uint32_t page)
{
    (void)self;
    seen.revokes++;
    seen.page = page;
}

static void traced_pages_report_before_the_write(void **state)
{
    (void)state;
    memset(&seen, 0, sizeof(seen));
    make(MIB(1), 0);
    m.observer = (struct mem_observer){NULL, on_write, on_revoke};
    mem_write(&m, gpa(0x2000), "x", 1);
    assert_int_equal(seen.writes, 0);
    mem_trace_set(&m, 2, PAGE_TRACE_CODE);
    assert_int_equal(seen.revokes, 1);
    mem_trace_set(&m, 2, PAGE_TRACE_CODE); /* set already: nothing to revoke */
    assert_int_equal(seen.revokes, 1);
    mem_write(&m, gpa(0x2ffe), "abcd", 4);
    assert_int_equal(seen.writes, 1);
    assert_int_equal(seen.page, 2);
    assert_int_equal(seen.off, 0xffe);
    assert_int_equal(seen.len, 2);
    mem_trace_clear(&m, 2, PAGE_TRACE_CODE);
    mem_write(&m, gpa(0x2000), "x", 1);
    assert_int_equal(seen.writes, 1);
    mem_dirty_collect(&m);
    assert_int_equal(seen.revokes, 1 + 2); /* every dirty page once: 2 and 3 */
    assert_int_equal(seen.page, 3);
    mem_deinit(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layout_has_a_hole_below_4_gib),
        cmocka_unit_test(rom_ignores_the_guest_and_takes_the_loader),
        cmocka_unit_test(beyond_memory_reads_as_ones),
        cmocka_unit_test(dirty_pages_are_told_once_to_each),
        cmocka_unit_test(traced_pages_report_before_the_write),
    };
    return cmocka_run_group_tests_name("mem", tests, NULL, NULL);
}
