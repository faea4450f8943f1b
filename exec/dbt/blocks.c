/* exec/dbt/blocks.c: translated blocks by physical address, and the jump caches. See dbt.h.
 *
 * A jump cache maps linear addresses to code for one address space and access mode. It needs no check of the mapping:
 * when a fetch entry is lost, the slots of its page are cleared in that space (fetch_lost()). */
#include <stdlib.h>

#include "exec/dbt/dbt.h"
#include "exec/x86/mmu.h"

enum { BUCKETS = 1 << 16, VA_BUCKETS = 1 << 12, LINE_SHIFT = 6 };
#define UNHASHED UINT32_MAX

static uint32_t bucket_of(uint32_t page, uint64_t va)
{
    return (uint32_t)((va * UINT64_C(0x9e3779b97f4a7c15) + page * UINT64_C(0xc2b2ae3d27d4eb4f)) >> 48);
}

static uint32_t va_bucket_of(uint64_t va)
{
    return (uint32_t)((va >> PAGE_SHIFT) * UINT64_C(0x9e3779b97f4a7c15) >> 52);
}
_Static_assert(VA_BUCKETS == 1 << (64 - 52), "as va_bucket_of() hashes");

static uint64_t lines_of(uint32_t off, uint32_t len) /* off + len <= PAGE_SIZE, len > 0 */
{
    unsigned first = off >> LINE_SHIFT, last = (off + len - 1) >> LINE_SHIFT;
    return (UINT64_MAX >> (63 - last)) & (UINT64_MAX << first);
}

struct block *block_find(struct dbt *d, uint64_t va, uint32_t page, const struct key *k)
{
    for (uint32_t id = d->bucket[bucket_of(page, va)]; id; id = d->block[id - 1].hash_next) {
        struct block *b = &d->block[id - 1];
        if (b->va == va && b->page == page && block_same_key(&b->key, k))
            return b;
    }
    return NULL;
}

/* The bytes of a block in one of its pages. */
struct part { uint32_t page, off, len; };

static struct part part_of(const struct block *b, unsigned part)
{
    uint32_t head = MIN((uint32_t)b->len, PAGE_SIZE - (uint32_t)b->off);
    return part ? (struct part){b->page2, 0, b->len - head} : (struct part){b->page, b->off, head};
}

void block_publish(struct dbt *d, struct block *b, bool findable)
{
    uint32_t index = (uint32_t)(b - d->block), id = index + 1;
    uint32_t *head = &d->bucket[bucket_of(b->page, b->va)];
    b->hash_next = findable ? *head : UNHASHED;
    if (findable)
        *head = id;
    b->va_next = d->va_blocks[va_bucket_of(b->va)];
    d->va_blocks[va_bucket_of(b->va)] = id;
    for (unsigned part = 0; part < 2; part++) {
        struct part p = part_of(b, part);
        if (p.page == MEM_NO_PAGE)
            continue;
        b->page_next[part] = d->page_blocks[p.page];
        d->page_blocks[p.page] = block_ref(index, part);
        d->code_lines[p.page] |= lines_of(p.off, p.len);
        mem_trace_set(d->mem, p.page, PAGE_TRACE_CODE);
    }
}

/* ---- dropping ---- */

static void unhash(struct dbt *d, uint32_t id)
{
    if (d->block[id - 1].hash_next == UNHASHED)
        return;
    uint32_t *at = &d->bucket[bucket_of(d->block[id - 1].page, d->block[id - 1].va)];
    while (*at != id)
        at = &d->block[*at - 1].hash_next;
    *at = d->block[id - 1].hash_next;
}

static void redirect_entry(struct dbt *d, const struct block *b, uint32_t to)
{
    struct emit e = {.base = d->arena.map.rw, .pos = b->entry, .end = b->entry + 5};
    emit_jmp(&e, to);
}

void block_forward(struct dbt *d, const struct block *dead, const void *code)
{
    redirect_entry(d, dead, (uint32_t)((const uint8_t *)code - d->arena.map.rx));
}

/* Its entry becomes a jump out, for the links and jump caches that know it. */
static void kill_block(struct dbt *d, struct block *b)
{
    redirect_entry(d, b, b->dead_stub);
    b->dead = true;
    d->stats.drops++;
}

void block_drop(struct dbt *d, struct block *b)
{
    unhash(d, (uint32_t)(b - d->block) + 1);
    kill_block(d, b);
}

