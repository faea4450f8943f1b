/* gdb/stub_data.c: registers and memory. */
#include <stdio.h>
#include <stdlib.h>

#include "core/base/cleanup.h"
#include "gdb/stub_impl.h"

enum {
    MEMORY_MAX = WIRE_MAX / 2 - 16, /* bytes in one packet, as hex digits or with escapes */
    CHUNK = 0x10000,                 /* of long operations, between questions whether to go on */
};

enum gdbs_space stub_space(const struct gdbs *g)
{
    return g->physical ? GDBS_PHYSICAL : GDBS_LINEAR;
}

static size_t read_memory(const struct gdbs *g, uint64_t addr, void *buf, size_t len)
{
    return g->ops->read_memory(g->target, stub_space(g), addr, buf, len);
}

/* ---- registers ---- */

static void add_register(struct gdbs *g, const struct gdbs_reg *r)
{
    uint8_t value[GDBS_REG_MAX];
    if (g->ops->read_reg(g->target, g->thread, r, value))
        text_hex(&g->reply, value, r->bits / 8);
    else
        for (unsigned i = 0; i < r->bits / 8u; i++)
            text_str(&g->reply, "xx");
}

static void packet_read_all(struct gdbs *g, struct cursor *c)
{
    (void)c;
    for (size_t i = 0; i < g->reg_count; i++)
        add_register(g, g->regs[i].r);
}

static void packet_read_one(struct gdbs *g, struct cursor *c)
{
    uint64_t number;
    if (!cursor_hex(c, &number) || cursor_left(c))
        stub_malformed(g);
    else if (number >= g->reg_count)
        stub_refuse(g, "there is no such register");
    else
        add_register(g, g->regs[number].r);
}

static void write_registers(struct gdbs *g, const struct gdbs_reg *const *regs, const uint8_t *const *values, size_t n)
{
    char why[GDBS_WHY] = "";
    if (!n || g->ops->write_regs(g->target, g->thread, regs, values, n, why))
        stub_ok(g);
    else
        stub_refuse(g, why);
}

/* Only what differs is written: gdb sends everything, read-only registers too. */
static void packet_write_all(struct gdbs *g, struct cursor *c)
{
    AUTO_FREE uint8_t *image = malloc(g->g_len + 1);
    AUTO_FREE const struct gdbs_reg **regs = calloc(g->reg_count, sizeof(*regs));
    AUTO_FREE const uint8_t **values = calloc(g->reg_count, sizeof(*values));
    size_t n = 0;
    if (!image || !regs || !values) {
        stub_refuse(g, "out of memory");
        return;
    }
    size_t len = cursor_bytes(c, image, g->g_len);
    if (cursor_left(c)) {
        stub_malformed(g);
        return;
    }
    for (size_t i = 0; i < g->reg_count; i++) {
        const struct stub_reg *s = &g->regs[i];
        uint8_t old[GDBS_REG_MAX];
        if (s->at + s->r->bits / 8u > len)
            break;
        if (g->ops->read_reg(g->target, g->thread, s->r, old) && !memcmp(old, image + s->at, s->r->bits / 8u))
            continue;
        regs[n] = s->r;
        values[n++] = image + s->at;
    }
    write_registers(g, regs, values, n);
}

static void packet_write_one(struct gdbs *g, struct cursor *c)
{
    uint64_t number;
    uint8_t value[GDBS_REG_MAX];
    const uint8_t *values = value;
    if (!cursor_hex_to(c, &number, '=')) {
        stub_malformed(g);
        return;
    }
    if (number >= g->reg_count) {
        stub_refuse(g, "there is no such register");
        return;
    }
    const struct gdbs_reg *r = g->regs[number].r;
    if (cursor_bytes(c, value, sizeof(value)) != r->bits / 8u || cursor_left(c))
        stub_malformed(g);
    else
        write_registers(g, &r, &values, 1);
}

/* ---- memory ---- */

static uint8_t *read_for_reply(struct gdbs *g, struct cursor *c, size_t *got_out)
{
    uint64_t addr, len;
    if (!cursor_hex_to(c, &addr, ',') || !cursor_hex(c, &len) || cursor_left(c)) {
        stub_malformed(g);
        return NULL;
    }
    len = MIN(len, (uint64_t)MEMORY_MAX);
    uint8_t *bytes = malloc((size_t)len + 1);
    *got_out = bytes ? read_memory(g, addr, bytes, (size_t)len) : 0;
    if (*got_out || (bytes && !len))
        return bytes;
    free(bytes);
    stub_error(g, STUB_ERR_FAULT);
    return NULL;
}

static void packet_read_memory(struct gdbs *g, struct cursor *c)
{
    size_t got;
    AUTO_FREE uint8_t *bytes = read_for_reply(g, c, &got);
    if (bytes)
        text_hex(&g->reply, bytes, got);
}

static void packet_read_binary(struct gdbs *g, struct cursor *c)
{
    size_t got;
    AUTO_FREE uint8_t *bytes = read_for_reply(g, c, &got);
    if (!bytes)
        return;
    text_char(&g->reply, 'b');
    text_add(&g->reply, bytes, got);
}

static void write_memory(struct gdbs *g, uint64_t addr, const uint8_t *data, size_t len)
{
    char why[GDBS_WHY] = "";
    if (!len || g->ops->write_memory(g->target, stub_space(g), addr, data, len, why))
        stub_ok(g);
    else
        stub_refuse(g, why);
}

