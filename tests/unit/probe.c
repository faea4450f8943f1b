/* tests/unit/probe.c: which bytes an instruction accesses, as probes see it (exec/engine.h), byte by byte: for each row
 * a probe of each kind on each byte around, and whether it is hit. And what random programs (tests/replay/probes.c)
 * hardly meet: faults behind an access, aliases, stops that coincide.
 *
 * 64-bit mode at CPL 0. Linear addresses below 2 MiB are physical; ALIAS is the same memory again; all else is not
 * mapped. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/machine.h"
#include "exec/engine.h"

enum {
    PML4 = 0x1000, PDPT = 0x2000, PD = 0x3000, GDT = 0x4000, TSS = 0x4800, IDT = 0x5000, CODE = 0x7000, DATA = 0x8100,
    DATA2 = 0x9100, STACK = 0xa800, IST = 0xb800, HANDLER = 0xc000, ALIAS = 0x200000, NOWHERE = 0x400000,
    CODE64 = 8, DATA64 = 16, TASK = 24, SPARE = 40, /* selectors */
    VEC_PF = 14, VEC_INT = 0x30,
    FAR = 70,  /* ticks: so many that the translator's code is entered */
    SLED = 96, /* bytes of NOPs, more than FAR */
};

static const char *const engine_specs[] = {"interp", "dbt", "dbt:exact=1", "mixed:switch=2"};

struct rig { struct machine *m; struct engine *e; struct vcpu_state clean; };

/* ---- the machine ---- */

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

static void put64(struct machine *m, uint64_t at, uint64_t x) { mem_write(&m->mem, gpa(at), &x, sizeof(x)); }

static void put_gate(struct machine *m, unsigned vec, unsigned ist)
{
    put64(m, IDT + 16 * vec, UINT64_C(0x8e00) << 32 | (uint64_t)ist << 32 | CODE64 << 16 | HANDLER);
    put64(m, IDT + 16 * vec + 8, 0);
}

/* Once: whoever writes them drops all of the TLB. */
static void fill_page_tables(struct machine *m)
{
    put64(m, PML4, PDPT | 3);
    put64(m, PDPT, PD | 3);
    put64(m, PD, 0x83);
    put64(m, PD + 8, 0x83);
}

static void fill_memory(struct machine *m)
{
    put64(m, GDT + CODE64, UINT64_C(0x00209b0000000000));
    put64(m, GDT + DATA64, UINT64_C(0x0000930000000000));
    put64(m, GDT + SPARE, UINT64_C(0x00cf92000000ffff)); /* not accessed yet */
    put64(m, TSS + 0x24, IST);
    put_gate(m, VEC_INT, 0);
    put_gate(m, VEC_PF, 1);
    uint8_t nops[SLED];
    memset(nops, 0x90, sizeof(nops));
    mem_write(&m->mem, gpa(HANDLER), nops, sizeof(nops));
}

static void make(struct rig *r, const char *spec)
{
    struct machine_config cfg = {.ram_len = MIB(2), .rate_q32 = UINT64_C(1) << 32};
    assert_null(machine_create(&cfg, 0, (struct nondet){.ops = &ops}, &r->m));
    vcpu_reset(&r->m->vcpu);
    struct vcpu_state *s = &r->m->vcpu.s;
    s->cr0 = CR0_PG | CR0_PE | CR0_ET | CR0_NE | CR0_MP;
    s->cr3 = PML4;
    s->cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXSAVE;
    s->xcr0 = 7;
    s->efer = EFER_LME | EFER_LMA;
    s->gdtr = (struct dtable){.base = GDT, .limit = 47};
    s->idtr = (struct dtable){.base = IDT, .limit = 0xfff};
    s->seg[S_CS] = (struct seg){.sel = CODE64, .attr = SEG_L | SEG_P | SEG_S | SEG_CODE | SEG_READ | SEG_ACCESSED};
    s->seg[S_SS] = s->seg[S_DS] = s->seg[S_ES] =
        (struct seg){.sel = DATA64, .attr = SEG_P | SEG_S | SEG_WRITE | SEG_ACCESSED};
    s->seg[S_TR] = (struct seg){.base = TSS, .limit = 0x67, .sel = TASK, .attr = SEG_P | 0xb};
    vcpu_set_rflags(s, 0);
    s->mxcsr = 0x1f80;
    s->x87.fcw = 0x37f;
    s->x87.ftw = 0x80;
    s->r[R_RAX] = 40;
    s->r[R_RBX] = s->r[R_RSI] = DATA;
    s->r[R_RCX] = 3;
    s->r[R_RDX] = 0;
    s->r[R_RDI] = DATA2;
    s->r[R_RSP] = STACK;
    s->r[R_RIP] = CODE;
    memset(s->ymm[1], 0, sizeof(s->ymm[1]));
    s->ymm[1][7] = s->ymm[1][15] = 0x80; /* a mask: elements 1 and 3 */
    r->clean = *s;
    fill_page_tables(r->m);
    assert_null(exec_attach(r->m));
    assert_null(engine_create(spec, r->m, &r->e));
}