static bool code_write(void *self, uint32_t page, uint32_t off, uint32_t len)
{
    struct dbt *d = self;
    if (!(d->code_lines[page] & lines_of(off, len)))
        return d->page_blocks[page];
    bool any = false;
    uint64_t lines = 0;
    uint32_t *at = &d->page_blocks[page];
    while (*at) {
        struct block *b = &d->block[(*at >> 1) - 1];
        unsigned i = *at & 1;
        struct part p = part_of(b, i);
        if (!b->dead && p.off < off + len && off < p.off + p.len) {
            unhash(d, *at >> 1);
            kill_block(d, b);
            any = true;
        }
        if (b->dead) { /* now, or through its other page before */
            *at = b->page_next[i];
        } else {
            lines |= lines_of(p.off, p.len);
            at = &b->page_next[i];
        }
    }
    d->code_lines[page] = lines;
    if (any)
        d->v->brk |= VCPU_BRK_CODE; /* the running block may be one of them */
    return d->page_blocks[page];
}

/* Whoever knows them finds entries that jump out, and the run loop does not have them made again. */
static void code_armed(void *self, uint64_t lin)
{
    struct dbt *d = self;
    for (uint32_t id = d->va_blocks[va_bucket_of(lin)]; id; id = d->block[id - 1].va_next) {
        struct block *b = &d->block[id - 1];
        if (!b->dead && lin - b->va < b->len)
            block_drop(d, b);
    }
}

static struct jc_entry nowhere(const struct dbt *d)
{
    return (struct jc_entry){0, arena_code(&d->arena, d->arena.nowhere)};
}

static void ret_cache_clear(struct dbt *d, unsigned mode)
{
    struct jc_entry *rc = ret_cache(d, mode);
    for (unsigned i = 0; i < RC_ENTRIES; i++)
        rc[i] = nowhere(d);
}

static void jump_cache_clear(struct dbt *d, unsigned i)
{
    map_clear(jump_cache(d, i), JC_LEN);
    jump_cache(d, i)[0] = nowhere(d);
    d->jump_cache_pages[i] = 0;
}

void blocks_flush(struct dbt *d)
{
    for (uint32_t i = 0; i < d->blocks; i++) {
        d->bucket[bucket_of(d->block[i].page, d->block[i].va)] = 0;
        for (unsigned part = 0; part < 2; part++) {
            struct part p = part_of(&d->block[i], part);
            if (p.page != MEM_NO_PAGE)
                d->page_blocks[p.page] = 0, d->code_lines[p.page] = 0;
        }
    }
    memset(d->va_blocks, 0, VA_BUCKETS * sizeof(*d->va_blocks));
    for (unsigned i = 0; i < JUMP_CACHES; i++)
        if (d->jump_caches_used >> i & 1)
            jump_cache_clear(d, i);
    for (unsigned mode = 0; mode < RET_CACHES; mode++)
        ret_cache_clear(d, mode);
    /* The current one stays marked: who flushes to make room for a block enters that block there before it selects anew. */
    size_t current = d->arena.hot->jump_cache ? (size_t)(d->arena.hot->jump_cache - (uintptr_t)d->jump_caches) / JC_LEN : 0;
    d->jump_caches_used = UINT64_C(1) << current;
    d->blocks = d->sites = d->links = 0;
    d->pos = d->arena.first;
    d->cold_pos = d->arena.cold;
    d->flush_count++;
    d->stats.flushes++;
    d->v->brk |= VCPU_BRK_CODE;
}

static void drop_all(void *self) { blocks_flush(self); }

/* ---- jump caches ---- */

static uint64_t jc_page_bit(uint64_t va) { return bit((unsigned)(jc_slot(va) / JC_PER_PAGE)); }

const struct jc_entry *jump_cache_entry(const struct dbt *d, uint64_t va)
{
    return (const struct jc_entry *)(uintptr_t)d->arena.hot->jump_cache + jc_slot(va);
}

void jump_cache_set(struct dbt *d, uint64_t va, const void *code)
{
    unsigned i = jump_cache_index(cpu_of(d->v)->space, d->key.mmu_mode);
    jump_cache(d, i)[jc_slot(va)] = code ? (struct jc_entry){va, code} : nowhere(d);
    d->jump_cache_pages[i] |= jc_page_bit(va);
}

