/* gdb/cmd_debug.c: `hyperwind debug`: gdb on a recording, with one command.
 *
 * Symbols are those of --symbols, or those that a Linux kernel carries in its own memory (analysis/ksyms.h), or those of the
 * ELF file that the guest was started from. gdb is started with them, with the commands of hyperwind.py, and connected. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "analysis/ksyms.h"
#include "gdb/commands.h"
#include "gdb/scratch.h"
#include "gdb/server.h"
#include "replay/options.h"

struct debug {
    const struct options *o;
    struct gdb_server *server;
    struct timeline *t;
    struct scratch scratch;
    char symbols[SCRATCH_PATH_MAX]; /* made from guest memory; "": none */
    bool serving;          /* gdb is there, or may be */
    uint64_t shown_percent;
};

/* ---- files for gdb ---- */

static struct err *write_python(const struct debug *d)
{
    static const uint8_t python[] = {
#include "hyperwind_py.hex"
    };
    char path[SCRATCH_PATH_MAX];
    scratch_path(&d->scratch, SCRATCH_PYTHON, path);
    FILE *f = fopen(path, "wb");
    bool ok = f && fwrite(python, sizeof(python), 1, f) == 1;
    if ((f && fclose(f)) || !ok)
        return err_errno(ERR_HOST, errno, "cannot write %s", path);
    return NULL;
}

/* ---- symbols ---- */

/* What the kernel in memory says of itself. `hard`: as of gdb_symbols_look(). *found: there is one. */
static struct err *look_for_kernel(struct debug *d, bool hard, bool *found)
{
    struct gdb_symbols *known = gdb_server_symbols(d->server);
    struct err *e = gdb_symbols_look(known, d->t, hard, found);
    if (e || !*found)
        return e;
    scratch_path(&d->scratch, SCRATCH_SYMBOLS, d->symbols);
    e = ksyms_write_elf(known->ks, d->symbols);
    if (!e && !d->o->symbols)
        fprintf(stderr, "hyperwind: %zu symbols of %s\n", ksyms_count(known->ks), ksyms_banner(known->ks));
    return e;
}

/* ---- where ---- */

static struct err *find_at(struct debug *d, uint64_t end, uint64_t *out)
{
    const char *at = d->o->at ? d->o->at : "end";
    struct err *e = timeline_find(d->t, at, out);
    if (!e && *out > end)
        e = err_new(ERR_RANGE, "the recording ends at tick %" PRIu64, end);
    return e && err_code(e) == ERR_RANGE ? err_wrap(e, "%s: --at %s", d->o->file, at) : e;
}

/* To the position asked for, and on the way a look for the kernel's symbols: there, or else at the end, where a kernel
 * that was still packed at the beginning lies bare. */
static struct err *go_there(struct debug *d)
{
    struct timeline_stop stop;
    uint64_t at, end = timeline_end(d->t);
    bool found = false;
    struct err *e = find_at(d, end, &at);
    if (!e)
        e = timeline_seek(d->t, at, &stop);
    if (e && err_code(e) == ERR_DIVERGED)
        return err_wrap(e, "%s: look at what comes before with --at TICK", d->o->file);
    if (!e)
        e = look_for_kernel(d, at == end, &found);
    if (e || found || at == end)
        return e;
    e = timeline_seek(d->t, end, &stop);
    if (!e)
        e = look_for_kernel(d, true, &found);
    if (e) /* a recording that diverges on the way can be looked at up to there */
        fprintf(stderr, "hyperwind: no symbols: %s\n", err_message(e));
    err_destroy(e);
    return timeline_seek(d->t, at, &stop);
}

/* The session is over: gdb has gone, or (`told`) a signal says so. */
static volatile bool over;
static volatile sig_atomic_t told;

static void on_child(int sig)
{
    (void)sig;
    over = true;
}

static void on_end(int sig)
{
    told = sig;
    over = true;
}

/* A line of progress while nobody is connected. */
static bool interrupted(void *arg, uint64_t from, uint64_t at, uint64_t to)
{
    struct debug *d = arg;
    if (d->serving)
        return gdb_server_interrupted(d->server, from, at, to);
    uint64_t percent = to > from ? (at - from) * 100 / (to - from) : 100;
    if (percent != d->shown_percent && isatty(STDERR_FILENO))
        fprintf(stderr, "\rhyperwind: %s: %" PRIu64 " %%\x1b[K", d->o->file, percent);
    d->shown_percent = percent;
    return over;
}

/* ---- gdb ---- */

/* gdb begins with the kernel's own symbols even when others are given: it wants to know what runs, and `symbols` moves
 * those of a vmlinux. A guest that is no Linux is where its ELF file says. */
