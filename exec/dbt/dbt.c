/* exec/dbt/dbt.c: the engine: its run loop, and what translated code calls. See dbt.h. */
#include "exec/dbt/dbt.h"
#include "exec/dbt/dbt_engine.h"
#include "exec/interp/interp.h"
#include "exec/x86/fpu.h"
#include "exec/x86/probe.h"
#include "exec/x86/run.h"
#include "exec/x86/sys.h"

#include <asm/prctl.h>
#include <immintrin.h>
#include <stdlib.h>
#include <sys/auxv.h>

enum {
    CODE_LEN = 24 << 20,
    SLICE = 200000, /* ticks: how long a kick may have to wait */
    MXCSR_MASKS = 0x1f80,
    HWCAP2_FSGSBASE = 2,
};

/* ---- what the code to run depends on ---- */

static bool seg_flat0(const struct vcpu *v, unsigned seg)
{
    return cpu_of((struct vcpu *)v)->flat[seg] && v->s.seg[seg].base == 0;
}

/* CS: readable or not, only base and limit matter to fetches. */
static bool code_flat(const struct vcpu *v)
{
    return v->s.seg[S_CS].base == 0 && v->s.seg[S_CS].limit == UINT32_MAX;
}

static inline struct key current_key(const struct vcpu *v)
{
    const struct vcpu_state *s = &v->s;
    const struct cpu *c = cpu_of((struct vcpu *)v);
    struct key k = {.mode = c->mode, .mmu_mode = c->mmu_mode};
    bool sse = !(s->cr0 & (CR0_EM | CR0_TS)) && (s->cr4 & CR4_OSFXSR);
    bool avx = !(s->cr0 & CR0_TS) && (s->cr4 & CR4_OSXSAVE) && (s->xcr0 & 6) == 6;
    k.bits = (uint8_t)((sse ? KEY_SSE : 0) | (avx ? KEY_AVX : 0) |
                       ((s->mxcsr & MXCSR_MASKS) == MXCSR_MASKS ? KEY_MASKED : 0));
    if (!(s->cr0 & (CR0_EM | CR0_TS)) && (s->x87.fcw & FCW_EXC) == FCW_EXC)
        k.bits |= KEY_X87; /* rule (6) of fpu.h: nothing is pending then */
    if (c->mode == MODE_LONG64) {
        k.bits |= KEY_FLAT | KEY_FLAT_FS | KEY_FLAT_GS;
        return k;
    }
    if (seg_flat0(v, S_DS) && seg_flat0(v, S_ES) && seg_flat0(v, S_SS) && code_flat(v) && c->stack_mask == UINT32_MAX)
        k.bits |= KEY_FLAT;
    k.bits |= (uint8_t)((c->flat[S_FS] ? KEY_FLAT_FS : 0) | (c->flat[S_GS] ? KEY_FLAT_GS : 0));
    return k;
}

/* Levels 1 and 2, which nobody uses, are left to the interpreter: so mmu_mode tells whether CPL is 0 or 3. */
static bool translatable(const struct vcpu *v, const struct key *k)
{
    bool wide = k->mode == MODE_LONG64 || k->mode == MODE_COMPAT32 || k->mode == MODE_PROT32;
    bool level = v->s.cpl == 0 || v->s.cpl == 3;
    return wide && level && (k->bits & KEY_FLAT) && k->mmu_mode < MMU_CACHED;
}

/* ---- GS: the data TLB ---- */

int arch_prctl(int code, unsigned long addr); /* the C library has it and declares it nowhere */

static void set_gs(const struct dbt *d, const void *p)
{
    if (d->have_fsgsbase)
        dbt_set_gs(p);
    else
        arch_prctl(ARCH_SET_GS, (uintptr_t)p);
}

static void select_state(struct dbt *d)
{
    struct cpu *c = cpu_of(d->v);
    struct key k = current_key(d->v);
    d->arena.hot->seg_base[S_FS] = c->seg_base[S_FS]; /* the others are 0 */
    d->arena.hot->seg_base[S_GS] = c->seg_base[S_GS];
    if (c->dtlb == d->cur_dtlb && block_same_key(&k, &d->key))
        return;
    d->key = k;
    d->cur_dtlb = c->dtlb;
    if (k.mmu_mode >= MMU_CACHED)
        return;
    set_gs(d, c->dtlb);
    blocks_select(d);
}

/* ---- where to go on ---- */

/* engine_options.flush: now and then, at no regular distance. */
static void stress_flush(struct dbt *d)
{
    if (!d->options.flush || --d->until_flush > 0)
        return;
    d->flush_seed = d->flush_seed * UINT64_C(6364136223846793005) + 1442695040888963407;
    d->until_flush = 1 + (int64_t)((d->flush_seed >> 33) % (2 * d->options.flush));
    blocks_flush(d);
}

