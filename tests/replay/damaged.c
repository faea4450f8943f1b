/* tests/replay/damaged.c: moving in a recording whose events cannot all be read: where it gets to, the guest is as it was.
 *
 *     damaged GOOD BAD SEED MOVES
 * BAD is GOOD with event frames that are damaged. Both are moved to the same random places, and, where that fails in BAD,
 * which is for damage only, on from there. Wherever it does not fail, the digest is GOOD's. Some have to fail, and some must
 * not. */
#include <stdio.h>
#include <stdlib.h>

#include "replay/timeline.h"

static void must(struct err *e)
{
    if (!e)
        return;
    fprintf(stderr, "damaged: %s\n", err_message(e));
    exit(1);
}

static struct timeline *opened(const char *path)
{
    struct timeline *t;
    must(timeline_open(path, &(struct timeline_options){.spacing = UINT64_C(1) << 22}, &t));
    return t;
}

/* Whether it could be done. */
static bool moved(struct timeline *t, uint64_t to)
{
    struct timeline_stop s;
    struct err *e = timeline_seek(t, to, &s);
    if (e && err_code(e) != ERR_CORRUPT)
        must(e);
    err_destroy(e);
    return !e;
}

enum { STRIDE = 3000000, STRIDES = 4 }; /* ticks; a place is tried so often */

int main(int argc, char **argv)
{
    if (argc != 5)
        return fprintf(stderr, "usage: damaged GOOD BAD SEED MOVES\n"), 2;
    struct timeline *good = opened(argv[1]), *bad = opened(argv[2]);
    unsigned failed = 0, reached = 0, wrong = 0;
    srand((unsigned)atoi(argv[3]));
    for (int i = atoi(argv[4]); i > 0; i--) {
        uint64_t to = (uint64_t)((double)rand() / RAND_MAX * (double)timeline_end(good));
        unsigned tries = 1;
        for (; tries < STRIDES && !moved(bad, to); tries++)
            to += (uint64_t)(rand() % STRIDE);
        failed += tries - 1;
        if (!moved(bad, to))
            continue;
        reached++;
        if (!moved(good, MIN(to, timeline_end(good))) || timeline_digest(good) != timeline_digest(bad))
            wrong++;
    }
    printf("%u reached, %u could not be, %u wrong\n", reached, failed, wrong);
    timeline_close(good);
    timeline_close(bad);
    return wrong || !failed || !reached;
}
