/* tests/unit/mmu.c: the soft TLB is never visible (exec/x86/mmu.h).
 *
 * Two machines do the same random accesses, changes of paging state and writes to page tables. One of them forgets its TLB
 * before every step, so that each access of it is a walk: whatever differs then (a value, a fault, an accessed or dirty bit,
 * a dirty page) was visible. The tables lie in a few pages that are used at all levels, point to each other and to
 * themselves, so that aliases, large pages and tables of several kinds in one page are the rule. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/machine.h"
#include "exec/engine.h"
#include "exec/x86/mmu.h"

enum { STEPS_PER_SEED = 1500, RAM_LEN = 1 << 20, TABLES = 6 /* pages 1..6 */, ROOTS = 3 /* of them */, PAGES = 16 /* what leaves point to: pages 0..15 */ };
enum { PTE_P = 1, PTE_W = 2, PTE_U = 4, PTE_A = 0x20, PTE_D = 0x40, PTE_PS = 0x80 };

static uint64_t rng_state;

static uint64_t rnd(uint64_t n) /* splitmix64 */
{
    uint64_t z = rng_state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return (z ^ z >> 31) % n;
}

/* ---- a machine without an engine ---- */

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

static struct machine *make(void)
{
    struct machine *m;
    struct machine_config cfg = {.ram_len = RAM_LEN, .rate_q32 = UINT64_C(1) << 32};
    assert_null(machine_create(&cfg, 0, (struct nondet){.ops = &ops}, &m));
    vcpu_reset(&m->vcpu);
    assert_null(exec_attach(m));
    return m;
}

static void drop(struct machine *m)
{
    exec_detach(m);
    machine_destroy(m);
}

/* ---- paging states ---- */

enum paging { TWO_LEVEL, PAE, FOUR_LEVEL, PAGINGS };

struct state {
    enum paging paging;
    bool pse, wp, nxe, smep, smap, compat;
    unsigned cpl, root;
    bool ac;
};

static void apply(struct machine *m, const struct state *st)
{
    struct vcpu_state *s = &m->vcpu.s;
    bool lm = st->paging == FOUR_LEVEL;
    s->cr0 = CR0_PG | CR0_PE | CR0_ET | (st->wp ? CR0_WP : 0);
    s->cr3 = (uint64_t)st->root << PAGE_SHIFT;
    s->cr4 = (st->paging == TWO_LEVEL ? 0u : CR4_PAE) | (st->pse ? CR4_PSE : 0u) | (st->smep ? CR4_SMEP : 0u) |
             (st->smap ? CR4_SMAP : 0u);
    s->efer = (lm ? EFER_LME | EFER_LMA : 0) | (st->nxe ? EFER_NXE : 0);
    for (unsigned i = 0; i < 4; i++)
        s->pdpte[i] = st->paging == PAE ? (uint64_t)(1 + (st->root + i) % TABLES) << PAGE_SHIFT | PTE_P : 0;
    s->cpl = (uint8_t)st->cpl;
    s->rflags = 2 | (st->ac ? FL_AC : 0);
    s->seg[S_CS].attr = SEG_P | SEG_S | SEG_CODE | SEG_READ | (lm && !st->compat ? SEG_L : SEG_DB);
    mmu_paging_changed(&m->vcpu);
    cpu_mode_update(&m->vcpu);
}

/* Each seed has tables of one width, and mostly the paging that reads them so. */
static enum paging home;

static struct state random_state(void)
{
    return (struct state){.paging = rnd(8) ? home : (enum paging)rnd(PAGINGS), .pse = rnd(2), .wp = rnd(2), .nxe = rnd(2), .smep = !rnd(4),
                          .smap = !rnd(4), .compat = rnd(4) == 0, .cpl = rnd(2) ? 3 : 0, .root = 1 + (unsigned)rnd(rnd(2) ? ROOTS : TABLES),
                          .ac = rnd(2)};
}

/* Mostly one that was there before, of the seed's few, so that what a space holds is met again; or that with another root, as
 * when the process changes. */
enum { USUAL_STATES = 3 };
static struct state usual[USUAL_STATES];

static struct state next_state(void)
{
    struct state *st = &usual[rnd(USUAL_STATES)];
    if (!rnd(8))
        *st = random_state();
    else if (rnd(2))
        st->root = 1 + (unsigned)rnd(ROOTS);
    return *st;
}

/* A paging-structure entry of either width: mostly present, often a large page, pointing into the first pages. */
static uint64_t random_entry(void)
{
    uint64_t page = rnd(3) ? 1 + rnd(TABLES) : rnd(PAGES);
    uint64_t e = page << PAGE_SHIFT | PTE_W | PTE_U | (rnd(16) ? PTE_P : 0);
    if (!rnd(12))
        e ^= UINT64_C(1) << rnd(12);
    if (!rnd(8))
        e |= PTE_PS;
    if (!rnd(8))
        e |= PTE_A | PTE_D;
    if ((e & PTE_PS) && rnd(2))
        e &= ~UINT64_C(0x3ff000); /* a base that large pages can have: mostly 0 */
    if (!rnd(64))
        e |= UINT64_C(1) << rnd(64);
    return e;
}

