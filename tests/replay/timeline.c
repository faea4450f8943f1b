/* tests/replay/timeline.c: a recording moved in at random, compared with a run that only went forwards.
 *
 *     timeline RECORDING TRIALS RUNS TEXTS SEED SPACING MEMORY [ENGINE]
 *
 * Each trial seeks to a random position N, steps back k times, and must find the registers, devices and memory that a run
 * from the beginning to N - k had. Each run sets a breakpoint or watchpoint on something that was executed or written a moment
 * ago, or waits for an event, goes back from hit to hit, then forward again, and must meet the same hits. Each text is looked for
 * in what was printed, backwards from the end. SPACING: ticks between regular
 * checkpoints; MEMORY: bytes for all of them. */
#include <stdio.h>
#include <stdlib.h>

#include "replay/timeline_impl.h"

enum { STEPS_MAX = 40 };

struct trial { uint64_t from, back, digest; size_t printed; };

static uint64_t rng;
static uint8_t *printed; /* by the guest, to its end */
static size_t printed_len;

static uint64_t rnd(uint64_t n)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return rng % n;
}

static void must(struct err *e)
{
    if (!e)
        return;
    fprintf(stderr, "timeline: %s\n", err_message(e));
    exit(1);
}

static int by_target(const void *a, const void *b)
{
    const struct trial *x = a, *y = b;
    uint64_t p = x->from - x->back, q = y->from - y->back;
    return p < q ? -1 : p > q;
}

static struct timeline *open_at_start(const char *path, const struct timeline_options *o)
{
    struct timeline *t;
    must(timeline_open(path, o, &t));
    return t;
}

/* What a run that never turns back finds at each target. */
static void reference(const char *path, struct trial *trials, size_t n)
{
    struct timeline *t = open_at_start(path, &(struct timeline_options){.spacing = UINT64_MAX / 4});
    struct timeline_stop stop;
    qsort(trials, n, sizeof(*trials), by_target);
    for (size_t i = 0; i < n; i++) {
        must(timeline_step(t, (int64_t)(trials[i].from - trials[i].back - timeline_position(t)), &stop)); /* a seek may jump */
        trials[i].digest = timeline_digest(t);
        timeline_console(t, &trials[i].printed);
    }
    must(timeline_step(t, (int64_t)(timeline_end(t) - timeline_position(t)), &stop));
    const uint8_t *text = timeline_console(t, &printed_len);
    printed = malloc(printed_len + 1);
    if (printed && printed_len)
        memcpy(printed, text, printed_len);
    timeline_close(t);
    if (!printed)
        exit(1);
}

/* What is known of the console ends with what was printed last. */
static bool console_is(const struct timeline *t, const struct trial *trial)
{
    size_t len;
    const uint8_t *text = timeline_console(t, &len);
    return len <= trial->printed && (!len || !memcmp(text, printed + trial->printed - len, len));
}

static unsigned until_interrupt; /* questions; 0: never */

static bool interrupted(void *arg, uint64_t from, uint64_t at, uint64_t to)
{
    (void)arg, (void)from, (void)at, (void)to;
    return until_interrupt && !--until_interrupt;
}

/* Wherever a move was interrupted, the guest is as whoever goes there finds it. */
static bool try_interrupt(struct timeline *t, uint64_t to)
{
    enum { QUESTIONS_MAX = 100 };
    struct timeline_stop stop;
    until_interrupt = 1 + (unsigned)rnd(QUESTIONS_MAX);
    must(timeline_seek(t, to, &stop));
    until_interrupt = 0;
    uint64_t at = timeline_position(t), digest = timeline_digest(t);
    if (stop.why != TL_INTERRUPTED || !at)
        return true;
    must(timeline_step(t, -1, &stop));
    must(timeline_seek(t, at, &stop));
    if (timeline_position(t) == at && timeline_digest(t) == digest)
        return true;
    printf("interrupted at %" PRIu64 " with another digest\n", at);
    return false;
}

