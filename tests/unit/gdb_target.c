/* tests/unit/gdb_target.c: gdb's packets and monitor commands, on a timeline whose states can be computed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "gdb/catch.h"
#include "gdb/regs.h"
#include "gdb/target.h"
#include "tests/unit/fake_timeline.h"

struct session {
    struct timeline *t;
    struct gdb_target target;
    int status;
    struct text said; /* what the user was told, and the last reply */
    struct text reply;
};

static struct session *begin(bool past, uint64_t end, const struct gdbs_arch *arch)
{
    struct session *s = calloc(1, sizeof(*s));
    assert_non_null(s);
    s->t = fake_timeline(past, end, NULL);
    s->target = (struct gdb_target){.t = s->t, .arch = arch};
    s->target.g = gdbs_new(arch, &gdb_target_ops, &s->target, &(struct gdbs_options){.reverse = past});
    assert_non_null(s->target.g);
    gdbs_feed(s->target.g, "$QStartNoAckMode#b0", 19);
    gdbs_feed(s->target.g, "$qSupported:swbreak+;hwbreak+#00", 32);
    size_t len;
    gdbs_output(s->target.g, &len);
    gdbs_output_done(s->target.g, len);
    return s;
}

static void end(struct session *s)
{
    gdbs_destroy(s->target.g);
    assert_int_equal(s->target.link_count, 0);
    assert_int_equal(s->t->adds, s->t->removes);
    gdb_target_deinit(&s->target);
    timeline_close(s->t);
    text_deinit(&s->said);
    text_deinit(&s->reply);
    free(s);
}

/* Run lengths and escapes undone. */
static void unpack(const uint8_t *p, size_t len, struct text *out)
{
    text_clear(out);
    for (size_t i = 0; i < len; i++) {
        if (p[i] == '*')
            for (int n = p[++i] - 29; n > 0; n--)
                text_char(out, (char)out->data[out->len - 1]);
        else
            text_char(out, (char)(p[i] == '}' ? p[++i] ^ 0x20 : p[i]));
    }
}

static void take_packet(struct session *s, const uint8_t *p, size_t len)
{
    unpack(p, len, &s->reply);
    if (s->reply.len < 3 || s->reply.data[0] != 'O' || s->reply.data[1] == 'K')
        return;
    for (size_t i = 1; i + 1 < s->reply.len; i += 2)
        text_char(&s->said, (char)(hex_digit(s->reply.data[i]) << 4 | hex_digit(s->reply.data[i + 1])));
}

static const char *ask(struct session *s, const char *packet)
{
    struct gdbs_resume r;
    size_t len;
    text_clear(&s->said);
    gdbs_feed(s->target.g, "$", 1);
    gdbs_feed(s->target.g, packet, strlen(packet));
    gdbs_feed(s->target.g, "#00", 3);
    if (gdbs_wants(s->target.g, &r) == GDBS_WANT_RESUME) {
        struct gdbs_stop stop;
        gdb_target_move(&s->target, &r, &stop, &s->status);
        gdbs_report_stop(s->target.g, &stop);
    }
    const uint8_t *p = gdbs_output(s->target.g, &len), *last = p + len, *hash;
    for (; p < last && (hash = memchr(p, '#', (size_t)(last - p))); p = hash + 3)
        take_packet(s, p + 1, (size_t)(hash - p - 1));
    gdbs_output_done(s->target.g, len);
    text_char(&s->reply, '\0');
    text_char(&s->said, '\0');
    return (const char *)s->reply.data;
}

static const char *monitor(struct session *s, const char *command)
{
    struct text packet = {0};
    text_str(&packet, "qRcmd,");
    text_hex(&packet, command, strlen(command));
    text_char(&packet, '\0');
    const char *reply = ask(s, (const char *)packet.data);
    text_deinit(&packet);
    if (strcmp(reply, "OK") != 0)
        fail_msg("monitor %s: %s", command, reply);
    return (const char *)s->said.data;
}

static void expect(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("%s is not in: %s", part, text);
}

static void stops(struct session *s, const char *packet, const char *reason, uint64_t at)
{
    expect(ask(s, packet), reason);
    if (s->t->at != at)
        fail_msg("%s: stands at %" PRIu64 ", not %" PRIu64, packet, s->t->at, at);
}

