/* core/base/map.c: large memory. See map.h. */
#include "core/base/map.h"

#include <errno.h>
#include <sys/mman.h>

void *map_zero(size_t len)
{
    void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

void *map_zero_huge(size_t len)
{
    const size_t huge = (size_t)2 << 20;
    uint8_t *room = map_zero(len + huge);
    if (!room)
        return NULL;
    size_t before = -(uintptr_t)room & (huge - 1);
    uint8_t *p = room + before;
    if (before)
        munmap(room, before);
    uint8_t *end = p + align_up(len, PAGE_SIZE);
    munmap(end, (size_t)(room + len + huge - end) & ~(size_t)PAGE_MASK);
    (void)madvise(p, len, MADV_HUGEPAGE); /* a wish */
    return p;
}

void map_free(void *p, size_t len)
{
    if (p)
        munmap(p, len);
}

void map_clear(void *p, size_t len)
{
    if (madvise(p, len, MADV_DONTNEED))
        memset(p, 0, len);
}

/* ---- code ---- */

static bool map_views(struct code_map *c)
{
    uint8_t *room = mmap(NULL, c->lead_len + c->len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (room == MAP_FAILED)
        return false;
    c->lead = room;
    c->rx = room + c->lead_len;
    void *rw = mmap(NULL, c->len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (rw == MAP_FAILED)
        return false;
    c->rw = rw;
    if (c->lead_len && mprotect(c->lead, c->lead_len, PROT_READ | PROT_WRITE))
        return false;
    /* An old length of 0 maps shared pages a second time (mremap(2)). Without a file: a limit of file sizes, which
     * recordings may run under, does not count. */
    return mremap(c->rw, 0, c->len, MREMAP_MAYMOVE | MREMAP_FIXED, c->rx) != MAP_FAILED &&
           !mprotect(c->rx, c->len, PROT_READ | PROT_EXEC);
}

struct err *code_map_init(struct code_map *c, size_t lead_len, size_t len)
{
    *c = (struct code_map){.len = len, .lead_len = lead_len};
    if (map_views(c))
        return NULL;
    struct err *e = err_errno(ERR_HOST, errno, "mapping %zu bytes of code memory", len);
    code_map_deinit(c);
    return e;
}

void code_map_deinit(struct code_map *c)
{
    if (c->lead)
        munmap(c->lead, c->lead_len + c->len);
    if (c->rw)
        munmap(c->rw, c->len);
    *c = (struct code_map){0};
}
