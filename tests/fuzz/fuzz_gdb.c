/* tests/fuzz/fuzz_gdb.c: libFuzzer over the gdb stub: whatever a client sends, it answers in packets that gdb could
 * decode, asks nothing of the machine that there is not (gdb_rig.h checks), leaves no breakpoint behind, and stays
 * within its bounds. Whenever it wants the machine to move, the machine stops, for another reason each time.
 *
 * The seeds are recorded transcripts, made by tests/fuzz/make_gdb_corpus.py. A byte 0xff stands for "the machine stops
 * now"; without one it stops at the end of the input. */
#include "tests/unit/gdb_rig.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum { STOP_NOW = 0xff };

static struct gdbs_stop next_stop(struct rig *rig, unsigned n)
{
    static const enum gdbs_stop_kind kinds[] = {
        GDBS_STOP_STEP, GDBS_STOP_BREAK, GDBS_STOP_INTERRUPT, GDBS_STOP_BEGIN, GDBS_STOP_BREAK, GDBS_STOP_END,
        GDBS_STOP_STEP, GDBS_STOP_EXITED, GDBS_STOP_SIGNALLED,
    };
    struct gdbs_stop stop = {.kind = kinds[n % ARRAY_LEN(kinds)], .code = (int)n, .addr = RIG_BASE};
    if (stop.kind == GDBS_STOP_BREAK && rig->last && gdbs_condition(rig->g, rig->last))
        stop.hit = rig->last;
    return stop;
}

/* The output is acknowledgements and whole packets, nothing else. */
static void check_output(const struct rig *rig)
{
    struct wire_reader f = {0};
    enum wire_event e = WIRE_ACK;
    for (size_t i = 0; i < rig->sent.len; i++) {
        uint8_t byte = rig->sent.data[i];
        CHECK(f.state != WIRE_IN_BETWEEN || byte == '$' || byte == '+' || byte == '-', "%#x between packets", byte);
        e = wire_feed(&f, byte, true);
        CHECK(e != WIRE_BAD && e != WIRE_BREAK, "the stub sent a broken packet");
    }
    CHECK(f.state == WIRE_IN_BETWEEN, "the stub sent half a packet");
    wire_reader_deinit(&f);
}

static bool step(struct rig *rig, unsigned *stops)
{
    struct gdbs_resume r;
    rig_take(rig);
    check_output(rig);
    text_clear(&rig->sent);
    switch (gdbs_wants(rig->g, &r)) {
    case GDBS_WANT_BYTES:
        return true;
    case GDBS_WANT_RESUME: {
        struct gdbs_stop stop = next_stop(rig, (*stops)++);
        CHECK(!r.back || r.how != GDBS_STEP_RANGE, "a range backwards");
        CHECK(r.thread < rig->threads, "thread %u", r.thread);
        gdbs_report_stop(rig->g, &stop);
        CHECK(!gdbs_interrupt_wanted(rig->g) || gdbs_wants(rig->g, &r) != GDBS_WANT_BYTES, "a ^C was not forgotten");
        return true;
    }
    case GDBS_WANT_DETACH: case GDBS_WANT_KILL: case GDBS_WANT_CLOSE:
        return false;
    }
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct rig *rig = malloc(sizeof(*rig));
    CHECK(rig, "out of memory");
    rig_init(rig, len && data[0] & 1);
    rig->threads = 2;
    unsigned stops = 0;
    bool on = true;
    while (on && len) {
        const uint8_t *stop = memchr(data, STOP_NOW, len);
        size_t n = stop ? (size_t)(stop - data) : len;
        gdbs_feed(rig->g, data, n);
        on = step(rig, &stops);
        n += stop != NULL;
        data += n;
        len -= n;
    }
    for (unsigned i = 0; on && i < 100; i++) /* what waited while it moved */
        on = step(rig, &stops);
    rig_deinit(rig);
    free(rig);
    return 0;
}
