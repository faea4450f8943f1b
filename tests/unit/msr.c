/* tests/unit/msr.c: the MSR table is in order and without duplicates, and every row behaves on any value. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/cpu.h"
#include "core/machine.h"
#include "exec/engine.h"
#include "exec/x86/sys.h"

static void ignore_output(void *nd, enum nondet_stream stream, uint8_t channel, const uint8_t *data, size_t len)
{
    (void)nd, (void)stream, (void)channel, (void)data, (void)len;
}
static struct err *start(void *nd, struct nondet_start *out)
{
    (void)nd;
    memset(out, 0, sizeof(*out));
    return NULL;
}
static const struct nondet_ops ops = {.start = start, .output = ignore_output};

static struct machine *make(uint32_t features)
{
    struct machine *m;
    struct machine_config cfg = {.ram_len = MIB(1), .rate_q32 = UINT64_C(1) << 32, .cpu_features = features};
    assert_null(machine_create(&cfg, 0, (struct nondet){.ops = &ops}, &m));
    vcpu_reset(&m->vcpu);
    assert_null(exec_attach(m));
    exec_state_changed(m);
    return m;
}

static void drop(struct machine *m)
{
    exec_detach(m);
    machine_destroy(m);
}

static void table_is_sorted(void **state)
{
    (void)state;
    uint64_t next = 0;
    for (unsigned i = 0; msr_info(i).name; i++) {
        struct msr_info r = msr_info(i);
        assert_true(r.first >= next && r.count > 0);
        next = (uint64_t)r.first + r.count;
    }
}

static void rows_take_any_value(void **state)
{
    (void)state;
    static const uint64_t values[] = {0, 1, 6, 0x406, UINT64_MAX, UINT64_C(0x8000000000000000), UINT64_C(0x0007040600070406),
                                      UINT32_MAX, UINT64_C(0xffff800000000000)};
    struct machine *m = make(0);
    for (unsigned i = 0; msr_info(i).name; i++) {
        for (uint32_t n = 0; n < msr_info(i).count; n++) {
            for (size_t k = 0; k < ARRAY_LEN(values); k++) {
                uint64_t x;
                (void)msr_write(&m->vcpu, msr_info(i).first + n, values[k]);
                (void)msr_read(&m->vcpu, msr_info(i).first + n, &x);
            }
        }
    }
    drop(m);
}

static void unknown_ones_fault(void **state)
{
    (void)state;
    static const uint32_t unknown[] = {2, 0x11, 0x3a, 0x480, 0x6e1, 0x900, 0xc0000085, 0xc0010015, 0xffffffff};
    struct machine *m = make(0);
    uint64_t x;
    for (size_t i = 0; i < ARRAY_LEN(unknown); i++) {
        assert_false(msr_read(&m->vcpu, unknown[i], &x));
        assert_false(msr_write(&m->vcpu, unknown[i], 0));
    }
    drop(m);
}

static void tsc_and_adjust_move_together(void **state)
{
    (void)state;
    struct machine *m = make(0);
    struct vcpu *v = &m->vcpu;
    uint64_t x;
    v->ticks = 1000;
    assert_true(msr_read(v, 0x10, &x));
    assert_int_equal(x, 1000);
    assert_true(msr_write(v, 0x10, 5000));
    assert_true(msr_read(v, 0x3b, &x));
    assert_int_equal(x, 4000);
    assert_true(msr_write(v, 0x3b, (uint64_t)-500));
    assert_true(msr_read(v, 0x10, &x));
    assert_int_equal(x, 500);
    drop(m);
}

static void values_are_vetted(void **state)
{
    (void)state;
    struct machine *m = make(0);
    struct vcpu *v = &m->vcpu;
    assert_false(msr_write(v, 0xc0000082, UINT64_C(0x0000800000000000))); /* LSTAR, not canonical */
    assert_true(msr_write(v, 0xc0000082, UINT64_C(0xffff800000000000)));
    assert_false(msr_write(v, 0x277, 2));   /* PAT: type 2 is reserved */
    assert_false(msr_write(v, 0x2ff, 7));   /* MTRR default: UC- is no MTRR type */
    assert_true(msr_write(v, 0x2ff, 0xc06));
    assert_false(msr_write(v, 0x201, 0x400)); /* MTRR mask: reserved bit */
    drop(m);
}

static void mitigations_hide_arch_capabilities(void **state)
{
    (void)state;
    uint64_t x;
    struct machine *m = make(0);
    assert_true(msr_read(&m->vcpu, 0x10a, &x));
    assert_true(x & 1);
    drop(m);
    m = make(CPU_MITIGATED);
    assert_false(msr_read(&m->vcpu, 0x10a, &x));
    drop(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(table_is_sorted),    cmocka_unit_test(rows_take_any_value),
        cmocka_unit_test(unknown_ones_fault), cmocka_unit_test(tsc_and_adjust_move_together),
        cmocka_unit_test(values_are_vetted),  cmocka_unit_test(mitigations_hide_arch_capabilities),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
