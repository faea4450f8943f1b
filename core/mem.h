/* core/mem.h: guest RAM and ROM, and the tracing of writes to it.
 *
 * RAM is one sparse host mapping: guest-physical [0, low) and [4 GiB, 4 GiB + rest), low <= 3 GiB. ROM pages (the
 * firmware image) follow RAM in the same mapping and ignore guest writes. Every page has an index (host offset >> 12)
 * and one byte of trace bits. A write may go straight to memory only when that byte is exactly PAGE_DIRTY; otherwise it
 * first calls mem_before_write(), the one door for tracing: page tables, code, dirty tracking. DMA, loaders and the
 * debugger use mem_write(), which does so by itself.
 *
 * Invariant: no engine holds a direct write path to a page whose byte is not PAGE_DIRTY. Who sets a bit calls
 * mem_trace_set(), which has the observer revoke such paths. */
#ifndef HW_MEM_H
#define HW_MEM_H

#include "core/base/base.h"
#include "core/base/err.h"

enum {
    PAGE_DIRTY = 1,    /* written since the last mem_dirty_collect() */
    PAGE_TRACE_PT = 2, /* a live TLB entry was derived from this page */
    PAGE_TRACE_CODE = 4, /* decoded or translated code came from this page */
    PAGE_ROM = 8,      /* guest writes are ignored */
};
#define MEM_NO_PAGE UINT32_MAX
#define MEM_RAM_MAX GIB(64)
#define MEM_LOW_MAX GIB(3)

struct mem_observer {
    void *self;
    /* Bytes [off, off+len) of a traced page (PT or CODE) are about to change. */
    void (*traced_write)(void *self, uint32_t page, uint32_t off, uint32_t len);
    /* Drop every direct write path to the page. */
    void (*revoke_write)(void *self, uint32_t page);
};

/* Pages written since its owner last emptied it: each once, in the order they were first written. Embedded in its owner,
 * who adds it; several owners see the same writes, each at a pace of its own. */
struct dirty_set {
    uint32_t *page;
    uint32_t count;
    uint8_t *has; /* by page: it is in the set */
    uint32_t page_count;
    struct dirty_set *next;
};

struct mem {
    uint8_t *host;       /* pages 0 .. page_count-1 */
    uint8_t *trace;      /* one byte per page */
    uint64_t ram_len;    /* bytes */
    uint64_t low_len;    /* bytes of RAM below 4 GiB */
    uint32_t ram_pages, page_count;
    uint64_t rom_base;   /* guest-physical address of the first ROM page; ROM ends at 4 GiB */
    uint32_t rom_pages;
    struct mem_observer observer; /* zeroed: nobody */
    uint32_t *dirty;     /* indices of pages with PAGE_DIRTY, in the order they became dirty */
    uint32_t dirty_count;
    struct dirty_set *dirty_sets;
};

/* ram_len: multiple of 4 KiB, 1 MiB .. MEM_RAM_MAX. rom_len: multiple of 4 KiB, <= 16 MiB, may be 0. */
must_check struct err *mem_init(struct mem *m, uint64_t ram_len, uint64_t rom_len);
void mem_deinit(struct mem *m);

/* The page index of a guest-physical address, MEM_NO_PAGE where there is no RAM or ROM (a device, or nothing). */
static inline uint32_t mem_page(const struct mem *m, gpa_t a)
{
    if (likely(a.v < m->low_len))
        return (uint32_t)(a.v >> PAGE_SHIFT);
    if (a.v - GIB(4) < m->ram_len - m->low_len)
        return (uint32_t)((a.v - GIB(4) + m->low_len) >> PAGE_SHIFT);
    if (a.v - m->rom_base < (uint64_t)m->rom_pages << PAGE_SHIFT)
        return m->ram_pages + (uint32_t)((a.v - m->rom_base) >> PAGE_SHIFT);
    return MEM_NO_PAGE;
}
gpa_t mem_page_gpa(const struct mem *m, uint32_t page);
static inline uint8_t *mem_page_host(const struct mem *m, uint32_t page) { return m->host + ((size_t)page << PAGE_SHIFT); }

/* Whether a page of content is all zero. */
static inline bool page_is_zero(const uint8_t *p) { return get_le64(p) == 0 && !memcmp(p, p + 8, PAGE_SIZE - 8); }

/* To be called before any write to a page whose trace byte is not exactly PAGE_DIRTY. Returns false when the write
 * must be dropped (ROM). Afterwards the page is dirty. */
bool mem_before_write(struct mem *m, uint32_t page, uint32_t off, uint32_t len);
void mem_trace_set(struct mem *m, uint32_t page, uint8_t bits);
void mem_trace_clear(struct mem *m, uint32_t page, uint8_t bits);

/* Any range, across pages. What is not RAM or ROM reads as ones and ignores writes. mem_write() writes ROM too only
 * through mem_load(). They return the number of bytes that hit RAM or ROM from the start, so len on success. */
size_t mem_read(const struct mem *m, gpa_t a, void *buf, size_t len);
size_t mem_write(struct mem *m, gpa_t a, const void *buf, size_t len);
size_t mem_load(struct mem *m, gpa_t a, const void *buf, size_t len); /* loaders: RAM and ROM */

/* A set that is added holds the pages written before that no set has been told of yet. ERR_HOST. */
must_check struct err *dirty_set_add(struct mem *m, struct dirty_set *set);
void dirty_set_remove(struct mem *m, struct dirty_set *set); /* zeroed, or never added: fine */
void dirty_set_clear(struct dirty_set *set);

/* Bring every set up to date: pages written since the last call enter them, and are clean again (write paths are
 * revoked). */
void mem_dirty_collect(struct mem *m);

#endif