/* Nothing lies beyond the end, however it is met. */
static bool try_end(struct timeline *t)
{
    struct timeline_stop seek, run, step;
    must(timeline_seek(t, UINT64_MAX, &seek));
    must(timeline_run(t, false, &run));
    must(timeline_step(t, 1, &step));
    if (seek.why == TL_END && run.why == TL_END && step.why == TL_END && timeline_position(t) == timeline_end(t))
        return true;
    printf("at the end: %d %d %d\n", (int)seek.why, (int)run.why, (int)step.why);
    return false;
}

static bool diverges(struct timeline *t)
{
    struct timeline_stop stop;
    struct err *e = timeline_run(t, false, &stop);
    bool diverged = e && err_code(e) == ERR_DIVERGED;
    err_destroy(e);
    return diverged;
}

/* From now on this event is another. What is read ahead already stays, so that it is read anew. */
static void alter(struct timeline *t, uint64_t seq)
{
    struct timeline_stop stop;
    must(timeline_seek(t, 0, &stop));
    replayer_alter_event(t->replayer, seq);
}

/* The digest that closes the recording is another: that is told each time that the end is met. A recording without events
 * before it has read it ahead from the beginning on. */
static bool try_other_end(struct timeline *t)
{
    struct timeline_stop stop;
    uint64_t closing = replayer_end(t->replayer).events - 2;
    bool told = true;
    alter(t, closing);
    bool read_already = replayer_mark(t->replayer).seq == closing;
    for (unsigned i = 0; i < 2 && !read_already; i++) {
        must(timeline_seek(t, timeline_end(t) - 1, &stop));
        told = diverges(t) && diverges(t) && told;
    }
    alter(t, UINT64_MAX);
    if (!told)
        printf("a divergence at the end was not told each time\n");
    return told && try_end(t);
}

static bool try(struct timeline *t, const struct trial *trial)
{
    struct timeline_stop stop;
    must(timeline_seek(t, trial->from, &stop));
    for (uint64_t i = 0; i < trial->back; i++)
        must(timeline_step(t, -1, &stop));
    uint64_t digest = timeline_digest(t), at = timeline_position(t);
    if (at == trial->from - trial->back && digest == trial->digest && console_is(t, trial))
        return true;
    if (!console_is(t, trial))
        printf("another console: ");
    printf("seek to %" PRIu64 ", %" PRIu64 " steps back: at %" PRIu64 " with digest %016" PRIx64 ", forwards %016" PRIx64 "\n",
           trial->from, trial->back, at, digest, trial->digest);
    return false;
}

/* ---- runs ---- */

enum { HITS = 6, A_MOMENT = 20000 };

/* A delivery, a port, input, or something short that was printed. */
static struct timeline_probe random_event(void)
{
    enum { COM1 = 0x3f8, PAGE_FAULT = 14 };
    static char text[4];
    size_t len = MIN(printed_len, 1 + rnd(3));
    struct timeline_probe p = {.kind = (enum timeline_probe_kind)(TP_VECTOR + rnd(4)), .len = 1 + rnd(8), .text = text};
    if (p.kind == TP_VECTOR)
        p.len = 1 + rnd(60);
    p.addr = p.kind == TP_PORT ? COM1 - rnd(8) : rnd(2) ? PAGE_FAULT : rnd(250);
    memcpy(text, printed + rnd(printed_len - len + 1), len);
    text[len] = 0;
    if (p.kind == TP_OUTPUT && strlen(text) == 0)
        p.kind = TP_INPUT;
    return p;
}

/* A probe on what the guest was doing before `from`. */
static struct timeline_probe random_probe(struct timeline *t, uint64_t from)
{
    struct timeline_stop stop;
    must(timeline_seek(t, from - rnd(MIN(from, A_MOMENT)), &stop));
    const struct vcpu_state *s = timeline_vcpu(t);
    uint64_t rip = s->seg[S_CS].base + s->r[R_RIP];
    uint64_t stack = (s->seg[S_SS].base + s->r[R_RSP] - 8) & (s->efer & EFER_LMA ? UINT64_MAX : UINT32_MAX);
    struct timeline_probe p = {.kind = TP_EXECUTE, .addr = rip, .len = 1};
    if (rnd(4) == 0)
        return random_event();
    if (rnd(2))
        p = (struct timeline_probe){.kind = (enum timeline_probe_kind)(TP_WRITE + rnd(3)), .addr = stack, .len = 1 + rnd(16)};
    if (p.kind != TP_EXECUTE && rnd(4) == 0)
        p.physical = timeline_translate(t, stack, &p.addr);
    return p;
}