static void drop(struct rig *r)
{
    r->e->ops->destroy(r->e);
    exec_detach(r->m);
    machine_destroy(r->m);
}

/* The state before each run: nothing but registers, and what instructions store. */
static void reset(struct rig *r, uint64_t rip)
{
    r->m->vcpu.s = r->clean;
    r->m->vcpu.s.r[R_RIP] = rip;
    r->m->vcpu.ticks = 1000;
    fill_memory(r->m);
    put64(r->m, DATA, HANDLER);
    put64(r->m, STACK, HANDLER);
    exec_probes_skip(r->m, UINT64_MAX);
}

static void set_probes(struct rig *r, const struct exec_probe *p, size_t n)
{
    assert_null(exec_probes_set(r->m, p, n));
}

static enum engine_stop run(struct rig *r, uint64_t ticks)
{
    return r->e->ops->run(r->e, r->m->vcpu.ticks + ticks);
}

/* ---- access maps ---- */

struct area { uint64_t at; uint32_t len; bool read, write; };
struct row {
    const char *name;
    uint8_t code[12];
    size_t len;
    struct area area[6];
    struct { uint8_t reg; uint64_t value; } with; /* a register that is not as make() sets it */
};
#define BYTES(...) {__VA_ARGS__}, sizeof((uint8_t[]){__VA_ARGS__})
#define R(at, len) {at, len, true, false}
#define W(at, len) {at, len, false, true}
#define RW(at, len) {at, len, true, true}

/* What its delivery accesses; nothing of the instruction. */
#define PAGE_FAULT {R(IDT + 16 * VEC_PF, 16), R(GDT + CODE64, 8), R(TSS + 0x24, 8), W(IST - 48, 48)}

