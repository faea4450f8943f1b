/* replay/guest.c: what `run` and `record` have in common. */
#include "replay/guest.h"

#include <signal.h>
#include <stdlib.h>

#include "core/base/hash.h"
#include "replay/file.h"
#include "replay/live.h"

/* SIGINT, SIGTERM and SIGHUP end the run in good order, once; the second one kills as usual, but not at once: timeout(1) sends
 * one to the process and then one to its group. */
enum { SECOND_NS = 500000000 };
static volatile bool stop_wanted;
static volatile uint64_t stop_wanted_ns;
static struct machine *volatile running;

static void on_signal(int sig)
{
    if (stop_wanted && live_host_ns() - stop_wanted_ns < SECOND_NS)
        return;
    if (stop_wanted) {
        console_restore();
        signal(sig, SIG_DFL);
        raise(sig);
        return;
    }
    stop_wanted_ns = live_host_ns();
    stop_wanted = true;
    if (running)
        engine_kick(running);
}

static void catch_signals(void)
{
    struct sigaction old, sa = {.sa_handler = on_signal};
    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGTERM, &sa, NULL);
    if (!sigaction(SIGHUP, NULL, &old) && old.sa_handler == SIG_DFL) /* under nohup it stays ignored */
        sigaction(SIGHUP, &sa, NULL);
    signal(SIGPIPE, SIG_IGN); /* both are errors of the write that met them */
    signal(SIGXFSZ, SIG_IGN);
}

/* boot_image.again: from the file, which must not have changed. If it has, that ends the run with an error: a guest never
 * sees other bytes than its recording holds. */
static uint8_t *load_again(void *self, enum boot_part part)
{
    struct guest *g = self;
    bool kernel = part == BOOT_KERNEL;
    const char *what = kernel ? "kernel" : "initrd", *path = kernel ? g->options->file : g->options->initrd;
    uint8_t *data = NULL;
    size_t len, was = kernel ? g->spec.image.kernel_len : g->spec.image.initrd_len;
    struct err *e = file_load(what, path, g->options->memory, &data, &len);
    if (!e && len == was && hash64(data, len, 0) == g->hash[part])
        return data;
    free(data);
    if (!e)
        e = err_new(ERR_HOST, "the guest reads its %s again, and %s has changed since it was started", what, path);
    err_destroy(g->failed);
    g->failed = e;
    stop_wanted = true;
    if (running)
        engine_kick(running);
    return NULL;
}

static struct err *load_image(const struct options *o, struct guest *g)
{
    struct boot_image *img = &g->spec.image;
    struct err *e = NULL;
    if (o->file)
        e = file_load("kernel", o->file, o->memory, &g->kernel, &img->kernel_len);
    if (!e && o->initrd)
        e = file_load("initrd", o->initrd, o->memory, &g->initrd, &img->initrd_len);
    if (!e && o->firmware)
        e = file_load("firmware", o->firmware, MIB(16), &g->firmware, &img->firmware_len);
    img->kernel = g->kernel;
    img->initrd = g->initrd;
    img->firmware = g->firmware;
    img->cmdline = o->append;
    if (e)
        return e;
    g->hash[BOOT_KERNEL] = hash64(img->kernel, img->kernel_len, 0);
    g->hash[BOOT_INITRD] = hash64(img->initrd, img->initrd_len, 0);
    img->again = load_again;
    img->again_self = g;
    return NULL;
}

static struct err *open_outside(struct guest *g, bool host_clock)
{
    struct err *e = console_open(g->options->console, &g->console);
    if (!e)
        e = live_create(g->console, host_clock, &stop_wanted, &g->live);
    if (!e)
        catch_signals();
    return e;
}

struct err *guest_open_outside(const struct options *o, bool host_clock, struct guest *g)
{
    *g = (struct guest){.options = o};
    struct err *e = open_outside(g, host_clock);
    if (e)
        guest_close(g);
    return e;
}

struct err *guest_open(const struct options *o, struct guest *g)
{
    *g = (struct guest){.spec = {.ram_len = o->memory, .host_clock = o->host_clock, .cpu_features = o->cpu_features,
                                 .engine = o->engine},
                        .options = o};
    struct err *e = load_image(o, g);
    if (!e)
        e = open_outside(g, o->host_clock);
    if (e)
        guest_close(g);
    return e;
}

void guest_image_loaded(struct guest *g)
{
    free(g->kernel);
    free(g->initrd);
    g->kernel = g->initrd = NULL;
    g->spec.image.kernel = g->spec.image.initrd = NULL;
}

void guest_close(struct guest *g)
{
    err_destroy(g->failed);
    live_destroy(g->live);
    console_close(g->console);
    free(g->kernel);
    free(g->initrd);
    free(g->firmware);
    *g = (struct guest){0};
}

static guest_debug_fn debugger;

void guest_set_debugger(guest_debug_fn fn)
{
    debugger = fn;
}

static bool attention(void *arg)
{
    const struct session *s = arg;
    return s->interrupted && s->interrupted(s->interrupted_arg, s->machine);
}

/* The guest stands: what it has printed so far is to be seen. */
static void show_console(void *arg)
{
    console_flush(arg);
}

/* With a debugger attached, or about to be. What it leaves alive ends as if the user had ended it. */
static struct err *run_debugged(struct guest *g, struct session *s, bool recorded, enum session_end *end)
{
    s->ended = END_STOP;
    s->returns = show_console;
    s->returns_arg = g->console;
    live_set_attention(g->live, attention, s);
    struct err *e = debugger(g->options, s, recorded, &stop_wanted);
    *end = s->ended == END_PROBE || s->ended == END_INTERRUPTED ? END_STOP : s->ended;
    if (s->ended == END_LIMIT && s->machine->vcpu.ticks < g->options->limit_ticks)
        *end = END_STOP;
    return e;
}

struct err *guest_run(struct guest *g, const struct vm *vm, uint64_t limit_ticks, bool recorded, enum session_end *end)
{
    struct session s = {.machine = vm->machine, .engine = vm->engine, .limit_ticks = limit_ticks,
                        .hook = {.ticks = UINT64_MAX}};
    live_bind(g->live, vm->machine);
    running = vm->machine;
    struct err *e = g->options->gdb ? run_debugged(g, &s, recorded, end) : session_run(&s, end);
    running = NULL;
    if (!e && g->failed) {
        e = g->failed;
        g->failed = NULL;
    }
    console_close(g->console); /* the terminal is ours again before anything is said */
    g->console = NULL;
    return e;
}
