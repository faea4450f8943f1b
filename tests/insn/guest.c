/* tests/insn/guest.c: executes one instruction in an engine: a machine whose page tables map the test's pages as Linux
 * maps them natively, with the same selectors, at CPL 3. Faults go through an IDT whose handlers are single bytes of a
 * page of HLTs: which one is reached names the vector, the frame on the kernel stack tells the rest. */
#include <stdlib.h>

#include "core/machine.h"
#include "exec/engine.h"
#include "tests/insn/insn_test.h"

/* Guest-physical places. IA-32e paging and PAE share a page directory. The kernel half is mapped, for the supervisor
 * only, where no case has data. */
enum {
    PA_PML4 = 0x1000,
    PA_PDPT = 0x2000,
    PA_PD = 0x3000,
    PA_PT_DATA = 0x4000,
    PA_PT_CODE = 0x5000,
    PA_PT_KERNEL = 0x6000,
    PA_PAE_PDPT = 0x7000,
    PA_GDT = 0x8000,
    PA_IDT = 0x9000,
    PA_TSS = 0xa000,
    PA_HANDLERS = 0xb000,
    PA_STACK = 0xc000,
    PA_IDT32 = 0xd000,
    PA_TSS32 = 0xe000,
    PA_KERNEL_END = 0xf000,
    PA_DATA = 0x100000,
    PA_CODE = 0x110000,
    KERNEL_BASE = 0x3fe00000, /* linear = KERNEL_BASE + physical, for PA_GDT .. PA_KERNEL_END */
    STACK_TOP = KERNEL_BASE + PA_STACK + PAGE_SIZE,
    SEL_KERNEL_CODE32 = 0x08,
    SEL_KERNEL_CODE = 0x10,
    SEL_KERNEL_DATA = 0x18,
    SEL_TSS = 0x40,
    SEL_HOST = 0x7b, /* byte-granular data of Linux's own: the one descriptor beside code and data that cases can see */
};
enum { PTE_P = 1, PTE_W = 2, PTE_U = 4, PTE_A = 0x20, PTE_D = 0x40 };
#define PTE_NX (UINT64_C(1) << 63)

enum { ATTR_DATA = 0xc0f3, ATTR_CODE32 = 0xc0fb, ATTR_CODE64 = 0xa0fb, ATTR_TSS = 0x8b };

struct guest {
    struct machine *m;
    struct engine *e;
    struct vcpu_state base; /* what all cases start from */
};

/* The door of a machine that nothing enters. */
static struct err *door_start(void *nd, struct nondet_start *out)
{
    (void)nd;
    memset(out, 0, sizeof(*out));
    return NULL;
}
static struct err *door_poll(void *nd, uint64_t ticks, struct nondet_event *out)
{
    (void)nd;
    (void)ticks;
    memset(out, 0, sizeof(*out));
    return NULL;
}
static uint64_t door_horizon(void *nd)
{
    (void)nd;
    return UINT64_MAX;
}
static struct err *door_idle(void *nd, uint64_t ticks, uint64_t now_ns, uint64_t deadline_ns, bool *reached_out)
{
    (void)nd;
    (void)ticks;
    (void)now_ns;
    (void)deadline_ns;
    *reached_out = true;
    return NULL;
}
static void door_output(void *nd, enum nondet_stream stream, uint8_t channel, const uint8_t *data, size_t len)
{
    (void)nd;
    (void)stream;
    (void)channel;
    (void)data;
    (void)len;
}
static const struct nondet_ops door = {door_start, door_poll, door_horizon, door_idle, door_output};

static uint8_t *ram(struct guest *g, uint64_t pa) { return g->m->mem.host + pa; } /* all of it below `low_len` */

uint8_t *guest_data(struct guest *g) { return ram(g, PA_DATA); }

static void put_pte(struct guest *g, uint64_t table, unsigned index, uint64_t pa, uint64_t bits_set)
{
    put_le64(ram(g, table + 8 * index), pa | bits_set | PTE_P | PTE_A | PTE_D);
}