/* ---- moving ---- */

static void test_steps(void **state)
{
    (void)state;
    struct session *s = begin(true, 100, &gdb_arch_x86_64);
    stops(s, "vCont;s:1", "T05", 1);
    stops(s, "vCont;s:1", "T05", 2);
    stops(s, "bs", "T05", 1);
    stops(s, "bs", "T05", 0);
    stops(s, "bs", "replaylog:begin;", 0);
    stops(s, "bc", "replaylog:begin;", 0);
    stops(s, "vCont;c", "replaylog:end;", 100);
    expect((const char *)s->said.data, "The recording ends here: power-off\n");
    stops(s, "vCont;s:1", "replaylog:end;", 100);
    stops(s, "bs", "T05", 99);
    stops(s, "vRun;", "T05", 0);
    stops(s, "vCont;r1000,1008:1", "T05", 8);
    stops(s, "vCont;r1000,1008:1", "T05", 9); /* one at least */
    assert_int_equal(s->status, 0);
    end(s);
}

static void test_breaks(void **state)
{
    (void)state;
    struct session *s = begin(true, 160, &gdb_arch_x86_64);
    ask(s, "Z0,1003,1");
    stops(s, "vCont;c", "swbreak:;", 3);
    stops(s, "vCont;c", "swbreak:;", 19);
    stops(s, "bc", "swbreak:;", 3);
    stops(s, "bc", "replaylog:begin;", 0);
    ask(s, "Z1,1004,1");
    stops(s, "vCont;c", "swbreak:;", 3);
    stops(s, "vCont;c", "hwbreak:;", 4);
    stops(s, "vCont;r1000,1010:1", "swbreak:;", 19);
    ask(s, "z0,1003,1");
    ask(s, "z1,1004,1");
    /* RAX == 7: register 0, extended, compared */
    ask(s, "Z0,1003,1;X7,26000022071327");
    stops(s, "vCont;c", "swbreak:;", 7 * 16 + 3);
    stops(s, "vCont;c", "replaylog:end;", 160);
    stops(s, "bc", "swbreak:;", 7 * 16 + 3);
    /* icount > 100 */
    char packet[64];
    size_t icount = 0;
    for (size_t i = 0; i < gdb_arch_x86_64.count; i++)
        icount += gdb_arch_x86_64.features[i].count;
    snprintf(packet, sizeof(packet), "Z0,1003,1;X7,26%04zx22641527", icount - 1);
    ask(s, packet); /* icount < 100 */
    stops(s, "bc", "swbreak:;", 99);
    end(s);
}

/* A line is not left by an interrupt, unless something in its handler stops it. */
static void test_step_over_interrupt(void **state)
{
    (void)state;
    for (unsigned error_code = 0; error_code < 2; error_code++) {
        struct session *s = begin(true, 160, &gdb_arch_x86_64);
        s->t->handler = true;
        s->t->error_code = error_code;
        stops(s, "vCont;r1001,100d:1", "T05", 16);
        assert_int_equal(s->t->s.r[R_RIP], 0x1000);
        monitor(s, "seek 10");
        ask(s, "Z0,1801,1");
        stops(s, "vCont;r1001,100d:1", "swbreak:;", 14);
        stops(s, "vCont;r1801,1802:1", "T05", 15); /* its end is no interrupt */
        monitor(s, "seek 12");
        stops(s, "vCont;s:1", "T05", 13); /* one tick */
        assert_int_equal(s->t->s.r[R_RIP], FAKE_HANDLER);
        end(s);
    }
}

static void test_watches(void **state)
{
    (void)state;
    struct session *s = begin(true, 160, &gdb_arch_x86_64);
    ask(s, "Z2,2000,8");
    stops(s, "vCont;c", "watch:2000;", 6);  /* written */
    stops(s, "vCont;c", "watch:2000;", 22);
    stops(s, "bc", "watch:2000;", 21);      /* not written yet */
    assert_string_equal(ask(s, "m2000,1"), "01");
    stops(s, "bc", "watch:2000;", 5);
    assert_string_equal(ask(s, "m2000,1"), "00");
    ask(s, "z2,2000,8");
    ask(s, "Z3,2004,1");
    stops(s, "vCont;c", "rwatch:2004;", 10);
    stops(s, "bc", "rwatch:2004;", 9);
    ask(s, "Z4,2000,4");
    stops(s, "bc", "awatch:2000;", 5);
    stops(s, "vCont;c", "awatch:2000;", 6);
    end(s);
}

