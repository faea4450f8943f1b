/* tests/bench/native.c: the workloads as a Linux program. usage: bench_native NAME ITERATIONS */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "workloads.h"

enum { HUGE_PAGE = 2 << 20 };

int main(int argc, char **argv)
{
    const struct workload *w = workloads;
    while (argc == 3 && w->name && strcmp(w->name, argv[1]))
        w++;
    if (argc != 3 || !w->name) {
        fprintf(stderr, "usage: bench_native NAME ITERATIONS; NAME is one of");
        for (w = workloads; w->name; w++)
            fprintf(stderr, " %s", w->name);
        fprintf(stderr, "\n");
        return 2;
    }
    uint8_t *room = mmap(NULL, ARENA_LEN + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (room == MAP_FAILED) {
        perror("native: mmap");
        return 2;
    }
    uint8_t *arena = room + (-(uintptr_t)room & (HUGE_PAGE - 1));
    /* A kernel without huge pages refuses; the workloads run all the same. */
    (void)madvise(arena, ARENA_LEN, w->small_pages ? MADV_NOHUGEPAGE : MADV_HUGEPAGE);
    uint64_t n = strtoull(argv[2], NULL, 10);
    printf("%s %" PRIu64 " %016" PRIx64 "\n", w->name, n, w->run(n, arena));
    return 0;
}
