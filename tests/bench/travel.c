/* tests/bench/travel.c: how long a timeline takes to move. tests/bench/travel.py runs it and makes tables of what it prints:
 * one line a measurement, its name and its value (milliseconds unless the name says otherwise).
 *
 *     bench_travel places FILE CHECKPOINT_MEMORY SEED PLACES STEPS WALK
 *         Opens the recording, goes to its end, then to as many random places; at each, STEPS times one tick back; at each
 *         tenth WALK times. In the end what memory checkpoints and the process have.
 *     bench_travel over FILE
 *         To each checkpoint in the recording, from the first on, and one tick back over it.
 *     bench_travel back FILE SEED TARGETS
 *         Back to a breakpoint, and to a watchpoint, whose last hit lies FAR_MIN to FAR_MAX ticks ago: each in a timeline
 *         that was opened for it and has just come to the place, and once more from there. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "logfmt/log.h"
#include "replay/timeline.h"

/* ---- what is common ---- */

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void must(struct err *e)
{
    if (!e)
        return;
    fprintf(stderr, "bench_travel: %s\n", err_message(e));
    exit(1);
}

static void show(const char *name, double value)
{
    printf("%s %.6g\n", name, value);
}

static void show_since(const char *name, double started)
{
    show(name, now_ms() - started);
}

/* xorshift64; the same places for the same seed, so that runs can be compared. */
static uint64_t random_below(uint64_t *seed, uint64_t n)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed % n;
}

static struct timeline *opened(const char *file, uint64_t memory)
{
    struct timeline *t;
    must(timeline_open(file, &(struct timeline_options){.checkpoint_memory = memory}, &t));
    return t;
}

static struct timeline_stop seek(struct timeline *t, uint64_t to)
{
    struct timeline_stop s;
    must(timeline_seek(t, to, &s));
    return s;
}

static struct timeline_stop step(struct timeline *t, int64_t n)
{
    struct timeline_stop s;
    must(timeline_step(t, n, &s));
    return s;
}

static unsigned add(struct timeline *t, const struct timeline_probe *p)
{
    unsigned number;
    must(timeline_probe_add(t, p, &number));
    return number;
}

/* A row of /proc/self/status, in bytes. */
static double process_bytes(const char *row)
{
    char line[256];
    unsigned long long kib = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof(line), f))
        if (!strncmp(line, row, strlen(row)))
            sscanf(line + strlen(row), ": %llu", &kib);
    if (f)
        fclose(f);
    return (double)kib * 1024;
}

/* ---- places ---- */

static void back_from_here(struct timeline *t, unsigned steps, const char *name)
{
    for (unsigned i = 0; i < steps && timeline_position(t); i++) {
        uint64_t here = timeline_position(t);
        double started = now_ms();
        step(t, -1);
        show_since(i ? name : "first_step", started);
        if (timeline_position(t) != here - 1)
            must(err_new(ERR_DIVERGED, "one tick back from %" PRIu64 " is %" PRIu64, here, timeline_position(t)));
    }
}

static void places(const char *file, uint64_t memory, uint64_t seed, unsigned n, unsigned steps, unsigned walk)
{
    double started = now_ms(), most = 0;
    struct timeline *t = opened(file, memory);
    show_since("open", started);
    seek(t, timeline_end(t));
    show_since("open_end", started);
    started = now_ms();
    step(t, -1);
    show_since("first_step_at_end", started);
    for (unsigned i = 0; i < n; i++) {
        uint64_t place = 1 + random_below(&seed, timeline_end(t) - 1);
        bool ahead = place > timeline_position(t);
        started = now_ms();
        seek(t, place);
        show_since(ahead ? "seek_ahead" : "seek_back", started);
        bool long_walk = i % 10 == 9;
        back_from_here(t, long_walk ? walk : steps, long_walk ? "walk" : "step");
        most = MAX(most, (double)timeline_stats(t).checkpoint_bytes);
    }
    struct timeline_stats stats = timeline_stats(t);
    show("checkpoints_count", (double)stats.checkpoints);
    show("checkpoint_most_bytes", most);
    show("resident_bytes", process_bytes("VmRSS"));
    show("resident_most_bytes", process_bytes("VmHWM"));
    timeline_close(t);
    show("resident_without_bytes", process_bytes("VmRSS"));
}

/* ---- over ---- */

static void over(const char *file)
{
    struct timeline *t = opened(file, 0);
    struct log_reader *r;
    size_t count;
    must(log_reader_open(file, &r));
    must(log_reader_find_checkpoints(r, &count));
    for (size_t i = 0; i < count; i++) {
        struct log_checkpoint c;
        must(log_reader_checkpoint(r, i, &c));
        seek(t, c.pos.ticks);
        double started = now_ms();
        step(t, -1);
        show_since("step_over", started);
    }
    log_reader_close(r);
    timeline_close(t);
}

/* ---- back ---- */

enum { CANDIDATES = 96, WRITTEN_LEN = 8 };
static const uint64_t FAR_MIN = 80000000, FAR_MAX = 120000000;

struct candidates { struct timeline_probe probe[CANDIDATES]; unsigned number[CANDIDATES]; size_t count; };

