/* tests/unit/gdb_stub.c: conversations with the stub. A line of a conversation is a packet and its answer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "tests/unit/gdb_rig.h"

static void send_bytes(struct rig *rig, const void *data, size_t len)
{
    gdbs_feed(rig->g, data, len);
    rig_take(rig);
}

/* A packet goes out without escapes, unless it is given with them. */
static void send_packet(struct rig *rig, const void *data, size_t len)
{
    uint8_t sum = 0;
    char end[4];
    for (size_t i = 0; i < len; i++)
        sum = (uint8_t)(sum + ((const uint8_t *)data)[i]);
    snprintf(end, sizeof(end), "#%02x", sum);
    send_bytes(rig, "$", 1);
    send_bytes(rig, data, len);
    send_bytes(rig, end, 3);
}

/* Takes the next packet off what was sent; run lengths and escapes undone. NULL: there is none. */
static char *next_packet(struct rig *rig)
{
    static char text[2 * WIRE_MAX];
    size_t n = 0, i = 0;
    const uint8_t *p = rig->sent.data;
    while (i < rig->sent.len && p[i] != '$')
        i++;
    if (i++ >= rig->sent.len)
        return NULL;
    for (; p[i] != '#'; i++) {
        if (p[i] == '*') {
            int count = p[++i] - 29;
            memset(text + n, text[n - 1], (size_t)count);
            n += (size_t)count;
        } else {
            text[n++] = (char)(p[i] == '}' ? p[++i] ^ 0x20 : p[i]);
        }
    }
    text[n] = '\0';
    text_drop(&rig->sent, i + 3);
    return text;
}

static char *ask(struct rig *rig, const char *packet)
{
    text_clear(&rig->sent);
    send_packet(rig, packet, strlen(packet));
    char *reply = next_packet(rig);
    if (!reply)
        fail_msg("no answer to %s", packet);
    return reply;
}

struct line { const char *packet, *answer; };

static void converse(struct rig *rig, const struct line *lines, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const char *reply = ask(rig, lines[i].packet);
        if (strcmp(reply, lines[i].answer) != 0)
            fail_msg("%s: answered %s, not %s", lines[i].packet, reply, lines[i].answer);
    }
}
#define CONVERSE(rig, ...)                                                                             \
    do {                                                                                               \
        const struct line lines_[] = {__VA_ARGS__};                                                    \
        converse(rig, lines_, ARRAY_LEN(lines_));                                                      \
    } while (0)

static struct rig *new_rig(bool reverse)
{
    struct rig *rig = malloc(sizeof(*rig));
    assert_non_null(rig);
    rig_init(rig, reverse);
    return rig;
}

static void end_rig(struct rig *rig)
{
    rig_deinit(rig);
    free(rig);
}

static enum gdbs_want wants(struct rig *rig)
{
    struct gdbs_resume r;
    return gdbs_wants(rig->g, &r);
}

static struct gdbs_resume resumed(struct rig *rig, const char *packet)
{
    struct gdbs_resume r;
    text_clear(&rig->sent);
    send_packet(rig, packet, strlen(packet));
    if (gdbs_wants(rig->g, &r) != GDBS_WANT_RESUME)
        fail_msg("%s does not move it", packet);
    assert_null(next_packet(rig));
    return r;
}

static const char *report(struct rig *rig, struct gdbs_stop stop)
{
    text_clear(&rig->sent);
    gdbs_report_stop(rig->g, &stop);
    rig_take(rig);
    return next_packet(rig);
}

/* ---- connection ---- */

static void test_acks(void **state)
{
    (void)state;
    struct rig *rig = new_rig(true);
    send_bytes(rig, "$qC#b4", 6);
    assert_int_equal(rig->sent.data[0], '+');
    assert_string_equal(next_packet(rig), "QC1");
    send_bytes(rig, "-", 1); /* again, please */
    assert_string_equal(next_packet(rig), "QC1");
    send_bytes(rig, "$qC#00", 6);
    assert_int_equal(rig->sent.len, 1);
    assert_int_equal(rig->sent.data[0], '-');
    assert_string_equal(ask(rig, "QStartNoAckMode"), "OK");
    text_clear(&rig->sent);
    send_bytes(rig, "+$qC#00-", 8);
    assert_int_equal(rig->sent.data[0], '$');
    assert_string_equal(next_packet(rig), "QC1");
    assert_int_equal(rig->sent.len, 0);
    end_rig(rig);
}

