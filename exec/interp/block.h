/* exec/interp/block.h: the cache of decoded blocks.
 *
 * A block is a run of decoded instructions within one page, keyed by the *physical* address of its first byte and the CPU
 * mode, so that aliases and address spaces share it. It ends at a control transfer, at anything after which the
 * outside must look, at BLOCK_MAX_INSNS or at the end of its page. An instruction that reaches into the next page
 * is a block of its own which compares its bytes each time it is entered (the second page may be remapped
 * or rewritten at will). Pages with blocks are traced (PAGE_TRACE_CODE); a write to bytes of a block drops that
 * block, at once for lookups and at the next instruction boundary for a block that is running.
 *
 * A full cache is emptied whole. Nothing of this is visible to the guest. */
#ifndef HW_BLOCK_H
#define HW_BLOCK_H

#include "exec/x86/insn.h"

enum { BLOCK_MAX_INSNS = 32, BLOCK_LINKS = 2 };

struct block {
    struct insn *insns;
    uint32_t page;     /* of the first byte */
    uint16_t off, len; /* bytes within the page; a crossing block's len reaches beyond it */
    uint8_t count;     /* instructions */
    uint8_t mode;      /* enum cpu_mode */
    uint32_t generation; /* probes_generation() when it was last seen to hold no armed address */
    bool transient;    /* must be looked up at each entry: reaches into the next page, or lies on a device */
    /* Successors seen last. Valid while the epoch is cpu->code_epoch and the linear address is the wanted one. */
    struct { uint64_t lin, epoch; struct block *to; } link[BLOCK_LINKS];
    uint8_t next_link; /* which link to replace */
    uint32_t hash_next, page_next; /* index + 1 */
    uint8_t bytes[16]; /* of a crossing instruction */
};

struct block_cache;

must_check struct err *block_cache_create(struct vcpu *v, struct block_cache **out);
void block_cache_destroy(struct block_cache *bc);

/* The block at `lin`; may raise the fetch's #PF or #GP. */
struct block *block_lookup(struct block_cache *bc, uint64_t lin);

#endif
