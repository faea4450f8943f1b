/* replay/compare.h: two machines side by side: are they in the same state, and if not, what differs. For two executions
 * of one guest: both machines have the same configuration. */
#ifndef HW_COMPARE_H
#define HW_COMPARE_H

#include <stdio.h>

#include "replay/digest.h"

struct compared { const char *name; const struct machine *machine; struct digester *digester; };

/* Registers, devices and memory (by digest; takes new memory digests unless something else differs already). */
bool compare_same(const struct compared *a, const struct compared *b);

/* What differs, one field or run of bytes a line. `before` (may be NULL): the registers when they were equal. */
void compare_print(const struct compared *a, const struct compared *b, const struct vcpu_state *before, FILE *out);

/* The registers that say where a guest is and what it computes with. */
void compare_print_registers(const struct vcpu_state *s, FILE *out);

#endif