static void test_failure(void **state)
{
    (void)state;
    struct session *s = begin(true, 100, &gdb_arch_x86_64);
    s->t->fail = "diverged at tick 7";
    expect(ask(s, "vCont;c"), "T09");
    expect((const char *)s->said.data, "diverged at tick 7\n");
    stops(s, "vCont;s:1", "T05", 1);
    s->t->fail = "cannot";
    expect(monitor(s, "seek 7"), "cannot");
    s->t->fail = "cannot";
    expect(monitor(s, "last-write 0x2000"), "cannot");
    end(s);
}

static void test_live(void **state)
{
    (void)state;
    struct session *s = begin(false, 100, &gdb_arch_x86_64);
    assert_string_equal(ask(s, "bs"), "");
    assert_string_equal(ask(s, "P1=8877665544332211"), "OK");
    assert_int_equal(s->t->s.r[R_RBX], 0x1122334455667788);
    assert_string_equal(ask(s, "M3000,2:abcd"), "OK");
    assert_string_equal(ask(s, "m3000,2"), "abcd");
    assert_string_equal(ask(s, "Mffff,2:abcd"), "E.the memory at 0x10000 is not mapped");
    expect(monitor(s, "seek 5"), "a live guest has no past");
    expect(monitor(s, "when"), "icount 0, 0.000000 s");
    assert_string_equal(ask(s, "vCont;c"), "W07");
    assert_int_equal(s->status, 7);
    expect((const char *)s->said.data, "The guest ends here: power-off\n");
    end(s);
}

/* gdb calls a function of the guest's: it writes registers, runs, and puts all of them back, last the position. */
static void test_live_call(void **state)
{
    (void)state;
    struct session *s = begin(false, 100, &gdb_arch_x86_64);
    assert_string_equal(ask(s, "P6b=0000000000000000"), "E.icount is read-only"); /* nothing was written before */
    stops(s, "vCont;s:1", "T05", 1);
    assert_string_equal(ask(s, "P6b=0000000000000000"), "E.icount is read-only");
    assert_string_equal(ask(s, "P1=0100000000000000"), "OK");
    stops(s, "vCont;s:1", "T05", 2);
    stops(s, "vCont;s:1", "T05", 3);
    assert_string_equal(ask(s, "P1=0000000000000000"), "OK");
    assert_string_equal(ask(s, "P6b=0100000000000000"), "OK");
    assert_int_equal(s->t->at, 3);
    assert_string_equal(ask(s, "P6b=0200000000000000"), "E.icount is read-only");
    /* and another: gdb believes that it begins where the first one did */
    stops(s, "vCont;s:1", "T05", 4);
    assert_string_equal(ask(s, "P6b=0100000000000000"), "OK");
    /* one within one */
    stops(s, "vCont;s:1", "T05", 5);
    assert_string_equal(ask(s, "P1=0200000000000000"), "OK");
    stops(s, "vCont;s:1", "T05", 6);
    assert_string_equal(ask(s, "P6b=0500000000000000"), "OK");
    assert_string_equal(ask(s, "P6b=0100000000000000"), "OK");
    assert_string_equal(ask(s, "P6b=0600000000000000"), "E.icount is read-only");
    end(s);
}

/* A guest that crashed can be looked at; it is gone when it shall go on. */
static void test_live_crash(void **state)
{
    (void)state;
    static const struct { int status; const char *stop, *end; } rows[] = {{14, "T0b", "X0b"}, {18, "T06", "X06"}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct session *s = begin(false, 100, &gdb_arch_x86_64);
        s->t->status = rows[i].status;
        expect(ask(s, "vCont;c"), rows[i].stop);
        assert_string_equal(ask(s, "m1000,1"), "90");
        assert_string_equal(ask(s, "vCont;s:1"), rows[i].end);
        assert_int_equal(s->status, rows[i].status);
        end(s);
    }
}

