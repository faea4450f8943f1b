/* replay/checkpoint.c: see checkpoint.h.
 *
 * Invariant: for neighbours P and C, every page that differs between them has a version at C. (One that does not differ
 * may have one too.) A checkpoint N taken between them keeps it: a page that changed from P to N and back again until C gets
 * its version at C then. One that is given up hands its versions on to its successor, where that has none. */
#include "replay/checkpoint.h"

#include <stdio.h>
#include <stdlib.h>
#include <zstd.h>

#include "core/base/check.h"
#include "core/base/map.h"
#include "exec/engine.h"
#include "replay/reserve.h"
#include "replay/stored.h"

struct checkpoint {
    uint64_t ticks;
    struct replayer_mark mark;
    uint8_t *image;  /* NULL: of a stored one, which is read again when it is wanted */
    size_t stored;   /* its number in the recording */
    uint32_t *page; /* pages that have a version here */
    uint32_t page_count;
    enum checkpoint_kind kind;
    uint64_t used; /* by the store's clock */
};

struct version {
    uint64_t ticks;
    uint8_t *data;     /* NULL: all zero, unless it is had from elsewhere: */
    uint32_t packed;   /* bytes of `data`, which is malloc'd then and one zstd frame; 0: it is a page of a slab */
    uint64_t frame;    /* where the recording has it, 0 when it has not; it is read when it is wanted */
    uint16_t slot;     /* its place there */
    bool first;        /* it is what the page `of` held at tick 0 */
    uint32_t of;
};
struct versions { struct version *v; uint32_t count, cap; }; /* of one page, oldest first */

/* Page contents are in slabs, until they are packed. Whoever goes far copies many pages, and most of what that takes is new
 * memory: some slabs are kept in reserve. */
enum {
    SLAB_PAGES = 256,
    SLAB_LEN = SLAB_PAGES * PAGE_SIZE,
    RESERVE_SLABS = 32, /* the most, and no more than this part of the memory given, and of the guest's */
    RESERVE_SHARE = 8,
};
struct slab { struct slab *next; uint8_t *pages; };
struct free_page { struct free_page *next; };

struct checkpoints {
    struct machine *m;
    uint64_t memory, bytes, spacing, clock; /* memory, bytes: without the reserve */
    struct checkpoint **at; /* in the order of their ticks */
    size_t count, cap;
    struct versions *versions; /* by page */
    struct slab *slabs;
    size_t slab_count;
    struct reserve *reserve; /* of new slabs */
    uint64_t reserve_len;
    struct free_page *free;
    uint64_t raw;       /* bytes of slabs' pages in use */
    ZSTD_CCtx *packer;
    ZSTD_DCtx *unpacker;
    uint8_t unpacked[PAGE_SIZE]; /* what content_at() has unpacked */
    uint8_t *mark_page; /* by page: scratch of restoring */
    struct dirty_set dirty; /* pages that may differ from what they were at `base` */
    uint64_t base;      /* ticks of a checkpoint, which is not given up while it is this */
    uint64_t restores, pages_restored;
    struct log_reader *log; /* of stored ones */
    uint8_t *image;         /* scratch: of one of them */
    size_t stored_step;     /* those whose number it does not divide are given up */
    struct err *failed;     /* reading one; taken by checkpoints_restore() */
    uint64_t failed_at;     /* ticks of that one */
    struct wanted { struct version **v; size_t count, cap; } wanted; /* scratch: those to be read */
};

/* ---- pages ---- */

static bool add_slab(struct checkpoints *c)
{
    struct slab *s = malloc(sizeof(*s));
    uint8_t *pages = s ? reserve_take(c->reserve) : NULL;
    if (!pages) {
        free(s);
        return false;
    }
    *s = (struct slab){c->slabs, pages};
    c->slabs = s;
    c->slab_count++;
    for (size_t i = SLAB_PAGES; i-- > 0;) {
        struct free_page *f = (void *)(pages + i * PAGE_SIZE);
        f->next = c->free;
        c->free = f;
    }
    return true;
}

/* c->free is not empty. */
static uint8_t *page_pop(struct checkpoints *c)
{
    struct free_page *f = c->free;
    c->free = f->next;
    return (uint8_t *)f;
}

static uint8_t *page_new(struct checkpoints *c)
{
    if (!c->free && !add_slab(c))
        return NULL;
    c->bytes += PAGE_SIZE;
    c->raw += PAGE_SIZE;
    return page_pop(c);
}