/* Everything lies in the first GiB: one page directory, three page tables. */
static void build_page_tables(struct guest *g)
{
    put_pte(g, PA_PML4, 0, PA_PDPT, PTE_W | PTE_U);
    put_pte(g, PA_PDPT, 0, PA_PD, PTE_W | PTE_U);
    put_pte(g, PA_PD, DATA_BASE >> 21, PA_PT_DATA, PTE_W | PTE_U);
    put_pte(g, PA_PD, CODE_BASE >> 21, PA_PT_CODE, PTE_W | PTE_U);
    put_pte(g, PA_PD, KERNEL_BASE >> 21, PA_PT_KERNEL, PTE_W);
    for (unsigned i = 0; i < DATA_PAGES; i++)
        put_pte(g, PA_PT_DATA, i, PA_DATA + PAGE_SIZE * i, PTE_U | PTE_NX | (i == DATA_RO_PAGE ? 0 : PTE_W));
    for (unsigned i = 0; i < CODE_PAGES; i++)
        put_pte(g, PA_PT_CODE, i, PA_CODE + PAGE_SIZE * i, PTE_U);
    put_le64(ram(g, PA_PAE_PDPT), PA_PD | PTE_P); /* the CPU has it in pdpte[] already */
    for (unsigned pa = PA_GDT; pa < PA_KERNEL_END; pa += PAGE_SIZE)
        put_pte(g, PA_PT_KERNEL, pa / PAGE_SIZE, pa, PTE_W);
}

static void put_descriptor(struct guest *g, unsigned sel, uint64_t base, uint32_t limit, uint16_t attr)
{
    put_le64(ram(g, PA_GDT + (sel & ~7u)), (limit & 0xffff) | (base & 0xffffff) << 16 | (uint64_t)attr << 40 |
                                               (uint64_t)(limit >> 16 & 0xf) << 48 | (base >> 24 & 0xff) << 56);
}

static void build_tables(struct guest *g)
{
    put_descriptor(g, SEL_KERNEL_CODE32, 0, 0xfffff, 0xc09b);
    put_descriptor(g, SEL_KERNEL_CODE, 0, 0xfffff, 0xa09b);
    put_descriptor(g, SEL_KERNEL_DATA, 0, 0xfffff, 0xc093);
    put_descriptor(g, SEL_CODE32, 0, 0xfffff, ATTR_CODE32);
    put_descriptor(g, SEL_DATA, 0, 0xfffff, ATTR_DATA);
    put_descriptor(g, SEL_CODE64, 0, 0xfffff, ATTR_CODE64);
    put_descriptor(g, SEL_TSS, KERNEL_BASE + PA_TSS, 0x67, ATTR_TSS);
    uint32_t limit;
    uint16_t attr;
    if (native_descriptor(SEL_HOST, &attr, &limit))
        put_descriptor(g, SEL_HOST, 0, limit, attr);
    put_le64(ram(g, PA_TSS + 4), STACK_TOP);
    put_le16(ram(g, PA_TSS + 0x66), 0x68); /* no I/O bitmap */
    put_le32(ram(g, PA_TSS32 + 4), STACK_TOP);
    put_le16(ram(g, PA_TSS32 + 8), SEL_KERNEL_DATA);
    put_le16(ram(g, PA_TSS32 + 0x66), 0x68);
    memset(ram(g, PA_HANDLERS), 0xf4, PAGE_SIZE);
    for (unsigned v = 0; v < 256; v++) {
        uint64_t to = KERNEL_BASE + PA_HANDLERS + v;
        unsigned dpl = v == 3 || v == 4 ? 3 : 0;
        uint64_t gate = (to & 0xffff) | (uint64_t)(0x8e00 | dpl << 13) << 32 | (to >> 16 & 0xffff) << 48;
        put_le64(ram(g, PA_IDT + 16 * v), gate | SEL_KERNEL_CODE << 16);
        put_le64(ram(g, PA_IDT32 + 8 * v), gate | SEL_KERNEL_CODE32 << 16);
    }
}

static void build_state(struct vcpu_state *s)
{
    s->cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_PG;
    s->cr3 = PA_PML4;
    s->cr4 =
        CR4_PAE | CR4_PGE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_UMIP | CR4_FSGSBASE | CR4_OSXSAVE | CR4_SMEP | CR4_SMAP;
    s->efer = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE;
    s->xcr0 = 7;
    s->cpl = 3;
    s->gdtr = (struct dtable){.base = KERNEL_BASE + PA_GDT, .limit = 0x7f};
    s->idtr = (struct dtable){.base = KERNEL_BASE + PA_IDT, .limit = 0xfff};
    s->seg[S_TR] = (struct seg){.base = KERNEL_BASE + PA_TSS, .limit = 0x67, .sel = SEL_TSS, .attr = ATTR_TSS};
    s->seg[S_LDTR] = (struct seg){.attr = SEG_NULL};
}

