/* replay/branch.h: a replay that turns into a live run: what if, from here on, something else had been typed?
 *
 * The guest's clock goes on from its virtual time; what the recording has for later is ignored. The branch may be recorded:
 * its file begins with the events of the original up to the branch, so it stands alone, and replays from the start. */
#ifndef HW_BRANCH_H
#define HW_BRANCH_H

#include "replay/guest.h"
#include "replay/recording.h"
#include "replay/replayer.h"

/* `vm` was replayed by `r` up to where it stands; `g` is from guest_open_outside(). With o->output it is recorded there
 * (the recording's image must be loaded still). Returns when the guest has ended; *status as of `run`. */
must_check struct err *branch_run(const struct options *o, struct recording *rec, struct replayer *r, struct guest *g,
                                  struct vm *vm, int *status);

#endif
