/* tests/gdb/rig.c: the gdb server over the timeline of tests/unit/fake_timeline.h, for the real gdb.
 * usage: gdb_rig [live|i386|long|many|elf FILE] ; it prints the address that it listens on. */
#include <stdio.h>

#include "gdb/server.h"
#include "tests/unit/fake_timeline.h"

static void load_kernel(struct timeline *t, const char *path)
{
    FILE *f = fopen(path, "rb");
    CHECK(f, "%s", path);
    t->kernel = malloc(MIB(16));
    t->kernel_len = fread(t->kernel, 1, MIB(16), f);
    fclose(f);
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "";
    bool live = !strcmp(mode, "live"), endless = !strcmp(mode, "long");
    struct gdb_server_options o = {.once = strcmp(mode, "many") != 0, .wait = true, .i386 = !strcmp(mode, "i386")};
    struct gdb_server *s;
    int status;
    struct err *e = gdb_server_create("0", &o, &s);
    CHECK(!e, "%s", err_message(e));
    struct timeline *t = fake_timeline(!live, endless ? UINT64_MAX : 1000,
                                       &(struct timeline_options){.interrupted = gdb_server_interrupted, .arg = s});
    if (argc > 2)
        load_kernel(t, argv[2]);
    t->at = live ? 0 : endless ? UINT64_MAX / 2 : 500;
    fake_settle(t);
    printf("%s\n", gdb_server_address(s));
    fflush(stdout);
    e = gdb_server_run(s, t, &status);
    CHECK(!e, "%s", err_message(e));
    gdb_server_destroy(s);
    timeline_close(t);
    return status;
}