static void test_features(void **state)
{
    (void)state;
    struct rig *rig = new_rig(true);
    const char *reply = ask(rig, "qSupported:multiprocess+;swbreak+;hwbreak+;xmlRegisters=i386");
    assert_non_null(strstr(reply, "PacketSize=100000;"));
    assert_non_null(strstr(reply, "ReverseStep+;ReverseContinue+"));
    assert_non_null(strstr(reply, "qXfer:exec-file:read+"));
    CONVERSE(rig, {"vMustReplyEmpty", ""}, {"qTStatus", ""}, {"vCont?", "vCont;c;C;s;S;t;r"}, {"!", "OK"},
             {"qC", "QCp1.1"}, {"QPassSignals:e;10", "OK"}, {"QProgramSignals:", "OK"}, {"qSymbol::", "OK"},
             {"qOffsets", ""}, {"qAttached:1", "1"}, {"", ""},
             {"qUnknown:1", ""});
    end_rig(rig);
    rig = new_rig(false);
    assert_null(strstr(ask(rig, "qSupported"), "Reverse"));
    CONVERSE(rig, {"bs", ""}, {"bc", ""}, {"qC", "QC1"});
    end_rig(rig);
}

static void test_threads(void **state)
{
    (void)state;
    struct rig *rig = new_rig(true);
    rig->threads = 3;
    CONVERSE(rig, {"qfThreadInfo", "m1,2,3"}, {"qsThreadInfo", "l"}, {"Hg2", "OK"}, {"qC", "QC2"}, {"Hg0", "OK"},
             {"qC", "QC2"}, {"Hc-1", "OK"}, {"Hg4", "E.there is no such thread"}, {"T3", "OK"},
             {"T4", "E.there is no such thread"}, {"qThreadExtraInfo,1", "4350552030203c6f6b3e"}, {"Hgp1.1", "OK"},
             {"Hgp2.1", "E.malformed packet"}, {"Hx1", "E.malformed packet"}, {"Hgp-1.-1", "OK"});
    ask(rig, "qSupported:multiprocess+");
    CONVERSE(rig, {"qfThreadInfo", "mp1.1,p1.2,p1.3"}, {"Tp1.2", "OK"},
             {"qXfer:threads:read::0,40", "m<?xml version=\"1.0\"?>\n<threads>\n<thread id=\"p1.1\" core=\"0\" name="});
    assert_non_null(strstr(ask(rig, "qXfer:threads:read::0,1000"), "name=\"CPU2\">CPU 2 &lt;ok&gt;</thread>"));
    end_rig(rig);
}

static void test_description(void **state)
{
    (void)state;
    struct rig *rig = new_rig(true);
    const char *xml = ask(rig, "qXfer:features:read:target.xml:0,fff");
    assert_int_equal(xml[0], 'l');
    assert_non_null(strstr(xml, "<architecture>rig</architecture>"));
    assert_non_null(strstr(xml, "<reg name=\"ro\" bitsize=\"32\" type=\"int\" regnum=\"3\" group=\"system\"/>"));
    size_t len = strlen(xml) - 1;
    /* in pieces */
    char whole[4096] = "";
    for (size_t at = 0; at < len; at += 100) {
        char packet[64];
        snprintf(packet, sizeof(packet), "qXfer:features:read:target.xml:%zx,64", at);
        const char *part = ask(rig, packet);
        assert_int_equal(part[0], at + 100 < len ? 'm' : 'l');
        strcat(whole, part + 1);
    }
    assert_int_equal(strlen(whole), len);
    assert_string_equal(whole, ask(rig, "qXfer:features:read:target.xml:0,fff") + 1);
    CONVERSE(rig, {"qXfer:features:read:other.xml:0,fff", "E00"}, {"qXfer:features:read:target.xml:ffffff,1", "l"},
             {"qXfer:auxv:read::0,1", ""}, {"qXfer:features:read:target.xml", "E.malformed packet"},
             {"qXfer:features:read:target.xml:0", "E.malformed packet"});
    end_rig(rig);
}

