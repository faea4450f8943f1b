/* exec/interp/block.c: the cache of decoded blocks. See block.h. */
#include "exec/interp/block.h"

#include <stdlib.h>

#include "core/base/map.h"
#include "exec/x86/mmu.h"
#include "exec/x86/probe.h"

enum {
    BLOCKS = 1 << 16,
    INSNS = 1 << 18,
    BUCKETS = 1 << 16,
    LINE_SHIFT = 6, /* code_lines: one bit per 64 bytes of a page */
    INSN_MAX = 15,  /* bytes, SDM vol. 2 2.3.11 */
};

struct block_cache {
    struct vcpu *v;
    struct mem *mem;
    struct block *block;  /* BLOCKS */
    struct insn *insn;    /* INSNS */
    uint32_t blocks, insns;
    uint32_t *bucket;     /* BUCKETS: index + 1 */
    uint32_t *page_blocks; /* by page: index + 1 */
    uint64_t *code_lines; /* by page: 64-byte lines that blocks cover; may say too much, never too little */
    struct block open_bus; /* what executing from a device decodes to */
    struct insn open_bus_insn;
};

static uint32_t bucket_of(uint32_t page, uint32_t off, uint8_t mode)
{
    uint64_t key = (uint64_t)page << 16 | off << 4 | mode;
    return (uint32_t)(key * UINT64_C(0x9e3779b97f4a7c15) >> 48);
}

static uint64_t lines_of(uint32_t off, uint32_t len) /* off + len <= PAGE_SIZE, len > 0 */
{
    unsigned first = off >> LINE_SHIFT, last = (off + len - 1) >> LINE_SHIFT;
    return (UINT64_MAX >> (63 - last)) & (UINT64_MAX << first);
}

static uint32_t len_in_page(const struct block *b)
{
    return MIN(b->len, PAGE_SIZE - (uint32_t)b->off);
}

/* ---- dropping ---- */

static void unhash(struct block_cache *bc, uint32_t id)
{
    const struct block *b = &bc->block[id - 1];
    uint32_t *at = &bc->bucket[bucket_of(b->page, b->off, b->mode)];
    while (*at != id)
        at = &bc->block[*at - 1].hash_next;
    *at = b->hash_next;
}

/* Bytes of a traced page are about to change: drop the blocks they belong to. */
static bool code_write(void *self, uint32_t page, uint32_t off, uint32_t len)
{
    struct block_cache *bc = self;
    if (!(bc->code_lines[page] & lines_of(off, len)))
        return bc->page_blocks[page];
    bool any = false;
    uint64_t lines = 0;
    uint32_t *at = &bc->page_blocks[page];
    while (*at) {
        struct block *b = &bc->block[*at - 1];
        if (b->off < off + len && off < b->off + len_in_page(b)) {
            unhash(bc, *at);
            *at = b->page_next;
            any = true;
        } else {
            lines |= lines_of(b->off, len_in_page(b));
            at = &b->page_next;
        }
    }
    bc->code_lines[page] = lines;
    if (any)
        mmu_code_dropped(bc->v);
    return bc->page_blocks[page];
}

static void flush(void *self)
{
    struct block_cache *bc = self;
    for (uint32_t i = 0; i < bc->blocks; i++) {
        uint32_t page = bc->block[i].page;
        bc->page_blocks[page] = 0;
        bc->code_lines[page] = 0; /* the page stays traced until it is written: others may have code there */
    }
    memset(bc->bucket, 0, BUCKETS * sizeof(*bc->bucket));
    bc->blocks = bc->insns = 0;
    mmu_code_dropped(bc->v);
}

/* ---- building ---- */

static void decode_crossing(struct block_cache *bc, struct block *b, uint64_t lin)
{
    struct vcpu *v = bc->v;
    uint8_t bytes[INSN_MAX];
    uint32_t head = PAGE_SIZE - b->off;
    uint64_t mask = cpu_of(v)->lin_mask;
    uint32_t second = mmu_fetch_page(v, (lin + head) & mask); /* may raise #PF with the second page's address */
    memcpy(bytes, mem_page_host(bc->mem, b->page) + b->off, head);
    if (second == MEM_NO_PAGE)
        memset(bytes + head, 0xff, INSN_MAX - head); /* open bus */
    else
        memcpy(bytes + head, mem_page_host(bc->mem, second), INSN_MAX - head);
    if (b->count && !memcmp(b->bytes, bytes, INSN_MAX))
        return;
    memcpy(b->bytes, bytes, INSN_MAX);
    memset(b->insns, 0, sizeof(*b->insns));
    b->len = (uint16_t)insn_decode(v, bytes, INSN_MAX, 0, b->insns);
    b->count = 1;
}

/* Decode up to BLOCK_MAX_INSNS instructions that lie whole in the page. None: the first one crosses. */
static void decode_page(struct block_cache *bc, struct block *b)
{
    const uint8_t *page = mem_page_host(bc->mem, b->page);
    uint32_t off = b->off;
    while (b->count < BLOCK_MAX_INSNS && off < PAGE_SIZE) {
        struct insn *in = &b->insns[b->count];
        memset(in, 0, sizeof(*in));
        unsigned avail = MIN((unsigned)INSN_MAX, PAGE_SIZE - off);
        unsigned len = insn_decode(bc->v, page + off, avail, (uint16_t)(off - b->off), in);
        if (!len || (b->count && ((in->flags & INSN_ALONE) || probes_armed_in_pages(bc->v, off))))
            break;
        b->count++;
        off += len;
        if (in->flags & INSN_ENDS)
            break;
    }
    b->len = (uint16_t)(off - b->off);
}

