/* core/mem.c: guest RAM and ROM in one sparse mapping, and the tracing of writes. */
#include "core/base/check.h"
#include "core/base/map.h"
#include "core/mem.h"

enum { ROM_MAX = 16 << 20 };

static struct err *map_sparse(size_t len, bool huge, void **out)
{
    *out = huge ? map_zero_huge(len) : map_zero(len);
    return *out ? NULL : err_new(ERR_HOST, "cannot reserve %zu MiB of address space for guest memory", len >> 20);
}

struct err *mem_init(struct mem *m, uint64_t ram_len, uint64_t rom_len)
{
    CHECK(!(ram_len & PAGE_MASK) && !(rom_len & PAGE_MASK) && rom_len <= ROM_MAX, "unaligned memory size");
    *m = (struct mem){.ram_len = ram_len, .low_len = MIN(ram_len, MEM_LOW_MAX)};
    m->ram_pages = (uint32_t)(ram_len >> PAGE_SHIFT);
    m->rom_pages = (uint32_t)(rom_len >> PAGE_SHIFT);
    m->rom_base = GIB(4) - rom_len;
    m->page_count = m->ram_pages + m->rom_pages;
    struct err *e = map_sparse((size_t)m->page_count << PAGE_SHIFT, true, (void **)&m->host);
    if (!e)
        e = map_sparse(m->page_count, false, (void **)&m->trace);
    if (!e)
        e = map_sparse((size_t)m->page_count * sizeof(*m->dirty), false, (void **)&m->dirty);
    if (e) {
        mem_deinit(m);
        return e;
    }
    for (uint32_t i = m->ram_pages; i < m->page_count; i++)
        m->trace[i] = PAGE_ROM;
    return NULL;
}

void mem_deinit(struct mem *m)
{
    map_free(m->host, (size_t)m->page_count << PAGE_SHIFT);
    map_free(m->trace, m->page_count);
    map_free(m->dirty, (size_t)m->page_count * sizeof(*m->dirty));
    *m = (struct mem){0};
}

gpa_t mem_page_gpa(const struct mem *m, uint32_t page)
{
    uint64_t off = (uint64_t)page << PAGE_SHIFT;
    if (page >= m->ram_pages)
        return gpa(m->rom_base + (off - m->ram_len));
    return gpa(off < m->low_len ? off : off - m->low_len + GIB(4));
}

static void mark_dirty(struct mem *m, uint32_t page)
{
    m->trace[page] |= PAGE_DIRTY;
    CHECK(m->dirty_count < m->page_count, "dirty list overflow");
    m->dirty[m->dirty_count++] = page;
}

bool mem_before_write(struct mem *m, uint32_t page, uint32_t off, uint32_t len)
{
    uint8_t t = m->trace[page];
    if (t & PAGE_ROM)
        return false;
    if ((t & (PAGE_TRACE_PT | PAGE_TRACE_CODE)) && m->observer.traced_write)
        m->observer.traced_write(m->observer.self, page, off, len);
    if (!(t & PAGE_DIRTY))
        mark_dirty(m, page);
    return true;
}

void mem_trace_set(struct mem *m, uint32_t page, uint8_t bits)
{
    if ((m->trace[page] & bits) == bits)
        return;
    m->trace[page] |= bits;
    if (m->observer.revoke_write)
        m->observer.revoke_write(m->observer.self, page);
}

void mem_trace_clear(struct mem *m, uint32_t page, uint8_t bits)
{
    m->trace[page] &= (uint8_t)~bits;
}

/* Bytes of [a, a+len) that lie in one page, and that page. */
static size_t page_run(const struct mem *m, gpa_t a, size_t len, uint32_t *page_out)
{
    *page_out = mem_page(m, a);
    return MIN(len, PAGE_SIZE - (size_t)(a.v & PAGE_MASK));
}

size_t mem_read(const struct mem *m, gpa_t a, void *buf, size_t len)
{
    uint8_t *to = buf;
    size_t hit = 0;
    bool all = true;
    for (size_t done = 0, n; done < len; done += n) {
        uint32_t page;
        gpa_t at = gpa(a.v + done);
        n = page_run(m, at, len - done, &page);
        all = all && page != MEM_NO_PAGE;
        if (page == MEM_NO_PAGE)
            memset(to + done, 0xff, n);
        else
            memcpy(to + done, mem_page_host(m, page) + (at.v & PAGE_MASK), n);
        if (all)
            hit += n;
    }
    return hit;
}

static size_t write_pages(struct mem *m, gpa_t a, const void *buf, size_t len, bool rom_too)
{
    const uint8_t *from = buf;
    size_t hit = 0;
    bool all = true;
    for (size_t done = 0, n; done < len; done += n) {
        uint32_t page;
        gpa_t at = gpa(a.v + done);
        uint32_t off = (uint32_t)(at.v & PAGE_MASK);
        n = page_run(m, at, len - done, &page);
        all = all && page != MEM_NO_PAGE;
        if (all)
            hit += n;
        if (page == MEM_NO_PAGE)
            continue;
        if (mem_before_write(m, page, off, (uint32_t)n) || rom_too)
            memcpy(mem_page_host(m, page) + off, from + done, n);
    }
    return hit;
}

size_t mem_write(struct mem *m, gpa_t a, const void *buf, size_t len)
{
    return write_pages(m, a, buf, len, false);
}

size_t mem_load(struct mem *m, gpa_t a, const void *buf, size_t len)
{
    return write_pages(m, a, buf, len, true);
}

/* ---- who wants to know what was written ---- */

struct err *dirty_set_add(struct mem *m, struct dirty_set *set)
{
    *set = (struct dirty_set){.page_count = m->page_count};
    struct err *e = map_sparse((size_t)m->page_count * sizeof(*set->page), false, (void **)&set->page);
    if (!e)
        e = map_sparse(m->page_count, false, (void **)&set->has);
    set->next = m->dirty_sets;
    m->dirty_sets = set;
    if (e)
        dirty_set_remove(m, set);
    return e;
}

void dirty_set_remove(struct mem *m, struct dirty_set *set)
{
    struct dirty_set **at = &m->dirty_sets;
    while (*at && *at != set)
        at = &(*at)->next;
    if (!*at)
        return;
    *at = set->next;
    map_free(set->page, (size_t)set->page_count * sizeof(*set->page));
    map_free(set->has, set->page_count);
    *set = (struct dirty_set){0};
}

void dirty_set_clear(struct dirty_set *set)
{
    for (uint32_t i = 0; i < set->count; i++)
        set->has[set->page[i]] = 0;
    set->count = 0;
}

static void enter(struct dirty_set *set, uint32_t page)
{
    if (set->has[page])
        return;
    set->has[page] = 1;
    set->page[set->count++] = page;
}

void mem_dirty_collect(struct mem *m)
{
    uint32_t n = m->dirty_count;
    m->dirty_count = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t page = m->dirty[i];
        m->trace[page] &= (uint8_t)~PAGE_DIRTY;
        for (struct dirty_set *set = m->dirty_sets; set; set = set->next)
            enter(set, page);
        if (m->observer.revoke_write)
            m->observer.revoke_write(m->observer.self, page);
    }
}