static void test_refused(void **state)
{
    (void)state;
    struct session *s = begin(true, 100, &gdb_arch_x86_64);
    assert_string_equal(ask(s, "P1=8877665544332211"), "E.a recording cannot be changed");
    assert_string_equal(ask(s, "M3000,2:abcd"), "E.a recording cannot be changed");
    end(s);
}

/* ---- registers ---- */

static size_t bits_of(const char *xml)
{
    size_t bits = 0;
    for (const char *p = xml; (p = strstr(p, "bitsize=\"")); p++)
        bits += strtoul(p + strlen("bitsize=\""), NULL, 10);
    return bits;
}

static void test_description(void **state)
{
    (void)state;
    static const struct gdbs_arch *const archs[] = {&gdb_arch_x86_64, &gdb_arch_i386};
    for (size_t i = 0; i < ARRAY_LEN(archs); i++) {
        struct session *s = begin(true, 100, archs[i]);
        char *xml = strdup(ask(s, "qXfer:features:read:target.xml:0,fffff"));
        assert_int_equal(xml[0], 'l');
        assert_int_equal(strlen(ask(s, "g")) / 2, bits_of(xml) / 8);
        free(xml);
        size_t count = 0;
        for (size_t f = 0; f < archs[i]->count; f++)
            for (size_t r = 0; r < archs[i]->features[f].count; r++) {
                char packet[32];
                snprintf(packet, sizeof(packet), "p%zx", count++);
                assert_int_equal(strlen(ask(s, packet)), archs[i]->features[f].regs[r].bits / 4);
                for (size_t q = 0; q < r; q++) /* names are unique */
                    assert_string_not_equal(archs[i]->features[f].regs[q].name, archs[i]->features[f].regs[r].name);
            }
        assert_string_equal(archs[i]->features[0].regs[archs[i]->pc].name, i ? "eip" : "rip");
        for (size_t e = 0; e < archs[i]->expedited_count; e++) {
            static const char *const names[2][3] = {{"rbp", "rsp", "rip"}, {"esp", "ebp", "eip"}};
            assert_string_equal(archs[i]->features[0].regs[archs[i]->expedited[e]].name, names[i][e]);
        }
        end(s);
    }
}

static const struct gdbs_reg *reg_named(const char *name)
{
    for (size_t f = 0; f < gdb_arch_x86_64.count; f++)
        for (size_t r = 0; r < gdb_arch_x86_64.features[f].count; r++)
            if (!strcmp(gdb_arch_x86_64.features[f].regs[r].name, name))
                return &gdb_arch_x86_64.features[f].regs[r];
    fail_msg("there is no register %s", name);
    return NULL;
}

static uint64_t value_of(const struct timeline *t, const char *name)
{
    uint8_t value[GDBS_REG_MAX] = {0};
    reg_read(t, reg_named(name), value);
    return get_le64(value);
}

/* Each register that can be written reads back as what was written. */
static void test_register_values(void **state)
{
    (void)state;
    struct timeline *t = fake_timeline(false, 100, NULL);
    for (size_t f = 0; f < gdb_arch_x86_64.count; f++)
        for (size_t i = 0; i < gdb_arch_x86_64.features[f].count; i++) {
            const struct gdbs_reg *r = &gdb_arch_x86_64.features[f].regs[i];
            uint8_t value[GDBS_REG_MAX], back[GDBS_REG_MAX];
            char why[GDBS_WHY] = "";
            memset(value, 0, sizeof(value));
            memset(value, 0x11 + (int)i, r->kind == REG_U16 ? 2 : r->bits / 8u);
            if (r->kind == REG_FLAGS)
                put_le32(value, FL_CF | FL_ZF | FL_OF | FL_TF | FL_AC | 2);
            if (r->kind == REG_TAGS)
                put_le32(value, 0xffff);
            bool ok = reg_write(&t->s, r, value, why);
            if (r->kind == REG_CR8 || r->kind == REG_ICOUNT) {
                assert_false(ok);
                expect(why, "is read-only");
                continue;
            }
            if (!ok)
                fail_msg("%s: %s", r->name, why);
            reg_read(t, r, back);
            if (memcmp(value, back, r->bits / 8u) != 0)
                fail_msg("%s does not read back", r->name);
        }
    char why[GDBS_WHY];
    uint8_t wide[8] = {1, 2, 3};
    assert_false(reg_write(&t->s, reg_named("cs"), wide, why));
    assert_string_equal(why, "cs cannot hold this value");
    t->at = 77;
    assert_int_equal(value_of(t, "icount"), 77);
    assert_int_equal(value_of(t, "cr8"), 3);
    timeline_close(t);
}