static void exec_gdb(const struct debug *d)
{
    enum { OWN_ARGS = 16 }; /* at most */
    char python[SCRATCH_PATH_MAX], source[128], target[128], *symbols = NULL; /* freed by execvp() or _exit() */
    size_t rest = 0, n = 0;
    while (d->o->rest && d->o->rest[rest])
        rest++;
    const char **argv = calloc(OWN_ARGS + rest, sizeof(*argv)); /* this too */
    if (!argv || (d->o->symbols && d->symbols[0] && asprintf(&symbols, "symbols %s", d->o->symbols) < 0))
        _exit(127);
    argv[n++] = "gdb";
    argv[n++] = "-q";
    scratch_path(&d->scratch, SCRATCH_PYTHON, python);
    snprintf(source, sizeof(source), "source %s", python);
    /* "extended", because otherwise gdb has no `run` */
    snprintf(target, sizeof(target), "target extended-remote %s", gdb_server_address(d->server));
    /* Nobody wants to be asked whether to kill a recording, or to page through what scrolls by. */
    const char *const commands[] = {"set confirm off", "set pagination off", source, target, symbols};
    for (size_t i = 0; i < ARRAY_LEN(commands) && commands[i]; i++) {
        argv[n++] = "-ex";
        argv[n++] = commands[i];
    }
    for (size_t i = 0; i < rest; i++)
        argv[n++] = d->o->rest[i];
    const char *file = d->symbols[0] ? d->symbols : d->o->symbols;
    if (file) {
        argv[n++] = "-se";
        argv[n++] = file;
    }
    execvp("gdb", (char *const *)argv);
    fprintf(stderr, "hyperwind: cannot start gdb (%s); install it, or use --gdb WHERE and connect another one\n",
            strerror(errno));
    _exit(127);
}

static struct err *serve(struct debug *d)
{
    int status;
    d->serving = true;
    return gdb_server_run(d->server, d->t, &status);
}

/* ^C is for gdb, which tells us what it means; so is ^Z: a gdb that is stopped has not gone. */
static struct err *with_gdb(struct debug *d, int *status)
{
    int how;
    struct sigaction sa = {.sa_handler = on_child, .sa_flags = SA_NOCLDSTOP};
    sigaction(SIGCHLD, &sa, NULL);
    signal(SIGINT, SIG_IGN);
    signal(SIGQUIT, SIG_IGN);
    pid_t pid = fork();
    if (pid < 0)
        return err_errno(ERR_HOST, errno, "cannot start gdb");
    if (!pid) {
        signal(SIGINT, SIG_DFL);
        signal(SIGQUIT, SIG_DFL);
        exec_gdb(d);
    }
    struct err *e = serve(d);
    if (e || told)
        kill(pid, SIGTERM);
    while (waitpid(pid, &how, 0) < 0 && errno == EINTR)
        if (told)
            kill(pid, SIGKILL);
    if (!e && WIFEXITED(how) && WEXITSTATUS(how) == 127)
        return err_new(ERR_HOST, "there was no gdb to serve");
    if (!e && !told && WIFSIGNALED(how))
        return err_new(ERR_HOST, "gdb was killed by signal %d", WTERMSIG(how));
    *status = e || !WIFEXITED(how) ? 0 : WEXITSTATUS(how);
    return e;
}

static struct err *debug(struct debug *d, int *status)
{
    char path[SCRATCH_PATH_MAX], where[128];
    struct gdb_server_options so = {.i386 = d->o->gdb_i386, .once = !d->o->gdb, .stop = &over};
    struct timeline_options to = {.engine = d->o->engine, .checkpoint_memory = d->o->checkpoint_memory,
                                  .force = d->o->force, .interrupted = interrupted, .arg = d};
    if (d->o->symbols && access(d->o->symbols, R_OK))
        return err_errno(ERR_INPUT, errno, "--symbols %s", d->o->symbols);
    struct err *e = scratch_make(&d->scratch);
    scratch_path(&d->scratch, SCRATCH_SOCKET, path);
    snprintf(where, sizeof(where), "unix:%s", path);
    if (!e)
        e = gdb_server_create(d->o->gdb ? d->o->gdb : where, &so, &d->server);
    if (!e)
        e = timeline_open(d->o->file, &to, &d->t);
    if (!e)
        e = go_there(d);
    if (!e)
        e = write_python(d);
    if (isatty(STDERR_FILENO))
        fprintf(stderr, "\r\x1b[K");
    if (e || over)
        return e;
    if (!d->o->gdb)
        return with_gdb(d, status);
    fprintf(stderr, "hyperwind: gdb may connect: target remote %s\n", gdb_server_address(d->server));
    scratch_path(&d->scratch, SCRATCH_PYTHON, path);
    fprintf(stderr, "hyperwind: its commands: source %s\n", path);
    if (d->o->symbols)
        fprintf(stderr, "hyperwind: symbols: symbols %s\n", d->o->symbols);
    else if (d->symbols[0])
        fprintf(stderr, "hyperwind: symbols: file %s\n", d->symbols);
    return serve(d);
}

struct err *cmd_debug(int argc, char **argv, int *status)
{
    struct options o;
    struct debug d = {.o = &o};
    struct err *e = options_parse(CMD_DEBUG, argc, argv, &o);
    if (e)
        return e;
    struct sigaction sa = {.sa_handler = on_end};
    sigaction(SIGTERM, &sa, NULL);
    sigaction(SIGHUP, &sa, NULL);
    sigaction(SIGINT, &sa, NULL);
    e = debug(&d, status);
    timeline_close(d.t);
    gdb_server_destroy(d.server);
    scratch_remove(&d.scratch);
    if (!e && told && !d.serving) { /* there was no session to end: die of it as if it had not been caught */
        signal(told, SIG_DFL);
        raise(told);
    }
    return e;
}
