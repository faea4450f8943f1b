/* exec/interp/interp.h: the reference engine: an interpreter over a cache of decoded blocks. */
#ifndef HW_INTERP_H
#define HW_INTERP_H

#include "exec/engine.h"

extern const struct engine_ops engine_interp;

struct vcpu;
/* For an engine that runs this one inside: execute the instruction at RIP, of a REP string as many iterations as fit
 * before tick `until` when they all look alike, with everything that the architecture ties to instruction ends. Faults
 * unwind to cpu->unwind. Nothing may be due (run_due_stop(), deliver_pending()). */
void interp_step(struct engine *e, struct vcpu *v, uint64_t until);

#endif