static void test_pc_is_linear(void **state)
{
    (void)state;
    struct timeline *t = fake_timeline(false, 100, NULL);
    t->s.efer = 0;
    t->s.seg[S_CS] = (struct seg){.sel = 0xf000, .base = 0xffff0000, .limit = 0xffff};
    t->s.r[R_RIP] = 0xfff0;
    assert_int_equal(value_of(t, "rip"), 0xfffffff0);
    t->s.r[R_RIP] = 0x1fff0; /* wraps */
    assert_int_equal(value_of(t, "rip"), 0xfff0);
    char why[GDBS_WHY];
    uint8_t pc[8] = {0};
    put_le64(pc, 0xffff1234);
    assert_true(reg_write(&t->s, reg_named("rip"), pc, why));
    assert_int_equal(t->s.r[R_RIP], 0x1234);
    timeline_close(t);
}

/* ST0 1.0, ST1 0.0, ST2 infinity, the rest empty; TOP 5. */
static void test_tags(void **state)
{
    (void)state;
    struct timeline *t = fake_timeline(false, 100, NULL);
    t->s.x87.fsw = 5 << 11;
    t->s.x87.ftw = 0xe0;
    memset(t->s.x87.st, 0, sizeof(t->s.x87.st));
    put_le64(t->s.x87.st[0], UINT64_C(1) << 63);
    put_le16(t->s.x87.st[0] + 8, 0x3fff);
    put_le64(t->s.x87.st[2], UINT64_C(1) << 63);
    put_le16(t->s.x87.st[2] + 8, 0x7fff);
    assert_int_equal(value_of(t, "ftag"), 0x93ff); /* physical 7: special, 6: zero, 5: valid */
    timeline_close(t);
}

/* ---- monitor ---- */

static void test_seek(void **state)
{
    (void)state;
    struct session *s = begin(true, 1000, &gdb_arch_x86_64);
    static const struct { const char *command; uint64_t at; } rows[] = {
        {"seek 10", 10}, {"seek 0x20", 32}, {"seek +5", 37}, {"seek -7", 30}, {"seek -100", 0}, {"seek 50%", 500},
        {"seek 33.5%", 335}, {"seek end", 1000}, {"seek start", 0}, {"seek 99999", 1000}, {"seek 0%", 0},
        {"seek 100%", 1000}, {"seek +18446744073709551615", 1000}, {"restart", 0}, {"seek 1k", 1000},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        expect(monitor(s, rows[i].command), "icount");
        if (s->t->at != rows[i].at)
            fail_msg("%s goes to %" PRIu64, rows[i].command, s->t->at);
    }
    static const char *const wrong[] = {"x", "1x", "-", "+", "101%", "-1%", "%", "50%%", "nan%", "99999999999999999999",
                                        "1kk", "18446744073709551615k"};
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        char command[64];
        snprintf(command, sizeof(command), "seek %s", wrong[i]);
        expect(monitor(s, command), "a position was expected");
    }
    expect(monitor(s, "seek"), "usage: seek");
    expect(monitor(s, "seek 1 2"), "usage: seek");
    expect(monitor(s, "seek 123"), "icount 123 of 1000 (12.30 %), 0.000123 s of virtual time, rip 0x100b");
    expect(monitor(s, "seek 124"), "flush register-cache");
    end(s);
}

