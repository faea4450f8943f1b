/* main.c: the door: a table of subcommands, nothing else. */
#include <stdio.h>

#include "core/base/base.h"
#include "core/base/err.h"
#include "exec/engine.h"
#include "gdb/commands.h"
#include "replay/commands.h"
#include "replay/guest.h"
#include "replay/options.h"

struct command {
    const char *name, *usage, *summary;
    unsigned options; /* CMD_* of replay/options.h */
    struct err *(*run)(int argc, char **argv, int *status);
};

static struct err *cmd_help(int argc, char **argv, int *status);

static const struct command commands[] = {
    {"run", "run [options] KERNEL", "run a guest, without a log", CMD_RUN, cmd_run},
    {"record", "record -o FILE [options] KERNEL", "run a guest and record it", CMD_RECORD, cmd_record},
    {"replay", "replay FILE [options]", "re-execute a recording and verify it", CMD_REPLAY, cmd_replay},
    {"debug", "debug FILE [options] [-- GDB-OPTIONS]", "gdb on a recording: forwards, backwards, anywhere", CMD_DEBUG,
     cmd_debug},
    {"info", "info FILE [--json]", "what a recording is, and its size", CMD_INFO, cmd_info},
    {"dump", "dump FILE [--json]", "the events of a recording, one a line", CMD_DUMP, cmd_dump},
    {"index", "index FILE [-o NEW]", "put checkpoints into a recording, for a quick start anywhere in it", CMD_INDEX,
     cmd_index},
    {"bisect", "bisect FILE [options]", "the first instruction that two engines execute differently", CMD_BISECT,
     cmd_bisect},
    {"help", "help [COMMAND]", "this, or the options of a command", 0, cmd_help},
};

static const struct command *find(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        if (!strcmp(commands[i].name, name))
            return &commands[i];
    return NULL;
}

static void overview(FILE *out)
{
    fprintf(out, "Hyperwind %s: runs an x86-64 guest, records it, replays it exactly.\n\n", HW_VERSION);
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        fprintf(out, "  hyperwind %-36s %s\n", commands[i].usage, commands[i].summary);
    fprintf(out, "\nEngines:\n");
    for (const struct engine_ops *const *e = engines; *e; e++)
        fprintf(out, "  %-10s %s\n", (*e)->name, (*e)->summary);
    fprintf(out, "\nExit status: 0; odd statuses are the guest's own (debug exit); even ones are ours:\n");
#define X(code, exit, text) fprintf(out, "  %2d  %s\n", exit, text);
    ERR_CODES(X)
#undef X
}

static struct err *cmd_help(int argc, char **argv, int *status)
{
    (void)status;
    if (argc < 2) {
        overview(stdout);
        return NULL;
    }
    const struct command *c = find(argv[1]);
    if (!c)
        return err_new(ERR_USAGE, "there is no command %s; `hyperwind help` lists them", argv[1]);
    printf("hyperwind %s\n\n%s.\n\n", c->usage, c->summary);
    options_help(c->options, stdout);
    return NULL;
}

int main(int argc, char **argv)
{
    int status = 0;
    guest_set_debugger(gdb_attach);
    const char *name = argc > 1 ? argv[1] : "help";
    if (!strcmp(name, "--help") || !strcmp(name, "-h"))
        name = "help";
    const struct command *c = find(name);
    struct err *e;
    if (!c) {
        e = err_new(ERR_USAGE, "there is no command %s; `hyperwind help` lists them", name);
    } else if (argc < 2) {
        overview(stderr);
        return 2;
    } else {
        e = c->run(argc - 1, argv + 1, &status);
    }
    if (e) {
        fprintf(stderr, "hyperwind: %s\n", err_message(e));
        status = err_exit_status(e);
        err_destroy(e);
    }
    return status;
}