static void packet_write_memory(struct gdbs *g, struct cursor *c)
{
    uint64_t addr, len;
    if (!cursor_hex_to(c, &addr, ',') || !cursor_hex_to(c, &len, ':') || cursor_left(c) / 2 != len) {
        stub_malformed(g);
        return;
    }
    AUTO_FREE uint8_t *bytes = malloc((size_t)len + 1);
    if (!bytes || cursor_bytes(c, bytes, (size_t)len) != len || cursor_left(c))
        stub_malformed(g);
    else
        write_memory(g, addr, bytes, (size_t)len);
}

static void packet_write_binary(struct gdbs *g, struct cursor *c)
{
    uint64_t addr, len;
    if (!cursor_hex_to(c, &addr, ',') || !cursor_hex_to(c, &len, ':') || cursor_left(c) != len)
        stub_malformed(g);
    else
        write_memory(g, addr, c->p, (size_t)len);
}

/* ---- long operations ---- */

/* Calls each() with consecutive stretches; 0 from it ends the walk, otherwise it says how far to advance. False: the
 * reply says what went wrong. */
static bool walk(struct gdbs *g, uint64_t addr, uint64_t len, uint8_t *buf, size_t room,
                 size_t (*each)(void *arg, uint64_t addr, const uint8_t *data, size_t len, bool last), void *arg)
{
    while (len) {
        size_t n = (size_t)MIN(len, room), got = read_memory(g, addr, buf, n);
        if (stub_interrupted(g)) {
            stub_refuse(g, "interrupted");
            return false;
        }
        if (got < n) {
            char why[GDBS_WHY];
            snprintf(why, sizeof(why), "the memory at %#" PRIx64 " cannot be read", addr + got);
            stub_refuse(g, why);
            return false;
        }
        size_t used = each(arg, addr, buf, n, n == len);
        if (!used)
            return true;
        addr += used;
        len -= used;
    }
    return true;
}

struct search { const uint8_t *pattern; size_t len; bool found; uint64_t at; };

/* The end of a stretch is looked at again with the next one: a match may lie across. */
static size_t search_stretch(void *arg, uint64_t addr, const uint8_t *data, size_t len, bool last)
{
    struct search *s = arg;
    const uint8_t *hit = memmem(data, len, s->pattern, s->len);
    s->found = hit != NULL;
    if (hit)
        s->at = addr + (uint64_t)(hit - data);
    return hit || last ? 0 : len - s->len + 1;
}

static void packet_search(struct gdbs *g, struct cursor *c)
{
    uint64_t addr, len;
    if (!cursor_hex_to(c, &addr, ';') || !cursor_hex_to(c, &len, ';') || !cursor_left(c)) {
        stub_malformed(g);
        return;
    }
    struct search s = {.pattern = c->p, .len = cursor_left(c)};
    size_t room = CHUNK + s.len;
    AUTO_FREE uint8_t *buf = malloc(room);
    if (!buf)
        stub_refuse(g, "out of memory");
    else if (len < s.len)
        text_str(&g->reply, "0");
    else if (walk(g, addr, MIN(len, UINT64_MAX - addr), buf, room, search_stretch, &s))
        s.found ? text_printf(&g->reply, "1,%" PRIx64, s.at) : text_str(&g->reply, "0");
}

/* The CRC that `compare-sections` knows: polynomial 0x04c11db7, high bit first, from all ones. */
static size_t crc_stretch(void *arg, uint64_t addr, const uint8_t *data, size_t len, bool last)
{
    uint32_t crc = *(uint32_t *)arg;
    (void)addr;
    for (size_t i = 0; i < len; i++) {
        crc ^= (uint32_t)data[i] << 24;
        for (unsigned bit = 0; bit < 8; bit++)
            crc = crc >> 31 ? crc << 1 ^ 0x04c11db7u : crc << 1;
    }
    *(uint32_t *)arg = crc;
    return last ? 0 : len;
}

static void packet_crc(struct gdbs *g, struct cursor *c)
{
    uint64_t addr, len;
    uint32_t crc = UINT32_MAX;
    if (!cursor_hex_to(c, &addr, ',') || !cursor_hex(c, &len) || cursor_left(c)) {
        stub_malformed(g);
        return;
    }
    AUTO_FREE uint8_t *buf = malloc(CHUNK);
    if (!buf)
        stub_refuse(g, "out of memory");
    else if (walk(g, addr, len, buf, CHUNK, crc_stretch, &crc))
        text_printf(&g->reply, "C%x", crc);
}

/* ---- which memory: packets that QEMU introduced (docs/system/gdb.rst there) and that scripts use ---- */

static void packet_physical(struct gdbs *g, struct cursor *c)
{
    (void)c;
    text_str(&g->reply, g->physical ? "1" : "0");
}

static void packet_set_physical(struct gdbs *g, struct cursor *c)
{
    bool on = cursor_is(c, '1');
    if ((!on && !cursor_is(c, '0')) || cursor_left(c)) {
        stub_malformed(g);
        return;
    }
    g->physical = on;
    stub_ok(g);
}

const struct stub_packet stub_data_packets[] = {
    {"g", packet_read_all},
    {"G", packet_write_all},
    {"p", packet_read_one},
    {"P", packet_write_one},
    {"m", packet_read_memory},
    {"M", packet_write_memory},
    {"x", packet_read_binary},
    {"X", packet_write_binary},
    {"qSearch:memory", packet_search},
    {"qCRC", packet_crc},
    {"qqemu.PhyMemMode", packet_physical},
    {"Qqemu.PhyMemMode", packet_set_physical},
    {NULL, NULL},
};
