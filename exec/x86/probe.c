/* exec/x86/probe.c: the set of probes, and what it hits. See probe.h.
 *
 * Armed addresses are in a hash table with linear probing. Those at which no probe is left (`first` 0) are *gone*. */
#include "exec/x86/probe.h"

#include <stdlib.h>

#include "exec/engine.h"
#include "exec/x86/mmu.h"

enum {
    TABLE_MIN = 64,
    VAIN_MAX = 64,   /* times that a gone address is met before it is forgotten: each costs some 0.1 us, to translate
                        its block once more some 10 us */
    GONE_MAX = 1024, /* addresses kept at most, beside one for each probe */
};

struct armed {
    uint64_t lin;
    uint32_t first; /* probe there, index + 1; others follow by probes.next[] */
    bool used;
    uint8_t vain;
};

/* Addresses [first, last], page-aligned: covered by probes. */
struct range { uint64_t first, last; };
struct ranges { struct range *r; size_t count; }; /* in order, and apart */

struct probes {
    struct vcpu *v;
    struct exec_probe *probe;
    uint32_t *next; /* another PROBE_EXEC at the same address, index + 1 */
    size_t count;
    struct armed *table;
    size_t size, armed, gone; /* size: a power of two, at least twice armed */
    uint64_t offsets[PAGE_SIZE / 64]; /* a bit for each offset in a page that some address was armed at */
    uint32_t generation;
    struct ranges linear, physical; /* pages of data probes */
    uint64_t skip;
    struct exec_probe_hit hit[EXEC_PROBE_HITS_MAX];     /* of the running instruction; cpu->probe_hits of them */
    struct exec_probe_hit stopped[EXEC_PROBE_HITS_MAX]; /* of the last STOP_PROBE */
    size_t stopped_count;
};

/* ---- the table of armed addresses ---- */

static size_t home(const struct probes *p, uint64_t lin)
{
    return (size_t)(lin * UINT64_C(0x9e3779b97f4a7c15) >> 32) & (p->size - 1);
}

/* Where lin is, or where it belongs. */
static struct armed *slot(const struct probes *p, uint64_t lin)
{
    size_t i = home(p, lin);
    while (p->table[i].used && p->table[i].lin != lin)
        i = (i + 1) & (p->size - 1);
    return &p->table[i];
}

bool probes_find_armed(const struct probes *p, uint64_t lin) { return slot(p, lin)->used; }

bool probes_armed_in_pages(const struct vcpu *v, uint32_t off)
{
    return cpu_of((struct vcpu *)v)->probes->offsets[off / 64] >> off % 64 & 1;
}

uint32_t probes_generation(const struct vcpu *v) { return cpu_of((struct vcpu *)v)->probes->generation; }

static void note_armed(struct probes *p)
{
    cpu_of(p->v)->probe_exec = p->armed;
}

/* An address that no probe wants is forgotten. Those behind it that could not have its place move up. */
static void forget(struct probes *p, struct armed *a)
{
    size_t mask = p->size - 1, hole = (size_t)(a - p->table);
    for (size_t i = (hole + 1) & mask; p->table[i].used; i = (i + 1) & mask) {
        if (((i - home(p, p->table[i].lin)) & mask) < ((i - hole) & mask))
            continue; /* it would come to lie before its home */
        p->table[hole] = p->table[i];
        hole = i;
    }
    p->table[hole].used = false;
    p->armed--;
    p->gone--;
    note_armed(p);
}

/* Of the addresses of `from`, put those with a probe into `to`, or all of them. */
static void rebuild(struct probes *p, struct armed *to, size_t size, bool all)
{
    struct armed *from = p->table;
    size_t from_size = p->size;
    p->table = to;
    p->size = size;
    p->armed = p->gone = 0;
    for (size_t i = 0; i < from_size; i++) {
        if (!from[i].used || (!from[i].first && !all))
            continue;
        *slot(p, from[i].lin) = from[i];
        p->armed++;
        p->gone += !from[i].first;
    }
    free(from);
}

/* Room for `more` addresses. */
static bool reserve(struct probes *p, size_t more)
{
    size_t size = p->size;
    while (size < 2 * (p->armed + more + 1))
        size *= 2;
    if (size == p->size)
        return true;
    struct armed *to = calloc(size, sizeof(*to));
    if (to)
        rebuild(p, to, size, true);
    return to;
}