/* The guest stands before it either way. */
static bool before(const struct timeline_probe *p) { return p->kind == TP_EXECUTE || p->kind == TP_INPUT; }

/* Up to HITS positions at which the guest stops, in one direction. Ahead some probes stop it one tick later. */
static size_t follow(struct timeline *t, bool back, bool after, uint64_t *out, size_t max)
{
    size_t n = 0;
    struct timeline_stop stop;
    for (; n < max; n++) {
        must(timeline_run(t, back, &stop));
        if (stop.why != TL_PROBE)
            break;
        out[n] = timeline_position(t) - (after && !back);
    }
    return n;
}

static bool try_run(struct timeline *t)
{
    uint64_t from = 1 + rnd(timeline_end(t) - 1), back[HITS], ahead[HITS];
    struct timeline_probe p = random_probe(t, from);
    struct timeline_stop stop;
    unsigned number;
    must(timeline_seek(t, from, &stop));
    must(timeline_probe_add(t, &p, &number));
    size_t n = follow(t, true, !before(&p), back, HITS);
    if (n == HITS && before(&p)) /* it stands on the last one, and would go on from it */
        must(timeline_seek(t, back[n - 1] - (back[n - 1] > 0), &stop));
    size_t m = follow(t, false, !before(&p), ahead, n);
    timeline_probe_remove(t, number);
    bool same = n == m;
    for (size_t i = 0; i < n && same; i++)
        same = back[n - 1 - i] == ahead[i];
    if (same)
        return true;
    printf("from %" PRIu64 ", probe %d%s at 0x%" PRIx64 ", %" PRIu64 " bytes: back", from, (int)p.kind,
           p.physical ? " physical" : "", p.addr, p.len);
    for (size_t i = 0; i < n; i++)
        printf(" %" PRIu64, back[i]);
    printf("; ahead");
    for (size_t i = 0; i < m; i++)
        printf(" %" PRIu64, ahead[i]);
    printf("\n");
    return false;
}

/* Whoever enters at the end, where nothing is known of the console, finds a text as often as it was printed. */
static bool try_text(const char *path, const struct timeline_options *o)
{
    enum { TEXT_MIN = 2, TEXT_MAX = 8 };
    char text[TEXT_MAX + 1] = "";
    struct timeline_probe p = {.kind = TP_OUTPUT, .text = text};
    struct timeline_stop stop;
    struct timeline *t;
    unsigned number;
    size_t len = TEXT_MIN + rnd(TEXT_MAX - TEXT_MIN + 1), wanted = 0, found = 0, known;
    if (len > printed_len)
        return true;
    memcpy(text, printed + rnd(printed_len - len + 1), len);
    if (strlen(text) < len)
        return true;
    for (size_t i = 0; i + len <= printed_len; i++)
        wanted += !memcmp(printed + i, text, len);
    must(timeline_open(path, o, &t));
    must(timeline_seek(t, UINT64_MAX, &stop));
    must(timeline_probe_add(t, &p, &number));
    for (must(timeline_run(t, true, &stop)); stop.why == TL_PROBE; found++)
        must(timeline_run(t, true, &stop));
    must(timeline_run(t, false, &stop));
    const uint8_t *console = timeline_console(t, &known);
    bool ends = stop.why == TL_PROBE && known >= len && !memcmp(console + known - len, text, len);
    timeline_close(t);
    if (found == wanted && ends)
        return true;
    printf("\"%s\" was printed %zu times, found %zu times%s\n", text, wanted, found, ends ? "" : ", and not once more ahead");
    return false;
}

/* Interrupted while it is looked up what was printed before, a run ahead is not thrown back, and misses nothing when it
 * goes on. */
