/* tests/fuzz/fuzz_guest.c: libFuzzer over the CPU. The input becomes the start state and the memory of a tiny machine, which
 * runs for TICKS ticks. Whatever it does, the program must neither crash nor hang, and the same input must end in the same
 * state when it is run again with a stop every few ticks at which all that the engine derived from the state is
 * dropped and the dirty pages are drained: stops, TLB and code cache are invisible to a guest.
 *
 * Input: struct head, then bytes of code. They lie at CODE, and again at every following KiB, so that wild jumps land in
 * something. Descriptor tables, page tables and a TSS that make each mode a working one are built first; the IDT
 * leads every exception and interrupt to a different point of the code. */
#include <stdio.h>
#include <stdlib.h>

#include "core/base/check.h"
#include "core/base/hash.h"
#include "core/platform.h"
#include "replay/session.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum { TICKS = 20000, IDLES = 500, RAM = 2 << 20, DENSE_STOPS = 48, SPARSE = 200 };

/* Guest-physical layout. Linear addresses are the same, and once more from HIGH on in 64-bit mode. */
enum {
    IDT = 0x1000, GDT = 0x2000, TSS = 0x3000, TABLES = 0x4000 /* PML4, PDPT, PD, PT, 32-bit PD, 32-bit PT */,
    CODE = 0x10000, CODE_END = 0x30000, STACK = 0x40000, STACK0 = 0x44000, TABLE_PAGES = 512,
};

enum mode { REAL, VM86, PROT16, PROT32, PAGED32, PAE, COMPAT, LONG64, MODES };
enum { F_USER = 1, F_INTERRUPTS = 2, F_TIMER = 4, F_SMAP = 8, F_TF = 16, F_ALIGN = 32, F_WP = 64, F_BREAKPOINTS = 128 };

struct head {
    uint8_t mode, flags;
    uint8_t stop_ticks;  /* of the second run: 1 .. 256 */
    uint8_t timer_count;
    uint8_t entry;       /* where in the code to start, in bytes */
    uint8_t handlers;    /* distance of the exception handlers, in bytes */
    uint8_t table_at;    /* see odd_tables() */
    uint8_t regs_seed;
};

enum sel { SEL_CODE32 = 0x08, SEL_DATA = 0x10, SEL_CODE64 = 0x18, SEL_CODE16 = 0x20, SEL_UDATA = 0x2b, SEL_UCODE32 = 0x33,
           SEL_UCODE64 = 0x3b, SEL_UCODE16 = 0x43, SEL_TSS = 0x50, SEL_LDT = 0x60, SEL_TSS2 = 0x70, SEL_CALL = 0x80 };

/* ---- the door: time stands still outside, and the second run stops often ---- */

struct door {
    struct machine *m;
    uint64_t step, next; /* ticks from stop to stop, 0: never stop; and the next one */
    unsigned stops, idles;
};

static struct err *door_start(void *nd, struct nondet_start *out)
{
    (void)nd;
    *out = (struct nondet_start){.wall_ns = UINT64_C(1700000000) * NS_PER_S};
    return NULL;
}

static struct err *door_poll(void *nd, uint64_t ticks, struct nondet_event *out)
{
    struct door *d = nd;
    out->kind = d->idles > IDLES ? ND_STOP : ND_NONE;
    if (d->step && ticks >= d->next) {
        mem_dirty_collect(&d->m->mem);
        exec_state_changed(d->m);
        d->next = ticks + d->step * (++d->stops > DENSE_STOPS ? SPARSE : 1);
    }
    return NULL;
}

static uint64_t door_horizon(void *nd)
{
    const struct door *d = nd;
    return d->step ? d->next : UINT64_MAX;
}

static struct err *door_idle(void *nd, uint64_t ticks, uint64_t now_ns, uint64_t deadline_ns, bool *reached_out)
{
    struct door *d = nd;
    (void)ticks, (void)now_ns;
    if (deadline_ns == VCLOCK_NEVER)
        d->idles = IDLES;
    *reached_out = ++d->idles <= IDLES;
    return NULL;
}

static void door_output(void *nd, enum nondet_stream stream, uint8_t channel, const uint8_t *data, size_t len)
{
    (void)nd, (void)stream, (void)channel, (void)data, (void)len;
}

