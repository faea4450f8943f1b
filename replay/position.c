/* replay/position.c: see position.h. */
#include "replay/position.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/number.h"

static bool percentage(const char *text, double *out)
{
    char *rest;
    *out = strtod(text, &rest);
    return *text >= '0' && *text <= '9' && rest == text + strspn(text, "0123456789.") && !strcmp(rest, "%") && *out <= 100;
}

/* FORM_INPUT: *n is the event's number; otherwise it is the position. */
static enum form { FORM_NONE, FORM_TICKS, FORM_INPUT } form_of(const char *text, uint64_t end, uint64_t *n)
{
    double percent;
    if (!strcmp(text, "start") || !strcmp(text, "end")) {
        *n = *text == 'e' ? end : 0;
        return FORM_TICKS;
    }
    if (*text == 'e')
        return !text[1 + strspn(text + 1, "0123456789")] && number_parse(text + 1, n) ? FORM_INPUT : FORM_NONE;
    if (number_parse(text, n))
        return FORM_TICKS;
    if (!percentage(text, &percent))
        return FORM_NONE;
    *n = percent == 100 ? end : (uint64_t)((double)end * percent / 100);
    return FORM_TICKS;
}

bool position_like(const char *text)
{
    uint64_t ignored;
    return form_of(text, 0, &ignored) != FORM_NONE;
}

struct err *position_find(const char *text, uint64_t end, position_input_fn input, void *arg, uint64_t *ticks_out)
{
    uint64_t seq;
    struct position_input in = {0};
    enum form form = form_of(text, end, ticks_out);
    if (form == FORM_TICKS)
        return NULL;
    if (form == FORM_NONE)
        return err_new(ERR_USAGE, "a position was expected: %s", POSITION_FORMS);
    seq = *ticks_out;
    struct err *e = input(arg, seq, &in);
    *ticks_out = in.ticks;
    if (e || (in.found && in.seq == seq))
        return e;
    if (!in.found)
        return err_new(ERR_RANGE, "nothing came from outside from event %" PRIu64 " on", seq);
    /* Most events of a recording are digests, which nobody wants to go to. */
    return err_new(ERR_RANGE, "event %" PRIu64 " is nothing that came from outside; the next of that is e%" PRIu64, seq,
                   in.seq);
}