/* Without memory to do it they are just kept for longer. */
static void forget_gone(struct probes *p)
{
    struct armed *to = p->gone > p->armed - p->gone + GONE_MAX ? calloc(p->size, sizeof(*to)) : NULL;
    if (!to)
        return;
    rebuild(p, to, p->size, false);
    memset(p->offsets, 0, sizeof(p->offsets));
    for (size_t i = 0; i < p->size; i++)
        if (p->table[i].used)
            p->offsets[p->table[i].lin % PAGE_SIZE / 64] |= bit(p->table[i].lin % 64);
}

/* ---- pages of data probes ---- */

static int by_first(const void *a, const void *b)
{
    uint64_t x = ((const struct range *)a)->first, y = ((const struct range *)b)->first;
    return (x > y) - (x < y);
}

static bool is_data(enum exec_probe_kind k) { return k == PROBE_WRITE || k == PROBE_READ || k == PROBE_ACCESS; }

static bool make_ranges(const struct exec_probe *p, size_t n, bool physical, struct ranges *out)
{
    *out = (struct ranges){.r = calloc(n + 1, sizeof(*out->r))};
    if (!out->r)
        return false;
    for (size_t i = 0; i < n; i++)
        if (is_data(p[i].kind) && p[i].physical == physical)
            out->r[out->count++] =
                (struct range){p[i].addr & ~(uint64_t)PAGE_MASK, (p[i].addr + p[i].len - 1) | PAGE_MASK};
    qsort(out->r, out->count, sizeof(*out->r), by_first);
    size_t kept = 0;
    for (size_t i = 0; i < out->count; i++) {
        if (kept && out->r[i].first <= out->r[kept - 1].last)
            out->r[kept - 1].last = MAX(out->r[kept - 1].last, out->r[i].last);
        else
            out->r[kept++] = out->r[i];
    }
    out->count = kept;
    return true;
}

static bool in_ranges(const struct ranges *s, uint64_t addr)
{
    size_t lo = 0, hi = s->count; /* the last range that begins at addr or before is below hi */
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (s->r[mid].first <= addr)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo && addr <= s->r[lo - 1].last;
}

bool probes_watch_page(const struct vcpu *v, uint64_t lin, uint64_t gpa)
{
    const struct probes *p = cpu_of((struct vcpu *)v)->probes;
    return in_ranges(&p->linear, lin) || in_ranges(&p->physical, gpa);
}

/* Those pages of `now` that no probe covered before leave the TLB. */
static void forget_pages(struct probes *p, const struct ranges *now, const struct ranges *before, bool physical)
{
    for (size_t i = 0; i < now->count; i++) {
        const struct range *r = &now->r[i];
        bool covered = in_ranges(before, r->first) && in_ranges(before, r->last) && r->last - r->first < PAGE_SIZE;
        if (!covered)
            mmu_drop_data(p->v, r->first, r->last, physical);
    }
}

/* ---- hits ---- */

static struct exec_probe_hit *new_hit(struct probes *p, size_t probe)
{
    struct cpu *c = cpu_of(p->v);
    for (size_t i = 0; i < c->probe_hits; i++)
        if (p->hit[i].probe == probe)
            return &p->hit[i];
    if (c->probe_hits == EXEC_PROBE_HITS_MAX)
        return NULL;
    p->hit[c->probe_hits] = (struct exec_probe_hit){.probe = probe, .ticks = UINT64_MAX, .addr = UINT64_MAX};
    return &p->hit[c->probe_hits++];
}

static void note_hit(struct probes *p, size_t probe, uint64_t addr, bool write)
{
    struct exec_probe_hit *h = new_hit(p, probe);
    if (!h)
        return;
    h->addr = MIN(h->addr, addr);
    h->write |= write;
    p->v->brk |= VCPU_BRK_EVENT;
}

/* Whether [at, at + len) has something of what the probe covers. */
static bool covers(const struct exec_probe *q, uint64_t at, uint64_t len)
{
    return at - q->addr < q->len || q->addr - at < len;
}