static void test_marks(void **state)
{
    (void)state;
    struct session *s = begin(true, 1000, &gdb_arch_x86_64);
    expect(monitor(s, "marks"), "no marks");
    monitor(s, "seek 300");
    expect(monitor(s, "mark late"), "late is icount 300");
    monitor(s, "seek 100");
    expect(monitor(s, "mark"), "m1 is icount 100");
    expect(monitor(s, "mark"), "m2 is icount 100");
    monitor(s, "seek late");
    assert_int_equal(s->t->at, 300);
    monitor(s, "seek m1");
    assert_int_equal(s->t->at, 100);
    monitor(s, "seek +1");
    monitor(s, "mark late");
    monitor(s, "seek 0");
    monitor(s, "seek late");
    assert_int_equal(s->t->at, 101);
    assert_string_equal(monitor(s, "marks"), "m1               icount 100\nm2               icount 100\n"
                                             "late             icount 101\n");
    static const char *const wrong[] = {"mark 5", "mark end", "mark start", "mark +x", "mark %"};
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
        expect(monitor(s, wrong[i]), "a name begins with a letter");
    end(s);
}

static void test_catch(void **state)
{
    (void)state;
    static const char *const wrong[] = {"catch", "catch x", "catch vector", "catch vector 256", "catch vector 9-8", "catch vector #XX",
                                        "catch vector 1-2-3", "catch port 0x10000", "catch port #PF", "catch port 1 2",
                                        "catch console", "catch input now", "uncatch x", "uncatch 9", "progress 0", "progress x"};
    struct session *s = begin(true, 1000, &gdb_arch_x86_64);
    expect(monitor(s, "catches"), "no catchpoints");
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        const char *said = monitor(s, wrong[i]);
        if (!strstr(said, "expected") && !strstr(said, "usage") && !strstr(said, "no catchpoint"))
            fail_msg("%s: %s", wrong[i], said);
    }
    expect(monitor(s, "catch vector 32-255"), "Catchpoint 1: vectors 32 to 255");
    expect(monitor(s, "catch vector gp-#pf"), "Catchpoint 2: vectors 13 to 14");
    expect(monitor(s, "catch vector NMI"), "Catchpoint 3: vector 2 (NMI)");
    expect(monitor(s, "catch port 0x3f8-0x3ff"), "Catchpoint 4: ports 0x3f8 to 0x3ff");
    expect(monitor(s, "catch  console   a  text of more words than there is room for in a table"),
           "Catchpoint 5: console prints \"a  text of more words than there is room for in a table\"");
    expect(monitor(s, "catch input"), "Catchpoint 6: input");
    monitor(s, "uncatch 2");
    expect(monitor(s, "uncatch 2"), "there is no catchpoint 2");
    expect(monitor(s, "catch vector 14"), "Catchpoint 7: vector 14 (#PF)");
    expect(monitor(s, "catches"), "1    vectors 32 to 255\n3    vector 2 (NMI)\n4    ports");
    expect(monitor(s, "progress"), "do not say"); /* nobody asked for it here */
    expect(monitor(s, "progress 500"), "every 500 ms");
    monitor(s, "uncatch all");
    expect(monitor(s, "catches"), "no catchpoints");
    monitor(s, "catch console left behind");
    gdb_catch_clear(&s->target);
    end(s);
}

static void test_last_write(void **state)
{
    (void)state;
    struct session *s = begin(true, 1000, &gdb_arch_x86_64);
    ask(s, "Z0,1003,1"); /* in the way, and not hit */
    monitor(s, "seek 500");
    expect(monitor(s, "last-write 0x2000"), "the next instruction writes 0x2000\nicount 485 of 1000");
    assert_int_equal(s->t->at, 485);
    expect(monitor(s, "last-write 0x2007 1"), "icount 469");
    expect(monitor(s, "last-write 0x2007 1 physical"), "icount 453");
    expect(monitor(s, "last-write 0x3000 4"), "nothing was written there before");
    assert_int_equal(s->t->at, 453);
    expect(monitor(s, "last-write y"), "an address was expected");
    expect(monitor(s, "last-write 1 0"), "a number of bytes was expected");
    expect(monitor(s, "last-write 1 1 maybe"), "`physical`, or nothing");
    /* The same as a command of gdb's: armed, then executed by a step. */
    monitor(s, "on-step last-write 0x2000");
    assert_int_equal(s->t->at, 453);
    stops(s, "vCont;s:1", "T05", 437);
    expect((const char *)s->said.data, "icount 437");
    stops(s, "vCont;s:1", "T05", 438);
    end(s);
}

