/* tests/unit/bus.c: how accesses are cut into pieces, and what nobody answers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#include "core/bus.h"

enum { LOG_MAX = 16 };
struct probe {
    struct { uint32_t off, width; uint64_t value; bool write; } log[LOG_MAX];
    unsigned count;
};

static uint64_t probe_read(void *dev, struct bus_access a)
{
    struct probe *p = dev;
    uint64_t v = 0;
    p->log[p->count].off = a.off;
    p->log[p->count].write = false;
    p->log[p->count++].width = a.width;
    for (unsigned i = 0; i < a.width; i++) /* every byte tells its offset */
        v |= (uint64_t)(0x10 + a.off + i) << i * 8;
    return v;
}

static void probe_write(void *dev, struct bus_access a, uint64_t value)
{
    struct probe *p = dev;
    p->log[p->count].off = a.off;
    p->log[p->count].write = true;
    p->log[p->count].value = value;
    p->log[p->count++].width = a.width;
}

static const struct bus_region regions[] = {
    {BUS_PIO, 0x100, 4, 1, 1, probe_read, probe_write},    /* byte-wide */
    {BUS_PIO, 0x200, 8, 1, 4, probe_read, probe_write},    /* any width up to 4 */
    {BUS_MMIO, 0xfe000000, 0x1000, 4, 4, probe_read, probe_write}, /* only 32-bit */
    {0},
};

static struct probe probe;
static struct bus *bus;

static int setup(void **state)
{
    (void)state;
    probe = (struct probe){0};
    bus = bus_create();
    bus_map(bus, regions, &probe);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    bus_destroy(bus);
    return 0;
}

static void wide_access_to_narrow_hardware_is_split(void **state)
{
    (void)state;
    assert_true(bus_read(bus, BUS_PIO, 0x100, 4) == 0x13121110);
    assert_int_equal(probe.count, 4);
    assert_int_equal(probe.log[0].off, 0);
    assert_int_equal(probe.log[3].off, 3);
    bus_write(bus, BUS_PIO, 0x102, 2, 0xbbaa);
    assert_int_equal(probe.log[4].value, 0xaa);
    assert_int_equal(probe.log[5].value, 0xbb);
}

static void misaligned_access_is_cut_naturally(void **state)
{
    (void)state;
    assert_true(bus_read(bus, BUS_PIO, 0x201, 4) == 0x14131211);
    assert_int_equal(probe.count, 3);
    assert_int_equal(probe.log[0].width, 1);
    assert_int_equal(probe.log[1].width, 2);
    assert_int_equal(probe.log[2].width, 1);
}

static void narrow_access_to_wide_hardware(void **state)
{
    (void)state;
    assert_true(bus_read(bus, BUS_MMIO, 0xfe000006, 1) == 0x16);
    assert_int_equal(probe.log[0].off, 4);
    assert_int_equal(probe.log[0].width, 4);
    bus_write(bus, BUS_MMIO, 0xfe000006, 2, 0x1234); /* no byte enables: ignored */
    assert_int_equal(probe.count, 1);
    bus_write(bus, BUS_MMIO, 0xfe000008, 8, 0x1122334455667788);
    assert_int_equal(probe.count, 3);
    assert_true(probe.log[1].value == 0x55667788 && probe.log[2].value == 0x11223344);
}

static void open_bus_reads_ones(void **state)
{
    (void)state;
    assert_true(bus_read(bus, BUS_PIO, 0x300, 4) == 0xffffffff);
    assert_true(bus_read(bus, BUS_MMIO, 0x1000, 8) == UINT64_MAX);
    bus_write(bus, BUS_PIO, 0x300, 2, 0);
    assert_true(bus_unclaimed(bus) == 3);
    assert_true(bus_read(bus, BUS_PIO, 0x103, 2) == 0xff13); /* straddles the region's end */
    assert_true(bus_unclaimed(bus) == 4);
    assert_true(bus_read(bus, BUS_PIO, 0xffff, 4) == 0xffffffff);
    assert_true(bus_read(bus, BUS_MMIO, UINT64_MAX - 1, 4) == 0xffffffff);
}

static void regions_move_and_vanish(void **state)
{
    (void)state;
    bus_remap(bus, &regions[2], &probe, 0xfd000000);
    assert_true(bus_read(bus, BUS_MMIO, 0xfe000000, 4) == 0xffffffff);
    assert_true(bus_read(bus, BUS_MMIO, 0xfd000000, 4) == 0x13121110);
    bus_unmap(bus, &regions[0], &probe);
    assert_true(bus_read(bus, BUS_PIO, 0x100, 1) == 0xff);
    bus_unmap(bus, &regions[0], &probe);
    bus_remap(bus, &regions[0], &probe, 0x180);
    assert_true(bus_read(bus, BUS_PIO, 0x181, 1) == 0x11);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(wide_access_to_narrow_hardware_is_split),
        TEST(misaligned_access_is_cut_naturally),
        TEST(narrow_access_to_wide_hardware),
        TEST(open_bus_reads_ones),
        TEST(regions_move_and_vanish),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