static uint64_t linear_rip(const struct vcpu *v) { return v->s.r[R_RIP] & rip_mask(v); }

static uint64_t second_page(const struct dbt *d, uint64_t va)
{
    uint64_t next = (va & ~(uint64_t)PAGE_MASK) + PAGE_SIZE;
    return d->key.mode == MODE_LONG64 ? next : (uint32_t)next;
}

/* Whether translated code may run at RIP: not where it is armed, which is the run loop's. RF, which every IRET from a
 * fault leaves behind, says something of one instruction only: that is done here. */
static bool may_run(struct dbt *d)
{
    struct vcpu *v = d->v;
    while (v->ticks < d->end && !run_needs_attention_but_rf(v) && !v->machine->request && !probes_at(v)) {
        if (!(v->s.rflags & FL_RF))
            return true;
        interp_step(d->interp, v, d->end);
    }
    return false;
}

/* What a link leads to, if that was translated from `page`; else NULL. It may be dead: then its entry jumps out. */
static const void *link_target(const struct dbt *d, const struct link *l, uint32_t page)
{
    const uint8_t *code = d->arena.map.rw;
    if (!l->page_pos || get_le32(code + l->page_pos) != page)
        return NULL;
    return arena_code(&d->arena, l->jump_pos + 4 + get_le32(code + l->jump_pos));
}

/* The code at RIP, of the KEY_PLAIN variant when `plain`, translated when need be; NULL: something else must be done
 * first. `from`: the link that leads there, or NULL. The state in *v is exact. May raise the fetch's fault. */
static const void *code_at_rip(struct dbt *d, bool plain, const struct link *from)
{
    uint64_t flushes = d->flush_count;
    struct vcpu *v = d->v;
    struct hot *h = d->arena.hot;
    if (!may_run(d))
        return NULL;
    h->budget = (int64_t)(d->end - v->ticks);
    h->cc_op = CC_RAW;
    h->cc_inc = 0;
    h->aflags = v->s.aflags;
    stress_flush(d);
    select_state(d);
    if (!translatable(v, &d->key))
        return NULL;
    uint64_t va = linear_rip(v);
    const struct jc_entry *jc = jump_cache_entry(d, va);
    bool scarce = h->budget < BLOCK_MAX, shorten = scarce && d->options.exact;
    if (jc->va == va && va && !scarce && !plain)
        return jc->code;
    uint32_t page = mmu_fetch_page(v, va);
    v->brk &= ~(uint32_t)VCPU_BRK_CODE; /* no code is running that could have been lost */
    if (page == MEM_NO_PAGE)
        return NULL;
    const void *known = from && !scarce && d->flush_count == flushes ? link_target(d, from, page) : NULL;
    if (known)
        return known;
    unsigned most = (unsigned)(shorten ? MIN((uint64_t)h->budget, d->options.block) : d->options.block);
    struct key k = d->key;
    k.bits |= plain ? KEY_PLAIN : 0;
    struct block *b = shorten ? NULL : block_find(d, va, page, &k);
    if (b && b->page2 != MEM_NO_PAGE && mmu_fetch_page(v, second_page(d, va)) != b->page2) {
        block_drop(d, b);
        b = NULL;
    }
    if (!b)
        b = (unlikely(d->host_ns) ? translate_measured : translate)(d, va, page, &k, most, !shorten);
    v->brk &= ~(uint32_t)VCPU_BRK_CODE;
    if (!b || b->count > h->budget) {
        d->interpret = plain;
        return NULL;
    }
    if (!shorten && !plain &&
        b->page2 == MEM_NO_PAGE) /* a crossing block whose second page was lost must come this way */
        jump_cache_set(d, va, arena_code(&d->arena, b->entry));
    return arena_code(&d->arena, b->entry);
}

/* ---- calls from translated code: NULL to leave it, RESUME to go on behind the call, else where to go on ---- */

#define RESUME ((const void *)1)

static void decode_site(struct dbt *d, uint32_t site_id, struct insn_slot *s)
{
    const struct site *site = &d->site[site_id];
    const struct block *b = &d->block[site->block];
    uint32_t at = (uint32_t)b->off + site->off;
    const uint8_t *bytes = mem_page_host(d->mem, b->page) + at;
    unsigned avail = MIN((unsigned)INSN_BYTES_MAX, PAGE_SIZE - at);
    uint8_t crossing[INSN_BYTES_MAX];
    if (b->page2 != MEM_NO_PAGE) {
        crossing_bytes(d, b->page, b->off, b->page2, crossing);
        bytes = crossing;
        avail = INSN_BYTES_MAX;
    }
    *s = (struct insn_slot){.rip = b->va + site->off, .after = site->after, .flags = site->flags};
    insn_decode(d->v, bytes, avail, 0, &s->in);
}

