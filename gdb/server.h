/* gdb/server.h: gdb over a socket: one client at a time, who may leave and come back.
 *
 * The server is made before the timeline, because the timeline asks it whether to stop:
 *
 *     gdb_server_create("1234", &options, &s);
 *     timeline_open(path, &(struct timeline_options){.interrupted = gdb_server_interrupted, .arg = s}, &t);
 *     gdb_server_run(s, t, &status);
 *
 * Over a recording it waits for a client, who finds it where the timeline stands. A live guest runs while nobody is
 * connected (unless options.wait) and stops when somebody connects; it goes on when the client leaves or vanishes. */
#ifndef HW_GDB_SERVER_H
#define HW_GDB_SERVER_H

#include "core/base/err.h"
#include "gdb/symbols.h"
#include "replay/timeline.h"

struct gdb_server;

struct gdb_server_options {
    bool i386;          /* describe the registers of a 32-bit CPU */
    bool wait;          /* a live guest does not start before a client lets it */
    bool once;          /* it is over when the first client leaves */
    const volatile bool *stop; /* may be NULL; true ends gdb_server_run() (a signal handler sets it) */
};

/* Listens, so that clients may connect from now on. `where`: [HOST:]PORT (without a host: loopback only; port 0: any
 * that is free), or unix:PATH; the socket of a server that is gone is replaced. Errors: ERR_USAGE, ERR_HOST. */
must_check struct err *gdb_server_create(const char *where, const struct gdb_server_options *o,
                                         struct gdb_server **out);
void gdb_server_destroy(struct gdb_server *s); /* NULL is fine */

/* What to connect to, as gdb's `target remote` takes it. */
const char *gdb_server_address(const struct gdb_server *s);

/* For timeline_options.interrupted; arg is the server. Serves the socket while the guest moves. */
bool gdb_server_interrupted(void *arg, uint64_t from, uint64_t at, uint64_t to);

/* What is known of the guest's kernel; may be looked up before anybody connects. */
struct gdb_symbols *gdb_server_symbols(struct gdb_server *s);

/* Until the client ends the guest, a live guest ends, or options say so. *status_out: a live guest's exit status
 * (docs/exit-codes.md), else 0. Errors: of the timeline while nobody is connected; ERR_HOST. */
must_check struct err *gdb_server_run(struct gdb_server *s, struct timeline *t, int *status_out);

#endif