static const struct nondet_ops door_ops = {door_start, door_poll, door_horizon, door_idle, door_output};

/* ---- memory ---- */

static void poke(struct machine *m, uint64_t at, uint64_t value, size_t len)
{
    mem_load(&m->mem, gpa(at), &value, len);
}

static uint64_t descriptor(uint32_t base, uint32_t limit, uint16_t attr)
{
    return (limit & 0xffff) | (uint64_t)(base & 0xffffff) << 16 | (uint64_t)(attr & 0xf0ff) << 40 |
           (uint64_t)(limit >> 16 & 0xf) << 48 | (uint64_t)(base >> 24) << 56;
}

static void build_gdt(struct machine *m, const struct head *h, enum mode mode)
{
    static const struct { uint8_t sel; uint32_t limit; uint16_t attr; } rows[] = {
        {SEL_CODE32, 0xfffff, 0xc09b}, {SEL_DATA, 0xfffff, 0xc093},  {SEL_CODE64, 0xfffff, 0xa09b},
        {SEL_CODE16, 0xffff, 0x009b},  {SEL_UDATA, 0xfffff, 0xc0f3}, {SEL_UCODE32, 0xfffff, 0xc0fb},
        {SEL_UCODE64, 0xfffff, 0xa0fb}, {SEL_UCODE16, 0xffff, 0x00fb},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        poke(m, GDT + (rows[i].sel & ~7u), descriptor(0, rows[i].limit, rows[i].attr), 8);
    poke(m, GDT + SEL_TSS, descriptor(TSS, 0x2fff, 0x8b), 8);
    poke(m, GDT + SEL_TSS2, descriptor(TSS + 0x100, 0x67, 0x89), 8);
    poke(m, GDT + SEL_LDT, descriptor(GDT, 0xff, 0x82), 8);
    poke(m, GDT + SEL_CALL, CODE | (uint64_t)(mode >= COMPAT ? SEL_CODE64 : SEL_CODE32) << 16 |
                                (uint64_t)(0xec00 | (h->handlers & 31)) << 32, 8);
}

static void build_idt(struct machine *m, const struct head *h, enum mode mode)
{
    bool user_handlers = h->table_at & 0x80; /* handlers at privilege 3: deliveries without a stack switch */
    for (unsigned vec = 0; vec < 256; vec++) {
        uint32_t at = CODE + (vec * h->handlers & 0x3ff);
        uint64_t ist = vec % 3 == 2 ? vec % 8 : 0, dpl = vec % 2 ? 0x60 : 0;
        uint16_t cs = mode >= COMPAT ? SEL_CODE64 : mode == PROT16 ? SEL_CODE16 : SEL_CODE32;
        if (user_handlers && (h->flags & F_USER))
            cs = mode >= COMPAT ? SEL_UCODE64 : SEL_UCODE32;
        uint64_t low = (at & 0xffff) | (uint64_t)cs << 16 | (uint64_t)(0x8e00 | dpl << 8 | (mode >= COMPAT ? ist : 0)) << 32 |
                       (uint64_t)(at >> 16) << 48;
        if (mode < COMPAT && vec == 8)
            low = (uint64_t)SEL_TSS2 << 16 | UINT64_C(0x8500) << 32; /* a task gate */
        if (mode == REAL)
            poke(m, vec * 4, (uint64_t)(CODE >> 4) << 16 | (at & 0x3ff), 4);
        else
            poke(m, IDT + vec * (mode >= COMPAT ? 16 : 8), low, 8);
    }
}

static void build_tss(struct machine *m, enum mode mode)
{
    if (mode >= COMPAT) {
        for (unsigned off = 4; off < 0x5c; off += 8)
            poke(m, TSS + off, STACK0, 8);
    } else {
        for (unsigned t = 0; t < 2; t++) {
            uint32_t at = TSS + t * 0x100;
            poke(m, at + 4, STACK0, 4);
            poke(m, at + 8, SEL_DATA, 4);
            poke(m, at + 0x1c, mode == PAE ? TABLES + 0x1000 : TABLES + 0x4000, 4); /* CR3 */
            poke(m, at + 0x20, CODE + 0x40 * t, 4);
            poke(m, at + 0x24, 2, 4);
            poke(m, at + 0x38, STACK, 4);
            for (unsigned s = 0; s < 6; s++)
                poke(m, at + 0x48 + 4 * s, s == 1 ? SEL_CODE32 : SEL_DATA, 4);
        }
    }
    poke(m, TSS + 0x66, 0x68, 2);
}

/* Identity for the first 2 MiB by 4 KiB pages; then the device window, then the table itself. Entry 3 of every 8 is global,
 * entry 5 read-only for users. */
static void build_tables(struct machine *m, const struct head *h)
{
    const uint64_t all = 7;
    for (unsigned root = 0; root < 512; root += 256)
        poke(m, TABLES + 8 * root, (TABLES + 0x1000) | all, 8);
    poke(m, TABLES + 8 * 511, TABLES | all, 8); /* the table maps itself */
    for (unsigned i = 0; i < 8; i++)
        poke(m, TABLES + 0x1000 + 8 * i, (TABLES + 0x2000) | ((h->mode & 7) == PAE ? 1 : 7), 8);
    poke(m, TABLES + 0x2000, (TABLES + 0x3000) | all, 8);
    poke(m, TABLES + 0x2008, 0xfee00000 | 0x87, 8);
    poke(m, TABLES + 0x2010, 0xfec00000 | 0x87, 8);
    poke(m, TABLES + 0x2018, (TABLES + 0x2000) | all, 8);
    poke(m, TABLES + 0x4000, (TABLES + 0x5000) | all, 4);
    poke(m, TABLES + 0x4004, 0xfec00000 | 0x87, 4);
    poke(m, TABLES + 0x4008, (TABLES + 0x4000) | all, 4);
    for (unsigned i = 0; i < TABLE_PAGES; i++) {
        uint64_t bits = i % 8 == 3 ? all | 0x100 : i % 8 == 5 ? 5 : i % 8 == 6 ? 3 : all;
        if (i * 0x1000 < STACK0 + 0x1000)
            bits = all;
        poke(m, TABLES + 0x3000 + 8 * i, i * 0x1000 | bits, 8);
        poke(m, TABLES + 0x5000 + 4 * i, i * 0x1000 | bits, 4);
    }
}

/* Tables where no table should be: in devices, in nowhere, upon each other. */
static void odd_tables(struct machine *m, const struct head *h)
{
    static const uint64_t odd[8] = {0, LAPIC_BASE, IOAPIC_BASE, RAM, CODE, TABLES, STACK & ~0xfffu, GIB(1)};
    uint64_t at = odd[h->table_at & 7];
    struct vcpu_state *s = &m->vcpu.s;
    if (!at)
        return;
    switch (h->table_at >> 3 & 7) {
    case 0: s->cr3 = at; break;
    case 1: s->gdtr.base = at; break;
    case 2: s->idtr.base = at; break;
    case 3: s->seg[S_TR].base = at; break;
    case 4: s->r[R_RSP] = at; break;
    case 5: poke(m, TABLES + 0x2018, at | 7, 8); break;
    case 6: poke(m, TABLES + 0x3000 + 8 * (CODE_END >> 12), at | 7, 8); break;
    case 7: s->r[R_RIP] = at - 3; break;
    }
}

static void build_memory(struct machine *m, const struct head *h, const uint8_t *code, size_t len)
{
    enum mode mode = h->mode % MODES;
    for (uint64_t at = CODE; at < CODE_END && len; at += KIB(1))
        mem_load(&m->mem, gpa(at), code, MIN(len, KIB(4)));
    build_gdt(m, h, mode);
    build_idt(m, h, mode);
    build_tss(m, mode);
    build_tables(m, h);
}

/* ---- the start state ---- */

static struct seg segment(uint16_t sel, uint16_t attr)
{
    return (struct seg){.limit = UINT32_MAX, .sel = sel, .attr = attr};
}

static void set_segments(struct vcpu_state *s, enum mode mode, bool user)
{
    static const struct { uint16_t sel, attr, user_sel; } code[MODES] = {
        [PROT16] = {SEL_CODE16, 0x9b, SEL_UCODE16}, [PROT32] = {SEL_CODE32, 0xc09b, SEL_UCODE32},
        [PAGED32] = {SEL_CODE32, 0xc09b, SEL_UCODE32}, [PAE] = {SEL_CODE32, 0xc09b, SEL_UCODE32},
        [COMPAT] = {SEL_CODE32, 0xc09b, SEL_UCODE32}, [LONG64] = {SEL_CODE64, 0xa09b, SEL_UCODE64},
    };
    uint16_t dpl = user ? 0x60 : 0;
    if (mode <= VM86) {
        for (unsigned i = S_ES; i <= S_GS; i++)
            s->seg[i] = (struct seg){.base = CODE, .limit = 0xffff, .sel = CODE >> 4,
                                     .attr = mode == VM86 ? 0xf3 : i == S_CS ? 0x9b : 0x93};
        return;
    }
    for (unsigned i = S_ES; i <= S_GS; i++)
        s->seg[i] = segment(user ? SEL_UDATA : SEL_DATA, 0xc093 | dpl);
    s->seg[S_CS] = segment(user ? code[mode].user_sel : code[mode].sel, code[mode].attr | dpl);
    if (mode == PROT16) {
        s->seg[S_CS].limit = s->seg[S_SS].limit = 0xffff;
        s->seg[S_CS].base = CODE;
        s->seg[S_SS].attr = 0x93 | dpl;
    }
}

static void set_control(struct vcpu_state *s, enum mode mode, uint8_t flags)
{
    s->cr0 = CR0_ET | CR0_NE | CR0_MP | (flags & F_ALIGN ? CR0_AM : 0) | (flags & F_WP ? CR0_WP : 0);
    s->cr4 = CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE | CR4_DE | CR4_PSE | CR4_PGE | CR4_FSGSBASE;
    s->xcr0 = 7;
    if (mode == REAL)
        return;
    s->cr0 |= CR0_PE;
    if (mode >= PAGED32 || mode == VM86)
        s->cr0 |= CR0_PG;
    s->cr3 = mode >= COMPAT ? TABLES : mode == PAE ? TABLES + 0x1000 : TABLES + 0x4000;
    if (mode >= PAE)
        s->cr4 |= CR4_PAE | (flags & F_SMAP ? CR4_SMAP | CR4_SMEP : 0);
    if (mode >= PAE)
        s->efer |= EFER_NXE;
    for (unsigned i = 0; i < 4; i++)
        s->pdpte[i] = mode == PAE ? (TABLES + 0x2000) | 1 : 0;
    if (mode >= COMPAT)
        s->efer |= EFER_LME | EFER_LMA | EFER_SCE;
}

static void set_state(struct machine *m, const struct head *h)
{
    struct vcpu_state *s = &m->vcpu.s;
    enum mode mode = h->mode % MODES;
    bool user = mode == VM86 || (mode != REAL && (h->flags & F_USER));
    uint64_t flags = 2;
    set_control(s, mode, h->flags);
    set_segments(s, mode, user);
    s->gdtr = (struct dtable){.base = GDT, .limit = 0xff};
    s->idtr = (struct dtable){.base = mode == REAL ? 0 : IDT, .limit = mode == REAL ? 0x3ff : 0xfff};
    s->seg[S_TR] = (struct seg){.base = TSS, .limit = 0x2fff, .sel = SEL_TSS, .attr = 0x8b};
    s->cpl = user ? 3 : 0;
    flags |= h->flags & F_INTERRUPTS ? FL_IF : 0;
    flags |= h->flags & F_TF ? FL_TF : 0;
    flags |= h->flags & F_ALIGN ? FL_AC : 0;
    flags |= mode == VM86 ? FL_VM | FL_IOPL : 0;
    vcpu_set_rflags(s, flags);
    for (unsigned i = 0; i < 16; i++) {
        uint8_t seed[2] = {h->regs_seed, (uint8_t)i};
        uint64_t x = hash64(seed, sizeof(seed), 0);
        static const uint64_t mask[4] = {0x1fffff, 0x3ffff, UINT64_MAX, 0x80000000003fffff};
        s->r[i] = x & mask[x >> 60 & 3];
    }
    s->r[R_RSP] = mode <= PROT16 ? 0x8000 + (h->flags & 1) : STACK;
    s->r[R_RIP] = mode <= PROT16 ? h->entry : CODE + h->entry;
    if (h->flags & F_BREAKPOINTS) {
        s->dr[0] = CODE + (h->entry | 8);
        s->dr[1] = STACK - 8;
        s->dr[7] = 0x400 | 0x0000000f | 0x00f00000u; /* 0 executes, 1 reads and writes */
    }
}

/* The local APIC's timer, periodic. */
static void set_timer(struct machine *m, const struct head *h)
{
    if (!(h->flags & F_TIMER))
        return;
    bus_write(m->bus, BUS_MMIO, LAPIC_BASE + 0xf0, 4, 0x1ff);
    bus_write(m->bus, BUS_MMIO, LAPIC_BASE + 0x320, 4, 0x20040);
    bus_write(m->bus, BUS_MMIO, LAPIC_BASE + 0x3e0, 4, 0xb);
    bus_write(m->bus, BUS_MMIO, LAPIC_BASE + 0x380, 4, 1 + h->timer_count);
}

/* ---- one run ---- */

struct outcome {
    uint64_t ticks, cpu[VG_COUNT], devices, memory;
    enum session_end end;
    enum machine_request request;
};

static void run(const struct head *h, const uint8_t *code, size_t len, uint64_t step, struct outcome *out)
{
    struct machine_config cfg = {.ram_len = RAM, .rate_q32 = UINT64_C(1) << 32};
    struct door d = {.step = step, .next = step};
    struct engine *en;
    struct err *e = machine_create(&cfg, PAGE_SIZE, (struct nondet){&door_ops, &d}, &d.m);
    CHECK(!e, "%s", err_message(e));
    build_memory(d.m, h, code, len);
    set_state(d.m, h);
    odd_tables(d.m, h);
    set_timer(d.m, h);
    e = exec_attach(d.m);
    CHECK(!e, "%s", err_message(e));
    e = engine_create("interp", d.m, &en);
    CHECK(!e, "%s", err_message(e));

    struct session s = {.machine = d.m, .engine = en, .limit_ticks = TICKS, .hook = {.ticks = UINT64_MAX}};
    memset(out, 0, sizeof(*out));
    e = session_run(&s, &out->end);
    CHECK(!e, "%s", err_message(e));
    out->ticks = d.m->vcpu.ticks;
    out->request = d.m->request;
    for (unsigned g = 0; g < VG_COUNT; g++)
        out->cpu[g] = vcpu_digest(&d.m->vcpu.s, g);
    out->devices = machine_devices_digest(d.m);
    out->memory = hash64(d.m->mem.host, (size_t)d.m->mem.page_count << PAGE_SHIFT, 0);

    en->ops->destroy(en);
    exec_detach(d.m);
    machine_destroy(d.m);
}

static void compare(const struct outcome *a, const struct outcome *b, uint64_t step)
{
    CHECK(a->end == b->end && a->request == b->request && a->ticks == b->ticks,
          "stopping every %" PRIu64 " ticks: end %d/%d request %d/%d ticks %" PRIu64 "/%" PRIu64, step, a->end, b->end, a->request,
          b->request, a->ticks, b->ticks);
    CHECK(a->cpu[VG_GENERAL] == b->cpu[VG_GENERAL], "general registers depend on stops every %" PRIu64 " ticks", step);
    CHECK(a->cpu[VG_SYSTEM] == b->cpu[VG_SYSTEM], "system registers depend on stops every %" PRIu64 " ticks", step);
    CHECK(a->cpu[VG_VECTOR] == b->cpu[VG_VECTOR], "vector registers depend on stops every %" PRIu64 " ticks", step);
    CHECK(a->memory == b->memory, "memory depends on stops every %" PRIu64 " ticks", step);
    CHECK(a->devices == b->devices, "devices depend on stops every %" PRIu64 " ticks", step);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct head h;
    struct outcome once, again;
    if (len <= sizeof(h))
        return 0;
    memcpy(&h, data, sizeof(h));
    uint64_t step = h.stop_ticks + UINT64_C(1);
    run(&h, data + sizeof(h), len - sizeof(h), 0, &once);
    run(&h, data + sizeof(h), len - sizeof(h), step, &again);
    compare(&once, &again, step);
    return 0;
}