static const struct row rows[] = {
    {"nop", BYTES(0x90), .area = {{0}}},
    {"mov (%rbx), %eax", BYTES(0x8b, 0x03), .area = {R(DATA, 4)}},
    {"mov %eax, (%rbx)", BYTES(0x89, 0x03), .area = {W(DATA, 4)}},
    {"mov %eax, 1(%rbx)", BYTES(0x89, 0x43, 0x01), .area = {W(DATA + 1, 4)}},
    {"add %eax, (%rbx)", BYTES(0x01, 0x03), .area = {RW(DATA, 4)}},
    {"cmp %eax, (%rbx)", BYTES(0x39, 0x03), .area = {R(DATA, 4)}},
    {"lea (%rbx), %rax", BYTES(0x48, 0x8d, 0x03), .area = {{0}}},
    {"xchg %al, (%rbx)", BYTES(0x86, 0x03), .area = {RW(DATA, 1)}},
    {"lock cmpxchg %ecx, (%rbx), failing", BYTES(0xf0, 0x0f, 0xb1, 0x0b), .area = {RW(DATA, 4)}},
    {"cmpxchg16b (%rbx)", BYTES(0x48, 0x0f, 0xc7, 0x0b), .area = {RW(DATA, 16)}},
    {"bts %rax, (%rbx)", BYTES(0x48, 0x0f, 0xab, 0x03), .area = {RW(DATA, 8)}},
    {"bt %eax, (%rbx)", BYTES(0x0f, 0xa3, 0x03), .area = {R(DATA + 4, 4)}},
    {"push %rax", BYTES(0x50), .area = {W(STACK - 8, 8)}},
    {"pop (%rbx)", BYTES(0x8f, 0x03), .area = {R(STACK, 8), W(DATA, 8)}},
    {"push (%rbx)", BYTES(0xff, 0x33), .area = {R(DATA, 8), W(STACK - 8, 8)}},
    {"call *(%rbx)", BYTES(0xff, 0x13), .area = {R(DATA, 8), W(STACK - 8, 8)}},
    {"call .+5", BYTES(0xe8, 0, 0, 0, 0), .area = {W(STACK - 8, 8)}},
    {"ret", BYTES(0xc3), .area = {R(STACK, 8)}},
    {"enter $16, $0", BYTES(0xc8, 0x10, 0, 0), .area = {W(STACK - 8, 8)}},
    {"movsb", BYTES(0xa4), .area = {R(DATA, 1), W(DATA2, 1)}},
    {"rep movsq, one iteration", BYTES(0xf3, 0x48, 0xa5), .area = {R(DATA, 8), W(DATA2, 8)}},
    {"rep stosb, one iteration", BYTES(0xf3, 0xaa), .area = {W(DATA2, 1)}},
    {"repe cmpsw, one iteration", BYTES(0xf3, 0x66, 0xa7), .area = {R(DATA, 2), R(DATA2, 2)}},
    {"lodsl", BYTES(0xad), .area = {R(DATA, 4)}},
    {"fldt (%rbx)", BYTES(0xdb, 0x2b), .area = {R(DATA, 10)}},
    {"fstpt (%rbx)", BYTES(0xdb, 0x3b), .area = {W(DATA, 10)}},
    {"fildl (%rbx)", BYTES(0xdb, 0x03), .area = {R(DATA, 4)}},
    {"fnstcw (%rbx)", BYTES(0xd9, 0x3b), .area = {W(DATA, 2)}},
    {"movups (%rbx), %xmm0", BYTES(0x0f, 0x10, 0x03), .area = {R(DATA, 16)}},
    {"movups %xmm0, (%rbx)", BYTES(0x0f, 0x11, 0x03), .area = {W(DATA, 16)}},
    {"movss %xmm0, (%rbx)", BYTES(0xf3, 0x0f, 0x11, 0x03), .area = {W(DATA, 4)}},
    {"vmaskmovps (%rbx), %xmm1, %xmm0", BYTES(0xc4, 0xe2, 0x71, 0x2c, 0x03), .area = {R(DATA + 4, 12)}},
    {"xsave 0x100(%rbx), of nothing", BYTES(0x0f, 0xae, 0xa3, 0, 1, 0, 0), .area = {RW(DATA + 0x100 + 512, 8)}},
    {"sgdt (%rbx)", BYTES(0x0f, 0x01, 0x03), .area = {W(DATA, 10)}},
    {"clflush (%rbx)", BYTES(0x0f, 0xae, 0x3b), .area = {{0}}},
    {"mov %eax, %ds: SPARE, not accessed", BYTES(0x8e, 0xd8), .area = {R(GDT + SPARE, 8), W(GDT + SPARE + 5, 1)},
     .with = {R_RAX, SPARE}},
    {"int $0x30", BYTES(0xcd, VEC_INT), .area = {R(IDT + 16 * VEC_INT, 16), R(GDT + CODE64, 8), W(STACK - 40, 40)}},
    {"mov (%rbp), %eax, not mapped", BYTES(0x8b, 0x45, 0), .area = PAGE_FAULT, .with = {R_RBP, NOWHERE}},
    {"push (%rbx), to where nothing is mapped", BYTES(0xff, 0x33), .area = PAGE_FAULT, .with = {R_RSP, NOWHERE + 8}},
    {"movsb, likewise", BYTES(0xa4), .area = PAGE_FAULT, .with = {R_RDI, NOWHERE}},
    {"pop (%rbx), likewise", BYTES(0x8f, 0x03), .area = PAGE_FAULT, .with = {R_RBX, NOWHERE}},
};