static void consider(struct candidates *c, enum timeline_probe_kind kind, uint64_t addr)
{
    for (size_t i = 0; i < c->count; i++)
        if (c->probe[i].addr == addr)
            return;
    c->probe[c->count++] = (struct timeline_probe){.kind = kind, .addr = addr, .len = WRITTEN_LEN};
}

/* Addresses that are executed, or written, here and there between FAR_MAX and FAR_MIN ticks before `place`. */
static void collect(struct timeline *t, uint64_t *seed, uint64_t place, enum timeline_probe_kind kind,
                    struct candidates *c)
{
    const struct timeline_probe anything = {.kind = kind, .len = UINT64_MAX};
    const uint64_t slice = (FAR_MAX - FAR_MIN) / CANDIDATES;
    c->count = 0;
    for (unsigned i = 0; i < CANDIDATES; i++) {
        seek(t, place - FAR_MAX + i * slice + random_below(seed, slice));
        if (kind == TP_EXECUTE) {
            consider(c, kind, timeline_vcpu(t)->r[R_RIP]);
            continue;
        }
        unsigned number = add(t, &anything);
        struct timeline_stop s = step(t, (int64_t)slice / 2);
        timeline_probe_remove(t, number);
        if (s.why == TL_PROBE)
            consider(c, kind, s.hit[0].addr & ~(uint64_t)(WRITTEN_LEN - 1));
    }
}

/* Those that are hit between FAR_MIN ticks before `place` and `place` are none. */
static void eliminate(struct timeline *t, uint64_t place, struct candidates *c)
{
    bool gone[CANDIDATES] = {0};
    size_t left = 0;
    seek(t, place - FAR_MIN);
    for (size_t i = 0; i < c->count; i++)
        c->number[i] = add(t, &c->probe[i]);
    while (timeline_position(t) < place) {
        struct timeline_stop s = step(t, (int64_t)(place - timeline_position(t)));
        for (size_t i = 0; i < c->count && s.why == TL_PROBE; i++)
            if (timeline_hit_of(&s, c->number[i]) && !gone[i]) {
                gone[i] = true;
                timeline_probe_remove(t, c->number[i]);
            }
        if (s.why != TL_PROBE)
            break;
    }
    for (size_t i = 0; i < c->count; i++) {
        if (gone[i])
            continue;
        timeline_probe_remove(t, c->number[i]);
        c->probe[left++] = c->probe[i];
    }
    c->count = left;
}

static double run_back(struct timeline *t, uint64_t place, const struct timeline_probe *p, double *ms)
{
    struct timeline_stop s;
    seek(t, place);
    unsigned number = add(t, p);
    double started = now_ms();
    must(timeline_run(t, true, &s));
    *ms = now_ms() - started;
    timeline_probe_remove(t, number);
    return s.why == TL_PROBE ? (double)(place - timeline_position(t)) : 0;
}

static bool target(struct timeline *scout, const char *file, uint64_t *seed, enum timeline_probe_kind kind)
{
    const char *const name = kind == TP_EXECUTE ? "break" : "watch";
    struct candidates c;
    uint64_t place = FAR_MAX + random_below(seed, timeline_end(scout) - FAR_MAX);
    double first, again;
    collect(scout, seed, place, kind, &c);
    eliminate(scout, place, &c);
    if (!c.count)
        return false;
    const struct timeline_probe *p = &c.probe[random_below(seed, c.count)];
    struct timeline *t = opened(file, 0);
    double distance = run_back(t, place, p, &first);
    bool far = distance >= (double)FAR_MIN && distance <= (double)FAR_MAX;
    if (far && run_back(t, place, p, &again) == distance)
        printf("%s_ticks %.0f\n%s_first %.6g\n%s_again %.6g\n", name, distance, name, first, name, again);
    timeline_close(t);
    return far;
}

static void back(const char *file, uint64_t seed, unsigned targets)
{
    enum { TRIES = 20 }; /* for one target: most places have none, being in a loop for longer */
    struct timeline *scout = opened(file, 0);
    seek(scout, timeline_end(scout)); /* leaves checkpoints, so that the rest is quick */
    if (timeline_end(scout) < 2 * FAR_MAX)
        must(err_new(ERR_RANGE, "%s is too short to go back in", file));
    for (enum timeline_probe_kind kind = TP_EXECUTE; kind <= TP_WRITE; kind++) {
        unsigned found = 0, tried = 0;
        for (; found < targets && tried < targets * TRIES; tried++)
            found += target(scout, file, &seed, kind);
        show(kind == TP_EXECUTE ? "break_places_tried" : "watch_places_tried", tried);
    }
    timeline_close(scout);
}

static uint64_t number(const char *s)
{
    return strtoull(s, NULL, 0);
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc == 8 && !strcmp(argv[1], "places"))
        places(argv[2], number(argv[3]), MAX(number(argv[4]), 1), (unsigned)number(argv[5]), (unsigned)number(argv[6]),
               (unsigned)number(argv[7]));
    else if (argc == 3 && !strcmp(argv[1], "over"))
        over(argv[2]);
    else if (argc == 5 && !strcmp(argv[1], "back"))
        back(argv[2], MAX(number(argv[3]), 1), (unsigned)number(argv[4]));
    else
        return fprintf(stderr, "usage: see the head of tests/bench/travel.c\n"), 2;
    return 0;
}