/* A running block is alive when it calls, so its bytes are still those that were translated: a slot holds until sites
 * are numbered anew. */
static const struct insn_slot *slot_of(struct dbt *d, uint32_t site_id)
{
    struct insn_slot *s = &d->slot[site_id % INSN_SLOTS];
    uint64_t id = (d->flush_count + 1) << 32 | site_id;
    if (unlikely(s->id != id)) {
        decode_site(d, site_id, s);
        s->id = id;
    }
    return s;
}

/* An instruction by its handler. */
static const void *c_call(struct dbt *d, uint32_t site_id)
{
    struct vcpu *v = d->v;
    struct cpu *c = cpu_of(v);
    struct hot *h = d->arena.hot;
    const struct insn_slot *s = slot_of(d, site_id);
    const struct insn *in = &s->in;
    uint8_t after = s->after, flags = s->flags; /* the call below may lead to a flush */
    uint64_t lost = mmu_lost(v);

    flags_settle(v, h);
    v->s.r[R_RIP] = s->rip;
    v->ticks = d->end - (uint64_t)h->budget - after - 1;
    c->first = c->cur = in;
    in->fn(v, in);
    v->ticks++;
    if (!(in->flags & INSN_ENDS) || (in->flags & INSN_NEXT))
        v->s.r[R_RIP] = insn_next(v, in);
    c->cur = NULL;
    if ((flags & SITE_ENDS) || v->brk || ((flags & SITE_GROUPS) && mmu_lost(v) != lost))
        return code_at_rip(d, false, NULL);
    h->budget = (int64_t)(d->end - v->ticks) - after;
    h->aflags = v->s.aflags;
    h->seg_base[S_FS] = c->seg_base[S_FS];
    h->seg_base[S_GS] = c->seg_base[S_GS];
    h->vec_reload = flags & SITE_VEC;
    h->x87_reload = flags & SITE_X87;
    h->flags_reload = flags & SITE_FLAGS;
    return RESUME;
}

/* The host pays dearly for a store to code that it has at hand, even for one that changes nothing. */
static void patch32(struct dbt *d, uint32_t pos, uint32_t value)
{
    if (get_le32(d->arena.map.rw + pos) != value)
        put_le32(d->arena.map.rw + pos, value);
}

/* A direct jump that does not know its target yet, or whose page check failed: mostly because the space is new and knows
 * no pages. */
static const void *c_link(struct dbt *d, uint32_t link_id)
{
    struct vcpu *v = d->v;
    const struct link l = d->link[link_id];
    uint64_t flushes = d->flush_count;
    flags_settle(v, d->arena.hot);
    v->s.r[R_RIP] = l.va;
    v->ticks = d->end - (uint64_t)d->arena.hot->budget;
    const void *code = code_at_rip(d, l.plain, &l);
    if (!code || d->flush_count != flushes || d->options.nochain || v->ticks + BLOCK_MAX > d->end)
        return code;
    uint32_t target = (uint32_t)((const uint8_t *)code - d->arena.map.rx);
    patch32(d, l.jump_pos, target - (l.jump_pos + 4));
    if (l.page_pos)
        patch32(d, l.page_pos, mmu_fetch_page(v, l.va));
    return code;
}

/* A block cannot be entered: its charge exceeds the budget, or it is dead. */
static const void *c_leave(struct dbt *d, uint32_t block_id)
{
    struct vcpu *v = d->v;
    flags_settle(v, d->arena.hot);
    v->s.r[R_RIP] = d->block[block_id].va;
    v->ticks = d->end - (uint64_t)d->arena.hot->budget;
    const struct block *b = &d->block[block_id];
    bool plain = b->key.bits & KEY_PLAIN;
    if (!b->dead)
        return code_at_rip(d, plain, NULL);
    uint64_t flushes = d->flush_count;
    struct key k = d->key;
    k.bits |= plain ? KEY_PLAIN : 0;
    jump_cache_set(d, b->va, NULL);
    const void *code = code_at_rip(d, plain, NULL);
    /* Whoever came here had found the page to be b->page, so a successor in it may be entered at once from now on. */
    bool lasting = code && d->flush_count == flushes && v->ticks + BLOCK_MAX <= d->end;
    if (lasting && b->page2 == MEM_NO_PAGE && mmu_fetch_page(v, b->va) == b->page && block_same_key(&b->key, &k))
        block_forward(d, b, code);
    return code;
}