/* ---- registers, memory ---- */

static void test_registers(void **state)
{
    (void)state;
    struct rig *rig = new_rig(true);
    put_le64(rig->reg[0], UINT64_C(0x1122334455667788));
    put_le64(rig->reg[RIG_PC], 0x1000);
    put_le32(rig->reg[3], 77);
    /* A G that leaves the read-only register as it is, and one that does not. */
    const char *all = "88776655443322110010000000000000" "00000000000000000000000000000000" "4d000000";
    CONVERSE(rig, {"g", all}, {"p0", "8877665544332211"}, {"p3", "4d000000"}, {"p4", "E.there is no such register"},
             {"P0=0100000000000000", "OK"}, {"p0", "0100000000000000"}, {"P0=01", "E.malformed packet"},
             {"P3=00000000", "E.ro is read-only"}, {"Pffffffffffffffff=00", "E.there is no such register"},
             {"p", "E.malformed packet"}, {"P", "E.malformed packet"},
             {"G0200000000000000" "0010000000000000" "00000000000000000000000000000000" "4d000000", "OK"},
             {"p0", "0200000000000000"},
             {"G0200000000000000" "0010000000000000" "00000000000000000000000000000000" "4e000000",
              "E.ro is read-only"},
             {"G03000000000000000", "E.malformed packet"}, {"G0300000000000000", "OK"}, {"p0", "0300000000000000"});
    rig->refuse_write = true;
    CONVERSE(rig, {"P0=0000000000000000", "E.a is read-only"}, {"p0", "0300000000000000"});
    end_rig(rig);
}

static void test_memory(void **state)
{
    (void)state;
    struct rig *rig = new_rig(true);
    memcpy(rig->memory, "\x01\x02\x03\x04", 4);
    memcpy(rig->memory + RIG_MEMORY - 2, "\xaa\xbb", 2);
    CONVERSE(rig, {"m1000,4", "01020304"}, {"m20ffe,8", "aabb"}, {"m21000,1", "E0e"}, {"m0,1", "E0e"},
             {"mffffffffffffffff,2", "E0e"}, {"m1000", "E.malformed packet"},
             {"m11111111111111111,1", "E.malformed packet"}, {"M1000,2:aabb", "OK"},
             {"m1000,4", "aabb0304"}, {"M1000,3:aabb", "E.malformed packet"},
             {"M1000,2:aabz", "E.malformed packet"}, {"M20fff,2:aabb", "E.not mapped"},
             {"X1000,0:", "OK"}, {"qqemu.PhyMemMode", "0"}, {"Qqemu.PhyMemMode:1", "OK"},
             {"qqemu.PhyMemMode", "1"}, {"m1000,1", "E0e"},
             {"m2000,2", "aabb"}, {"Qqemu.PhyMemMode:0", "OK"}, {"Qqemu.PhyMemMode:2", "E.malformed packet"},
             {"qqemu.sstepbits", "ENABLE=1,NOIRQ=2,NOTIMER=4"}, {"qqemu.sstep", "0x7"}, {"Qqemu.sstep=1", ""},
             {"Qqemu.sstep:1", "OK"}, {"qqemu.sstep", "0x1"});
    static const char binary[] = "X1000,4:}\x03}\x04}]}\x0a";
    text_clear(&rig->sent);
    send_packet(rig, binary, sizeof(binary) - 1);
    assert_string_equal(next_packet(rig), "OK");
    assert_memory_equal(rig->memory, "#$}*", 4);
    assert_string_equal(ask(rig, "x1000,4"), "b#$}*");
    CONVERSE(rig, {"X1000,4:ab", "E.malformed packet"}, {"x21000,1", "E0e"});
    assert_int_equal(strlen(ask(rig, "m1000,ffffffffffff")), 2 * RIG_MEMORY);
    rig->refuse_write = true;
    CONVERSE(rig, {"M1000,1:00", "E.a recording cannot be changed"});
    end_rig(rig);
}