/* Windows around all that the rows access. */
static const struct { uint64_t at; unsigned len; } window[] = {
    {DATA - 4, 28}, {DATA + 0x100 + 508, 20}, {DATA2 - 4, 16}, {STACK - 52, 64}, {IST - 52, 56}, {GDT, 48},
    {TSS + 0x20, 16}, {IDT + 16 * VEC_INT - 2, 20}, {IDT + 16 * VEC_PF - 2, 20},
};

static bool expected(const struct row *row, uint64_t at, bool write)
{
    for (unsigned i = 0; i < ARRAY_LEN(row->area); i++)
        if (at - row->area[i].at < row->area[i].len && (write ? row->area[i].write : row->area[i].read))
            return true;
    return false;
}

/* `ticks`: 1 or FAR. */
static void check_byte(struct rig *r, const struct row *row, uint64_t at, enum exec_probe_kind kind, uint64_t ticks)
{
    const struct exec_probe_hit *h;
    struct exec_probe p[2] = {{.kind = PROBE_EXEC, .addr = NOWHERE}, {kind, at & 1, at, 1}}; /* as good as linear */
    bool rd = expected(row, at, false), wr = expected(row, at, true);
    bool rep = row->code[0] == 0xf3, want = kind == PROBE_READ ? rd : kind == PROBE_WRITE ? wr : rd || wr;
    reset(r, CODE);
    set_probes(r, p, 2);
    if (ticks > 1 && !want && rep)
        return; /* further iterations may hit */
    enum engine_stop stop = run(r, ticks);
    if ((stop == STOP_PROBE) != want)
        fail_msg("%s on %s: kind %d at %#" PRIx64 ": %s", row->name, r->e->ops->name, (int)kind, at,
                 want ? "no hit" : "a hit");
    assert_int_equal(r->m->vcpu.ticks, 1000 + (want ? 1 : ticks));
    if (!want)
        return;
    assert_int_equal(exec_probe_hits(r->m, &h), 1);
    assert_int_equal(h->probe, 1);
    assert_int_equal(h->ticks, 1000);
    assert_int_equal(h->addr, at);
    assert_int_equal(h->write, kind == PROBE_ACCESS ? wr : kind == PROBE_WRITE);
    assert_int_equal(run(r, 0), STOP_TICKS); /* reported once */
}

/* With what runs behind it: so that the translator makes one block of it. */
static void put_code(struct rig *r, const struct row *row)
{
    uint8_t code[SLED];
    memset(code, 0x90, sizeof(code));
    memcpy(code, row->code, row->len);
    mem_write(&r->m->mem, gpa(CODE), code, sizeof(code));
    exec_state_changed(r->m);
}

static void access_maps(void **state)
{
    (void)state;
    for (unsigned i = 0; i < ARRAY_LEN(engine_specs); i++) {
        struct rig r;
        make(&r, engine_specs[i]);
        for (const struct row *row = rows; row < rows + ARRAY_LEN(rows); row++) {
            struct vcpu_state clean = r.clean;
            if (row->with.value)
                r.clean.r[row->with.reg] = row->with.value;
            put_code(&r, row);
            for (unsigned w = 0; w < ARRAY_LEN(window); w++)
                for (uint64_t at = window[w].at; at < window[w].at + window[w].len; at++)
                    for (enum exec_probe_kind kind = PROBE_WRITE; kind <= PROBE_ACCESS; kind++) {
                        check_byte(&r, row, at, kind, 1);
                        check_byte(&r, row, at, kind, FAR);
                    }
            r.clean = clean;
        }
        drop(&r);
    }
}

/* ---- breakpoints ---- */

static void for_each_engine(void (*fn)(struct rig *r))
{
    for (unsigned i = 0; i < ARRAY_LEN(engine_specs); i++) {
        struct rig r;
        make(&r, engine_specs[i]);
        fn(&r);
        drop(&r);
    }
}

static void put_bytes(struct rig *r, const void *code, size_t len)
{
    uint8_t sled[SLED];
    memset(sled, 0x90, sizeof(sled));
    memcpy(sled, code, len);
    mem_write(&r->m->mem, gpa(CODE), sled, sizeof(sled));
    exec_state_changed(r->m);
}

