/* gdb/stub_query.c: what there is: features, threads, objects, settings, monitor commands. */
#include "gdb/stub_impl.h"

unsigned stub_threads(const struct gdbs *g)
{
    return g->ops->threads ? g->ops->threads(g->target) : 1;
}

void stub_thread_id(const struct gdbs *g, struct text *t, unsigned thread)
{
    text_printf(t, g->multiprocess ? "p1.%x" : "%x", thread + 1);
}

/* ---- features ---- */

static void client_feature(struct gdbs *g, const char *name, size_t len)
{
    const struct { const char *name; bool *known; } rows[] = {
        {"multiprocess+", &g->multiprocess}, {"swbreak+", &g->swbreak}, {"hwbreak+", &g->hwbreak},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (strlen(rows[i].name) == len && !memcmp(rows[i].name, name, len))
            *rows[i].known = true;
}

static void packet_supported(struct gdbs *g, struct cursor *c)
{
    while (cursor_left(c)) {
        const uint8_t *semicolon = memchr(c->p, ';', cursor_left(c)), *end = semicolon ? semicolon : c->end;
        client_feature(g, (const char *)c->p, (size_t)(end - c->p));
        c->p = semicolon ? end + 1 : end;
    }
    text_printf(&g->reply, "PacketSize=%x;QStartNoAckMode+;multiprocess+;vContSupported+;swbreak+;hwbreak+;"
                           "ConditionalBreakpoints+;qXfer:features:read+;qXfer:threads:read+;QPassSignals+;"
                           "QProgramSignals+;binary-upload+;QNonStop-", WIRE_MAX);
    if (g->ops->files)
        text_str(&g->reply, ";qXfer:exec-file:read+");
    if (g->o.reverse)
        text_str(&g->reply, ";ReverseStep+;ReverseContinue+");
}

static void packet_no_ack(struct gdbs *g, struct cursor *c)
{
    (void)c;
    g->no_ack = true;
    stub_ok(g);
}

/* ---- threads ---- */

static void packet_current(struct gdbs *g, struct cursor *c)
{
    (void)c;
    text_str(&g->reply, "QC");
    stub_thread_id(g, &g->reply, g->thread);
}

static void packet_select(struct gdbs *g, struct cursor *c)
{
    unsigned thread;
    bool any;
    bool for_data = cursor_is(c, 'g');
    if ((!for_data && !cursor_is(c, 'c')) || !cursor_thread(c, &thread, &any) || cursor_left(c)) {
        stub_malformed(g);
        return;
    }
    if (thread >= stub_threads(g)) {
        stub_refuse(g, "there is no such thread");
        return;
    }
    if (for_data && !any)
        g->thread = thread;
    stub_ok(g);
}

static void packet_alive(struct gdbs *g, struct cursor *c)
{
    unsigned thread;
    if (cursor_thread(c, &thread, NULL) && thread < stub_threads(g) && !g->over)
        stub_ok(g);
    else
        stub_refuse(g, "there is no such thread");
}

static void packet_list_more(struct gdbs *g, struct cursor *c)
{
    enum { AT_ONCE = 256 };
    unsigned all = stub_threads(g), end = MIN(g->listed + AT_ONCE, all);
    (void)c;
    text_char(&g->reply, g->listed < end ? 'm' : 'l');
    for (unsigned i = g->listed; i < end; i++) {
        if (i > g->listed)
            text_char(&g->reply, ',');
        stub_thread_id(g, &g->reply, i);
    }
    g->listed = end;
}

static void packet_list(struct gdbs *g, struct cursor *c)
{
    g->listed = 0;
    packet_list_more(g, c);
}

static void thread_text(const struct gdbs *g, unsigned thread, char *buf, size_t len)
{
    buf[0] = '\0';
    if (g->ops->thread_text)
        g->ops->thread_text(g->target, thread, buf, len);
}

enum { THREAD_TEXT = 128 };

static void packet_thread_extra(struct gdbs *g, struct cursor *c)
{
    unsigned thread;
    char text[THREAD_TEXT];
    if (!cursor_thread(c, &thread, NULL) || thread >= stub_threads(g)) {
        stub_refuse(g, "there is no such thread");
        return;
    }
    thread_text(g, thread, text, sizeof(text));
    text_hex(&g->reply, text, strlen(text));
}

static void packet_attached(struct gdbs *g, struct cursor *c)
{
    (void)c;
    text_str(&g->reply, "1"); /* the machine was there before the client: leaving does not end it */
}

/* ---- objects ---- */

static void add_escaped(struct text *t, const char *s)
{
    static const struct { char c; const char *entity; } rows[] = {
        {'<', "&lt;"}, {'>', "&gt;"}, {'&', "&amp;"}, {'"', "&quot;"},
    };
    for (; *s; s++) {
        size_t i = 0;
        while (i < ARRAY_LEN(rows) && rows[i].c != *s)
            i++;
        i < ARRAY_LEN(rows) ? text_str(t, rows[i].entity) : text_char(t, *s);
    }
}

static bool object_features(struct gdbs *g, const char *annex, struct text *t)
{
    if (strcmp(annex, "target.xml") != 0)
        return false;
    text_add(t, g->description.data, g->description.len);
    return true;
}

static bool object_threads(struct gdbs *g, const char *annex, struct text *t)
{
    (void)annex;
    text_str(t, "<?xml version=\"1.0\"?>\n<threads>\n");
    for (unsigned i = 0; i < stub_threads(g); i++) {
        char text[THREAD_TEXT];
        thread_text(g, i, text, sizeof(text));
        text_str(t, "<thread id=\"");
        stub_thread_id(g, t, i);
        text_printf(t, "\" core=\"%u\" name=\"CPU%u\">", i, i);
        add_escaped(t, text);
        text_str(t, "</thread>\n");
    }
    text_str(t, "</threads>\n");
    return true;
}

static bool object_exec_file(struct gdbs *g, const char *annex, struct text *t)
{
    const uint8_t *data;
    size_t len;
    (void)annex; /* a process, of which there is one */
    if (!g->ops->files || !g->ops->file(g->target, 0, &data, &len))
        return false;
    text_str(t, g->ops->files[0]);
    return true;
}

static const struct { const char *name; bool (*make)(struct gdbs *g, const char *annex, struct text *t); } objects[] = {
    {"features:read:", object_features},
    {"threads:read:", object_threads},
    {"exec-file:read:", object_exec_file},
};

/* What follows the object's name: annex:offset,length. */
static void transfer(struct gdbs *g, struct cursor *c, size_t object)
{
    const uint8_t *colon = memchr(c->p, ':', cursor_left(c));
    char annex[64];
    uint64_t offset, len;
    size_t n = colon ? (size_t)(colon - c->p) : sizeof(annex);
    if (n >= sizeof(annex)) {
        stub_malformed(g);
        return;
    }
    memcpy(annex, c->p, n);
    annex[n] = '\0';
    c->p = colon + 1;
    if (!cursor_hex_to(c, &offset, ',') || !cursor_hex(c, &len) || cursor_left(c)) {
        stub_malformed(g);
        return;
    }
    struct text t = {0};
    if (objects[object].make(g, annex, &t) && !text_failed(&t))
        stub_part(g, t.data, t.len, offset, len);
    else
        stub_error(g, 0); /* the annex is not known */
    text_deinit(&t);
}

static void packet_transfer(struct gdbs *g, struct cursor *c)
{
    for (size_t i = 0; i < ARRAY_LEN(objects); i++)
        if (cursor_word(c, objects[i].name)) {
            transfer(g, c, i);
            return;
        }
}

/* ---- the rest ---- */

static void packet_monitor(struct gdbs *g, struct cursor *c)
{
    char line[STUB_LINE_MAX];
    size_t len = cursor_bytes(c, (uint8_t *)line, sizeof(line) - 1);
    line[len] = '\0';
    if (cursor_left(c)) {
        stub_malformed(g);
        return;
    }
    stub_breaks_settle(g); /* a command may move the target */
    if (!g->ops->monitor || !g->ops->monitor(g->target, g, line))
        return; /* an empty reply: there is no such command */
    text_clear(&g->reply);
    stub_ok(g);
}

static void packet_accept(struct gdbs *g, struct cursor *c)
{
    (void)c;
    stub_ok(g);
}

/* Steps with interrupts masked do not exist here: an interrupt is part of the history. The bits are kept for clients
 * that set what they read. */
static void packet_single_step_bits(struct gdbs *g, struct cursor *c)
{
    (void)c;
    text_str(&g->reply, "ENABLE=1,NOIRQ=2,NOTIMER=4");
}

static void packet_single_step(struct gdbs *g, struct cursor *c)
{
    (void)c;
    text_printf(&g->reply, "0x%x", g->single_step);
}

static void packet_set_single_step(struct gdbs *g, struct cursor *c)
{
    uint64_t bits;
    cursor_word(c, "0x");
    if (!cursor_hex(c, &bits) || bits > 7) {
        stub_malformed(g);
        return;
    }
    g->single_step = (uint8_t)bits;
    stub_ok(g);
}

const struct stub_packet stub_query_packets[] = {
    {"qSupported", packet_supported},
    {"QStartNoAckMode", packet_no_ack},
    {"qC", packet_current},
    {"H", packet_select},
    {"T", packet_alive},
    {"qfThreadInfo", packet_list},
    {"qsThreadInfo", packet_list_more},
    {"qThreadExtraInfo", packet_thread_extra},
    {"qAttached", packet_attached},
    {"qXfer", packet_transfer},
    {"qRcmd", packet_monitor},
    {"qSymbol", packet_accept},
    {"QPassSignals", packet_accept},
    {"QProgramSignals", packet_accept},
    {"qqemu.sstepbits", packet_single_step_bits},
    {"qqemu.sstep", packet_single_step},
    {"Qqemu.sstep", packet_set_single_step},
    {NULL, NULL},
};