static void test_search(void **state)
{
    (void)state;
    struct rig *rig = new_rig(true);
    memset(rig->memory, 0, RIG_MEMORY);
    memcpy(rig->memory + 0xfffd, "needle", 6); /* across the end of a stretch */
    CONVERSE(rig, {"qSearch:memory:1000;20000;needle", "1,10ffd"}, {"qSearch:memory:1000;10002;needle", "0"},
             {"qSearch:memory:10ffd;6;needle", "1,10ffd"}, {"qSearch:memory:10ffe;10002;needle", "0"},
             {"qSearch:memory:1000;3;needle", "0"},
             {"qSearch:memory:10ffe;ffffffffffffffff;needle", "E.the memory at 0x21000 cannot be read"},
             {"qSearch:memory:1000;20", "E.malformed packet"}, {"qSearch:memory:1000;20;", "E.malformed packet"},
             {"qCRC:1000,0", "Cffffffff"}, {"qCRC:ffff,20000", "E.the memory at 0x21000 cannot be read"});
    memcpy(rig->memory, "123456789", 9);
    CONVERSE(rig, {"qCRC:1000,9", "C376e6e7"}); /* the check value of CRC-32/MPEG-2 */
    rig->interrupted = true;
    CONVERSE(rig, {"qCRC:1000,9", "E.interrupted"}, {"qSearch:memory:1000;20000;needle", "E.interrupted"});
    end_rig(rig);
}

/* ---- moving ---- */