static void expect_exec(struct rig *r, uint64_t rip, uint64_t ticks, size_t hits)
{
    const struct exec_probe_hit *h;
    assert_int_equal(r->m->vcpu.s.r[R_RIP], rip);
    assert_int_equal(r->m->vcpu.ticks, ticks);
    assert_int_equal(exec_probe_hits(r->m, &h), hits);
    for (size_t i = 0; i < hits; i++) {
        assert_int_equal(h[i].addr, rip);
        assert_int_equal(h[i].ticks, ticks);
        assert_false(h[i].write);
    }
}

/* 8 NOPs and a jump back, again and again: with translated code that knows its way. */
static void check_stops(struct rig *r)
{
    static const uint8_t code[] = {0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0xeb, 0xf6};
    struct exec_probe p[] = {{.kind = PROBE_EXEC, .addr = CODE + 3}, {.kind = PROBE_EXEC, .addr = CODE + 3}};
    put_bytes(r, code, sizeof(code));
    reset(r, CODE);
    assert_int_equal(run(r, 900), STOP_TICKS); /* 100 rounds of 9 ticks */
    for (unsigned round = 0; round < 300; round++) {
        uint64_t at = 1900 + 9 * round + 3;
        set_probes(r, p, 0);
        set_probes(r, p, 2);
        assert_int_equal(run(r, 1000), STOP_PROBE);
        expect_exec(r, CODE + 3, at, 2);
        assert_int_equal(run(r, 1000), STOP_PROBE); /* still there */
        expect_exec(r, CODE + 3, at, 2);
        assert_int_equal(run(r, 0), STOP_TICKS); /* what is due at this tick comes first */
        exec_probes_skip(r->m, at);
    }
    set_probes(r, p, 0);
    assert_int_equal(run(r, 900), STOP_TICKS); /* gone, though armed for some time yet */
    set_probes(r, p, 1);
    assert_int_equal(run(r, 3), STOP_PROBE);
    uint64_t here = r->m->vcpu.ticks;
    expect_exec(r, CODE + 3, here, 1);
    exec_probes_skip(r->m, here);
    exec_state_changed(r->m);
    assert_int_equal(run(r, 1000), STOP_PROBE);
    expect_exec(r, CODE + 3, here + 9, 1);
}
static void stops(void **state) { (void)state; for_each_engine(check_stops); }

/* The same code at another linear address, and inside another instruction, is not it. */
static void check_linear(struct rig *r)
{
    static const uint8_t code[] = {0xb8, 1, 2, 3, 4, 0xeb, 0xf9}; /* mov $x, %eax; jmp .-5 */
    struct exec_probe p[] = {{.kind = PROBE_EXEC, .addr = CODE}, {.kind = PROBE_EXEC, .addr = CODE + ALIAS + 2}};
    put_bytes(r, code, sizeof(code));
    set_probes(r, p, 2);
    reset(r, CODE + ALIAS);
    assert_int_equal(run(r, 1000), STOP_TICKS);
    reset(r, CODE + 5);
    assert_int_equal(run(r, 1000), STOP_PROBE);
    expect_exec(r, CODE, 1001, 1);
}
static void linear_addresses(void **state) { (void)state; for_each_engine(check_linear); }

static void check_rep(struct rig *r)
{
    static const uint8_t code[] = {0xf3, 0xaa, 0x90, 0xeb, 0xfb}; /* rep stosb; nop; jmp .-5 */
    struct exec_probe p = {.kind = PROBE_EXEC, .addr = CODE};
    put_bytes(r, code, sizeof(code));
    set_probes(r, &p, 1);
    reset(r, CODE);
    r->m->vcpu.s.r[R_RCX] = 500;
    assert_int_equal(run(r, 1000), STOP_PROBE);
    exec_probes_skip(r->m, 1000);
    assert_false(exec_rep_begun(r->m));
    for (unsigned i = 1; i <= 4; i++) {
        assert_int_equal(run(r, 100), STOP_TICKS);
        assert_int_equal(r->m->vcpu.s.r[R_RCX], 500 - 100 * i);
        assert_true(exec_rep_begun(r->m));
    }
    assert_int_equal(run(r, 1000), STOP_PROBE); /* the next one */
    expect_exec(r, CODE, 1502, 1);
    assert_false(exec_rep_begun(r->m));
}
static void rep_is_hit_once(void **state) { (void)state; for_each_engine(check_rep); }

