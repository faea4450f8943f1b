/* core/base/cleanup.h: scope guards. AUTO_FREE char *p = NULL; is freed when p leaves its scope. */
#ifndef HW_CLEANUP_H
#define HW_CLEANUP_H

#include <stdlib.h>
#include <unistd.h>

static inline void cleanup_free(void *p) { free(*(void **)p); }
static inline void cleanup_close(const int *fd)
{
    if (*fd >= 0)
        close(*fd);
}
#define AUTO_FREE __attribute__((cleanup(cleanup_free)))
#define AUTO_CLOSE __attribute__((cleanup(cleanup_close))) /* int fd = -1 */

#endif