static void test_resume(void **state)
{
    (void)state;
    struct rig *rig = new_rig(true);
    put_le64(rig->reg[RIG_PC], 0x1234);
    const struct { const char *packet; int how; bool back; uint64_t start, end; } rows[] = {
        {"vCont;c", GDBS_CONTINUE, false, 0, 0}, {"vCont;s:1;c", GDBS_STEP, false, 0, 0},
        {"vCont;c:1;s", GDBS_CONTINUE, false, 0, 0}, {"vCont;C05", GDBS_CONTINUE, false, 0, 0},
        {"vCont;S05:p1.1", GDBS_STEP, false, 0, 0},
        {"vCont;r10,20:1", GDBS_STEP_RANGE, false, 0x10, 0x20}, {"c", GDBS_CONTINUE, false, 0, 0},
        {"s", GDBS_STEP, false, 0, 0}, {"C05", GDBS_CONTINUE, false, 0, 0}, {"S05", GDBS_STEP, false, 0, 0},
        {"bs", GDBS_STEP, true, 0, 0}, {"bc", GDBS_CONTINUE, true, 0, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct gdbs_resume r = resumed(rig, rows[i].packet);
        assert_int_equal(r.how, rows[i].how);
        assert_int_equal(r.back, rows[i].back);
        assert_int_equal(r.start, rows[i].start);
        assert_int_equal(r.end, rows[i].end);
        const char *reply = report(rig, (struct gdbs_stop){.kind = GDBS_STOP_STEP});
        assert_string_equal(reply, "T0501:3412000000000000;thread:1;core:0;");
    }
    resumed(rig, "c5678");
    assert_int_equal(get_le64(rig->reg[RIG_PC]), 0x5678);
    report(rig, (struct gdbs_stop){.kind = GDBS_STOP_STEP});
    resumed(rig, "S05;1234");
    assert_int_equal(get_le64(rig->reg[RIG_PC]), 0x1234);
    report(rig, (struct gdbs_stop){.kind = GDBS_STOP_STEP});
    CONVERSE(rig, {"vCont;t", "T0501:3412000000000000;thread:1;core:0;"}, {"vCont;q", "E.malformed packet"},
             {"vCont", "E.malformed packet"}, {"vCont;c:2", "E.malformed packet"},
             {"vCont;r10:1", "E.malformed packet"}, {"c12x", "E.malformed packet"}, {"bsx", ""},
             {"?", "T0501:3412000000000000;thread:1;core:0;"});
    end_rig(rig);
}

static void test_stop_reasons(void **state)
{
    (void)state;
    struct rig *rig = new_rig(true);
    struct gdbs_break sw = {.type = GDBS_SOFTWARE}, hw = {.type = GDBS_HARDWARE}, w = {.type = GDBS_WATCH},
                      r = {.type = GDBS_READ_WATCH}, a = {.type = GDBS_ACCESS_WATCH};
    const struct { struct gdbs_stop stop; const char *reason; } rows[] = {
        {{.kind = GDBS_STOP_BREAK, .hit = &sw}, "core:0;swbreak:;"},
        {{.kind = GDBS_STOP_BREAK, .hit = &hw}, "core:0;hwbreak:;"},
        {{.kind = GDBS_STOP_BREAK, .hit = &w, .addr = 0xffffffff81000000}, "core:0;watch:ffffffff81000000;"},
        {{.kind = GDBS_STOP_BREAK, .hit = &r, .addr = 16}, "core:0;rwatch:10;"},
        {{.kind = GDBS_STOP_BREAK, .hit = &a, .addr = 16}, "core:0;awatch:10;"},
        {{.kind = GDBS_STOP_BEGIN}, "core:0;replaylog:begin;"},
        {{.kind = GDBS_STOP_END}, "core:0;replaylog:end;"},
    };
    resumed(rig, "c");
    assert_null(strstr(report(rig, rows[0].stop), "swbreak")); /* this client does not know the word */
    ask(rig, "qSupported:swbreak+;hwbreak+;multiprocess+");
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        resumed(rig, "c");
        const char *reply = report(rig, rows[i].stop);
        assert_memory_equal(reply, "T05", 3);
        assert_string_equal(reply + strlen(reply) - strlen(rows[i].reason), rows[i].reason);
    }
    resumed(rig, "c");
    assert_memory_equal(report(rig, (struct gdbs_stop){.kind = GDBS_STOP_INTERRUPT}), "T02", 3);
    resumed(rig, "c");
    assert_string_equal(report(rig, (struct gdbs_stop){.kind = GDBS_STOP_SIGNALLED, .code = 9}), "X09;process:1");
    CONVERSE(rig, {"vCont;c", "E.the machine has ended"}, {"T1", "E.there is no such thread"}, {"?", "X09;process:1"});
    assert_memory_equal(ask(rig, "vRun;"), "T05", 3);
    assert_int_equal(rig->restarts, 1);
    resumed(rig, "c");
    assert_string_equal(report(rig, (struct gdbs_stop){.kind = GDBS_STOP_EXITED, .code = 7}), "W07;process:1");
    end_rig(rig);
}

static void test_interrupt(void **state)
{
    (void)state;
    struct rig *rig = new_rig(true);
    send_bytes(rig, "\003", 1); /* nothing moves: nothing to stop */
    assert_false(gdbs_interrupt_wanted(rig->g));
    send_bytes(rig, "$vCont;c#a8\003", 12); /* in one go */
    assert_int_equal(wants(rig), GDBS_WANT_RESUME);
    assert_true(gdbs_interrupt_wanted(rig->g));
    report(rig, (struct gdbs_stop){.kind = GDBS_STOP_INTERRUPT});
    assert_false(gdbs_interrupt_wanted(rig->g));
    resumed(rig, "bc");
    assert_false(gdbs_interrupt_wanted(rig->g));
    send_bytes(rig, "\003\003\003", 3);
    assert_true(gdbs_interrupt_wanted(rig->g));
    report(rig, (struct gdbs_stop){.kind = GDBS_STOP_INTERRUPT});
    assert_false(gdbs_interrupt_wanted(rig->g));

    /* A packet while it moves waits. */
    resumed(rig, "c");
    send_packet(rig, "qC", 2);
    assert_null(next_packet(rig));
    assert_memory_equal(report(rig, (struct gdbs_stop){.kind = GDBS_STOP_STEP}), "T05", 3);
    assert_string_equal(next_packet(rig), "QC1");
    end_rig(rig);
}

