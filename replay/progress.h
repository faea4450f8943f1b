/* replay/progress.h: how far a long run has come, on standard error while it is a terminal and the guest does not own it. */
#ifndef HW_PROGRESS_H
#define HW_PROGRESS_H

#include "core/machine.h"

struct progress {
    bool on;
    const char *what;
    uint64_t total_ticks;   /* 0: unknown */
    uint64_t start_ns, shown_ns;
};

void progress_start(struct progress *p, const char *what, uint64_t total_ticks);
void progress_show(void *progress, const struct machine *m); /* as session.progress */
void progress_end(struct progress *p);                       /* erase the line */

#endif