static void test_looks(void **state)
{
    (void)state;
    struct session *s = begin(true, 1000, &gdb_arch_x86_64);
    assert_string_equal(monitor(s, "console"), "             0  one\n           100  two\n           200  three\n");
    assert_string_equal(monitor(s, "console 1"), "           200  three\n");
    assert_string_equal(monitor(s, "console 2"), "           100  two\n           200  three\n");
    expect(monitor(s, "events 2"), "event 2");
    expect(monitor(s, "seek e2"), "icount 400");
    expect(monitor(s, "seek e9"), "nothing came from outside from event 9 on");
    expect(monitor(s, "mark e9"), "a name begins with");
    expect(monitor(s, "seek 0"), "icount 0");
    expect(monitor(s, "console x"), "a number of lines");
    expect(monitor(s, "checkpoints"), "2 checkpoints, 3.0 MiB");
    expect(monitor(s, "stats"), "0 breakpoints");
    assert_string_equal(monitor(s, "digest"), "0000000000000000\n");
    expect(monitor(s, "info version"), "Hyperwind " HW_VERSION);
    expect(monitor(s, "info x"), "no x");
    expect(monitor(s, "help"), "seek ICOUNT|P%|+N|-N|start|end|eEVENT|MARK");
    expect(monitor(s, ""), "last-write ADDR");
    assert_string_equal(monitor(s, "gva2gpa 0x1234"), "gpa: 0x1234\n");
    assert_string_equal(monitor(s, "gva2gpa 0x12345678"), "Unmapped\n");
    assert_string_equal(monitor(s, "xp 0x1000"), "0000000000001000: 0x90909090\n");
    assert_string_equal(monitor(s, "xp /6xb 0x100c"), "000000000000100c: 0x90 0x90 0xeb 0xf0 0x00 0x00\n");
    assert_string_equal(monitor(s, "xp /2db 0x100e"), "000000000000100e: -21 -16\n");
    assert_string_equal(monitor(s, "xp /3ug 0x2000"), "0000000000002000: 0 0\n0000000000002010: 0\n");
    assert_string_equal(monitor(s, "xp /2w 0xfffc"), "000000000000fffc: 0x00000000 Cannot access memory\n");
    expect(monitor(s, "xp /z 0"), "a format was expected");
    const char *registers = monitor(s, "info registers");
    expect(registers, "RIP=0000000000001000 RFL=00000242 [---Z---] CPL=0 II=0 A20=1 SMM=0 HLT=0\n");
    expect(registers, "CS =0010 0000000000000000 ffffffff 002f9a00 DPL=0 CS64 [-R-]\n");
    expect(registers, "CR0=00000021 CR2=0000000000000000 CR3=0000000000008000 CR4=00000000\n");
    assert_string_equal(ask(s, "qRcmd,7878"), ""); /* xx */
    end(s);
}