void probes_access(struct vcpu *v, uint64_t lin, uint64_t gpa, uint32_t len, bool write)
{
    struct probes *p = cpu_of(v)->probes;
    if (!probes_watch_page(v, lin, gpa))
        return;
    for (size_t i = 0; i < p->count; i++) {
        const struct exec_probe *q = &p->probe[i];
        uint64_t at = q->physical ? gpa : lin;
        bool kind = q->kind == PROBE_ACCESS || q->kind == (write ? PROBE_WRITE : PROBE_READ);
        if (kind && covers(q, at, len))
            note_hit(p, i, MAX(at, q->addr), write);
    }
}

void probes_find_other(struct vcpu *v, int kind, uint64_t first, uint64_t len, bool write)
{
    struct probes *p = cpu_of(v)->probes;
    for (size_t i = 0; i < p->count; i++)
        if (p->probe[i].kind == (enum exec_probe_kind)kind && covers(&p->probe[i], first, len))
            note_hit(p, i, MAX(first, p->probe[i].addr), write);
}

void exec_probe_report(struct machine *m, size_t probe)
{
    struct probes *p = cpu_of(&m->vcpu)->probes;
    struct exec_probe_hit *h = new_hit(p, probe);
    if (!h)
        return;
    h->ticks = m->clock.now_ticks;
    m->vcpu.brk |= VCPU_BRK_EVENT;
    probes_keep(&m->vcpu); /* what it reports has happened, whatever becomes of the instruction */
}

int probes_stop(struct vcpu *v)
{
    struct cpu *c = cpu_of(v);
    struct probes *p = c->probes;
    p->stopped_count = c->probe_hits;
    memcpy(p->stopped, p->hit, sizeof(p->hit));
    for (size_t i = 0; i < p->stopped_count; i++)
        if (p->stopped[i].ticks == UINT64_MAX) /* the others were reported with theirs */
            p->stopped[i].ticks = v->ticks - 1;
    c->probe_hits = c->probe_hits_kept = 0;
    return STOP_PROBE;
}

static bool mid_rep(const struct vcpu *v)
{
    const struct cpu *c = cpu_of((struct vcpu *)v);
    return c->rep.ticks == v->ticks && c->rep.rip == v->s.r[R_RIP];
}

bool probes_exec_stop(struct vcpu *v)
{
    struct cpu *c = cpu_of(v);
    struct probes *p = c->probes;
    uint64_t lin = (v->s.r[R_RIP] + c->seg_base[S_CS]) & c->lin_mask;
    struct armed *a = slot(p, lin);
    if (!a->used)
        return false;
    if (!a->first) {
        if (++a->vain >= VAIN_MAX)
            forget(p, a);
        return false;
    }
    if (p->skip == v->ticks || mid_rep(v))
        return false;
    p->stopped_count = 0;
    for (uint32_t i = a->first; i && p->stopped_count < EXEC_PROBE_HITS_MAX; i = p->next[i - 1])
        p->stopped[p->stopped_count++] = (struct exec_probe_hit){.probe = i - 1, .ticks = v->ticks, .addr = lin};
    return true;
}

/* ---- the contract of engine.h ---- */

static struct err *check(const struct exec_probe *p, size_t n)
{
    if (n >= UINT32_MAX)
        return err_new(ERR_USAGE, "%zu breakpoints and watchpoints are too many", n);
    for (size_t i = 0; i < n; i++) {
        if (p[i].kind == PROBE_EXEC ? !p[i].physical : p[i].len && p[i].addr + (p[i].len - 1) >= p[i].addr)
            continue;
        if (p[i].kind == PROBE_REPORTED)
            continue;
        return err_new(ERR_USAGE, "a %s of %" PRIu64 " bytes at %s address %#" PRIx64 " cannot be",
                       p[i].kind == PROBE_EXEC ? "breakpoint" : "watchpoint", p[i].len,
                       p[i].physical ? "physical" : "linear", p[i].addr);
    }
    return NULL;
}

/* All that needs memory. The order of a set's probes at one address is that of the set. */
struct draft { struct exec_probe *probe; uint32_t *next; struct ranges linear, physical; };

static void draft_free(struct draft *d)
{
    free(d->probe);
    free(d->next);
    free(d->linear.r);
    free(d->physical.r);
}

