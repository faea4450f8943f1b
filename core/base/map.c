/* core/base/map.c: anonymous mappings. */
#include "core/base/map.h"

#include <sys/mman.h>

void *map_zero(size_t len)
{
    void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

void map_free(void *p, size_t len)
{
    if (p)
        munmap(p, len);
}