static void test_leave(void **state)
{
    (void)state;
    const struct { const char *packet, *answer; enum gdbs_want want; } rows[] = {
        {"D", "OK", GDBS_WANT_DETACH}, {"D;1", "OK", GDBS_WANT_DETACH}, {"vKill;1", "OK", GDBS_WANT_KILL},
        {"k", NULL, GDBS_WANT_KILL},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct rig *rig = new_rig(true);
        CONVERSE(rig, {"Z0,1234,1", "OK"});
        text_clear(&rig->sent);
        send_packet(rig, rows[i].packet, strlen(rows[i].packet));
        const char *reply = next_packet(rig);
        if (rows[i].answer)
            assert_string_equal(reply, rows[i].answer);
        else
            assert_null(reply);
        assert_int_equal(wants(rig), rows[i].want);
        end_rig(rig); /* checks that the breakpoint is gone */
    }
}

/* `run` of a client in extended mode. */
static void test_run_again(void **state)
{
    (void)state;
    struct rig *rig = new_rig(true);
    CONVERSE(rig, {"!", "OK"}, {"vKill;1", "OK"}, {"T1", "E.there is no such thread"});
    assert_int_equal(wants(rig), GDBS_WANT_BYTES);
    assert_memory_equal(ask(rig, "vRun;"), "T05", 3);
    CONVERSE(rig, {"T1", "OK"});
    assert_int_equal(rig->restarts, 1);
    end_rig(rig);
    rig = new_rig(false); /* a live machine cannot be started again */
    CONVERSE(rig, {"!", "OK"}, {"vKill;1", "OK"});
    assert_int_equal(wants(rig), GDBS_WANT_KILL);
    end_rig(rig);
}

/* ---- breakpoints ---- */

static void test_breakpoints(void **state)
{
    (void)state;
    struct rig *rig = new_rig(true);
    CONVERSE(rig, {"Z0,1234,1", "OK"}, {"Z0,1234,1", "OK"}, {"Z1,1234,1", "OK"}, {"Z2,2000,8", "OK"},
             {"Z3,2000,8", "OK"}, {"Z4,2000,4", "OK"});
    assert_int_equal(rig->inserts, 5);
    /* What gdb does around each step. */
    for (unsigned i = 0; i < 10; i++) {
        CONVERSE(rig, {"z0,1234,1", "OK"}, {"z1,1234,1", "OK"}, {"z2,2000,8", "OK"}, {"Z2,2000,8", "OK"},
                 {"Z0,1234,1", "OK"}, {"Z1,1234,1", "OK"});
        resumed(rig, "vCont;s:1");
        report(rig, (struct gdbs_stop){.kind = GDBS_STOP_STEP});
    }
    assert_int_equal(rig->inserts, 5);
    assert_int_equal(rig->removes, 0);
    CONVERSE(rig, {"z0,1234,1", "OK"}, {"z0,1234,1", "OK"}, {"z0,9999,1", "OK"});
    resumed(rig, "bs"); /* looks at none */
    report(rig, (struct gdbs_stop){.kind = GDBS_STOP_STEP});
    assert_int_equal(rig->removes, 0);
    resumed(rig, "bc");
    report(rig, (struct gdbs_stop){.kind = GDBS_STOP_STEP});
    assert_int_equal(rig->removes, 1);
    CONVERSE(rig, {"Z5,1,1", "E.malformed packet"}, {"Z0,1", "E.malformed packet"}, {"Z2,1,0", "E.malformed packet"},
             {"Z2,ffffffffffffffff,2", "E.malformed packet"}, {"Z2,ffffffffffffffff,1", "OK"},
             {"Z0,1,1;X", "E.malformed packet"}, {"Z0,1,1;X2,22", "E.malformed packet"},
             {"Z0,1,1;X0,", "E.malformed packet"}, {"Z0,1,1;Xffffffff,22", "E.malformed packet"},
             {"Z0,1,1;cmds:0,X1,22", "E.malformed packet"});
    CONVERSE(rig, {"Qqemu.PhyMemMode:1", "OK"}, {"Z2,2000,8", "OK"});
    assert_true(rig->last->physical);
    rig->refuse_insert = true;
    CONVERSE(rig, {"Z0,77,1", "E.the breakpoint cannot be inserted"});
    end_rig(rig);
}

