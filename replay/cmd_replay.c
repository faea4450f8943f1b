/* replay/cmd_replay.c: `hyperwind replay`: re-execute a recording and verify it. */
#include "replay/branch.h"
#include "replay/commands.h"
#include "replay/console.h"
#include "replay/options.h"
#include "replay/position.h"
#include "replay/progress.h"
#include "replay/recording.h"
#include "replay/replayer.h"

static void flip(void *arg, struct machine *m)
{
    const struct options *o = arg;
    uint8_t byte;
    mem_read(&m->mem, gpa(o->flip_gpa), &byte, 1);
    byte ^= (uint8_t)(1u << o->flip_bit);
    mem_write(&m->mem, gpa(o->flip_gpa), &byte, 1);
}

static void to_console(void *arg, const uint8_t *data, size_t len)
{
    console_write(arg, data, len);
    if (memchr(data, '\n', len)) /* whoever watches sees the lines when they come */
        console_flush(arg);
}

static struct err *input_at(void *arg, uint64_t seq, struct position_input *out)
{
    struct log_reader *lr = arg;
    struct log_pos pos = {0};
    struct log_event ev;
    struct err *e = log_reader_seek(lr, seq);
    if (!e)
        e = recording_next_input(lr, &pos, &ev, &out->found);
    out->seq = pos.seq;
    out->ticks = pos.ticks;
    return e;
}

/* Where --to is; UINT64_MAX: it was not given. The reader stands at its first event again. */
static struct err *find_to(const struct options *o, struct log_reader *lr, uint64_t *out)
{
    uint64_t end = log_reader_summary(lr).last.ticks;
    *out = UINT64_MAX;
    if (!o->to)
        return NULL;
    struct err *e = position_find(o->to, end, input_at, lr, out);
    if (!e && *out > end)
        e = err_new(ERR_RANGE, "the recording ends at tick %" PRIu64, end);
    if (e && err_code(e) != ERR_RANGE) /* what is wrong with the recording */
        return e;
    return e ? err_wrap(e, "--to %s", o->to) : log_reader_seek(lr, 0);
}

static struct err *verdict(struct replayer *r, const struct options *o, uint64_t to, const struct vm *vm,
                           enum session_end end, int *status)
{
    struct replay_end rec = replayer_end(r);
    uint64_t ticks = vm->machine->vcpu.ticks;
    if (o->live && (end != END_LIMIT || ticks != to || replayer_limit(r) == ticks))
        return err_new(ERR_RANGE, "--to %s --live: the guest has ended at tick %" PRIu64 ", before it can go live",
                       o->to, ticks);
    if (end == END_LIMIT && to <= ticks && replayer_limit(r) != ticks) {
        fprintf(stderr, "hyperwind: replay verified up to tick %" PRIu64 " of %" PRIu64 "\n", ticks, rec.ticks);
        return NULL;
    }
    struct err *e = replayer_finish(r, end);
    if (e)
        return e;
    if (!rec.complete) {
        fprintf(stderr, "hyperwind: replay verified up to the last whole event: %" PRIu64 " ticks, %" PRIu64 " events\n", ticks,
                rec.events);
        return NULL;
    }
    *status = vm_report_end(vm->machine, end, replayer_memory_digest(r));
    fprintf(stderr, "hyperwind: replay verified: %" PRIu64 " ticks, %" PRIu64 " events\n", ticks, rec.events);
    return NULL;
}

static struct err *run(struct replayer *r, const struct options *o, uint64_t to, const struct vm *vm, struct console *con,
                       int *status)
{
    enum session_end end;
    struct progress p;
    struct session s = {.machine = vm->machine, .engine = vm->engine, .limit_ticks = MIN(replayer_limit(r), to),
                        .hook = {o->flip_ticks, flip, (void *)(uintptr_t)o}};
    progress_start(&p, "replaying", s.limit_ticks == UINT64_MAX ? replayer_end(r).ticks : s.limit_ticks);
    if (o->quiet) { /* otherwise standard error and the console may be the same terminal */
        s.progress = progress_show;
        s.progress_arg = &p;
    }
    if (o->stats)
        vm_measure(vm);
    struct err *e = replayer_begin(r, vm->machine);
    if (!e)
        e = session_run(&s, &end);
    progress_end(&p);
    console_drain(con);
    if (!e)
        e = verdict(r, o, to, vm, end, status);
    if (o->stats)
        vm_print_stats(vm);
    return e;
}

/* `g`: of --live, NULL otherwise. */
static struct err *replay(struct recording *rec, const struct options *o, struct console *con, struct guest *g, int *status)
{
    struct replayer *r;
    struct vm vm;
    struct vm_spec spec = rec->spec;
    uint64_t to;
    struct err *e = find_to(o, rec->log, &to);
    if (!e)
        e = replayer_create(rec->log, o->quiet ? NULL : to_console, con, &r);
    if (e)
        return e;
    replayer_alter_event(r, o->alter_seq);
    spec.engine = o->engine;
    e = vm_create(&spec, replayer_door(r), &vm);
    if (!e) {
        if (!o->output) /* or it is to be written once more */
            recording_image_loaded(rec);
        e = run(r, o, to, &vm, con, status);
        if (e && err_code(e) == ERR_DIVERGED)
            replayer_explain(r, stderr);
        if (!e && g)
            e = branch_run(o, rec, r, g, &vm, status);
        replayer_destroy(r);
        vm_destroy(&vm);
        return e;
    }
    replayer_destroy(r);
    return e;
}

struct err *replay_file(const char *path, const struct options *o, int *status)
{
    struct recording rec;
    struct console *con = NULL;
    struct err *e = recording_open(path, o->force, &rec);
    if (e)
        return e;
    if (o->live) {
        struct guest g;
        e = guest_open_outside(o, rec.spec.host_clock, &g);
        if (!e) {
            e = replay(&rec, o, g.console, &g, status);
            guest_close(&g);
        }
    } else {
        e = console_open_output(&con);
        if (!e)
            e = replay(&rec, o, con, NULL, status);
        console_close(con);
    }
    recording_close(&rec);
    return recording_wrap(e, path);
}

struct err *cmd_replay(int argc, char **argv, int *status)
{
    struct options o;
    struct err *e = options_parse(CMD_REPLAY, argc, argv, &o);
    return e ? e : replay_file(o.file, &o, status);
}