/* Protected mode with PAE paging instead. */
static void make_legacy(struct vcpu_state *s)
{
    s->efer = EFER_NXE;
    s->cr3 = PA_PAE_PDPT;
    s->pdpte[0] = PA_PD | PTE_P;
    s->idtr = (struct dtable){.base = KERNEL_BASE + PA_IDT32, .limit = 0x7ff};
    s->seg[S_TR].base = KERNEL_BASE + PA_TSS32;
}

struct err *guest_create(const char *engine, uint32_t cpu_features, struct guest **out)
{
    struct guest *g = calloc(1, sizeof(*g));
    if (!g)
        return err_new(ERR_HOST, "out of memory");
    struct machine_config cfg = {.ram_len = MIB(4), .rate_q32 = UINT64_C(1) << 32, .cpu_features = cpu_features};
    struct err *e = engine_check(engine);
    if (!e)
        e = machine_create(&cfg, 0, (struct nondet){&door, NULL}, &g->m);
    if (!e)
        e = exec_attach(g->m);
    if (!e)
        e = engine_create(engine, g->m, &g->e);
    if (e) {
        guest_destroy(g);
        return e;
    }
    build_page_tables(g);
    build_tables(g);
    g->base = g->m->vcpu.s;
    build_state(&g->base);
    *out = g;
    return NULL;
}

void guest_destroy(struct guest *g)
{
    if (!g)
        return;
    if (g->e)
        g->e->ops->destroy(g->e);
    if (g->m) {
        exec_detach(g->m);
        machine_destroy(g->m);
    }
    free(g);
}

static struct seg make_seg(uint16_t sel, uint64_t base)
{
    struct seg s = {.sel = sel, .base = base};
    s.attr = sel == SEL_CODE64 ? ATTR_CODE64 : sel == SEL_CODE32 ? ATTR_CODE32 : sel > 3 ? ATTR_DATA : SEG_NULL;
    s.limit = sel > 3 ? UINT32_MAX : 0;
    return s;
}

static void load_state(struct vcpu_state *s, const struct insn_state *in)
{
    memcpy(s->r, in->r, sizeof(in->r));
    s->r[R_RIP] = in->rip;
    vcpu_set_rflags(s, in->rflags);
    for (unsigned i = 0; i < 6; i++)
        s->seg[i] = make_seg(in->sel[i], i == S_FS ? in->fs_base : i == S_GS ? in->gs_base : 0);
    for (unsigned i = 0; i < 8; i++)
        memcpy(s->x87.st[i], in->fx + FX_ST + 16 * i, 10);
    s->x87.fcw = get_le16(in->fx + FX_FCW);
    s->x87.fsw = get_le16(in->fx + FX_FSW);
    s->x87.ftw = in->fx[FX_FTW];
    s->x87.fop = get_le16(in->fx + FX_FOP);
    s->x87.fip = get_le64(in->fx + FX_FIP);
    s->x87.fdp = get_le64(in->fx + FX_FDP);
    s->mxcsr = get_le32(in->fx + FX_MXCSR);
    for (unsigned i = 0; i < 16; i++) {
        memcpy(s->ymm[i], in->fx + FX_XMM + 16 * i, 16);
        memcpy(s->ymm[i] + 16, in->ymmh[i], 16);
    }
}

