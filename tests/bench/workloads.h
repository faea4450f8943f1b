/* tests/bench/workloads.h: what the benchmark makes a CPU do, as plain C.
 *
 * The same functions are compiled into a Linux program (native.c) and into a bare-metal guest (guest.c), so that a
 * guest's time can be set against that of the CPU itself. A workload's run() prepares its data, whatever n is, and then
 * does n iterations: time(n) - time(0) is the time of n iterations. It returns a checksum, the same everywhere.
 *
 * How to add one: a function here and a row in workloads[]; a row in dbt.py says which class it belongs to. */
#ifndef BENCH_WORKLOADS_H
#define BENCH_WORKLOADS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { ARENA_LEN = 64 << 20 };

struct workload {
    const char *name;
    uint64_t (*run)(uint64_t n, uint8_t *arena); /* arena: ARENA_LEN bytes, zero, page-aligned */
    bool small_pages;                            /* wants the arena in 4 KiB pages; else 2 MiB */
};
extern const struct workload workloads[]; /* ends with a name of NULL */

#endif