static bool try_text_interrupted(const char *path, const struct timeline_options *o)
{
    enum { TEXT_LEN = 4, QUESTIONS_MAX = 4, INTERRUPTS = 20 };
    char text[TEXT_LEN + 1] = "";
    struct timeline_probe p = {.kind = TP_OUTPUT, .text = text};
    struct timeline_stop stop;
    struct timeline *t, *whole;
    unsigned number;
    if (printed_len < TEXT_LEN)
        return true;
    memcpy(text, printed + rnd(printed_len - TEXT_LEN + 1), TEXT_LEN);
    if (strlen(text) < TEXT_LEN)
        return true;
    must(timeline_open(path, o, &t));
    must(timeline_open(path, o, &whole));
    must(timeline_probe_add(whole, &p, &number));
    must(timeline_run(whole, false, &stop)); /* from the beginning: the first of them */
    uint64_t wanted = timeline_position(whole), from = wanted - 1 - rnd(MIN(wanted - 1, A_MOMENT));
    must(timeline_seek(t, from, &stop));
    must(timeline_probe_add(t, &p, &number));
    bool forwards = true;
    stop.why = TL_INTERRUPTED;
    for (unsigned i = 0; i <= INTERRUPTS && forwards && stop.why == TL_INTERRUPTED; i++) {
        uint64_t before = timeline_position(t);
        until_interrupt = i < INTERRUPTS ? 1 + (unsigned)rnd(QUESTIONS_MAX) : 0;
        must(timeline_run(t, false, &stop));
        forwards = timeline_position(t) >= before;
    }
    until_interrupt = 0;
    bool same = forwards && timeline_position(t) == wanted;
    if (!same)
        printf("\"%s\" after %" PRIu64 ": %s at %" PRIu64 ", not %" PRIu64 "\n", text, from,
               forwards ? "stopped" : "thrown back", timeline_position(t), wanted);
    timeline_close(t);
    timeline_close(whole);
    return same;
}

int main(int argc, char **argv)
{
    if (argc < 8)
        return 2;
    size_t n = strtoul(argv[2], NULL, 0), runs = strtoul(argv[3], NULL, 0), texts = strtoul(argv[4], NULL, 0);
    size_t bad = 0, bad_runs = 0;
    rng = strtoull(argv[5], NULL, 0) * 2654435761u + 88172645463325252u;
    struct timeline_options o = {.spacing = strtoull(argv[6], NULL, 0), .checkpoint_memory = strtoull(argv[7], NULL, 0),
                                 .engine = argc > 8 ? argv[8] : NULL, .interrupted = interrupted};
    struct trial *trials = calloc(n, sizeof(*trials));
    struct timeline *t = open_at_start(argv[1], &o);
    for (size_t i = 0; trials && i < n; i++) {
        trials[i].from = 1 + rnd(timeline_end(t));
        trials[i].back = rnd(MIN(trials[i].from, STEPS_MAX) + 1);
    }
    if (!trials)
        return 1;
    reference(argv[1], trials, n);
    for (size_t i = n; i > 1; i--) { /* in any order */
        size_t k = rnd(i);
        struct trial swap = trials[i - 1];
        trials[i - 1] = trials[k];
        trials[k] = swap;
    }
    for (size_t i = 0; i < n; i++)
        bad += !try(t, &trials[i]) || (i % 4 == 0 && !try_interrupt(t, trials[i].from));
    for (size_t i = 0; i < runs; i++)
        bad_runs += !try_run(t);
    bad += !try_end(t) + !try_other_end(t);
    for (size_t i = 0; i < texts; i++)
        bad_runs += !try_text(argv[1], &o) + !try_text_interrupted(argv[1], &o);
    struct timeline_stats s = timeline_stats(t);
    printf("seed %s: %zu trials, %zu differ; %zu runs, %zu differ; %" PRIu64 " checkpoints, %" PRIu64 " KiB, %" PRIu64 " restores, %" PRIu64
           " million ticks replayed\n", argv[5], n, bad, runs + 2 * texts, bad_runs, s.checkpoints, s.checkpoint_bytes >> 10, s.restores,
           s.ticks_replayed / 1000000);
    timeline_close(t);
    free(trials);
    free(printed);
    return bad || bad_runs;
}