/* Most pages that are run are never the target of an indirect jump. */
static void fetch_lost(void *self, unsigned space, bool user, uint64_t lin)
{
    struct dbt *d = self;
    for (unsigned mode = user ? MMU_USER : MMU_SUP; mode <= (user ? MMU_USER : MMU_SUP_AC); mode++) {
        unsigned i = jump_cache_index(space, mode);
        if (!(d->jump_cache_pages[i] & jc_page_bit(lin)))
            continue;
        memset(jump_cache(d, i) + jc_slot(lin & ~(uint64_t)PAGE_MASK), 0, JC_PER_PAGE * sizeof(struct jc_entry));
        jump_cache(d, i)[0] = jc_slot(lin & ~(uint64_t)PAGE_MASK) ? jump_cache(d, i)[0] : nowhere(d);
        d->jump_cache_pages[i] &= ~jc_page_bit(lin);
    }
}

void blocks_select(struct dbt *d)
{
    unsigned i = jump_cache_index(cpu_of(d->v)->space, d->key.mmu_mode);
    if (!block_same_key(&d->jump_cache_key[i], &d->key)) {
        jump_cache_clear(d, i);
        d->jump_cache_key[i] = d->key;
    }
    d->jump_caches_used |= UINT64_C(1) << i;
    d->arena.hot->jump_cache = (uintptr_t)jump_cache(d, i);
    void *rc = ret_cache(d, d->key.mmu_mode);
    if (!block_same_key(&d->ret_cache_key[d->key.mmu_mode], &d->key)) {
        ret_cache_clear(d, d->key.mmu_mode);
        d->ret_cache_key[d->key.mmu_mode] = d->key;
    }
    d->arena.hot->ret_cache = (uintptr_t)rc;
}

/* ---- life ---- */

struct err *blocks_init(struct dbt *d)
{
    size_t pages = d->mem->page_count;
    d->block = map_zero(BLOCK_COUNT_MAX * sizeof(*d->block));
    d->site = map_zero(SITE_COUNT_MAX * sizeof(*d->site));
    d->link = map_zero(LINK_COUNT_MAX * sizeof(*d->link));
    d->bucket = map_zero(BUCKETS * sizeof(*d->bucket));
    d->va_blocks = map_zero(VA_BUCKETS * sizeof(*d->va_blocks));
    d->page_blocks = map_zero(pages * sizeof(*d->page_blocks));
    d->code_lines = map_zero(pages * sizeof(*d->code_lines));
    d->jump_caches = map_zero((size_t)JUMP_CACHES * JC_LEN);
    d->ret_caches = map_zero((size_t)RET_CACHES * RC_LEN);
    d->scratch = map_zero(SCRATCH_LEN);
    d->slot = map_zero(INSN_SLOTS * sizeof(*d->slot));
    if (!d->block || !d->site || !d->link || !d->bucket || !d->va_blocks || !d->page_blocks || !d->code_lines ||
        !d->jump_caches || !d->ret_caches || !d->slot || !d->scratch)
        return err_new(ERR_HOST, "out of memory for translated blocks");
    d->pos = d->arena.first;
    d->cold_pos = d->arena.cold;
    mmu_add_code_owner(d->v->mmu, (struct code_owner){d, code_write, drop_all, fetch_lost, code_armed});
    return NULL;
}

void blocks_deinit(struct dbt *d)
{
    size_t pages = d->mem->page_count;
    if (d->v->mmu)
        mmu_remove_code_owner(d->v->mmu, d);
    map_free(d->block, BLOCK_COUNT_MAX * sizeof(*d->block));
    map_free(d->site, SITE_COUNT_MAX * sizeof(*d->site));
    map_free(d->link, LINK_COUNT_MAX * sizeof(*d->link));
    map_free(d->bucket, BUCKETS * sizeof(*d->bucket));
    map_free(d->va_blocks, VA_BUCKETS * sizeof(*d->va_blocks));
    map_free(d->page_blocks, pages * sizeof(*d->page_blocks));
    map_free(d->code_lines, pages * sizeof(*d->code_lines));
    map_free(d->jump_caches, (size_t)JUMP_CACHES * JC_LEN);
    map_free(d->ret_caches, (size_t)RET_CACHES * RC_LEN);
    map_free(d->scratch, SCRATCH_LEN);
    map_free(d->slot, INSN_SLOTS * sizeof(*d->slot));
}