static void test_many_breakpoints(void **state)
{
    (void)state;
    struct rig *rig = new_rig(true);
    char packet[64];
    for (unsigned i = 0; i < 5000; i++) {
        snprintf(packet, sizeof(packet), "Z0,%x,1", i * 7919 % 5003);
        CONVERSE(rig, {packet, "OK"});
    }
    assert_int_equal(rig->inserted, 5000);
    for (unsigned i = 0; i < 4000; i++) {
        snprintf(packet, sizeof(packet), "z0,%x,1", i * 7919 % 5003);
        CONVERSE(rig, {packet, "OK"});
    }
    resumed(rig, "c");
    assert_int_equal(rig->inserted, 1000);
    end_rig(rig);
}

static void test_conditions(void **state)
{
    (void)state;
    struct rig *rig = new_rig(true);
    /* register 0 == 5, or (a second one) the byte at 0x1000 == 9 */
    CONVERSE(rig, {"Z0,1234,1;X7,26000022051327X8,23100017220913", "E.malformed packet"},
             {"Z0,1234,1;X7,26000022051327X8,2310001722091327", "OK"});
    struct gdbs_break *b = rig->last;
    assert_true(b->conditional);
    rig->memory[0] = 0;
    assert_false(gdbs_condition(rig->g, b));
    put_le64(rig->reg[0], 5);
    assert_true(gdbs_condition(rig->g, b));
    put_le64(rig->reg[0], 6);
    rig->memory[0] = 9;
    assert_true(gdbs_condition(rig->g, b));
    CONVERSE(rig, {"Z0,1234,1;X3,220027", "OK"}); /* replaced, not inserted again */
    assert_int_equal(rig->inserts, 1);
    assert_false(gdbs_condition(rig->g, b));
    CONVERSE(rig, {"z0,1234,1", "OK"}, {"Z0,1234,1", "OK"});
    assert_false(b->conditional);
    assert_true(gdbs_condition(rig->g, b));
    assert_int_equal(rig->inserts, 1);

    /* One that cannot be evaluated stops, and says so once. */
    CONVERSE(rig, {"Z0,1234,1;X4,2200" "1727", "OK"});
    resumed(rig, "c");
    assert_true(gdbs_condition(rig->g, b));
    rig_take(rig);
    assert_memory_equal(next_packet(rig), "O54686520636f6e646974696f6e", 27);
    assert_true(gdbs_condition(rig->g, b));
    rig_take(rig);
    assert_null(next_packet(rig));
    end_rig(rig);
}

/* ---- the rest ---- */

static void test_monitor(void **state)
{
    (void)state;
    struct rig *rig = new_rig(true);
    assert_string_equal(ask(rig, "qRcmd,736179"), "O68656c6c6f0a");
    assert_string_equal(next_packet(rig), "OK");
    CONVERSE(rig, {"qRcmd,", "OK"}, {"qRcmd,6e6f", ""}, {"qRcmd,7", "E.malformed packet"},
             {"qRcmd,zz", "E.malformed packet"});
    end_rig(rig);
}

