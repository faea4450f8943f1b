/* replay/cmd_record.c: `hyperwind record`. */
#include <stdio.h>

#include "replay/commands.h"
#include "replay/digest.h"
#include "replay/guest.h"
#include "replay/recorder.h"
#include "replay/recording.h"
#include "replay/replayer.h"

/* The machine runs and everything is in place: record to the end. */
static struct err *record_run(const struct options *o, struct guest *g, struct vm *vm, struct recorder *r, int *status)
{
    enum session_end end;
    if (o->stats)
        vm_measure(vm);
    struct err *e = recorder_begin(r, vm->machine);
    if (!e)
        e = guest_run(g, vm, o->limit_ticks, true, &end);
    if (!e)
        e = recorder_finish(r, end_reason(vm->machine, end), vm->machine->request_value);
    if (!e)
        *status = vm_report_end(vm->machine, end, recorder_memory_digest(r));
    if (!e && o->stats)
        vm_print_stats(vm);
    return e;
}

static struct err *record(const struct options *o, struct guest *g, struct log_writer *w, int *status)
{
    struct recorder *r;
    struct vm vm;
    struct err *e = recording_write_image(w, &g->spec.image);
    if (!e)
        e = recorder_create(live_door(g->live), w, &r);
    if (e)
        return e;
    recorder_set_checkpoints(r, o->checkpoint_ns);
    e = vm_create(&g->spec, recorder_door(r), &vm);
    if (!e) {
        guest_image_loaded(g);
        e = record_run(o, g, &vm, r, status);
        recorder_destroy(r);
        vm_destroy(&vm);
        return e;
    }
    recorder_destroy(r);
    return e;
}

static struct err *record_file(const struct options *o, struct guest *g, int *status)
{
    struct vm_facts facts;
    struct log_header h;
    struct log_writer *w;
    vm_header(&g->spec, &facts, &h);
    h.digest_period = RECORD_DIGEST_TICKS;
    struct err *e = log_writer_create(o->output, &h, &w);
    if (e)
        return e;
    e = record(o, g, w, status);
    uint64_t len = log_writer_file_len(w);
    log_writer_destroy(w);
    if (!e)
        fprintf(stderr, "hyperwind: recorded to %s, %" PRIu64 " bytes\n", o->output, len);
    return e;
}

struct err *cmd_record(int argc, char **argv, int *status)
{
    struct options o;
    struct guest g;
    struct err *e = options_parse(CMD_RECORD, argc, argv, &o);
    if (!e)
        e = guest_open(&o, &g);
    if (e)
        return e;
    e = record_file(&o, &g, status);
    guest_close(&g);
    if (e && err_code(e) == ERR_INPUT)
        e = err_wrap(e, "%s", o.file ? o.file : o.firmware);
    if (e || !o.verify)
        return e;
    struct options again = {.file = o.output, .engine = o.engine, .quiet = true, .flip_ticks = UINT64_MAX,
                            .alter_seq = UINT64_MAX};
    return replay_file(o.output, &again, status);
}
