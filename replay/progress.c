/* replay/progress.c: see progress.h. */
#include "replay/progress.h"

#include <stdio.h>
#include <unistd.h>

#include "replay/live.h"

#define SHOW_EVERY_NS (NS_PER_S / 5)

void progress_start(struct progress *p, const char *what, uint64_t total_ticks)
{
    uint64_t now = live_host_ns();
    *p = (struct progress){isatty(STDERR_FILENO), what, total_ticks, now, now};
}

void progress_show(void *arg, const struct machine *m)
{
    struct progress *p = arg;
    if (!p->on)
        return;
    uint64_t now = live_host_ns(), ticks = m->vcpu.ticks;
    if (now - p->shown_ns < SHOW_EVERY_NS)
        return;
    p->shown_ns = now;
    double seconds = (double)(now - p->start_ns) / 1e9, rate = (double)ticks / seconds;
    fprintf(stderr, "\r\033[Khyperwind: %s: tick %" PRIu64, p->what, ticks);
    if (p->total_ticks >= ticks && p->total_ticks)
        fprintf(stderr, " (%.1f %%, %.0f s left)", 100.0 * (double)ticks / (double)p->total_ticks,
                (double)(p->total_ticks - ticks) / rate);
    fprintf(stderr, ", %.0f M/s", rate / 1e6);
    fflush(stderr);
}

void progress_end(struct progress *p)
{
    if (p->on)
        fprintf(stderr, "\r\033[K");
    p->on = false;
}