static void publish(struct block_cache *bc, struct block *b)
{
    uint32_t id = (uint32_t)(b - bc->block) + 1;
    uint32_t *head = &bc->bucket[bucket_of(b->page, b->off, b->mode)];
    b->hash_next = *head;
    *head = id;
    b->page_next = bc->page_blocks[b->page];
    bc->page_blocks[b->page] = id;
    bc->code_lines[b->page] |= lines_of(b->off, len_in_page(b));
    mem_trace_set(bc->mem, b->page, PAGE_TRACE_CODE);
}

static struct block *build(struct block_cache *bc, uint64_t lin, uint32_t page)
{
    if (bc->blocks == BLOCKS || bc->insns + BLOCK_MAX_INSNS > INSNS)
        flush(bc);
    struct block *b = &bc->block[bc->blocks];
    *b = (struct block){.insns = &bc->insn[bc->insns], .page = page, .off = (uint16_t)(lin & PAGE_MASK),
                        .mode = cpu_of(bc->v)->mode, .generation = probes_generation(bc->v)};
    decode_page(bc, b);
    if (!b->count) {
        b->transient = true;
        decode_crossing(bc, b, lin);
    }
    bc->blocks++;
    bc->insns += b->count;
    publish(bc, b);
    return b;
}

/* Addresses were armed since the block was made, and its links with it: it ends before the first of them. */
static void shorten(struct block_cache *bc, struct block *b)
{
    b->generation = probes_generation(bc->v);
    for (unsigned i = 1; i < b->count; i++) {
        if (!probes_armed_in_pages(bc->v, (uint32_t)b->off + b->insns[i].off))
            continue;
        b->count = (uint8_t)i;
        b->len = b->insns[i].off;
    }
}

static struct block *open_bus_block(struct block_cache *bc, uint64_t lin)
{
    uint8_t bytes[INSN_MAX];
    memset(bytes, 0xff, sizeof(bytes));
    uint64_t next = (lin + 1) & cpu_of(bc->v)->lin_mask; /* FF takes a ModRM byte, from wherever the next page is */
    if (!(next & PAGE_MASK)) {
        uint32_t second = mmu_fetch_page(bc->v, next); /* may raise #PF */
        if (second != MEM_NO_PAGE)
            memcpy(bytes + 1, mem_page_host(bc->mem, second), INSN_MAX - 1);
    }
    memset(&bc->open_bus_insn, 0, sizeof(bc->open_bus_insn));
    unsigned len = insn_decode(bc->v, bytes, sizeof(bytes), 0, &bc->open_bus_insn);
    bc->open_bus = (struct block){.insns = &bc->open_bus_insn, .count = 1, .len = (uint16_t)len,
                                  .mode = cpu_of(bc->v)->mode, .transient = true};
    return &bc->open_bus;
}

struct block *block_lookup(struct block_cache *bc, uint64_t lin)
{
    uint32_t page = mmu_fetch_page(bc->v, lin);
    if (unlikely(page == MEM_NO_PAGE))
        return open_bus_block(bc, lin);
    uint32_t off = (uint32_t)(lin & PAGE_MASK);
    uint8_t mode = cpu_of(bc->v)->mode;
    for (uint32_t id = bc->bucket[bucket_of(page, off, mode)]; id; id = bc->block[id - 1].hash_next) {
        struct block *b = &bc->block[id - 1];
        if (b->page == page && b->off == off && b->mode == mode) {
            if (unlikely(b->transient))
                decode_crossing(bc, b, lin);
            else if (unlikely(b->generation != probes_generation(bc->v)))
                shorten(bc, b);
            return b;
        }
    }
    return build(bc, lin, page);
}

/* ---- life ---- */

struct err *block_cache_create(struct vcpu *v, struct block_cache **out)
{
    struct block_cache *bc = calloc(1, sizeof(*bc));
    if (!bc)
        return err_new(ERR_HOST, "out of memory for the block cache");
    bc->v = v;
    bc->mem = &v->machine->mem;
    bc->block = map_zero(BLOCKS * sizeof(*bc->block));
    bc->insn = map_zero(INSNS * sizeof(*bc->insn));
    bc->bucket = map_zero(BUCKETS * sizeof(*bc->bucket));
    bc->page_blocks = map_zero((size_t)bc->mem->page_count * sizeof(*bc->page_blocks));
    bc->code_lines = map_zero((size_t)bc->mem->page_count * sizeof(*bc->code_lines));
    if (!bc->block || !bc->insn || !bc->bucket || !bc->page_blocks || !bc->code_lines) {
        block_cache_destroy(bc);
        return err_new(ERR_HOST, "out of memory for the block cache");
    }
    mmu_add_code_owner(v->mmu, (struct code_owner){bc, code_write, flush, NULL, NULL});
    *out = bc;
    return NULL;
}

void block_cache_destroy(struct block_cache *bc)
{
    if (!bc)
        return;
    if (bc->v->mmu)
        mmu_remove_code_owner(bc->v->mmu, bc);
    map_free(bc->block, BLOCKS * sizeof(*bc->block));
    map_free(bc->insn, INSNS * sizeof(*bc->insn));
    map_free(bc->bucket, BUCKETS * sizeof(*bc->bucket));
    map_free(bc->page_blocks, (size_t)bc->mem->page_count * sizeof(*bc->page_blocks));
    map_free(bc->code_lines, (size_t)bc->mem->page_count * sizeof(*bc->code_lines));
    free(bc);
}
