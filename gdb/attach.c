/* gdb/attach.c: `run --gdb`, `record --gdb`: a live guest that gdb may attach to, leave and attach to again. */
#include <stdio.h>

#include "gdb/commands.h"
#include "gdb/server.h"
#include "replay/options.h"

struct err *gdb_attach(const struct options *o, struct session *s, bool recorded, const volatile bool *stop)
{
    struct gdb_server_options so = {.i386 = o->gdb_i386, .wait = o->gdb_wait, .stop = stop};
    struct gdb_server *server;
    struct timeline *t;
    int status;
    struct err *e = gdb_server_create(o->gdb, &so, &server);
    if (e)
        return e;
    e = timeline_over(s, recorded, &(struct timeline_options){.interrupted = gdb_server_interrupted, .arg = server}, &t);
    if (!e) {
        fprintf(stderr, "hyperwind: gdb may connect: target remote %s\n", gdb_server_address(server));
        e = gdb_server_run(server, t, &status);
        timeline_close(t);
    }
    gdb_server_destroy(server);
    return e;
}