/* ---- data ---- */

static void store_to_alias(struct rig *r, enum engine_stop want)
{
    reset(r, CODE);
    r->m->vcpu.s.r[R_RBX] = ALIAS + DATA;
    assert_int_equal(run(r, FAR), want);
}

static void check_aliases(struct rig *r)
{
    static const uint8_t code[] = {0x89, 0x03}; /* mov %eax, (%rbx) */
    static const struct exec_probe p[] = {{.kind = PROBE_WRITE, .addr = DATA, .len = 1},
                                          {PROBE_WRITE, true, DATA + 1, 200},
                                          {.kind = PROBE_WRITE, .addr = ALIAS + DATA - 100, .len = 103},
                                          {.kind = PROBE_WRITE, .addr = ALIAS + DATA + 4, .len = PAGE_SIZE},
                                          {PROBE_READ, true, DATA, 8}};
    static const uint64_t hit_at[ARRAY_LEN(p)] = {0, DATA + 1, ALIAS + DATA, 0, 0};
    const struct exec_probe_hit *h;
    put_bytes(r, code, sizeof(code));
    for (unsigned i = 0; i < ARRAY_LEN(p); i++) {
        store_to_alias(r, STOP_TICKS); /* now the TLB has the page */
        set_probes(r, &p[i], 1);
        store_to_alias(r, hit_at[i] ? STOP_PROBE : STOP_TICKS);
        if (hit_at[i]) {
            assert_int_equal(exec_probe_hits(r->m, &h), 1);
            assert_int_equal(h->addr, hit_at[i]);
        }
        set_probes(r, NULL, 0);
    }
    set_probes(r, p, ARRAY_LEN(p));
    store_to_alias(r, STOP_PROBE);
    assert_int_equal(exec_probe_hits(r->m, &h), 2);
    assert_int_equal(h[0].probe, 1);
    assert_int_equal(h[1].probe, 2);
}
static void aliases(void **state) { (void)state; for_each_engine(check_aliases); }

/* An access and a breakpoint behind it, at the tick at which the run ends. */
static void check_both(struct rig *r)
{
    static const uint8_t code[] = {0x89, 0x03}; /* mov %eax, (%rbx) */
    static const struct exec_probe p[] = {{.kind = PROBE_ACCESS, .addr = 0, .len = UINT64_MAX},
                                          {.kind = PROBE_EXEC, .addr = CODE + 2}};
    const struct exec_probe_hit *h;
    put_bytes(r, code, sizeof(code));
    set_probes(r, p, ARRAY_LEN(p));
    reset(r, CODE);
    assert_int_equal(run(r, 1), STOP_PROBE);
    assert_int_equal(exec_probe_hits(r->m, &h), 1);
    assert_int_equal(h->probe, 0);
    assert_int_equal(h->ticks, 1000);
    assert_int_equal(h->addr, DATA);
    assert_int_equal(run(r, 0), STOP_TICKS);
    assert_int_equal(run(r, 1), STOP_PROBE);
    expect_exec(r, CODE + 2, 1001, 1);
}
static void both_at_once(void **state) { (void)state; for_each_engine(check_both); }

/* ---- what is no access to memory ---- */

static void expect_hit(struct rig *r, size_t probe, uint64_t addr, bool write)
{
    const struct exec_probe_hit *h;
    assert_int_equal(run(r, FAR), STOP_PROBE);
    assert_int_equal(exec_probe_hits(r->m, &h), 1);
    assert_int_equal(h->probe, probe);
    assert_int_equal(h->addr, addr);
    assert_int_equal(h->write, write);
    assert_int_equal(h->ticks, r->m->vcpu.ticks - 1);
}