/* The content of a version that is given up. */
static void data_free(struct checkpoints *c, struct version *v)
{
    struct free_page *f = (void *)v->data;
    if (!v->data)
        return;
    if (v->packed) {
        c->bytes -= v->packed;
        free(v->data);
    } else {
        f->next = c->free;
        c->free = f;
        c->bytes -= PAGE_SIZE;
        c->raw -= PAGE_SIZE;
    }
    v->data = NULL;
    v->packed = 0;
}

static void free_slabs(struct slab *s)
{
    while (s) {
        struct slab *next = s->next;
        map_free(s->pages, SLAB_LEN);
        free(s);
        s = next;
    }
}

/* Bytes of free pages. */
static uint64_t slack(const struct checkpoints *c)
{
    return (uint64_t)c->slab_count * SLAB_LEN - c->raw;
}

/* All pages in use into as few slabs as they need; without memory for these, nothing. */
static void compact(struct checkpoints *c)
{
    struct slab *old = c->slabs;
    struct free_page *old_free = c->free;
    size_t old_count = c->slab_count, slabs = (c->raw + SLAB_LEN - 1) / SLAB_LEN;
    c->slabs = NULL;
    c->free = NULL;
    c->slab_count = 0;
    while (c->slab_count < slabs && add_slab(c))
        continue;
    if (c->slab_count < slabs) {
        free_slabs(c->slabs);
        c->slabs = old;
        c->free = old_free;
        c->slab_count = old_count;
        return;
    }
    for (uint32_t page = 0; page < c->m->mem.ram_pages; page++)
        for (uint32_t i = 0; i < c->versions[page].count; i++) {
            struct version *v = &c->versions[page].v[i];
            if (v->data && !v->packed)
                v->data = memcpy(page_pop(c), v->data, PAGE_SIZE);
        }
    free_slabs(old);
}

/* ---- versions ---- */

static bool wanted_add(struct wanted *w, struct version *v)
{
    if (w->count == w->cap) {
        size_t cap = w->cap ? 2 * w->cap : 1024;
        struct version **grown = realloc(w->v, cap * sizeof(*grown));
        if (!grown)
            return false;
        w->v = grown;
        w->cap = cap;
    }
    w->v[w->count++] = v;
    return true;
}

