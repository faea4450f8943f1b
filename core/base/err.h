/* core/base/err.h: failures of the world (files, host, recordings) as values.
 * NULL means success. Whoever receives an error returns it, wraps it, or destroys it. Each code has one
 * process exit status, so that a script can tell the kinds apart; see docs/exit-codes.md. */
#ifndef HW_ERR_H
#define HW_ERR_H

#include <stdarg.h>

#include "core/base/base.h"

/*       code          exit  meaning                                                                  */
#define ERR_CODES(X)                                                                                   \
    X(ERR_USAGE, 2, "the command line is wrong")                                                       \
    X(ERR_INPUT, 4, "an input file (kernel, initrd, firmware) cannot be used")                         \
    X(ERR_CORRUPT, 6, "the recording is damaged or is no recording")                                   \
    X(ERR_UNSUPPORTED, 8, "this host or this version cannot run the request")                          \
    X(ERR_HOST, 10, "the host failed: file system, memory, terminal")                                  \
    X(ERR_DIVERGED, 12, "a replay did not reproduce its recording, or two engines differ")             \
    X(ERR_GUEST, 14, "the guest crashed (triple fault)")                                               \
    X(ERR_RANGE, 16, "a position lies outside the recording")                                          \
    X(ERR_HALTED, 18, "the guest halted with interrupts off: nothing can wake it")

enum err_code {
#define X(code, exit, text) code,
    ERR_CODES(X)
#undef X
};

struct err; /* opaque; owns its message */

/* A new error. The message is one line: what, where, and what to do; no trailing full stop or newline.
 * Never returns NULL: when memory is short a static out-of-memory error stands in. */
struct err *err_new(enum err_code code, const char *fmt, ...) must_check printf_like(2, 3);
/* The same with ": <strerror(errnum)>" appended. */
struct err *err_errno(enum err_code code, int errnum, const char *fmt, ...) must_check printf_like(3, 4);
/* Put context in front: "replaying event 12: <old message>". Consumes `e`; the code is kept. */
struct err *err_wrap(struct err *e, const char *fmt, ...) must_check printf_like(2, 3);

enum err_code err_code(const struct err *e);
const char *err_message(const struct err *e);
int err_exit_status(const struct err *e); /* the even status of the code; 0 for NULL */
void err_destroy(struct err *e);          /* NULL is fine */

#endif