/* INT n, a fault, and a fault whose own delivery ends in another one: the guest stands before the handler. */
static void check_deliveries(struct rig *r)
{
    enum { VEC_NP = 11, VEC_DF = 8 };
    static const struct exec_probe p[] = {{.kind = PROBE_VECTOR, .addr = VEC_INT, .len = 1},
                                          {.kind = PROBE_VECTOR, .addr = VEC_PF - 1, .len = 2},
                                          {.kind = PROBE_VECTOR, .addr = VEC_INT + 1, .len = 100},
                                          {.kind = PROBE_VECTOR, .addr = VEC_DF, .len = 1}};
    static const uint8_t soft[] = {0x90, 0xcd, VEC_INT}, fault[] = {0x90, 0x90, 0xa0, 0, 0, 0x40, 0, 0, 0, 0, 0}; /* mov NOWHERE, %al */
    set_probes(r, p, ARRAY_LEN(p));
    put_bytes(r, soft, sizeof(soft));
    reset(r, CODE);
    expect_hit(r, 0, VEC_INT, false);
    assert_int_equal(r->m->vcpu.ticks, 1002);
    assert_int_equal(r->m->vcpu.s.r[R_RIP], HANDLER);
    put_bytes(r, fault, sizeof(fault));
    reset(r, CODE);
    expect_hit(r, 1, VEC_PF, false);
    assert_int_equal(r->m->vcpu.ticks, 1003);
    assert_int_equal(r->m->vcpu.s.r[R_RIP], HANDLER);
    reset(r, CODE);
    put64(r->m, IDT + 16 * VEC_PF, 0); /* not present, and neither is the gate of #NP */
    put_gate(r->m, VEC_DF, 1);
    expect_hit(r, 3, VEC_DF, false);
    assert_int_equal(r->m->vcpu.ticks, 1003);
    put64(r->m, IDT + 16 * VEC_DF, 0);
}
static void deliveries(void **state) { (void)state; for_each_engine(check_deliveries); }

static void check_ports(struct rig *r)
{
    static const struct exec_probe p[] = {{.kind = PROBE_PORT, .addr = 0x81, .len = 2},
                                          {.kind = PROBE_PORT, .addr = 0x1234, .len = 1}};
    static const uint8_t code[] = {0xe6, 0x80, 0xe4, 0x83, 0x66, 0xe7, 0x80, 0xec, 0xf3, 0x6e}; /* out %al, $0x80; in $0x83, %al;
                                                                        out %ax, $0x80; in %dx, %al; rep outsb */
    set_probes(r, p, ARRAY_LEN(p));
    put_bytes(r, code, sizeof(code));
    reset(r, CODE);
    r->m->vcpu.s.r[R_RDX] = 0x1234;
    expect_hit(r, 0, 0x81, true);
    assert_int_equal(r->m->vcpu.ticks, 1003);
    expect_hit(r, 1, 0x1234, false);
    for (unsigned i = 0; i < 3; i++) {
        expect_hit(r, 1, 0x1234, true);
        assert_int_equal(r->m->vcpu.ticks, 1005 + i);
    }
    assert_int_equal(run(r, 10), STOP_TICKS);
}
static void ports(void **state) { (void)state; for_each_engine(check_ports); }

/* Between two runs; and it does not outlive the state it happened in, or the set. */
static void check_reports(struct rig *r)
{
    static const struct exec_probe p[] = {{.kind = PROBE_EXEC, .addr = CODE + 9}, {.kind = PROBE_REPORTED}};
    const struct exec_probe_hit *h;
    put_bytes(r, "", 0);
    set_probes(r, p, ARRAY_LEN(p));
    reset(r, CODE);
    assert_int_equal(run(r, 5), STOP_TICKS);
    r->m->clock.now_ticks = r->m->vcpu.ticks;
    exec_probe_report(r->m, 1);
    exec_probe_report(r->m, 1);
    assert_int_equal(run(r, FAR), STOP_PROBE);
    assert_int_equal(exec_probe_hits(r->m, &h), 1);
    assert_int_equal(h->probe, 1);
    assert_int_equal(h->ticks, 1005);
    assert_int_equal(r->m->vcpu.ticks, 1005);
    exec_probe_report(r->m, 1);
    exec_state_changed(r->m);
    assert_int_equal(run(r, FAR), STOP_PROBE);
    expect_exec(r, CODE + 9, 1009, 1);
    reset(r, CODE);
    exec_probe_report(r->m, 1);
    set_probes(r, p, 1);
    assert_int_equal(run(r, FAR), STOP_PROBE);
    expect_exec(r, CODE + 9, 1009, 1);
}
static void reports(void **state) { (void)state; for_each_engine(check_reports); }

