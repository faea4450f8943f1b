/* gdb/stub.c: a connection: bytes to packets, packets to their handlers, replies to bytes. See stub.h. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "gdb/stub_impl.h"

static const struct stub_packet *const packet_tables[] = {
    stub_run_packets, stub_data_packets, stub_query_packets, stub_file_packets,
};

struct gdbs *gdbs_new(const struct gdbs_arch *arch, const struct gdbs_ops *ops, void *target,
                      const struct gdbs_options *o)
{
    struct gdbs *g = calloc(1, sizeof(*g));
    if (!g)
        return NULL;
    *g = (struct gdbs){.arch = arch, .ops = ops, .target = target, .o = *o, .single_step = 7};
    if (!stub_describe(g)) {
        gdbs_destroy(g);
        return NULL;
    }
    return g;
}

void gdbs_destroy(struct gdbs *g)
{
    if (!g)
        return;
    stub_breaks_free(g);
    wire_reader_deinit(&g->in);
    struct text *texts[] = {&g->description, &g->queue, &g->packet, &g->reply, &g->out, &g->last, &g->scratch};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        text_deinit(texts[i]);
    free(g->regs);
    free(g);
}

/* ---- replies ---- */

void stub_ok(struct gdbs *g)
{
    text_str(&g->reply, "OK");
}

void stub_error(struct gdbs *g, unsigned number)
{
    text_clear(&g->reply);
    text_printf(&g->reply, "E%02x", number);
}

void stub_refuse(struct gdbs *g, const char *why)
{
    text_clear(&g->reply);
    text_printf(&g->reply, "E.%s", why);
}

void stub_malformed(struct gdbs *g)
{
    stub_refuse(g, "malformed packet");
}

void stub_part(struct gdbs *g, const void *data, size_t len, uint64_t offset, uint64_t want)
{
    size_t from = (size_t)MIN(offset, len), n = (size_t)MIN(want, len - from);
    n = MIN(n, (size_t)WIRE_MAX / 2 - 8); /* each byte may need an escape */
    text_char(&g->reply, from + n < len ? 'm' : 'l');
    text_add(&g->reply, (const uint8_t *)data + from, n);
}

/* `last` is kept for a client that asks for it again. */
static void send_packet(struct gdbs *g, const struct text *content)
{
    if (g->no_ack) {
        wire_write(&g->out, content->data, content->len);
        return;
    }
    text_clear(&g->last);
    wire_write(&g->last, content->data, content->len);
    text_add(&g->out, g->last.data, g->last.len);
}

void gdbs_print_bytes(struct gdbs *g, const void *data, size_t len)
{
    enum { AT_ONCE = 16 * 1024 };
    for (size_t i = 0; i < len; i += AT_ONCE) {
        text_clear(&g->scratch);
        text_char(&g->scratch, 'O');
        text_hex(&g->scratch, (const uint8_t *)data + i, MIN(len - i, (size_t)AT_ONCE));
        send_packet(g, &g->scratch);
    }
}

void gdbs_print(struct gdbs *g, const char *format, ...)
{
    char *text;
    va_list args;
    va_start(args, format);
    int len = vasprintf(&text, format, args);
    va_end(args);
    if (len < 0)
        return;
    gdbs_print_bytes(g, text, (size_t)len);
    free(text);
}

/* ---- packets ---- */

static bool matches(const char *name, const struct text *packet, struct cursor *args)
{
    size_t len = strlen(name);
    if (packet->len < len || memcmp(packet->data, name, len) != 0)
        return false;
    *args = (struct cursor){packet->data + len, packet->data + packet->len};
    if (len == 1 || !cursor_left(args))
        return true;
    return cursor_is(args, ':') || cursor_is(args, ';') || cursor_is(args, ',');
}

static const struct stub_packet *find(const struct text *packet, struct cursor *args)
{
    for (size_t i = 0; i < ARRAY_LEN(packet_tables); i++)
        for (const struct stub_packet *p = packet_tables[i]; p->name; p++)
            if (matches(p->name, packet, args))
                return p;
    return NULL;
}

static void answer(struct gdbs *g)
{
    struct cursor args;
    const struct stub_packet *p = g->packet.len ? find(&g->packet, &args) : NULL;
    text_clear(&g->reply);
    g->no_reply = false;
    g->busy = true;
    if (p)
        p->run(g, &args);
    g->busy = false;
    if (!g->no_reply)
        send_packet(g, &g->reply);
}

/* ---- bytes ---- */

