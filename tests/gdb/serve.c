/* tests/gdb/serve.c: gdb's server over a recording, and nothing else. usage: gdb_serve FILE TICKS [ENGINE]
 * It prints the address that it listens on. */
#include <stdio.h>
#include <stdlib.h>

#include "core/base/check.h"
#include "gdb/server.h"

int main(int argc, char **argv)
{
    struct gdb_server *s;
    struct timeline *t;
    struct timeline_stop stop;
    int status;
    CHECK(argc > 2, "usage: gdb_serve FILE TICKS [ENGINE]");
    struct err *e = gdb_server_create("0", &(struct gdb_server_options){.once = true}, &s);
    CHECK(!e, "%s", err_message(e));
    struct timeline_options o = {.interrupted = gdb_server_interrupted, .arg = s, .engine = argc > 3 ? argv[3] : NULL};
    e = timeline_open(argv[1], &o, &t);
    CHECK(!e, "%s", err_message(e));
    e = timeline_seek(t, strtoull(argv[2], NULL, 0), &stop);
    CHECK(!e, "%s", err_message(e));
    printf("%s\n", gdb_server_address(s));
    fflush(stdout);
    e = gdb_server_run(s, t, &status);
    CHECK(!e, "%s", err_message(e));
    timeline_close(t);
    gdb_server_destroy(s);
    return status;
}