static bool draft_make(struct probes *p, const struct exec_probe *probe, size_t n, struct draft *d)
{
    *d = (struct draft){.probe = calloc(n + 1, sizeof(*d->probe)), .next = calloc(n + 1, sizeof(*d->next))};
    if (!d->probe || !d->next || !make_ranges(probe, n, false, &d->linear) ||
        !make_ranges(probe, n, true, &d->physical) || !reserve(p, n))
        return false;
    if (n)
        memcpy(d->probe, probe, n * sizeof(*probe));
    return true;
}

/* Probes leave their addresses, which stay armed. */
static void disarm(struct probes *p)
{
    for (size_t i = 0; i < p->count; i++) {
        if (p->probe[i].kind != PROBE_EXEC)
            continue;
        struct armed *a = slot(p, p->probe[i].addr);
        p->gone += a->first != 0;
        a->first = 0;
        a->vain = 0;
    }
}

static bool arm_at(struct probes *p, uint32_t i)
{
    uint64_t lin = p->probe[i].addr;
    struct armed *a = slot(p, lin);
    bool is_new = !a->used;
    if (is_new) {
        *a = (struct armed){.lin = lin, .used = true};
        p->armed++;
        p->offsets[lin % PAGE_SIZE / 64] |= bit(lin % 64);
        mmu_code_armed(p->v, lin);
    } else if (!a->first) {
        p->gone--;
    }
    p->next[i] = a->first;
    a->first = i + 1;
    return is_new;
}

static void arm(struct probes *p)
{
    bool any = false;
    for (size_t i = p->count; i-- > 0; )
        if (p->probe[i].kind == PROBE_EXEC)
            any |= arm_at(p, (uint32_t)i);
    if (any) {
        p->generation++;
        mmu_code_dropped(p->v);
    }
    forget_gone(p);
    note_armed(p);
}

struct err *exec_probes_set(struct machine *m, const struct exec_probe *probe, size_t n)
{
    struct cpu *c = cpu_of(&m->vcpu);
    struct probes *p = c->probes;
    struct draft d;
    struct err *e = check(probe, n);
    if (e)
        return e;
    if (!draft_make(p, probe, n, &d)) {
        draft_free(&d);
        return err_new(ERR_HOST, "out of memory for %zu breakpoints and watchpoints", n);
    }
    disarm(p);
    forget_pages(p, &d.linear, &p->linear, false);
    forget_pages(p, &d.physical, &p->physical, true);
    struct draft old = {p->probe, p->next, p->linear, p->physical};
    p->probe = d.probe;
    p->next = d.next;
    p->linear = d.linear;
    p->physical = d.physical;
    p->count = n;
    c->probe_hits = c->probe_hits_kept = 0; /* reported since the last run, by numbers of the old set */
    draft_free(&old);
    arm(p);
    c->probe_data = p->linear.count || p->physical.count;
    c->probe_other = false;
    for (size_t i = 0; i < n; i++)
        c->probe_other |= probe[i].kind == PROBE_VECTOR || probe[i].kind == PROBE_PORT;
    return NULL;
}

void exec_probes_skip(struct machine *m, uint64_t ticks) { cpu_of(&m->vcpu)->probes->skip = ticks; }

size_t exec_probe_hits(const struct machine *m, const struct exec_probe_hit **out)
{
    const struct probes *p = cpu_of((struct vcpu *)(uintptr_t)&m->vcpu)->probes;
    *out = p->stopped;
    return p->stopped_count;
}

bool exec_rep_begun(const struct machine *m) { return mid_rep(&m->vcpu); }

/* ---- life ---- */

struct err *probes_create(struct vcpu *v, struct probes **out)
{
    struct probes *p = calloc(1, sizeof(*p));
    struct armed *table = calloc(TABLE_MIN, sizeof(*table));
    if (!p || !table) {
        free(p);
        free(table);
        return err_new(ERR_HOST, "out of memory for the vCPU");
    }
    *p = (struct probes){.v = v, .table = table, .size = TABLE_MIN, .skip = UINT64_MAX};
    cpu_of(v)->rep.ticks = UINT64_MAX;
    *out = p;
    return NULL;
}

void probes_destroy(struct probes *p)
{
    if (!p)
        return;
    draft_free(&(struct draft){p->probe, p->next, p->linear, p->physical});
    free(p->table);
    free(p);
}
