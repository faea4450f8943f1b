/* gdb/stub_run.c: what makes the target move or stop: resumption, stop replies, breakpoints. */
#include <stdlib.h>

#include "gdb/agent.h"
#include "gdb/stub_impl.h"

enum { SIGNAL_INT = 2, SIGNAL_TRAP = 5 }; /* gdb's own numbers */

/* ---- breakpoints ---- */

static int break_order(const struct gdbs_break *a, const struct gdbs_break *b)
{
    if (a->addr != b->addr)
        return a->addr < b->addr ? -1 : 1;
    if (a->type != b->type)
        return a->type < b->type ? -1 : 1;
    if (a->len != b->len)
        return a->len < b->len ? -1 : 1;
    return (int)a->physical - (int)b->physical;
}

/* Where it is, or belongs. */
static size_t break_place(const struct gdbs *g, const struct gdbs_break *b)
{
    size_t low = 0, high = g->break_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (break_order(&g->breaks_set[middle]->b, b) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct stub_break *break_find(const struct gdbs *g, const struct gdbs_break *b, size_t *place_out)
{
    *place_out = break_place(g, b);
    if (*place_out == g->break_count)
        return NULL;
    struct stub_break *found = g->breaks_set[*place_out];
    return break_order(&found->b, b) ? NULL : found;
}

static void break_free(struct stub_break *s)
{
    text_deinit(&s->code);
    free(s);
}

static bool break_make_room(struct gdbs *g)
{
    if (g->break_count < g->break_room)
        return true;
    size_t room = MAX(g->break_room * 2, 16);
    struct stub_break **all = reallocarray(g->breaks_set, room, sizeof(*all));
    if (!all)
        return false;
    g->breaks_set = all;
    g->break_room = room;
    return true;
}

static struct stub_break *break_add(struct gdbs *g, const struct gdbs_break *b, size_t place)
{
    struct stub_break *s = break_make_room(g) ? calloc(1, sizeof(*s)) : NULL;
    if (!s)
        return NULL;
    s->b = *b;
    if (!g->ops->insert(g->target, &s->b)) {
        free(s);
        return NULL;
    }
    memmove(g->breaks_set + place + 1, g->breaks_set + place, (g->break_count - place) * sizeof(s));
    g->breaks_set[place] = s;
    g->break_count++;
    return s;
}

/* Tell the target of removals that no insertion has undone. */
static void breaks_settle(struct gdbs *g, bool all)
{
    size_t kept = 0;
    if (!g->gone_count && !all)
        return;
    for (size_t i = 0; i < g->break_count; i++) {
        struct stub_break *s = g->breaks_set[i];
        if (s->gone || all) {
            g->ops->remove(g->target, &s->b);
            break_free(s);
        } else {
            g->breaks_set[kept++] = s;
        }
    }
    g->break_count = kept;
    g->gone_count = 0;
}

void stub_breaks_settle(struct gdbs *g)
{
    breaks_settle(g, false);
}

void stub_breaks_free(struct gdbs *g)
{
    breaks_settle(g, true);
    free(g->breaks_set);
}

/* X<length>,<bytecode> as often as there are conditions. */
static bool read_conditions(struct cursor *c, struct text *code)
{
    while (cursor_is(c, ';') || cursor_left(c)) {
        uint64_t len;
        uint8_t *bytes;
        if (!cursor_is(c, 'X') || !cursor_hex_to(c, &len, ',') || !len || len > AGENT_CODE_MAX)
            return false;
        bytes = malloc((size_t)len);
        bool ok = bytes && cursor_bytes(c, bytes, (size_t)len) == len;
        if (ok) {
            uint32_t size = (uint32_t)len;
            text_add(code, &size, sizeof(size));
            text_add(code, bytes, size);
        }
        free(bytes);
        if (!ok)
            return false;
    }
    return !text_failed(code);
}

static bool read_break(const struct gdbs *g, struct cursor *c, struct gdbs_break *b)
{
    uint64_t type;
    *b = (struct gdbs_break){0};
    if (!cursor_hex_to(c, &type, ',') || type > GDBS_ACCESS_WATCH || !cursor_hex_to(c, &b->addr, ',') ||
        !cursor_hex(c, &b->len))
        return false;
    b->type = (enum gdbs_break_type)type;
    if (b->type < GDBS_WATCH)
        return true;
    b->physical = g->physical;
    return b->len && b->len - 1 <= UINT64_MAX - b->addr;
}

static void packet_insert(struct gdbs *g, struct cursor *c)
{
    struct gdbs_break b;
    struct text code = {0};
    size_t place;
    if (!read_break(g, c, &b) || !read_conditions(c, &code)) {
        text_deinit(&code);
        stub_malformed(g);
        return;
    }
    struct stub_break *s = break_find(g, &b, &place);
    if (s && s->gone)
        g->gone_count--;
    if (!s)
        s = break_add(g, &b, place);
    if (!s) {
        text_deinit(&code);
        stub_refuse(g, "the breakpoint cannot be inserted");
        return;
    }
    text_deinit(&s->code);
    s->code = code;
    s->gone = false;
    s->b.conditional = code.len > 0;
    stub_ok(g);
}

static void packet_remove(struct gdbs *g, struct cursor *c)
{
    struct gdbs_break b;
    size_t place;
    if (!read_break(g, c, &b)) {
        stub_malformed(g);
        return;
    }
    struct stub_break *s = break_find(g, &b, &place);
    if (s && !s->gone) {
        s->gone = true;
        g->gone_count++;
    }
    stub_ok(g); /* removing what is not there changes nothing */
}

/* ---- conditions ---- */

static bool condition_reg(void *arg, unsigned number, uint64_t *value_out)
{
    const struct gdbs *g = arg;
    uint8_t bytes[GDBS_REG_MAX] = {0};
    if (number >= g->reg_count || !g->ops->read_reg(g->target, g->thread, g->regs[number].r, bytes))
        return false;
    *value_out = get_le64(bytes);
    return true;
}

static bool condition_memory(void *arg, uint64_t addr, void *buf, size_t len)
{
    const struct gdbs *g = arg;
    return g->ops->read_memory(g->target, stub_space(g), addr, buf, len) == len;
}

static void tell_bad_condition(struct gdbs *g, const struct gdbs_break *b, const char *why)
{
    if (!g->told_bad_condition)
        gdbs_print(g, "The condition of the breakpoint at %#" PRIx64 " cannot be evaluated: %s\n", b->addr, why);
    g->told_bad_condition = true;
}

bool gdbs_condition(struct gdbs *g, const struct gdbs_break *b)
{
    static const struct agent_reader reader = {condition_reg, condition_memory};
    const struct stub_break *s = (const struct stub_break *)b; /* its first member */
    for (size_t at = 0; at < s->code.len;) {
        uint32_t len = get_le32(s->code.data + at);
        uint64_t value = 0;
        const char *why;
        if (!agent_eval(s->code.data + at + sizeof(len), len, &reader, g, &value, &why)) {
            tell_bad_condition(g, b, why);
            return true;
        }
        if (value)
            return true;
        at += sizeof(len) + len;
    }
    return !s->code.len;
}

/* ---- stop replies ---- */

static void expedite(struct gdbs *g, unsigned thread)
{
    for (size_t i = 0; i < g->arch->expedited_count; i++) {
        unsigned number = g->arch->expedited[i];
        uint8_t value[GDBS_REG_MAX];
        const struct gdbs_reg *r = g->regs[number].r;
        if (!g->ops->read_reg(g->target, thread, r, value))
            continue;
        text_printf(&g->reply, "%02x:", number);
        text_hex(&g->reply, value, r->bits / 8);
        text_char(&g->reply, ';');
    }
}

static void add_reason(struct gdbs *g, const struct gdbs_stop *stop)
{
    static const char *const watch[] = {
        [GDBS_WATCH] = "watch", [GDBS_READ_WATCH] = "rwatch", [GDBS_ACCESS_WATCH] = "awatch",
    };
    if (stop->kind == GDBS_STOP_BEGIN)
        text_str(&g->reply, "replaylog:begin;");
    if (stop->kind == GDBS_STOP_END)
        text_str(&g->reply, "replaylog:end;");
    if (stop->kind != GDBS_STOP_BREAK || !stop->hit)
        return;
    if (stop->hit->type == GDBS_SOFTWARE && g->swbreak)
        text_str(&g->reply, "swbreak:;");
    else if (stop->hit->type == GDBS_HARDWARE && g->hwbreak)
        text_str(&g->reply, "hwbreak:;");
    else if (stop->hit->type >= GDBS_WATCH)
        text_printf(&g->reply, "%s:%" PRIx64 ";", watch[stop->hit->type], stop->addr);
}

static int signal_of(const struct gdbs_stop *stop)
{
    if (stop->kind == GDBS_STOP_SIGNAL)
        return stop->code & 0x7f;
    return stop->kind == GDBS_STOP_INTERRUPT ? SIGNAL_INT : SIGNAL_TRAP;
}

void stub_stop_reply(struct gdbs *g)
{
    struct gdbs_stop *stop = &g->stop;
    if (stop->kind == GDBS_STOP_EXITED || stop->kind == GDBS_STOP_SIGNALLED) {
        text_printf(&g->reply, "%c%02x", stop->kind == GDBS_STOP_EXITED ? 'W' : 'X', stop->code & 0xff);
        if (g->multiprocess)
            text_str(&g->reply, ";process:1");
        return;
    }
    text_printf(&g->reply, "T%02x", signal_of(stop));
    expedite(g, stop->thread);
    text_str(&g->reply, "thread:");
    stub_thread_id(g, &g->reply, stop->thread);
    text_printf(&g->reply, ";core:%x;", stop->thread);
    add_reason(g, stop);
    stop->hit = NULL; /* it may be gone when somebody asks again, by `?` */
}

/* ---- moving ---- */

static void resume(struct gdbs *g, const struct gdbs_resume *r)
{
    if (g->over) {
        stub_refuse(g, "the machine has ended");
        return;
    }
    if (r->how != GDBS_STEP || !r->back) /* one step back does not look at breakpoints */
        stub_breaks_settle(g);
    g->resume = *r;
    g->want = GDBS_WANT_RESUME;
    g->no_reply = true;
}

static void packet_back(struct gdbs *g, struct cursor *c, int how)
{
    if (!g->o.reverse)
        return; /* unsupported */
    if (cursor_left(c))
        stub_malformed(g);
    else
        resume(g, &(struct gdbs_resume){.how = how, .back = true, .thread = g->thread});
}

static void packet_back_continue(struct gdbs *g, struct cursor *c)
{
    packet_back(g, c, GDBS_CONTINUE);
}

static void packet_back_step(struct gdbs *g, struct cursor *c)
{
    packet_back(g, c, GDBS_STEP);
}

/* The forms before vCont, with an address to go on from. */
static void resume_at(struct gdbs *g, struct cursor *c, int how)
{
    uint64_t pc;
    if (cursor_left(c)) {
        if (!cursor_hex(c, &pc) || cursor_left(c)) {
            stub_malformed(g);
            return;
        }
        char why[GDBS_WHY] = "";
        uint8_t value[GDBS_REG_MAX] = {0};
        const uint8_t *values = value;
        const struct gdbs_reg *r = g->regs[g->arch->pc].r;
        put_le64(value, pc);
        if (!g->ops->write_regs(g->target, g->thread, &r, &values, 1, why)) {
            stub_refuse(g, why);
            return;
        }
    }
    resume(g, &(struct gdbs_resume){.how = how, .thread = g->thread});
}

static void packet_continue(struct gdbs *g, struct cursor *c)
{
    resume_at(g, c, GDBS_CONTINUE);
}

static void packet_step(struct gdbs *g, struct cursor *c)
{
    resume_at(g, c, GDBS_STEP);
}

/* A machine has no signals to deliver. */
static bool skip_signal(struct cursor *c)
{
    uint64_t number;
    return cursor_hex(c, &number);
}

static void packet_continue_signal(struct gdbs *g, struct cursor *c)
{
    if (!skip_signal(c) || (cursor_left(c) && !cursor_is(c, ';')))
        stub_malformed(g);
    else
        resume_at(g, c, GDBS_CONTINUE);
}

static void packet_step_signal(struct gdbs *g, struct cursor *c)
{
    if (!skip_signal(c) || (cursor_left(c) && !cursor_is(c, ';')))
        stub_malformed(g);
    else
        resume_at(g, c, GDBS_STEP);
}

/* One action of vCont into *r; 't' into *stop. */
static bool read_action(struct cursor *c, struct gdbs_resume *r, bool *stop)
{
    *r = (struct gdbs_resume){.how = GDBS_CONTINUE};
    if (cursor_is(c, 'c'))
        return true;
    if (cursor_is(c, 'C'))
        return skip_signal(c);
    r->how = GDBS_STEP;
    if (cursor_is(c, 's'))
        return true;
    if (cursor_is(c, 'S'))
        return skip_signal(c);
    r->how = GDBS_STEP_RANGE;
    if (cursor_is(c, 'r'))
        return cursor_hex_to(c, &r->start, ',') && cursor_hex(c, &r->end);
    *stop = cursor_is(c, 't');
    return *stop;
}

/* All threads move together; what is asked of a single one is what decides, else what is asked of all. */
static void packet_vcont(struct gdbs *g, struct cursor *c)
{
    struct gdbs_resume chosen = {.how = GDBS_CONTINUE};
    bool stop = false, found = false;
    do {
        struct gdbs_resume r;
        bool any = true;
        unsigned thread = g->thread;
        if (!read_action(c, &r, &stop) || (cursor_is(c, ':') && !cursor_thread(c, &thread, &any)) ||
            thread >= stub_threads(g)) {
            stub_malformed(g);
            return;
        }
        r.thread = any ? g->thread : thread;
        if (!found || (!any && r.how != GDBS_CONTINUE && chosen.how == GDBS_CONTINUE))
            chosen = r;
        found = true;
    } while (cursor_is(c, ';'));
    if (cursor_left(c))
        stub_malformed(g);
    else if (stop)
        stub_stop_reply(g); /* it stands already */
    else
        resume(g, &chosen);
}

static void packet_vcont_query(struct gdbs *g, struct cursor *c)
{
    (void)c;
    text_str(&g->reply, "vCont;c;C;s;S;t;r");
}

static void packet_why(struct gdbs *g, struct cursor *c)
{
    (void)c;
    stub_stop_reply(g);
}

/* ---- leaving ---- */

static void packet_detach(struct gdbs *g, struct cursor *c)
{
    (void)c;
    g->want = GDBS_WANT_DETACH;
    stub_ok(g);
}

/* gdb's `run`, after `target extended-remote`, is a vKill and a vRun on one connection. */
static void packet_vkill(struct gdbs *g, struct cursor *c)
{
    (void)c;
    if (g->extended && g->o.reverse)
        g->over = true;
    else
        g->want = GDBS_WANT_KILL;
    stub_ok(g);
}

static void packet_kill(struct gdbs *g, struct cursor *c)
{
    (void)c;
    g->want = GDBS_WANT_KILL;
    g->no_reply = true;
}

static bool restart(struct gdbs *g)
{
    stub_breaks_settle(g);
    if (!g->ops->restart || !g->ops->restart(g->target))
        return false;
    g->stop = (struct gdbs_stop){.kind = GDBS_STOP_STEP};
    g->over = false;
    return true;
}

static void packet_restart(struct gdbs *g, struct cursor *c)
{
    (void)c;
    restart(g);
    g->no_reply = true; /* as the protocol wants it; `?` follows */
}

static void packet_vrun(struct gdbs *g, struct cursor *c)
{
    (void)c;
    if (restart(g))
        stub_stop_reply(g);
    else
        stub_refuse(g, "this machine cannot go back to its beginning");
}

static void packet_extended(struct gdbs *g, struct cursor *c)
{
    (void)c;
    g->extended = true;
    stub_ok(g);
}

const struct stub_packet stub_run_packets[] = {
    {"vCont?", packet_vcont_query},
    {"vCont", packet_vcont},
    {"bs", packet_back_step},
    {"bc", packet_back_continue},
    {"c", packet_continue},
    {"C", packet_continue_signal},
    {"s", packet_step},
    {"S", packet_step_signal},
    {"?", packet_why},
    {"Z", packet_insert},
    {"z", packet_remove},
    {"D", packet_detach},
    {"k", packet_kill},
    {"vKill", packet_vkill},
    {"R", packet_restart},
    {"vRun", packet_vrun},
    {"!", packet_extended},
    {NULL, NULL},
};