/* Few different indices at each level, so that steps meet each other's entries. */
static uint64_t random_page(void)
{
    return rnd(4) << 12 | rnd(2) << 21 | rnd(2) << 22 | rnd(2) << 30 | rnd(2) << 39 |
           (rnd(2) ? UINT64_C(0xffff800000000000) : 0);
}

/* Most accesses go to the seed's few pages, which so are met again while the TLB has them. */
enum { USUAL_PAGES = 4 };
static uint64_t usual_page[USUAL_PAGES];

static uint64_t random_lin(const struct state *st)
{
    uint64_t lin = rnd(4) ? usual_page[rnd(USUAL_PAGES)] : random_page();
    if (st->paging != FOUR_LEVEL || st->compat)
        lin &= UINT32_MAX;
    return lin | (rnd(4) ? rnd(64) * 8 : PAGE_SIZE - 1 - rnd(8));
}

/* ---- one step, done to both ---- */

enum step_kind { STEP_LOAD, STEP_STORE, STEP_FETCH, STEP_IMPLICIT, STEP_ENTRY, STEP_DMA, STEP_STATE, STEP_DRAIN, STEP_FORGET, STEPS };

struct step {
    enum step_kind kind;
    uint64_t lin, value;
    unsigned size;
    enum mmu_mode mode;
    uint64_t gpa;
    struct state state;
};

struct outcome {
    bool fault;
    uint8_t vector;
    uint32_t error;
    uint64_t cr2, value;
};

static struct step random_step(const struct state *st)
{
    static const uint8_t weights[STEPS] = {24, 24, 24, 4, 24, 4, 16, 4, 1};
    struct step p = {.lin = random_lin(st), .value = random_entry(), .size = 1u << rnd(4), .mode = MMU_SUP};
    uint64_t n = rnd(125);
    for (unsigned w = 0; p.kind < STEPS - 1; p.kind++)
        if (n < (w += weights[p.kind]))
            break;
    /* Entries at the indices that random_lin() leads to, low and high halves. */
    uint64_t index = rnd(4) ? rnd(4) : 256 + rnd(2);
    p.gpa = (1 + rnd(TABLES)) << PAGE_SHIFT | index * (home == TWO_LEVEL ? 4 : 8);
    if (p.kind == STEP_ENTRY)
        p.size = home == TWO_LEVEL || !rnd(4) ? 4 : 8;
    p.state = p.kind == STEP_STATE ? next_state() : *st;
    return p;
}

/* The entry that another table has at the same place, as operating systems have one half of all their roots alike. */
static void take_from_another(const struct machine *m, struct step *p)
{
    uint64_t from = (1 + rnd(TABLES)) << PAGE_SHIFT | (p->gpa & PAGE_MASK);
    memcpy(&p->value, m->mem.host + from, p->size);
}

static void store(struct vcpu *v, const struct step *p)
{
    struct span sp;
    mmu_span(v, p->lin, p->size, ACC_WRITE, cpu_of(v)->mmu_mode, S_DS, &sp);
    span_write(v, &sp, &p->value);
}

static void perform(struct machine *m, const struct step *p, struct outcome *out)
{
    struct vcpu *v = &m->vcpu;
    switch (p->kind) {
    case STEP_LOAD:
        out->value = mmu_ld(v, p->lin, p->size, cpu_of(v)->mmu_mode);
        break;
    case STEP_STORE:
        if (p->value & 8) /* through the TLB's own store path, or always by a walk */
            mmu_slow_store(v, p->lin, p->size, p->value, S_DS);
        else
            store(v, p);
        break;
    case STEP_FETCH:
        out->value = mmu_fetch_page(v, p->lin);
        break;
    case STEP_IMPLICIT:
        out->value = mmu_ld(v, p->lin, 8, MMU_SUP);
        break;
    case STEP_ENTRY:
    case STEP_DMA:
        mem_write(&m->mem, gpa(p->gpa), &p->value, p->kind == STEP_ENTRY ? p->size : 3);
        break;
    case STEP_STATE:
        apply(m, &p->state);
        break;
    case STEP_FORGET:
        mmu_drop_all(v->mmu);
        break;
    default:
        break;
    }
}

static struct outcome run_step(struct machine *m, const struct step *p)
{
    struct cpu *c = cpu_of(&m->vcpu);
    struct outcome out = {0};
    if (setjmp(c->unwind))
        return (struct outcome){true, c->fault.vector, c->fault.error, c->fault.is_pf ? c->fault.cr2 : 0, 0};
    perform(m, p, &out);
    return out;
}