static void enqueue(struct gdbs *g, enum wire_event event)
{
    uint32_t len = (uint32_t)g->in.data.len;
    if (event == WIRE_BREAK && g->breaks)
        return; /* the user is impatient */
    if (g->queue_head > g->queue.len / 2) {
        text_drop(&g->queue, g->queue_head);
        g->queue_head = 0;
    }
    if (g->queue.len - g->queue_head + len > STUB_QUEUE_MAX) {
        g->overrun = true;
        return;
    }
    text_char(&g->queue, (char)event);
    if (event == WIRE_BREAK)
        g->breaks++;
    if (event != WIRE_PACKET)
        return;
    text_add(&g->queue, &len, sizeof(len));
    text_add(&g->queue, g->in.data.data, len);
}

static void take_byte(struct gdbs *g, uint8_t byte)
{
    enum wire_event event = wire_feed(&g->in, byte, !g->no_ack);
    switch (event) {
    case WIRE_NONE:
    case WIRE_ACK:
        return;
    case WIRE_BAD:
        if (!g->no_ack)
            text_char(&g->out, '-');
        return;
    case WIRE_NAK:
        if (!g->no_ack)
            text_add(&g->out, g->last.data, g->last.len);
        return;
    case WIRE_PACKET:
    case WIRE_TOO_LONG:
        if (!g->no_ack)
            text_char(&g->out, '+');
        enqueue(g, event);
        return;
    case WIRE_BREAK:
        enqueue(g, event);
        return;
    }
}

/* Takes the first event off the queue; a packet's data go to g->packet. */
static enum wire_event dequeue(struct gdbs *g)
{
    const uint8_t *head = g->queue.data + g->queue_head;
    enum wire_event event = (enum wire_event)*head++;
    if (event == WIRE_BREAK)
        g->breaks--;
    if (event == WIRE_PACKET) {
        uint32_t len = get_le32(head);
        text_clear(&g->packet);
        text_add(&g->packet, head + sizeof(len), len);
        head += sizeof(len) + len;
    }
    g->queue_head = (size_t)(head - g->queue.data);
    return event;
}

static bool queued(const struct gdbs *g)
{
    return g->queue_head < g->queue.len && !text_failed(&g->queue);
}

/* A 0x03 that comes while nothing moves has nothing to stop. Who does not take replies gets no more of them. */
static void work(struct gdbs *g)
{
    while (!g->busy && g->want == GDBS_WANT_BYTES && g->out.len < STUB_OUT_MAX && queued(g)) {
        enum wire_event event = dequeue(g);
        if (event == WIRE_PACKET) {
            answer(g);
        } else if (event == WIRE_TOO_LONG) {
            text_clear(&g->reply);
            stub_refuse(g, "the packet is too long");
            send_packet(g, &g->reply);
        }
    }
}

/* All bytes are taken before a packet is answered: an operation may feed what comes after them. */
void gdbs_feed(struct gdbs *g, const void *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        take_byte(g, ((const uint8_t *)bytes)[i]);
    work(g);
}

const uint8_t *gdbs_output(const struct gdbs *g, size_t *len_out)
{
    *len_out = g->out.len;
    return g->out.data;
}

void gdbs_output_done(struct gdbs *g, size_t len)
{
    text_drop(&g->out, MIN(len, g->out.len));
    work(g);
}

static bool failed(const struct gdbs *g)
{
    return g->overrun || text_failed(&g->in.data) || text_failed(&g->queue) || text_failed(&g->packet) ||
           text_failed(&g->reply) || text_failed(&g->out) || text_failed(&g->last) || text_failed(&g->scratch);
}

enum gdbs_want gdbs_wants(const struct gdbs *g, struct gdbs_resume *resume_out)
{
    if (failed(g))
        return GDBS_WANT_CLOSE;
    *resume_out = g->resume;
    return g->want;
}

bool gdbs_interrupt_wanted(const struct gdbs *g)
{
    return g->breaks > 0 || failed(g);
}

bool stub_interrupted(const struct gdbs *g)
{
    return gdbs_interrupt_wanted(g) || (g->ops->interrupted && g->ops->interrupted(g->target));
}

/* What asked for this stop has been heard; a second 0x03 meant the same one. */
static void forget_breaks(struct gdbs *g)
{
    while (queued(g) && g->queue.data[g->queue_head] == WIRE_BREAK)
        dequeue(g);
}

void gdbs_report_stop(struct gdbs *g, const struct gdbs_stop *stop)
{
    g->stop = *stop;
    g->thread = stop->thread;
    g->want = GDBS_WANT_BYTES;
    g->over = stop->kind == GDBS_STOP_EXITED || stop->kind == GDBS_STOP_SIGNALLED;
    text_clear(&g->reply);
    stub_stop_reply(g);
    send_packet(g, &g->reply);
    forget_breaks(g);
    work(g);
}
