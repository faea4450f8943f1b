/* replay/cmd_dump.c: `hyperwind dump`: the events of a recording, one a line. */
#include <errno.h>
#include <stdio.h>

#include "logfmt/log.h"
#include "replay/commands.h"
#include "replay/options.h"

static struct err *dump(struct log_reader *lr, bool json)
{
    for (;;) {
        struct log_pos pos;
        struct log_event ev;
        struct err *e = log_reader_next(lr, &pos, &ev);
        if (e || ev.id == LOG_EV_NONE)
            return e;
        log_event_print(stdout, pos, &ev, json);
        if (ferror(stdout))
            return err_errno(ERR_HOST, errno, "cannot write the dump");
    }
}

struct err *cmd_dump(int argc, char **argv, int *status)
{
    struct options o;
    struct log_reader *lr;
    (void)status;
    struct err *e = options_parse(CMD_DUMP, argc, argv, &o);
    if (!e)
        e = log_reader_open(o.file, &lr);
    if (e)
        return e;
    e = dump(lr, o.json);
    log_reader_close(lr);
    return e;
}
