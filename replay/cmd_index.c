/* replay/cmd_index.c: `hyperwind index`: a recording gets checkpoints, by being replayed once. The copy takes the original's
 * place when it is whole and verified to the end, not before. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/cleanup.h"
#include "replay/commands.h"
#include "replay/options.h"
#include "replay/progress.h"
#include "replay/recorder.h"
#include "replay/recording.h"
#include "replay/replayer.h"
#include "replay/stored.h"

enum { DEFAULT_TICKS = 250000000 };

struct indexing {
    struct log_reader *from; /* the original's events, at the next one to copy */
    struct log_writer *to;
    struct stored_writer *stored;
    uint64_t count;
};

static struct err *checkpoint(struct indexing *x, struct replayer *r)
{
    struct replayer_mark mark = replayer_mark(r);
    struct err *e = recording_copy_events(x->from, mark.seq, x->to);
    uint64_t before = log_writer_file_len(x->to);
    if (!e)
        e = stored_writer_take(x->stored, &mark);
    x->count += log_writer_file_len(x->to) != before; /* one that a recording cannot hold was not written */
    return e;
}

/* Replay to the end, with a checkpoint every so many ticks. */
static struct err *replay_all(struct indexing *x, const struct options *o, struct replayer *r, struct vm *vm)
{
    uint64_t every = o->checkpoint_ticks ? o->checkpoint_ticks : DEFAULT_TICKS;
    enum session_end end = END_LIMIT;
    struct progress p;
    struct session s = {.machine = vm->machine, .engine = vm->engine, .hook = {.ticks = UINT64_MAX},
                        .progress = progress_show, .progress_arg = &p};
    struct err *e = stored_writer_create(vm->machine, x->to, &x->stored);
    if (!e)
        e = replayer_begin(r, vm->machine);
    if (!e)
        e = stored_writer_begin(x->stored);
    progress_start(&p, "indexing", replayer_end(r).ticks);
    while (!e && end == END_LIMIT && vm->machine->vcpu.ticks < replayer_limit(r)) {
        uint64_t next = (vm->machine->vcpu.ticks / every + 1) * every;
        s.limit_ticks = MIN(next, replayer_limit(r));
        e = session_run(&s, &end);
        if (!e && end == END_LIMIT && vm->machine->vcpu.ticks == next && next < replayer_end(r).ticks)
            e = checkpoint(x, r);
    }
    progress_end(&p);
    return e ? e : replayer_finish(r, end);
}

static struct err *index_events(struct indexing *x, const struct options *o, struct recording *rec)
{
    struct replayer *r;
    struct vm vm;
    struct vm_spec spec = rec->spec;
    struct err *e = replayer_create(rec->log, NULL, NULL, &r);
    if (e)
        return e;
    spec.engine = o->engine;
    e = vm_create(&spec, replayer_door(r), &vm);
    if (e) {
        replayer_destroy(r);
        return e;
    }
    recording_image_loaded(rec);
    e = replay_all(x, o, r, &vm);
    if (e && err_code(e) == ERR_DIVERGED)
        replayer_explain(r, stderr);
    if (!e)
        e = recording_copy_events(x->from, UINT64_MAX, x->to);
    if (!e)
        e = log_writer_finish(x->to, replayer_end(r).ticks);
    stored_writer_destroy(x->stored); /* it and the replayer's digester watch the machine's memory */
    replayer_destroy(r);
    vm_destroy(&vm);
    return e;
}

static struct err *index_to(int fd, const char *path, const struct options *o, struct recording *rec)
{
    struct indexing x = {0};
    struct log_header h = *log_reader_header(rec->log);
    struct err *e = log_reader_open(o->file, &x.from);
    if (!e)
        e = log_writer_create_fd(fd, path, &h, &x.to);
    if (!e)
        e = recording_write_image(x.to, &rec->spec.image);
    if (!e)
        e = index_events(&x, o, rec);
    uint64_t len = x.to ? log_writer_file_len(x.to) : 0;
    log_writer_destroy(x.to);
    log_reader_close(x.from);
    if (!e)
        fprintf(stderr, "hyperwind: %" PRIu64 " checkpoints, %" PRIu64 " bytes in all\n", x.count, len);
    return e;
}

/* The file that the copy is written to. It is locked: of two that index one recording at a time, the second must not write into
 * what the first puts in the recording's place. */
static struct err *make_file(const char *path, int *fd)
{
    *fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (*fd < 0)
        return err_errno(ERR_HOST, errno, "cannot create %s", path);
    struct err *e = NULL;
    if (flock(*fd, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK)
        e = err_new(ERR_HOST, "%s is being written by somebody else", path);
    else if (ftruncate(*fd, 0))
        e = err_errno(ERR_HOST, errno, "cannot empty %s", path);
    if (!e)
        return NULL;
    cleanup_close(fd);
    *fd = -1;
    return e;
}

/* Who may read it is whoever may read the original. */
static struct err *put_in_place(const char *path, int fd, const char *target, const char *original)
{
    struct stat st;
    if (stat(original, &st) || fchmod(fd, st.st_mode & 0777) || rename(path, target))
        return err_errno(ERR_HOST, errno, "cannot put %s in the place of %s", path, target);
    return NULL;
}

static struct err *index_in_place_of(const char *target, const struct options *o, struct recording *rec)
{
    AUTO_FREE char *path = NULL;
    AUTO_CLOSE int fd = -1;
    if (asprintf(&path, "%s.index", target) < 0) {
        path = NULL;
        return err_new(ERR_HOST, "out of memory");
    }
    struct err *e = make_file(path, &fd);
    if (!e)
        e = index_to(fd, path, o, rec);
    if (!e)
        e = put_in_place(path, fd, target, o->file);
    if (e && fd >= 0)
        unlink(path);
    return e;
}

struct err *cmd_index(int argc, char **argv, int *status)
{
    struct options o;
    struct recording rec;
    (void)status;
    struct err *e = options_parse(CMD_INDEX, argc, argv, &o);
    if (!e)
        e = recording_open(o.file, o.force, &rec);
    if (e)
        return e;
    AUTO_FREE char *real = realpath(o.file, NULL); /* a symbolic link to the recording stays one */
    if (log_reader_summary(rec.log).state != LOG_CLOSED)
        e = err_new(ERR_CORRUPT, "%s is not whole; only a recording that was closed can be given checkpoints", o.file);
    else if (!real)
        e = err_errno(ERR_HOST, errno, "cannot find %s", o.file);
    else
        e = index_in_place_of(o.output ? o.output : real, &o, &rec);
    recording_close(&rec);
    return e;
}