/* Index of the first version that is younger than `ticks`. */
static uint32_t first_after(const struct versions *vs, uint64_t ticks)
{
    uint32_t lo = 0, hi = vs->count;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (vs->v[mid].ticks <= ticks)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* Read stored versions that are wanted, n of one frame. False: they cannot be had, and c->failed says why. */
static bool fetch(struct checkpoints *c, struct version *const *v, size_t n)
{
    const uint8_t *data;
    size_t pages;
    c->failed_at = c->failed ? c->failed_at : v[0]->ticks;
    if (!c->failed)
        c->failed = log_reader_checkpoint_content(c->log, v[0]->frame, &data, &pages);
    for (size_t i = 0; !c->failed && i < n; i++) {
        uint8_t *copy = v[i]->slot < pages ? page_new(c) : NULL;
        if (v[i]->slot >= pages)
            c->failed = err_new(ERR_CORRUPT, "a checkpoint of the recording lacks a page");
        else if (!copy)
            c->failed = err_new(ERR_HOST, "out of memory for a checkpoint");
        else
            v[i]->data = memcpy(copy, data + (size_t)v[i]->slot * PAGE_SIZE, PAGE_SIZE);
    }
    return !c->failed;
}

static struct version *newest(const struct checkpoints *c, uint32_t page, uint64_t ticks)
{
    const struct versions *vs = &c->versions[page];
    uint32_t i = first_after(vs, ticks);
    return i ? &vs->v[i - 1] : NULL;
}

/* The version with the page's content at `ticks`, NULL: zeroes. Those of tick 0 stay, and are had from nowhere else. */
static struct version *source(const struct checkpoints *c, uint32_t page, uint64_t ticks)
{
    struct version *v = newest(c, page, ticks);
    return v && v->first ? newest(c, v->of, 0) : v;
}

/* What the page held at the checkpoint at `ticks`; *out NULL: zeroes, as before anything was written. Valid until the next
 * call. */
static bool content_at(struct checkpoints *c, uint32_t page, uint64_t ticks, const uint8_t **out)
{
    struct version *v = source(c, page, ticks);
    *out = NULL;
    if (v && v->frame && !v->data && !fetch(c, &v, 1))
        return false;
    if (v && v->packed) {
        size_t n = ZSTD_decompressDCtx(c->unpacker, c->unpacked, PAGE_SIZE, v->data, v->packed);
        CHECK(n == PAGE_SIZE, "a packed page does not unpack");
        *out = c->unpacked;
    } else if (v) {
        *out = v->data;
    }
    return true;
}

static struct version *version_at(const struct checkpoints *c, uint32_t page, uint64_t ticks)
{
    struct version *v = newest(c, page, ticks);
    return v && v->ticks == ticks ? v : NULL;
}

static bool version_insert(struct checkpoints *c, uint32_t page, struct version v)
{
    struct versions *vs = &c->versions[page];
    if (vs->count == vs->cap) {
        uint32_t cap = vs->cap ? 2 * vs->cap : 2;
        struct version *grown = realloc(vs->v, cap * sizeof(*grown));
        if (!grown)
            return false;
        c->bytes += (cap - vs->cap) * sizeof(*grown);
        vs->v = grown;
        vs->cap = cap;
    }
    uint32_t i = first_after(vs, v.ticks);
    memmove(vs->v + i + 1, vs->v + i, (vs->count - i) * sizeof(*vs->v));
    vs->v[i] = v;
    vs->count++;
    return true;
}

/* A copy of `now`; NULL: zeroes. */
static bool version_add(struct checkpoints *c, uint32_t page, uint64_t ticks, const uint8_t *now)
{
    struct version v = {.ticks = ticks};
    if (now && !page_is_zero(now)) {
        v.data = page_new(c);
        if (!v.data)
            return false;
        memcpy(v.data, now, PAGE_SIZE);
    }
    if (version_insert(c, page, v))
        return true;
    data_free(c, &v);
    return false;
}

static void version_drop(struct checkpoints *c, uint32_t page, struct version *v)
{
    struct versions *vs = &c->versions[page];
    data_free(c, v);
    memmove(v, v + 1, (size_t)(vs->v + vs->count - (v + 1)) * sizeof(*v));
    vs->count--;
}

/* Room for versions that are gone. */
static void shrink_versions(struct checkpoints *c)
{
    for (uint32_t page = 0; page < c->m->mem.ram_pages; page++) {
        struct versions *vs = &c->versions[page];
        struct version *shrunk = vs->count && vs->count < vs->cap ? realloc(vs->v, vs->count * sizeof(*shrunk)) : NULL;
        if (!shrunk)
            continue;
        c->bytes -= (vs->cap - vs->count) * sizeof(*shrunk);
        vs->v = shrunk;
        vs->cap = vs->count;
    }
}

/* ---- stored contents ---- */

static void want(struct checkpoints *c, uint32_t page, uint64_t ticks)
{
    struct version *v = newest(c, page, ticks);
    if (c->mark_page[page] || !v || !v->frame || v->data)
        return;
    c->mark_page[page] = 1;
    if (!wanted_add(&c->wanted, v))
        c->failed = c->failed ? c->failed : err_new(ERR_HOST, "out of memory for a checkpoint");
}

static int by_frame(const void *a, const void *b)
{
    const struct version *x = *(struct version *const *)a, *y = *(struct version *const *)b;
    return x->frame < y->frame ? -1 : x->frame > y->frame;
}

/* Read what is wanted, each frame once. */
static void fetch_wanted(struct checkpoints *c)
{
    if (c->wanted.count)
        qsort(c->wanted.v, c->wanted.count, sizeof(*c->wanted.v), by_frame);
    for (size_t from = 0, to; from < c->wanted.count && !c->failed; from = to) {
        for (to = from + 1; to < c->wanted.count && c->wanted.v[to]->frame == c->wanted.v[from]->frame;)
            to++;
        if (!fetch(c, c->wanted.v + from, to - from))
            break;
    }
    c->wanted.count = 0;
}

/* ---- the list ---- */

/* Index of the last checkpoint at or before `ticks`, SIZE_MAX when there is none. */
static size_t index_before(const struct checkpoints *c, uint64_t ticks)
{
    size_t lo = 0, hi = c->count;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (c->at[mid]->ticks <= ticks)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo - 1;
}

static uint64_t overhead(const struct checkpoints *c, const struct checkpoint *p)
{
    return sizeof(*p) + (p->image ? machine_image_len(c->m) : 0) + p->page_count * sizeof(*p->page);
}

static void checkpoint_free(struct checkpoint *p)
{
    if (!p)
        return;
    free(p->image);
    free(p->page);
    free(p);
}

/* Its versions go on to the next one, where that lacks them. */
static void give_up(struct checkpoints *c, size_t i)
{
    struct checkpoint *p = c->at[i], *next = i + 1 < c->count ? c->at[i + 1] : NULL;
    uint32_t *grown = NULL;
    uint32_t moved = 0;
    if (next) {
        grown = realloc(next->page, (size_t)MAX(next->page_count + p->page_count, 1) * sizeof(*grown));
        if (!grown)
            return; /* it stays then: a page of its list must not be lost */
        next->page = grown;
    }
    for (uint32_t n = 0; n < p->page_count; n++) {
        uint32_t page = p->page[n];
        struct version *v = version_at(c, page, p->ticks);
        if (!next || version_at(c, page, next->ticks)) {
            version_drop(c, page, v);
        } else {
            v->ticks = next->ticks;
            next->page[next->page_count + moved++] = page;
        }
    }
    c->bytes -= overhead(c, p);
    if (next) {
        next->page_count += moved;
        c->bytes += moved * sizeof(*next->page);
    }
    checkpoint_free(p);
    memmove(c->at + i, c->at + i + 1, (c->count - i - 1) * sizeof(*c->at));
    c->count--;
}

/* The near one that nobody used for the longest time, but not the one at `keep`; SIZE_MAX when there is none. */
static size_t oldest_near(const struct checkpoints *c, uint64_t keep)
{
    size_t found = SIZE_MAX;
    for (size_t i = 1; i < c->count; i++) {
        const struct checkpoint *p = c->at[i];
        if (p->kind == CHECKPOINT_NEAR && p->ticks != keep && (found == SIZE_MAX || p->used < c->at[found]->used))
            found = i;
    }
    return found;
}

/* Regular ones that are nearer to each other than c->spacing. */
static void thin_out(struct checkpoints *c, uint64_t keep)
{
    for (size_t i = c->count; i-- > 1;)
        if (c->at[i]->kind == CHECKPOINT_REGULAR && c->at[i]->ticks % c->spacing && c->at[i]->ticks != keep)
            give_up(c, i);
}

enum { NEAR_KEPT = 8 }; /* so many are not given up for the sake of regular ones: they are where somebody looks */

/* Stored pages can be read again. */
static void drop_stored(struct checkpoints *c)
{
    for (uint32_t page = 0; c->log && page < c->m->mem.ram_pages; page++)
        for (uint32_t i = 0; i < c->versions[page].count; i++) {
            struct version *v = &c->versions[page].v[i];
            if (v->frame)
                data_free(c, v);
        }
}

/* False: there is no memory for it, or it does not shrink; it stays as it is. */
static bool pack(struct checkpoints *c, struct version *v)
{
    enum { LEVEL = 1 };
    uint8_t small[PAGE_SIZE];
    size_t n = ZSTD_compressCCtx(c->packer, small, sizeof(small) - 1, v->data, PAGE_SIZE, LEVEL);
    uint8_t *data = ZSTD_isError(n) ? NULL : malloc(n);
    if (!data)
        return false;
    memcpy(data, small, n);
    data_free(c, v);
    v->data = data;
    v->packed = (uint32_t)n;
    c->bytes += n;
    return true;
}

static void pack_all(struct checkpoints *c)
{
    for (uint32_t page = 0; page < c->m->mem.ram_pages; page++)
        for (uint32_t i = 0; i < c->versions[page].count; i++) {
            struct version *v = &c->versions[page].v[i];
            if (v->data && !v->packed)
                pack(c, v);
        }
}

/* What is kept in reserve is for pages, then. */
static void use_reserve(struct checkpoints *c)
{
    reserve_release(c->reserve);
    c->memory += c->reserve_len;
    c->reserve_len = 0;
}

/* Give up what is missed least. False: what is left is the beginning and what was taken just now, or there is no memory even
 * to give something up. */
static bool thin(struct checkpoints *c, uint64_t keep)
{
    size_t count = c->count, near = 0, oldest = oldest_near(c, keep);
    for (size_t n = 1; n < c->count; n++)
        near += c->at[n]->kind == CHECKPOINT_NEAR;
    if (near <= NEAR_KEPT)
        thin_out(c, keep); /* one that was to be kept the last time */
    if (c->count < count)
        return true;
    if (near <= NEAR_KEPT && c->spacing <= MIN(c->at[c->count - 1]->ticks, UINT64_MAX / 2)) {
        c->spacing *= 2;
        return true;
    }
    if (oldest != SIZE_MAX)
        give_up(c, oldest);
    return c->count < count;
}

static void fit(struct checkpoints *c, uint64_t keep)
{
    if (c->bytes > c->memory && c->reserve_len)
        use_reserve(c);
    if (c->bytes > c->memory)
        drop_stored(c);
    if (c->bytes > c->memory && c->raw > c->memory / 4) /* or it is hardly worth a look at all pages */
        pack_all(c);
    if (c->bytes > c->memory)
        shrink_versions(c);
    while (c->bytes > c->memory && c->count > 1 && thin(c, keep))
        continue;
    if (slack(c) > c->memory / 4 && slack(c) + c->bytes > c->memory)
        compact(c);
}

/* ---- taking ---- */

static bool make_room(struct checkpoints *c)
{
    if (c->count < c->cap)
        return true;
    size_t cap = c->cap ? 2 * c->cap : 64;
    struct checkpoint **grown = realloc(c->at, cap * sizeof(*grown));
    if (!grown)
        return false;
    c->at = grown;
    c->cap = cap;
    return true;
}

static struct checkpoint *checkpoint_new(const struct checkpoints *c, uint32_t pages, bool image)
{
    struct checkpoint *p = calloc(1, sizeof(*p));
    if (!p)
        return NULL;
    p->image = image ? malloc(machine_image_len(c->m)) : NULL;
    p->page = malloc((size_t)MAX(pages, 1) * sizeof(*p->page));
    if ((p->image || !image) && p->page)
        return p;
    checkpoint_free(p);
    return NULL;
}

/* The page is about to get a version just before `next`. What it held there may have been known from before that. */
static bool keep_for_next(struct checkpoints *c, struct checkpoint *next, uint32_t page, const uint8_t *was)
{
    if (version_at(c, page, next->ticks))
        return true;
    uint32_t *grown = realloc(next->page, (size_t)(next->page_count + 1) * sizeof(*grown));
    if (!grown)
        return false;
    next->page = grown;
    if (!version_add(c, page, next->ticks, was))
        return false;
    next->page[next->page_count++] = page;
    c->bytes += sizeof(*grown);
    return true;
}

static bool keep_page(struct checkpoints *c, struct checkpoint *p, struct checkpoint *next, uint32_t page)
{
    const uint8_t *now = mem_page_host(&c->m->mem, page);
    const uint8_t *was;
    if (!content_at(c, page, p->ticks, &was))
        return false;
    if (was ? !memcmp(was, now, PAGE_SIZE) : page_is_zero(now))
        return true; /* it was written, but not changed */
    if ((next && !keep_for_next(c, next, page, was)) || !version_add(c, page, p->ticks, now))
        return false;
    p->page[p->page_count++] = page;
    return true;
}

/* What is compared with is read frame by frame, not page by page. */
static bool fetch_dirty(struct checkpoints *c, uint64_t ticks)
{
    for (uint32_t i = 0; i < c->dirty.count; i++)
        if (c->dirty.page[i] < c->m->mem.ram_pages) {
            want(c, c->dirty.page[i], ticks);
            c->mark_page[c->dirty.page[i]] = 0;
        }
    fetch_wanted(c);
    return !c->failed;
}

static bool keep_pages(struct checkpoints *c, struct checkpoint *p, struct checkpoint *next)
{
    if (c->log && !fetch_dirty(c, p->ticks))
        return false;
    for (uint32_t i = 0; i < c->dirty.count; i++)
        if (c->dirty.page[i] < c->m->mem.ram_pages && !keep_page(c, p, next, c->dirty.page[i]))
            return false;
    return true;
}

static void forget(struct checkpoints *c, struct checkpoint *p)
{
    for (uint32_t i = 0; i < p->page_count; i++)
        version_drop(c, p->page[i], version_at(c, p->page[i], p->ticks));
    checkpoint_free(p);
}

static bool take(struct checkpoints *c, enum checkpoint_kind kind, const struct replayer_mark *mark)
{
    uint64_t ticks = c->m->vcpu.ticks;
    mem_dirty_collect(&c->m->mem);
    struct checkpoint *p = make_room(c) ? checkpoint_new(c, c->dirty.count, true) : NULL;
    if (!p)
        return false;
    p->ticks = ticks;
    p->mark = *mark;
    p->kind = kind;
    p->used = ++c->clock;
    size_t i = index_before(c, ticks) + 1;
    if (!keep_pages(c, p, i < c->count ? c->at[i] : NULL)) {
        forget(c, p);
        return false;
    }
    machine_save(c->m, p->image);
    memmove(c->at + i + 1, c->at + i, (c->count - i) * sizeof(*c->at));
    c->at[i] = p;
    c->count++;
    c->bytes += overhead(c, p);
    c->base = ticks;
    dirty_set_clear(&c->dirty);
    fit(c, ticks);
    return true;
}

struct err *checkpoints_take(struct checkpoints *c, enum checkpoint_kind kind, const struct replayer_mark *mark)
{
    uint64_t ticks = c->m->vcpu.ticks;
    size_t i = index_before(c, ticks);
    if (i != SIZE_MAX && c->at[i]->ticks == ticks) {
        c->at[i]->used = ++c->clock;
        return NULL;
    }
    bool ok = take(c, kind, mark);
    err_destroy(c->failed); /* whoever needs that page will meet it again */
    c->failed = NULL;
    return ok || ticks ? NULL : err_new(ERR_HOST, "out of memory for the first checkpoint");
}

/* ---- stored ones ---- */

enum { STORED_SHARE = 2 }; /* what is known of them may take that part of the memory; of pages it is but where they are */

/* The version of each page, and where its content is. */
static bool import_pages(struct checkpoints *c, struct checkpoint *p, const struct log_checkpoint *from)
{
    for (size_t i = 0; i < from->pages; i++) {
        const struct log_checkpoint_page *page = &from->page[i];
        struct version v = {.ticks = p->ticks};
        if (page->kind == LOG_PAGE_STORED) {
            v.frame = page->at;
            v.slot = page->slot;
        } else if (page->kind == LOG_PAGE_FIRST) {
            if (page->at >= c->m->mem.ram_pages)
                return false;
            v.first = true;
            v.of = (uint32_t)page->at;
        }
        if (page->page >= c->m->mem.ram_pages || !version_insert(c, page->page, v))
            return false;
        p->page[p->page_count++] = page->page;
    }
    return true;
}

/* Those from the checkpoint `i` on that stored_step leaves out; not the last one, for nobody is there yet to have its pages. */
static void thin_stored(struct checkpoints *c, size_t i)
{
    while (i + 1 < c->count) {
        size_t count = c->count;
        if (c->at[i]->kind == CHECKPOINT_STORED && c->at[i]->stored % c->stored_step)
            give_up(c, i);
        i += c->count == count; /* without memory to give it up it stays */
    }
}

/* *ok: it is one of this machine, behind those that are known. */
static struct err *import(struct checkpoints *c, size_t i, bool *ok)
{
    struct log_checkpoint from;
    const struct log_pos last = log_reader_summary(c->log).last;
    struct err *e = log_reader_checkpoint(c->log, i, &from);
    *ok = !e && from.pos.ticks > c->at[c->count - 1]->ticks && from.pos.ticks <= last.ticks && from.pos.seq <= last.seq &&
           from.pages <= c->m->mem.ram_pages && make_room(c);
    struct checkpoint *p = *ok ? checkpoint_new(c, (uint32_t)from.pages, false) : NULL;
    if (!p) {
        *ok = false;
        return e;
    }
    p->ticks = from.pos.ticks;
    p->kind = CHECKPOINT_STORED;
    p->stored = i;
    e = stored_decode(c->m, &from, &p->mark, c->image, ok);
    *ok = !e && *ok && import_pages(c, p, &from);
    if (!*ok) {
        forget(c, p);
        return e;
    }
    c->at[c->count++] = p;
    c->bytes += overhead(c, p);
    return NULL;
}

struct err *checkpoints_import(struct checkpoints *c, struct log_reader *lr)
{
    size_t count;
    bool ok = true;
    uint64_t before = c->bytes;
    c->log = lr;
    c->stored_step = 1;
    c->image = malloc(machine_image_len(c->m));
    if (!c->image)
        return err_new(ERR_HOST, "out of memory for checkpoints");
    struct err *e = log_reader_find_checkpoints(lr, &count);
    for (size_t i = 0; !e && ok && i < count; i++) {
        e = import(c, i, &ok);
        thin_stored(c, c->count - MIN(c->count, 2));
        /* A step beyond this one gives up nothing more, and would be 0 some day. */
        if (c->bytes <= before + c->memory / STORED_SHARE || c->stored_step > i)
            continue;
        c->stored_step *= 2;
        thin_stored(c, 1);
        shrink_versions(c);
    }
    if (e && err_code(e) == ERR_CORRUPT) { /* the replay does without */
        err_destroy(e);
        e = NULL;
    }
    return e;
}

uint64_t checkpoints_before(const struct checkpoints *c, uint64_t ticks)
{
    size_t i = index_before(c, ticks);
    CHECK(i != SIZE_MAX, "no checkpoint at tick 0");
    return c->at[i]->ticks;
}

uint64_t checkpoints_before_output(const struct checkpoints *c, uint64_t ticks, uint64_t bytes)
{
    size_t i = index_before(c, ticks);
    while (i && c->at[i]->mark.console_bytes > bytes)
        i--;
    return c->at[i]->ticks;
}

/* ---- restoring ---- */

enum { LINE = 64 }; /* bytes compared and written at a time: what is known of code and page tables close by stays */

static void restore_page(struct checkpoints *c, uint32_t page, uint64_t ticks)
{
    static const uint8_t zeroes[PAGE_SIZE];
    const uint8_t *want;
    if (!content_at(c, page, ticks, &want))
        return;
    uint8_t *now = mem_page_host(&c->m->mem, page);
    uint64_t gpa_of_page = mem_page_gpa(&c->m->mem, page).v;
    want = want ? want : zeroes;
    if (!memcmp(now, want, PAGE_SIZE))
        return;
    c->pages_restored++;
    for (uint32_t from = 0, to; from < PAGE_SIZE; from = to) {
        bool differs = memcmp(now + from, want + from, LINE);
        for (to = from + LINE; to < PAGE_SIZE && (bool)memcmp(now + to, want + to, LINE) == differs;)
            to += LINE;
        if (differs)
            mem_write(&c->m->mem, gpa(gpa_of_page + from), want + from, to - from);
    }
}

/* Calls fn for the pages that may differ between here and the checkpoint i: those written since `base`, and those with
 * versions between base and there. */
static void each_candidate(struct checkpoints *c, size_t i, void (*fn)(struct checkpoints *c, uint32_t page, uint64_t ticks))
{
    uint64_t ticks = c->at[i]->ticks;
    for (uint32_t n = 0; n < c->dirty.count; n++)
        if (c->dirty.page[n] < c->m->mem.ram_pages)
            fn(c, c->dirty.page[n], ticks);
    uint64_t lo = MIN(c->base, ticks), hi = MAX(c->base, ticks);
    for (size_t k = index_before(c, lo) + 1; k < c->count && c->at[k]->ticks <= hi; k++) {
        const struct checkpoint *p = c->at[k];
        for (uint32_t n = 0; n < p->page_count; n++)
            fn(c, p->page[n], ticks);
    }
}

static void unmark(struct checkpoints *c, uint32_t page, uint64_t ticks)
{
    (void)ticks;
    c->mark_page[page] = 0;
}

/* All that restoring i will need, so that nothing can fail later. */
static void fetch_all(struct checkpoints *c, size_t i)
{
    each_candidate(c, i, want);
    each_candidate(c, i, unmark);
    fetch_wanted(c);
}

static void restore_once(struct checkpoints *c, uint32_t page, uint64_t ticks)
{
    if (c->mark_page[page])
        return;
    c->mark_page[page] = 1;
    restore_page(c, page, ticks);
}

/* Its registers and devices, until the next call. NULL: they cannot be had, and c->failed says why. */
static const uint8_t *image_of(struct checkpoints *c, const struct checkpoint *p)
{
    struct log_checkpoint from;
    struct replayer_mark ignored;
    bool ok = true;
    if (p->image)
        return p->image;
    c->failed = log_reader_checkpoint(c->log, p->stored, &from);
    if (!c->failed)
        c->failed = stored_decode(c->m, &from, &ignored, c->image, &ok);
    if (!c->failed && !ok)
        c->failed = err_new(ERR_CORRUPT, "a checkpoint of the recording is damaged");
    c->failed_at = p->ticks;
    return c->failed ? NULL : c->image;
}

static struct err *restore(struct checkpoints *c, size_t i, struct replayer_mark *mark)
{
    struct checkpoint *p = c->at[i];
    const uint8_t *image = image_of(c, p);
    mem_dirty_collect(&c->m->mem);
    if (c->log)
        fetch_all(c, i);
    if (c->failed) {
        struct err *e = c->failed;
        c->failed = NULL;
        return e;
    }
    each_candidate(c, i, restore_once);
    each_candidate(c, i, unmark);
    machine_load(c->m, image);
    exec_registers_changed(c->m);
    *mark = p->mark;
    p->used = ++c->clock;
    mem_dirty_collect(&c->m->mem); /* the pages written just now are as they were there */
    dirty_set_clear(&c->dirty);
    c->base = p->ticks;
    c->restores++;
    fit(c, p->ticks);
    return NULL;
}

/* All from `ticks` on, some of whose pages nobody knows. */
static void give_up_from(struct checkpoints *c, uint64_t ticks)
{
    while (c->at[c->count - 1]->ticks >= ticks) {
        struct checkpoint *p = c->at[--c->count];
        c->bytes -= overhead(c, p);
        forget(c, p);
    }
}

struct err *checkpoints_restore(struct checkpoints *c, uint64_t ticks, struct replayer_mark *mark)
{
    size_t i = index_before(c, ticks);
    CHECK(i != SIZE_MAX && c->at[i]->ticks == ticks, "no checkpoint at tick %" PRIu64, ticks);
    struct err *e = restore(c, i, mark);
    while (e && err_code(e) == ERR_CORRUPT) { /* the one at tick 0 is not read from anywhere */
        uint64_t bad = c->failed_at;
        fprintf(stderr, "hyperwind: warning: %s; going on without it and those behind it\n", err_message(e));
        err_destroy(e);
        e = restore(c, index_before(c, bad - 1), mark);
        if (!e)
            give_up_from(c, bad);
    }
    return e;
}

/* ---- life ---- */

void checkpoints_set_spacing(struct checkpoints *c, uint64_t ticks)
{
    c->spacing = ticks;
}

uint64_t checkpoints_spacing(const struct checkpoints *c)
{
    return c->spacing;
}

struct checkpoints_stats checkpoints_stats(const struct checkpoints *c)
{
    return (struct checkpoints_stats){c->count, c->bytes + c->reserve_len, c->restores, c->pages_restored};
}

struct err *checkpoints_create(struct machine *m, uint64_t memory, struct checkpoints **out)
{
    struct checkpoints *c = calloc(1, sizeof(*c));
    if (!c)
        return err_new(ERR_HOST, "out of memory for checkpoints");
    c->m = m;
    c->reserve_len = MIN(MIN(memory, m->mem.ram_len) / RESERVE_SHARE / SLAB_LEN, RESERVE_SLABS) * SLAB_LEN;
    c->memory = memory - c->reserve_len;
    c->spacing = UINT64_C(1) << 24;
    c->versions = map_zero((size_t)m->mem.ram_pages * sizeof(*c->versions));
    c->mark_page = map_zero(m->mem.ram_pages);
    c->packer = ZSTD_createCCtx();
    c->unpacker = ZSTD_createDCtx();
    struct err *e = c->versions && c->mark_page && c->packer && c->unpacker ? dirty_set_add(&m->mem, &c->dirty)
                                                : err_new(ERR_HOST, "out of memory for checkpoints");
    if (!e)
        e = reserve_create(SLAB_LEN, c->reserve_len / SLAB_LEN, &c->reserve);
    if (e) {
        checkpoints_destroy(c);
        return e;
    }
    *out = c;
    return NULL;
}

void checkpoints_destroy(struct checkpoints *c)
{
    if (!c)
        return;
    uint32_t pages = c->m->mem.ram_pages;
    dirty_set_remove(&c->m->mem, &c->dirty);
    err_destroy(c->failed);
    for (size_t i = 0; i < c->count; i++)
        checkpoint_free(c->at[i]);
    for (uint32_t i = 0; c->versions && i < pages; i++) {
        for (uint32_t k = 0; k < c->versions[i].count; k++)
            data_free(c, &c->versions[i].v[k]);
        free(c->versions[i].v);
    }
    free_slabs(c->slabs);
    reserve_destroy(c->reserve);
    ZSTD_freeCCtx(c->packer);
    ZSTD_freeDCtx(c->unpacker);
    map_free(c->versions, (size_t)pages * sizeof(*c->versions));
    map_free(c->mark_page, pages);
    free(c->wanted.v);
    free(c->image);
    free(c->at);
    free(c);
}
