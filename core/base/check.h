/* core/base/check.h: assertions that stay on in release builds.
 * For our own mistakes only: nothing that a guest, a file or the host does may reach one. The hook lets the
 * program add its position to the report before it aborts. No side effects in the condition. */
#ifndef HW_CHECK_H
#define HW_CHECK_H

#include "core/base/base.h"

#define CHECK(cond, ...)                                                                               \
    do {                                                                                               \
        if (unlikely(!(cond)))                                                                         \
            check_failed(__FILE__, __LINE__, #cond, __VA_ARGS__);                                      \
    } while (0)

_Noreturn void check_failed(const char *file, int line, const char *cond, const char *fmt, ...) printf_like(4, 5);

/* Called once before abort(), from the thread that failed. */
void check_set_hook(void (*hook)(void *arg), void *arg);

#endif
