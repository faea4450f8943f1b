/* core/base/base.c: errors, checks and the hash. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "core/base/check.h"
#include "core/base/err.h"
#include "core/base/hash.h"

struct err {
    enum err_code code;
    char *msg; /* malloc'ed; NULL only in err_oom */
};

static struct err err_oom = {ERR_HOST, NULL};

static const int exit_statuses[] = {
#define X(code, exit, text) [code] = (exit),
    ERR_CODES(X)
#undef X
};

static struct err *err_make(enum err_code code, char *msg)
{
    struct err *e = msg ? malloc(sizeof(*e)) : NULL;
    if (!e) {
        free(msg);
        return &err_oom;
    }
    *e = (struct err){code, msg};
    return e;
}

static char *vformat(const char *fmt, va_list ap)
{
    char *s;
    return vasprintf(&s, fmt, ap) < 0 ? NULL : s;
}

/* "<a><sep><b>"; NULL in, NULL out. Frees `a`. */
static char *join(char *a, const char *sep, const char *b)
{
    char *s = NULL;
    if (a && asprintf(&s, "%s%s%s", a, sep, b) < 0)
        s = NULL;
    free(a);
    return s;
}

struct err *err_new(enum err_code code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    char *msg = vformat(fmt, ap);
    va_end(ap);
    return err_make(code, msg);
}

struct err *err_errno(enum err_code code, int errnum, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    char *msg = vformat(fmt, ap);
    va_end(ap);
    return err_make(code, join(msg, ": ", strerror(errnum)));
}

struct err *err_wrap(struct err *e, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    char *msg = vformat(fmt, ap);
    va_end(ap);
    struct err *wrapped = err_make(err_code(e), join(msg, ": ", err_message(e)));
    err_destroy(e);
    return wrapped;
}

enum err_code err_code(const struct err *e)
{
    return e->code;
}

const char *err_message(const struct err *e)
{
    return e->msg ? e->msg : "out of memory";
}

int err_exit_status(const struct err *e)
{
    return e ? exit_statuses[e->code] : 0;
}

void err_destroy(struct err *e)
{
    if (!e || e == &err_oom)
        return;
    free(e->msg);
    free(e);
}

static void (*check_hook)(void *arg);
static void *check_hook_arg;

void check_set_hook(void (*hook)(void *arg), void *arg)
{
    check_hook = hook;
    check_hook_arg = arg;
}

void check_failed(const char *file, int line, const char *cond, const char *fmt, ...)
{
    va_list ap;
    fprintf(stderr, "hyperwind: internal error at %s:%d: %s: ", file, line, cond);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    if (check_hook)
        check_hook(check_hook_arg);
    abort();
}

uint64_t hash64(const void *data, size_t len, uint64_t seed)
{
    return XXH3_64bits_withSeed(data, len, seed);
}