/* A jump or return to address 0, which no cache knew. It is done but for RIP. */
static const void *c_nowhere(struct dbt *d, uint32_t unused)
{
    struct vcpu *v = d->v;
    (void)unused;
    flags_settle(v, d->arena.hot);
    v->s.r[R_RIP] = 0;
    v->ticks = d->end - (uint64_t)d->arena.hot->budget;
    return code_at_rip(d, false, NULL);
}

/* ---- the run loop ---- */

static void enter(struct dbt *d, const void *code)
{
    ((void (*)(const void *))(uintptr_t)arena_code(&d->arena, d->arena.enter))(code);
}

/* How far the interpreter is to go: over what cannot be translated; longer where that holds for the mode, or a stop is
 * near. */
static uint64_t interpret_to(const struct vcpu *v, uint64_t until, bool step)
{
    enum { STRETCH = 1000 };
    struct key k = current_key(v);
    uint64_t left = until - v->ticks;
    if (left <= BLOCK_MAX)
        return until;
    return v->ticks + (step || translatable(v, &k) ? 1 : MIN(left, (uint64_t)STRETCH));
}

static enum engine_stop dbt_run(struct engine *e, uint64_t until)
{
    struct dbt *d = (struct dbt *)e;
    struct vcpu *v = d->v;
    struct cpu *c = cpu_of(v);
    d->cur_dtlb = NULL; /* another engine may have changed GS and the state */
    for (;;) {
        if (setjmp(c->unwind)) /* anew: the interpreter sets it too */
            run_take_fault(v);
        v->brk = 0;
        int stop = run_due_stop(v, until);
        if (stop >= 0)
            return (enum engine_stop)stop;
        d->end = c->until = MIN(until, v->ticks + SLICE);
        bool step = run_needs_attention_but_rf(v) || event_pending(v);
        if (!step && probes_at(v)) {
            if (probes_exec_stop(v))
                return STOP_PROBE;
            interp_step(d->interp, v, d->end);
            continue;
        }
        const void *code = step || d->interpret ? NULL : code_at_rip(d, false, NULL);
        d->interpret = false;
        if (code) {
            enter(d, code);
            continue;
        }
        enum engine_stop why = d->interp->ops->run(d->interp, interpret_to(v, until, step));
        if (why != STOP_TICKS || v->ticks >= until)
            return why;
    }
}

/* ---- life ---- */

static void dbt_destroy(struct engine *e)
{
    if (!e)
        return;
    struct dbt *d = (struct dbt *)e;
    engine_interp.destroy(d->interp);
    blocks_deinit(d);
    decode_cache_destroy(d->decoded);
    arena_deinit(&d->arena);
    free(d);
}

static struct err *dbt_create(struct machine *m, const struct engine_options *o, struct engine **out)
{
    struct dbt *d = calloc(1, sizeof(*d));
    if (!d)
        return err_new(ERR_HOST, "out of memory for the translator");
    d->e = (struct engine){&engine_dbt, m};
    d->v = &m->vcpu;
    d->mem = &m->mem;
    d->options = *o;
    d->options.cache = align_up(o->cache ? o->cache : CODE_LEN, PAGE_SIZE);
    d->options.block = o->block ? o->block : BLOCK_MAX;
    struct err *e = arena_init(&d->arena, (uint32_t)d->options.cache);
    if (!e)
        e = blocks_init(d);
    if (!e)
        e = decode_cache_create(d->v, flags_are_clean(), &d->decoded);
    if (!e)
        e = engine_interp.create(m, o, &d->interp);
    if (e) {
        dbt_destroy(&d->e);
        return e;
    }
    struct hot *h = d->arena.hot;
    h->self = d;
    h->regs = m->vcpu.s.r;
    h->cpu = cpu_of(&m->vcpu);
    h->vec = m->vcpu.s.ymm[0];
    h->x87 = m->vcpu.s.x87.st[0];
    h->c_call = (uintptr_t)c_call;
    h->c_link = (uintptr_t)c_link;
    h->c_leave = (uintptr_t)c_leave;
    h->c_nowhere = (uintptr_t)c_nowhere;
    h->host_mxcsr = _mm_getcsr();
    d->have_fsgsbase = getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE;
    *out = &d->e;
    return NULL;
}

static void dbt_measure(struct engine *e, uint64_t (*host_ns)(void))
{
    ((struct dbt *)e)->host_ns = host_ns;
}

const struct engine_ops engine_dbt = {
    .name = "dbt",
    .summary = "binary translation, x86-64 to x86-64",
    .create = dbt_create,
    .destroy = dbt_destroy,
    .run = dbt_run,
    .measure = dbt_measure,
    .stats = dbt_stats,
};