/* Which pages were written since the last time, and in which order. */
static uint64_t drained(struct machine *m, struct dirty_set *set)
{
    uint64_t pages = 0;
    mem_dirty_collect(&m->mem);
    for (uint32_t i = 0; i < set->count; i++)
        pages = (pages ^ set->page[i]) * UINT64_C(0x100000001b3);
    dirty_set_clear(set);
    return pages;
}

static void fill_tables(struct machine *m, uint64_t seed)
{
    rng_state = seed;
    home = (enum paging)(seed % PAGINGS);
    size_t size = home == TWO_LEVEL ? 4 : 8;
    for (size_t at = PAGE_SIZE; at < (1 + TABLES) * PAGE_SIZE; at += size) {
        uint64_t e = random_entry();
        mem_write(&m->mem, gpa(at), &e, size);
    }
}

static void run_seed(uint64_t seed, unsigned steps)
{
    struct machine *cached = make(), *walked = make();
    struct dirty_set cached_dirty, walked_dirty;
    assert_null(dirty_set_add(&cached->mem, &cached_dirty));
    assert_null(dirty_set_add(&walked->mem, &walked_dirty));
    if (seed % 3 == 1) /* evictions all the time */
        mmu_keep_few(cached->vcpu.mmu, MMU_FEW_MIN + (uint32_t)(seed % 7));
    fill_tables(cached, seed);
    fill_tables(walked, seed);
    struct state st = {0};
    for (unsigned i = 0; i < USUAL_PAGES; i++)
        usual_page[i] = random_page();
    for (unsigned i = 0; i < USUAL_STATES; i++)
        st = usual[i] = random_state();
    apply(cached, &st);
    apply(walked, &st);
    for (unsigned i = 0; i < steps; i++) {
        struct step p = random_step(&st);
        if (p.kind == STEP_ENTRY && rnd(2))
            take_from_another(cached, &p);
        st = p.state;
        mmu_drop_all(walked->vcpu.mmu);
        struct outcome a = run_step(cached, &p), b = run_step(walked, &p);
        bool same = a.fault == b.fault && a.vector == b.vector && a.error == b.error && a.cr2 == b.cr2 && a.value == b.value;
        size_t compared = i % 64 && i + 1 < steps ? (1 + TABLES) * PAGE_SIZE : RAM_LEN;
        same = same && !memcmp(cached->mem.host, walked->mem.host, compared);
        if (p.kind == STEP_DRAIN)
            same = same && drained(cached, &cached_dirty) == drained(walked, &walked_dirty);
        if (!same)
            fail_msg("seed %" PRIu64 ", step %u (kind %d, linear 0x%" PRIx64 ", paging %d, pse %d): cached fault %d %" PRIx64
                     ", walked fault %d %" PRIx64, seed, i, p.kind, p.lin, st.paging, st.pse, a.fault, a.value, b.fault, b.value);
    }
    dirty_set_remove(&cached->mem, &cached_dirty);
    dirty_set_remove(&walked->mem, &walked_dirty);
    drop(cached);
    drop(walked);
}

static void the_tlb_is_invisible(void **state)
{
    (void)state;
    const char *one = getenv("HW_SEED");
    for (uint64_t seed = 0; seed < 150 && !one; seed++)
        run_seed(seed, STEPS_PER_SEED);
    if (one)
        run_seed(strtoull(one, NULL, 0), STEPS_PER_SEED);
}

/* ---- implicit accesses of IA-32e mode are 64 bits wide whatever the code segment ---- */

static void implicit_accesses_are_64_bits_wide(void **state)
{
    (void)state;
    struct machine *m = make();
    struct vcpu *v = &m->vcpu;
    const uint64_t lin = UINT64_C(0xffff800000001ffc), x = UINT64_C(0x1122334455667788);
    /* Linear 0xffff800000001000 and the page behind it are pages 8 and 10; the low half maps nothing. */
    static const struct { uint64_t gpa, entry; } entries[] = {
        {0x1000 + 8 * 256, 0x2003}, {0x2000, 0x3003}, {0x3000, 0x4003}, {0x4008, 0x8003}, {0x4010, 0xa003}};
    for (size_t i = 0; i < ARRAY_LEN(entries); i++)
        mem_write(&m->mem, gpa(entries[i].gpa), &entries[i].entry, 8);
    mem_write(&m->mem, gpa(0x8ffc), &x, 4);
    mem_write(&m->mem, gpa(0xa000), (const uint8_t *)&x + 4, 4);
    apply(m, &(struct state){.paging = FOUR_LEVEL, .compat = true, .cpl = 3, .root = 1});
    assert_int_equal(setjmp(cpu_of(v)->unwind), 0);
    assert_true(mmu_ld(v, lin, 8, MMU_SUP) == x);
    drop(m);
}

