/* replay/branch.c: see branch.h. */
#include "replay/branch.h"

#include <stdio.h>
#include <sys/stat.h>

#include "replay/digest.h"
#include "replay/recorder.h"

static struct err *run_on(const struct options *o, struct guest *g, struct vm *vm, enum session_end *end)
{
    fprintf(stderr, "hyperwind: live from tick %" PRIu64 "\n", vm->machine->vcpu.ticks);
    return guest_run(g, vm, o->limit_ticks, o->output, end);
}

static struct err *run_unrecorded(const struct options *o, struct replayer *r, struct guest *g, struct vm *vm, int *status)
{
    enum session_end end;
    vm->machine->nondet = live_door(g->live);
    struct err *e = run_on(o, g, vm, &end);
    if (!e)
        *status = vm_report_end(vm->machine, end, digest_memory(replayer_digester(r)).total);
    return e;
}

static struct err *record_on(const struct options *o, struct recorder *rec, struct replayer *r, struct guest *g,
                             struct vm *vm, int *status)
{
    enum session_end end;
    uint64_t output_bytes = replayer_output_bytes(r);
    vm->machine->nondet = recorder_door(rec);
    struct err *e = recorder_continue(rec, vm->machine, replayer_take_digester(r), output_bytes);
    if (!e)
        e = run_on(o, g, vm, &end);
    if (!e)
        e = recorder_finish(rec, end_reason(vm->machine, end), vm->machine->request_value);
    if (!e)
        *status = vm_report_end(vm->machine, end, recorder_memory_digest(rec));
    return e;
}

static struct err *run_recorded(const struct options *o, struct recording *from, struct replayer *r, struct guest *g,
                                struct vm *vm, struct log_writer *w, int *status)
{
    struct recorder *rec;
    struct log_reader *again;
    struct err *e = recording_write_image(w, &from->spec.image);
    if (!e)
        e = log_reader_open(from->path, &again); /* the other one stands where the replay does */
    if (!e) {
        e = recording_copy_events(again, replayer_mark(r).seq, w);
        log_reader_close(again);
    }
    if (!e)
        e = recorder_create(live_door(g->live), w, &rec);
    if (e)
        return e;
    recording_image_loaded(from);
    e = record_on(o, rec, r, g, vm, status);
    recorder_destroy(rec);
    return e;
}

static bool same_file(const char *a, const char *b)
{
    struct stat x, y;
    return !stat(a, &x) && !stat(b, &y) && x.st_dev == y.st_dev && x.st_ino == y.st_ino && S_ISREG(x.st_mode);
}

struct err *branch_run(const struct options *o, struct recording *from, struct replayer *r, struct guest *g, struct vm *vm,
                       int *status)
{
    struct vm_facts facts;
    struct log_header h;
    struct log_writer *w;
    if (!o->output)
        return run_unrecorded(o, r, g, vm, status);
    if (same_file(o->output, from->path))
        return err_new(ERR_USAGE, "-o %s: that is the recording being replayed", o->output);
    vm_header(&from->spec, &facts, &h);
    h.digest_period = RECORD_DIGEST_TICKS;
    struct err *e = log_writer_create(o->output, &h, &w);
    if (e)
        return e;
    e = run_recorded(o, from, r, g, vm, w, status);
    uint64_t len = log_writer_file_len(w);
    log_writer_destroy(w);
    if (!e)
        fprintf(stderr, "hyperwind: recorded to %s, %" PRIu64 " bytes\n", o->output, len);
    return e;
}
