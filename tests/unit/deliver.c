/* tests/unit/deliver.c: a delivery ends, whatever the guest's tables and stacks are (exec/x86/deliver.c). */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/machine.h"
#include "exec/engine.h"
#include "exec/x86/cpu.h"

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

enum { GDT = 0x1000, IDT = 0x2000, STACK = 0x8000, CODE3 = 0x0b, DATA3 = 0x13 };

/* Protected mode without paging, CPL 3, alignment checks on, every vector handled at CPL 3 by 32-bit gates. */
static struct machine *make(void)
{
    struct machine *m;
    struct machine_config cfg = {.ram_len = MIB(1), .rate_q32 = UINT64_C(1) << 32};
    static const uint64_t gdt[] = {0, UINT64_C(0x00cffb000000ffff), UINT64_C(0x00cff3000000ffff)};
    assert_null(machine_create(&cfg, 0, (struct nondet){.ops = &ops}, &m));
    vcpu_reset(&m->vcpu);
    struct vcpu_state *s = &m->vcpu.s;
    mem_write(&m->mem, gpa(GDT), gdt, sizeof(gdt));
    for (unsigned i = 0; i < 32; i++) {
        uint64_t gate = UINT64_C(0x0000ee00) << 32 | CODE3 << 16 | 0x4000;
        mem_write(&m->mem, gpa(IDT + 8 * i), &gate, sizeof(gate));
    }
    s->cr0 = CR0_PE | CR0_ET | CR0_AM;
    s->rflags = 2 | FL_AC;
    s->cpl = 3;
    s->gdtr = (struct dtable){.base = GDT, .limit = sizeof(gdt) - 1};
    s->idtr = (struct dtable){.base = IDT, .limit = 8 * 32 - 1};
    s->seg[S_CS] = (struct seg){.limit = UINT32_MAX, .sel = CODE3, .attr = 0xc0fb};
    s->seg[S_SS] = s->seg[S_DS] = s->seg[S_ES] = (struct seg){.limit = UINT32_MAX, .sel = DATA3, .attr = 0xc0f3};
    assert_null(exec_attach(m));
    return m;
}

static void drop(struct machine *m)
{
    exec_detach(m);
    machine_destroy(m);
}

static void aligned_stack_is_delivered_to(void **state)
{
    (void)state;
    struct machine *m = make();
    m->vcpu.s.r[R_RSP] = STACK;
    deliver_event(&m->vcpu, EV_FAULT, VEC_AC, true, 0, 0);
    assert_int_equal(m->vcpu.s.r[R_RIP], 0x4000);
    assert_int_equal(m->vcpu.s.r[R_RSP], STACK - 16);
    drop(m);
}

/* The frame of #AC, pushed to a stack that is not aligned, is one more #AC. CPUs push for ever. */
static void alignment_fault_of_its_own_frame_ends(void **state)
{
    (void)state;
    for (unsigned vec = 0; vec < 32; vec++) {
        struct machine *m = make();
        m->vcpu.s.r[R_RSP] = STACK + 1;
        alarm(20);
        deliver_event(&m->vcpu, EV_FAULT, (uint8_t)vec, false, 0, 0);
        alarm(0);
        assert_int_equal(m->vcpu.s.activity, VCPU_SHUTDOWN);
        assert_int_equal(m->request, REQ_CRASH);
        drop(m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(aligned_stack_is_delivered_to),
        cmocka_unit_test(alignment_fault_of_its_own_frame_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