/* ---- two roots that share all tables, as processes share the kernel's ---- */

enum { ROOT_A = 1, ROOT_B };
static const uint64_t shared_lin = UINT64_C(0xffff800000000000);

static void set_entry(struct machine *m, uint64_t at, uint64_t entry) { mem_write(&m->mem, gpa(at), &entry, 8); }

static uint64_t root_entry(unsigned root) { return (uint64_t)root << PAGE_SHIFT | 8 * 256; }

/* The page that a fetch under this root finds; 0: it faults. */
static uint32_t fetched(struct machine *m, unsigned root)
{
    apply(m, &(struct state){.paging = FOUR_LEVEL, .root = root});
    if (setjmp(cpu_of(&m->vcpu)->unwind))
        return 0;
    return mmu_fetch_page(&m->vcpu, shared_lin);
}

static struct machine *make_sharing(void)
{
    struct machine *m = make();
    /* 3 to 5 map page 8, 7 with the two behind it page 10; A is set wherever a walk would set it. */
    static const struct { uint64_t gpa, entry; } entries[] = {
        {0x3000, 0x4023}, {0x4000, 0x5023}, {0x5000, 0x8023}, {0x7000, 0xb023}, {0xb000, 0xc023}, {0xc000, 0xa023}};
    for (size_t i = 0; i < ARRAY_LEN(entries); i++)
        set_entry(m, entries[i].gpa, entries[i].entry);
    set_entry(m, root_entry(ROOT_A), 0x3023);
    set_entry(m, root_entry(ROOT_B), 0x3023);
    assert_int_equal(fetched(m, ROOT_A), 8);
    return m;
}

static void a_root_changes_for_itself(void **state)
{
    (void)state;
    struct machine *m = make_sharing();
    assert_int_equal(fetched(m, ROOT_B), 8);
    set_entry(m, root_entry(ROOT_B), 0x7023); /* while it is in use */
    assert_int_equal(fetched(m, ROOT_B), 10);
    set_entry(m, root_entry(ROOT_B), 0x3023);
    assert_int_equal(fetched(m, ROOT_B), 8);
    assert_int_equal(fetched(m, ROOT_A), 8);
    set_entry(m, root_entry(ROOT_B), 0x7023); /* while another is */
    assert_int_equal(fetched(m, ROOT_B), 10);
    set_entry(m, root_entry(ROOT_B), 0);
    assert_int_equal(fetched(m, ROOT_B), 0);
    assert_int_equal(fetched(m, ROOT_A), 8);
    drop(m);
}

static void what_was_inherited_is_lost_like_the_rest(void **state)
{
    (void)state;
    struct machine *m = make_sharing();
    set_entry(m, root_entry(ROOT_B), 0x3023);
    apply(m, &(struct state){.paging = FOUR_LEVEL, .root = ROOT_B});
    set_entry(m, 0x5000, 0xa023); /* the leaf */
    assert_int_equal(fetched(m, ROOT_B), 10);
    assert_int_equal(fetched(m, ROOT_A), 10);
    set_entry(m, 0x4000, 0xc023 & ~(uint64_t)PTE_P); /* and above it */
    assert_int_equal(fetched(m, ROOT_B), 0);
    assert_int_equal(fetched(m, ROOT_A), 0);
    drop(m);
}

static void no_other_root_is_taken_for_the_same(void **state)
{
    (void)state;
    struct machine *m = make_sharing();
    set_entry(m, root_entry(ROOT_B), 0x7023);
    assert_int_equal(fetched(m, ROOT_B), 10);
    assert_int_equal(fetched(m, ROOT_A), 8);
    drop(m);
}

static void a_space_inherits_only_while_it_is_empty(void **state)
{
    (void)state;
    struct machine *m = make_sharing();
    mmu_drop_all(m->vcpu.mmu);
    assert_int_equal(mmu_fetch_page(&m->vcpu, shared_lin), 8); /* root A's has it again */
    assert_int_equal(fetched(m, ROOT_B), 8);
    assert_int_equal(fetched(m, ROOT_A), 8);
    set_entry(m, 0x5000, 0xa023);
    assert_int_equal(fetched(m, ROOT_B), 10);
    assert_int_equal(fetched(m, ROOT_A), 10);
    drop(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_tlb_is_invisible),
        cmocka_unit_test(implicit_accesses_are_64_bits_wide),
        cmocka_unit_test(a_root_changes_for_itself),
        cmocka_unit_test(what_was_inherited_is_lost_like_the_rest),
        cmocka_unit_test(no_other_root_is_taken_for_the_same),
        cmocka_unit_test(a_space_inherits_only_while_it_is_empty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
