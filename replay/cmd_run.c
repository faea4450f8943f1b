/* replay/cmd_run.c: `hyperwind run`: a live guest, no log. */
#include "replay/commands.h"
#include "replay/digest.h"
#include "replay/guest.h"

static struct err *run(const struct options *o, struct guest *g, struct vm *vm, int *status)
{
    enum session_end end;
    struct digester *d;
    struct err *e = digester_create(vm->machine, &d);
    if (e)
        return e;
    if (o->stats)
        vm_measure(vm);
    e = guest_run(g, vm, o->limit_ticks, false, &end);
    if (!e)
        *status = vm_report_end(vm->machine, end, digest_memory(d).total);
    if (!e && o->stats)
        vm_print_stats(vm);
    digester_destroy(d);
    return e;
}

struct err *cmd_run(int argc, char **argv, int *status)
{
    struct options o;
    struct guest g;
    struct vm vm;
    struct err *e = options_parse(CMD_RUN, argc, argv, &o);
    if (!e)
        e = guest_open(&o, &g);
    if (e)
        return e;
    e = vm_create(&g.spec, live_door(g.live), &vm);
    if (!e) {
        guest_image_loaded(&g);
        e = run(&o, &g, &vm, status);
        vm_destroy(&vm);
    }
    guest_close(&g);
    return e && err_code(e) == ERR_INPUT ? err_wrap(e, "%s", o.file ? o.file : o.firmware) : e;
}
