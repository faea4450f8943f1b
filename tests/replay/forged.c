/* tests/replay/forged.c: checkpoints that nobody ever took, in a recording whose checksums are right: whatever they say,
 * moving over them ends, in a place or with an error, and nothing worse happens.
 *
 *     forged GOOD FORGED SEED MOVES
 * GOOD has checkpoints. FORGED becomes a copy of it, in which they are altered in various ways. */
#include <stdio.h>
#include <stdlib.h>

#include "core/mem.h"
#include "replay/recording.h"
#include "replay/timeline.h"
#include "tests/replay/cut_off.h"

static void must(struct err *e)
{
    if (!e)
        return;
    fprintf(stderr, "forged: %s\n", err_message(e));
    exit(1);
}

static void *allocate(size_t len)
{
    void *p = malloc(len ? len : 1);
    if (!p)
        exit(1);
    return p;
}

/* ---- forging ---- */

/* Where a state says its own ticks, behind the mark; and in the mark, those of the last digests (replay/stored.c). */
enum { STATE_TICKS = 72, STATE_GOOD = 40, STATE_GOOD_MEMORY = 56 };

struct forger {
    struct log_reader *in; /* stands at an event */
    struct log_reader *checkpoints;
    struct log_writer *out;
    uint32_t ram_pages;
    uint64_t odds; /* one of so many states is altered so that it is nothing any more: the list ends there */
    uint8_t page[LOG_CHECKPOINT_PAGE];
};

static const uint8_t *any_content(void *arg, uint32_t number)
{
    struct forger *f = arg;
    (void)number;
    if (!below(3))
        return NULL;
    memset(f->page, (int)below(4), sizeof(f->page));
    f->page[below(sizeof(f->page))] = (uint8_t)below(256);
    return f->page;
}

/* At `ticks`, made of checkpoint number i. */
static void forge(struct forger *f, size_t i, uint64_t ticks)
{
    struct log_checkpoint c;
    bool written;
    must(log_reader_checkpoint(f->checkpoints, i, &c));
    uint8_t *state = allocate(c.state_len + 64);
    memcpy(state, c.state, c.state_len);
    memset(state + c.state_len, 0x5a, 64);
    size_t len = c.state_len, pages = 0, room = MAX(c.pages, 1000);
    uint32_t *page = allocate(room * sizeof(*page));
    if (below(f->odds)) /* otherwise it is of other ticks than it stands at */
        put_le64(state + STATE_TICKS, ticks);
    if (below(f->odds)) { /* otherwise it may tell of what came later */
        put_le64(state + STATE_GOOD, below(ticks + 1));
        put_le64(state + STATE_GOOD_MEMORY, below(ticks + 1));
    }
    for (uint64_t flips = below(f->odds) ? 0 : 1 + below(20); flips; flips--)
        state[below(len)] ^= (uint8_t)(1 << below(8));
    if (!below(f->odds))
        len = below(2) ? below(len) : len + 1 + below(64);
    if (below(2)) {
        for (; pages < c.pages; pages++)
            page[pages] = c.page[pages].page;
    } else {
        uint32_t top = below(4) ? f->ram_pages : UINT32_MAX - 1;
        for (uint64_t n = below(1000), at = below(top); n && at < top; n--, at += 1 + below(below(2) ? 4 : 100000))
            page[pages++] = (uint32_t)at;
    }
    struct log_checkpoint_source source = {.state = state, .state_len = len, .page = page, .pages = pages,
                                           .content = any_content, .arg = f};
    must(log_writer_checkpoint(f->out, ticks, &source, &written));
    free(state);
    free(page);
}

static void copy_and_forge(struct forger *f)
{
    struct log_pos pos = {0};
    struct log_event ev;
    size_t count;
    uint64_t before = 0, end = log_reader_summary(f->in).last.ticks;
    must(log_reader_find_checkpoints(f->checkpoints, &count));
    for (uint64_t chance = 1 + below(3);; before = pos.ticks) {
        must(log_reader_next(f->in, &pos, &ev));
        if (ev.id == LOG_EV_NONE)
            break;
        for (unsigned n = 0; pos.seq > 1 && n < 12 && below(chance + 4) < 4; n++) {
            uint64_t ticks = before + (pos.ticks > before ? below(pos.ticks - before) : 0);
            forge(f, below(count), ticks);
            before = ticks;
        }
        must(log_writer_event(f->out, pos.ticks, &ev));
    }
    for (uint64_t n = below(3); n; n--)
        forge(f, below(count), end += below(2) ? below(1000) : below(UINT64_C(1) << 62));
    must(log_writer_finish(f->out, below(2) ? end : pos.ticks));
}

static void make(const char *from, const char *to)
{
    struct recording good;
    must(recording_open(from, false, &good));
    struct forger f = {.in = good.log, .odds = UINT64_C(2) << below(8), .ram_pages = (uint32_t)(good.spec.ram_len / PAGE_SIZE)};
    must(log_reader_open(from, &f.checkpoints));
    must(log_writer_create(to, log_reader_header(good.log), &f.out));
    must(recording_write_image(f.out, &good.spec.image));
    copy_and_forge(&f);
    log_writer_destroy(f.out);
    log_reader_close(f.checkpoints);
    recording_close(&good);
}

/* ---- moving ---- */

/* A machine in a strange state may be slow: it is left alone when it was asked so often, every 20 ms, in one move. */
enum { ASKED_MAX = 25 };

static bool enough(void *arg, uint64_t from, uint64_t at, uint64_t to)
{
    unsigned *asked = arg;
    (void)from, (void)at, (void)to;
    return ++*asked > ASKED_MAX;
}

static struct err *move(struct timeline *t)
{
    struct timeline_stop stop;
    struct timeline_probe p = {.kind = TP_WRITE, .addr = below(timeline_ram_len(t)), .len = 4096, .physical = true};
    unsigned number;
    switch (below(4)) {
    case 0:
        return timeline_step(t, -(int64_t)(1 + below(100)), &stop);
    case 1: {
        must(timeline_probe_add(t, &p, &number));
        struct err *e = timeline_run(t, below(3), &stop);
        timeline_probe_remove(t, number);
        return e;
    }
    default:
        return timeline_seek(t, below(timeline_end(t) + 1), &stop);
    }
}

int main(int argc, char **argv)
{
    struct timeline *t;
    unsigned failed = 0, done = 0;
    if (argc != 5)
        return fprintf(stderr, "usage: forged GOOD FORGED SEED MOVES\n"), 2;
    rng_state = strtoull(argv[3], NULL, 0);
    make(argv[1], argv[2]);
    unsigned asked = 0;
    struct timeline_options o = {.checkpoint_memory = MIB(1) << below(7), .spacing = UINT64_C(1) << (10 + below(12)),
                                 .interrupted = enough, .arg = &asked};
    struct err *e = timeline_open(argv[2], &o, &t);
    if (e) {
        printf("not opened: %s\n", err_message(e));
        err_destroy(e);
        return 0;
    }
    uint64_t believed = timeline_stats(t).checkpoints - 1; /* the one at tick 0 is the replay's own */
    for (int i = atoi(argv[4]); i > 0; i--) {
        asked = 0;
        e = move(t);
        failed += e != NULL;
        done += !e;
        if (e && err_code(e) != ERR_DIVERGED && err_code(e) != ERR_CORRUPT)
            must(e);
        err_destroy(e);
    }
    printf("%u moves made, %u refused, %" PRIu64 " checkpoints believed\n", done, failed, believed);
    timeline_close(t);
    return 0;
}
