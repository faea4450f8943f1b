/* core/base/map.c: large memory. See map.h. */
#include "core/base/map.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/base/cleanup.h"

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

static int code_fd(void)
{
    const unsigned mfd_exec = 0x10; /* MFD_EXEC, Linux 6.3; older kernels refuse it and need it not */
    int fd = memfd_create("hyperwind-code", MFD_CLOEXEC | mfd_exec);
    return fd < 0 && errno == EINVAL ? memfd_create("hyperwind-code", MFD_CLOEXEC) : fd;
}

static bool map_views(struct code_map *c, int fd)
{
    uint8_t *room = mmap(NULL, c->lead_len + c->len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (room == MAP_FAILED)
        return false;
    c->lead = room;
    c->rx = room + c->lead_len;
    void *rw = mmap(NULL, c->len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (rw == MAP_FAILED)
        return false;
    c->rw = rw;
    if (c->lead_len && mprotect(c->lead, c->lead_len, PROT_READ | PROT_WRITE))
        return false;
    return mmap(c->rx, c->len, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_FIXED, fd, 0) != MAP_FAILED;
}

struct err *code_map_init(struct code_map *c, size_t lead_len, size_t len)
{
    *c = (struct code_map){.len = len, .lead_len = lead_len};
    AUTO_CLOSE int fd = code_fd();
    if (fd >= 0 && !ftruncate(fd, (off_t)len) && map_views(c, fd))
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