static void test_file(void **state)
{
    (void)state;
    struct rig *rig = new_rig(true);
    CONVERSE(rig, {"qXfer:exec-file:read:1:0,100", "l/kernel"}, {"vFile:setfs:0", "F0"},
             {"vFile:open:2f6b65726e656c,0,0", "F1"}, {"vFile:open:2f6574632f706173737764,0,0", "F-1,2"},
             {"vFile:open:2f6b65726e656c,1,0", "F-1,1e"}, {"vFile:pread:1,4,0", "F4;\177ELF"},
             {"vFile:pread:1,100,10", "F5; $#}*"}, {"vFile:pread:1,4,ffffffff", "F0;"}, {"vFile:pread:3,4,0", "F-1,9"},
             {"vFile:open:2f6b65726e656c,0,0", "F1"}, {"vFile:open:2f616e6f74686572,0,0", "F2"}, {"vFile:close:1", "F0"},
             {"vFile:pread:1,4,0", "F4;\177ELF"},
             {"vFile:readlink:2f", "F-1,16"}, {"vFile:close:1", "F0"}, {"vFile:pread:2,4,0", "F4;\177ELF"},
             {"vFile:pread:0,4,0", "F-1,9"}, {"vFile:pread:21,4,0", "F-1,9"}, {"vFile:pread:ffffffffffffffff,4,0", "F-1,9"},
             {"vFile:close:1", "F-1,9"},
             {"vFile:pread:1,4,0", "F-1,9"}, {"vFile:pwrite:1,0,xx", ""}, {"vFile:unlink:2f", ""},
             {"vFile:open:", "F-1,16"});
    rig->no_file = true;
    CONVERSE(rig, {"vFile:open:2f616e6f74686572,0,0", "F-1,2"}, {"vFile:pread:2,4,0", "F-1,9"});
    ask(rig, "vFile:open:2f6b65726e656c,0,0");
    text_clear(&rig->sent);
    send_packet(rig, "vFile:fstat:1", 13);
    assert_non_null(memmem(rig->sent.data, rig->sent.len, "F40;", 4));
    end_rig(rig);
}

static void test_limits(void **state)
{
    (void)state;
    struct rig *rig = new_rig(true);
    uint8_t zeroes[4096] = {0};
    ask(rig, "QStartNoAckMode");
    text_clear(&rig->sent);
    send_bytes(rig, "$", 1);
    for (unsigned i = 0; i <= WIRE_MAX / sizeof(zeroes); i++)
        send_bytes(rig, zeroes, sizeof(zeroes));
    send_bytes(rig, "#00", 3);
    assert_string_equal(next_packet(rig), "E.the packet is too long");
    /* A client that sends without end while the machine moves is dropped. */
    resumed(rig, "c");
    for (unsigned i = 0; i < 400000 && wants(rig) == GDBS_WANT_RESUME; i++)
        send_bytes(rig, "$aaaaaaaaaaaaaaaaaaaaaaaaa#00", 29);
    assert_int_equal(wants(rig), GDBS_WANT_CLOSE);
    assert_true(gdbs_interrupt_wanted(rig->g));
    end_rig(rig);

    /* One that asks and never reads gets no more answers, until it reads. */
    rig = new_rig(true);
    ask(rig, "QStartNoAckMode");
    rig_take(rig);
    size_t len;
    for (unsigned i = 0; i < 2000; i++)
        gdbs_feed(rig->g, "$m1000,20000#00", 15);
    gdbs_output(rig->g, &len);
    assert_true(len < 5 * WIRE_MAX);
    size_t answers = 0;
    while (gdbs_output(rig->g, &len), len) {
        answers += len;
        gdbs_output_done(rig->g, len);
    }
    assert_true(answers > 1000 * (size_t)RIG_MEMORY);
    end_rig(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_acks), cmocka_unit_test(test_features), cmocka_unit_test(test_threads),
        cmocka_unit_test(test_description), cmocka_unit_test(test_registers), cmocka_unit_test(test_memory),
        cmocka_unit_test(test_search), cmocka_unit_test(test_resume), cmocka_unit_test(test_stop_reasons),
        cmocka_unit_test(test_interrupt), cmocka_unit_test(test_leave), cmocka_unit_test(test_run_again),
        cmocka_unit_test(test_breakpoints),
        cmocka_unit_test(test_many_breakpoints), cmocka_unit_test(test_conditions), cmocka_unit_test(test_monitor),
        cmocka_unit_test(test_file), cmocka_unit_test(test_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
