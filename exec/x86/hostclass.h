/* exec/x86/hostclass.h: what of the host CPU's behaviour reaches guests.
 *
 * The engines execute arithmetic on the host CPU. Where the architecture leaves a result undefined or inexact, hosts
 * differ: undefined flags (they reach memory in every interrupt frame), BSF and BSR of 0, the reciprocal tables, x87
 * transcendentals. The probe turns each into a number that is equal on two hosts exactly when both gave the same
 * answers to the same questions. A recording stores the facts; a replay compares them and names the first difference.
 *
 * What is undefined but emulated in C (FIP, FDP, FOP, masked moves, gathers) is the same everywhere and no fact. */
#ifndef HW_X86_HOSTCLASS_H
#define HW_X86_HOSTCLASS_H

#include "core/base/base.h"

enum { HOST_CLASS_MAX = 48 };

struct host_class {
    unsigned count;
    struct { const char *name; uint64_t value; } fact[HOST_CLASS_MAX]; /* names are static; their order is fixed */
};

/* Takes about a millisecond. Deterministic on one host. */
void host_class_probe(struct host_class *out);

/* The name of the first fact that differs or is missing in one of the two; NULL when they are equal. */
const char *host_class_compare(const struct host_class *a, const struct host_class *b);

#endif