static void test_pages(void **state)
{
    (void)state;
    struct session *s = begin(true, 1000, &gdb_arch_x86_64);
    assert_string_equal(monitor(s, "info mem"), "PG disabled\n");
    s->t->s.cr0 |= CR0_PG;
    s->t->s.cr4 |= CR4_PAE;
    s->t->s.efer |= EFER_NXE;
    assert_string_equal(monitor(s, "info mem"), "");
    uint8_t *ram = s->t->ram;
    put_le64(ram + 0x8000, 0x9007);                /* the lower half */
    put_le64(ram + 0x8000 + 511 * 8, 0x9003);      /* the same tables, for the kernel alone */
    put_le64(ram + 0x9000, 0xa007);
    put_le64(ram + 0xa000, 0xb007);
    put_le64(ram + 0xa000 + 8, 0x400083 | UINT64_C(1) << 63); /* 2 MiB, not to be executed */
    put_le64(ram + 0xb000 + 1 * 8, 0x1025);
    put_le64(ram + 0xb000 + 2 * 8, 0x2025);
    put_le64(ram + 0xb000 + 3 * 8, UINT64_C(0x8000000000003067));
    assert_string_equal(monitor(s, "info mem"),
                        "0000000000001000-0000000000003000 0000000000002000 ur-x\n"
                        "0000000000003000-0000000000004000 0000000000001000 urw-\n"
                        "0000000000200000-0000000000400000 0000000000200000 -rw-\n"
                        "ffffff8000001000-ffffff8000003000 0000000000002000 -r-x\n"
                        "ffffff8000003000-ffffff8000004000 0000000000001000 -rw-\n"
                        "ffffff8000200000-ffffff8000400000 0000000000200000 -rw-\n");
    expect(monitor(s, "info tlb"), "0000000000001000: 0000000000001000 ----A--U-\n");
    expect(monitor(s, "info tlb"), "0000000000003000: 0000000000003000 X--DA--UW\n");
    expect(monitor(s, "info tlb"), "ffffff8000200000: 0000000000400000 X-P-----W\n");
    /* A table that contains itself on all levels: bounded. */
    for (unsigned i = 0; i < 512; i++)
        put_le64(ram + 0x8000 + i * 8, 0x8067);
    expect(monitor(s, "info tlb"), "(not complete: there are too many lines)");
    for (unsigned i = 0; i < 512; i++)
        put_le64(ram + 0xc000 + i * 8, 0x8067 | (uint64_t)(i & 1) << 63);
    s->t->s.cr3 = 0xc000;
    expect(monitor(s, "info mem"), "(not complete: there are too many page tables)");
    /* 32-bit paging: one large page, one small */
    s->t->s.efer = 0;
    s->t->s.cr4 = CR4_PSE;
    s->t->s.cr3 = 0xd000;
    put_le32(ram + 0xd000, 0xe007);
    put_le32(ram + 0xd004, 0x00c02083); /* PSE-36: bit 32 of the address */
    put_le32(ram + 0xe000 + 4, 0x1007);
    expect(monitor(s, "info tlb"), "0000000000001000: 0000000000001000 -------UW\n");
    expect(monitor(s, "info tlb"), "0000000000400000: 0000000100c00000 --P-----W\n");
    /* PAE */
    s->t->s.cr4 = CR4_PAE;
    s->t->s.pdpte[3] = 0xa001;
    expect(monitor(s, "info mem"), "00000000c0200000-00000000c0400000 0000000000200000 -rwx\n");
    end(s);
}

static void test_exec_file(void **state)
{
    (void)state;
    struct session *s = begin(true, 1000, &gdb_arch_x86_64);
    expect(ask(s, "qSupported"), "exec-file");
    assert_int_equal(*ask(s, "qXfer:exec-file:read::0,fff"), 'E'); /* no file, and nothing like Linux in memory */
    assert_string_equal(ask(s, "vFile:open:2f6b65726e656c,0,0"), "F-1,2");
    expect(monitor(s, "kernel"), "no Linux kernel");
    s->t->kernel_len = 100;
    s->t->kernel = calloc(1, 100);
    memcpy(s->t->kernel, "\177ELF\001", 5);
    assert_int_equal(*ask(s, "qXfer:exec-file:read::0,fff"), 'E'); /* gdb would reject a 32-bit file */
    s->t->kernel[4] = 2;
    assert_string_equal(ask(s, "qXfer:exec-file:read::0,fff"), "l/kernel");
    assert_string_equal(ask(s, "vFile:open:2f6b65726e656c,0,0"), "F1");
    assert_string_equal(ask(s, "vFile:open:2f7479706573,0,0"), "F-1,2"); /* "/types" are Linux's alone */
    end(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_steps), cmocka_unit_test(test_breaks), cmocka_unit_test(test_step_over_interrupt),
        cmocka_unit_test(test_watches),
        cmocka_unit_test(test_failure), cmocka_unit_test(test_live), cmocka_unit_test(test_live_call),
        cmocka_unit_test(test_live_crash),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_description), cmocka_unit_test(test_register_values), cmocka_unit_test(test_pc_is_linear),
        cmocka_unit_test(test_tags), cmocka_unit_test(test_seek), cmocka_unit_test(test_marks),
        cmocka_unit_test(test_catch), cmocka_unit_test(test_last_write), cmocka_unit_test(test_looks),
        cmocka_unit_test(test_pages),
        cmocka_unit_test(test_exec_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
