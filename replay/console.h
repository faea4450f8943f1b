/* replay/console.h: the host's side of the guest's console: this terminal, a unix socket, or nothing.
 * Output is buffered and never waits for a slow reader until OUTPUT_HIGH bytes are pending; then it does, in host time
 * only: the guest's clock does not see it. Input is read when asked for. */
#ifndef HW_CONSOLE_H
#define HW_CONSOLE_H

#include "core/base/err.h"

struct console;

/* spec: "stdio" (raw while it is a terminal; Ctrl-] then q leaves, Ctrl-] twice sends Ctrl-]), "none", or "unix:PATH"
 * (listens there and waits for the first client). Errors: ERR_USAGE (spec), ERR_HOST. */
must_check struct err *console_open(const char *spec, struct console **out);
/* Standard output only: a replay's console. */
must_check struct err *console_open_output(struct console **out);
/* Flush (waiting for the reader), restore the terminal, remove the socket. NULL is fine. */
void console_close(struct console *c);
/* Restore the terminal only; for signal handlers that are about to end the process. Async-signal-safe. */
void console_restore(void);

void console_write(struct console *c, const uint8_t *data, size_t len);

/* Up to `max` typed bytes, 0 when there are none. *leave: the escape was typed. */
size_t console_read(struct console *c, uint8_t *buf, size_t max, bool *leave);

/* Wait until input may be there, at most `timeout_ns` (UINT64_MAX: for ever), or a signal. Flushes output first. */
void console_wait(struct console *c, uint64_t timeout_ns);

/* Whether console_read() would find something now (typed bytes, or the end of input, once). */
bool console_input_ready(const struct console *c);

/* Write out what is buffered, without waiting. */
void console_flush(struct console *c);
/* The same, waiting for the reader: before anything is said on standard error about what was printed. */
void console_drain(struct console *c);

#endif