static void save_state(const struct vcpu_state *s, struct insn_state *out)
{
    memset(out, 0, sizeof(*out));
    memcpy(out->r, s->r, sizeof(out->r));
    out->rip = s->r[R_RIP];
    out->rflags = vcpu_rflags(s);
    for (unsigned i = 0; i < 6; i++)
        out->sel[i] = s->seg[i].sel;
    out->fs_base = s->seg[S_FS].base;
    out->gs_base = s->seg[S_GS].base;
    for (unsigned i = 0; i < 8; i++)
        memcpy(out->fx + FX_ST + 16 * i, s->x87.st[i], 16);
    put_le16(out->fx + FX_FCW, s->x87.fcw);
    put_le16(out->fx + FX_FSW, s->x87.fsw);
    out->fx[FX_FTW] = s->x87.ftw;
    put_le16(out->fx + FX_FOP, s->x87.fop);
    put_le64(out->fx + FX_FIP, s->x87.fip);
    put_le64(out->fx + FX_FDP, s->x87.fdp);
    put_le32(out->fx + FX_MXCSR, s->mxcsr);
    for (unsigned i = 0; i < 16; i++) {
        memcpy(out->fx + FX_XMM + 16 * i, s->ymm[i], 16);
        memcpy(out->ymmh[i], s->ymm[i] + 16, 16);
    }
}

/* In a handler: the interrupted state is in the frame (SDM vol. 3, 6.12.1 and 6.14.2). */
static void unwind_fault(struct guest *g, const struct vcpu_state *s, struct insn_state *out)
{
    unsigned word = s->efer & EFER_LMA ? 8 : 4;
    uint64_t slot[6] = {0}; /* error code, RIP, CS, RFLAGS, RSP, SS */
    out->vector = (int)(s->r[R_RIP] - (KERNEL_BASE + PA_HANDLERS));
    bool has_error = vector_has_error(out->vector);
    for (unsigned i = has_error ? 0 : 1; i < 6; i++)
        memcpy(&slot[i], ram(g, PA_STACK + PAGE_SIZE - (6 - i) * word), word);
    if (s->r[R_RSP] != STACK_TOP - (has_error ? 6 : 5) * word)
        out->vector = VECTOR_BAD_FRAME;
    out->error = (uint32_t)slot[0];
    out->cr2 = out->vector == 14 ? s->cr2 : 0;
    out->rip = slot[1];
    out->sel[S_CS] = (uint16_t)slot[2];
    out->rflags = slot[3];
    out->r[R_RSP] = slot[4];
    out->sel[S_SS] = (uint16_t)slot[5];
}

static bool in_handler(const struct vcpu_state *s)
{
    return s->cpl == 0 && s->r[R_RIP] - (KERNEL_BASE + PA_HANDLERS) < 256;
}

/* Returns whether the engine stopped where it was told to. */
static bool run_ticks(struct guest *g, unsigned ticks)
{
    uint64_t until = g->m->vcpu.ticks + ticks;
    enum engine_stop stop = g->e->ops->run(g->e, until);
    g->m->request = REQ_NONE; /* a triple fault shows in the state */
    return stop == STOP_TICKS && g->m->vcpu.ticks == until;
}

static bool run_once(struct guest *g, const struct test_case *tc)
{
    struct vcpu *v = &g->m->vcpu;
    v->s = g->base;
    if (tc->legacy)
        make_legacy(&v->s);
    load_state(&v->s, &tc->in);
    v->s.r[R_RIP] -= tc->prelude;
    exec_state_changed(g->m);
    if (!run_ticks(g, tc->prelude + 1))
        return false;
    return tc->steps == 1 || in_handler(&v->s) || run_ticks(g, tc->steps - 1);
}

static void put_code(struct guest *g, const struct test_case *tc)
{
    static const uint8_t nops[4] = {0x90, 0x90, 0x90, 0x90};
    size_t at = tc->code_addr - CODE_BASE;
    mem_write(&g->m->mem, gpa(PA_CODE + at - tc->prelude), nops, tc->prelude);
    mem_write(&g->m->mem, gpa(PA_CODE + at), tc->code, MIN(sizeof(tc->code), CODE_LEN - at));
}

void guest_run(struct guest *g, const struct test_case *tc, const uint8_t *data, struct insn_state *out)
{
    const struct vcpu_state *s = &g->m->vcpu.s;
    put_code(g, tc);
    bool exact = true;
    for (unsigned i = 0; i <= tc->twice && exact; i++) {
        memcpy(ram(g, PA_DATA), data, DATA_LEN);
        exact = run_once(g, tc);
    }
    save_state(s, out);
    out->vector = -1;
    if (in_handler(s))
        unwind_fault(g, s, out);
    if (!exact)
        out->vector = VECTOR_NOT_EXACT;
}