/* Code that a device writes (mem_write(), as DMA would), between two runs: in the block that was running, and another byte
 * of it each time. Whoever watches it sees no access. */
static void check_device_writes(struct rig *r)
{
    static const uint8_t code[] = {0xb8, 0, 0, 0, 0, 0x01, 0xc3, 0xeb, 0xf7}; /* mov $0, %eax; add %eax, %ebx; jmp .-7 */
    static const struct exec_probe watch = {.kind = PROBE_WRITE, .addr = CODE, .len = sizeof(code)};
    put_bytes(r, code, sizeof(code));
    set_probes(r, &watch, 1);
    reset(r, CODE);
    r->m->vcpu.s.r[R_RBX] = 0;
    assert_int_equal(run(r, 3 * FAR), STOP_TICKS);
    for (uint32_t i = 1, sum = 0; i < 300; i++) {
        uint8_t byte = (uint8_t)i;
        mem_write(&r->m->mem, gpa(CODE + 1 + i % 4), &byte, 1);
        uint32_t now;
        mem_read(&r->m->mem, gpa(CODE + 1), &now, sizeof(now));
        sum += FAR * now;
        assert_int_equal(run(r, 3 * FAR), STOP_TICKS);
        assert_int_equal(r->m->vcpu.s.r[R_RBX], sum);
    }
}
static void device_writes(void **state) { (void)state; for_each_engine(check_device_writes); }

/* ---- sets ---- */

static void impossible_probes(void **state)
{
    static const struct exec_probe bad[] = {
        {.kind = PROBE_WRITE, .addr = DATA}, {.kind = PROBE_READ, .addr = UINT64_MAX, .len = 2},
        {PROBE_EXEC, true, CODE, 1}};
    struct exec_probe good = {.kind = PROBE_EXEC, .addr = CODE};
    struct rig r;
    (void)state;
    make(&r, "dbt");
    reset(&r, CODE);
    set_probes(&r, &good, 1);
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        struct err *e = exec_probes_set(r.m, &bad[i], 1);
        assert_non_null(e);
        assert_int_equal(err_code(e), ERR_USAGE);
        err_destroy(e);
    }
    assert_int_equal(run(&r, 1), STOP_PROBE); /* the set is as it was */
    drop(&r);
}

/* Thousands of addresses come and go; those of the moment hit. */
static void check_many(struct rig *r)
{
    enum { MANY = 3000, ROUNDS = 40 };
    static struct exec_probe p[MANY + 1];
    put_bytes(r, "", 0);
    for (unsigned round = 0; round < ROUNDS; round++) {
        for (unsigned i = 0; i < MANY; i++)
            p[i] = (struct exec_probe){.kind = PROBE_EXEC, .addr = NOWHERE + (uint64_t)(round * MANY + i) * 7};
        p[MANY] = (struct exec_probe){.kind = PROBE_EXEC, .addr = CODE + round};
        set_probes(r, p, MANY + 1);
        reset(r, CODE);
        assert_int_equal(run(r, FAR), STOP_PROBE);
        expect_exec(r, CODE + round, 1000 + round, 1);
    }
}
static void many_come_and_go(void **state) { (void)state; for_each_engine(check_many); }

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(access_maps),
        cmocka_unit_test(stops),
        cmocka_unit_test(linear_addresses),
        cmocka_unit_test(rep_is_hit_once),
        cmocka_unit_test(aliases),
        cmocka_unit_test(both_at_once),
        cmocka_unit_test(deliveries),
        cmocka_unit_test(ports),
        cmocka_unit_test(reports),
        cmocka_unit_test(device_writes),
        cmocka_unit_test(impossible_probes),
        cmocka_unit_test(many_come_and_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
