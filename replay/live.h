/* replay/live.h: the door to the host: its clock, its console, its randomness. Without a log.
 *
 * With the host clock, virtual time follows the host's: an anchor re-aligns it at most every LIVE_ANCHOR_NS while the guest
 * is busy. A guest that falls behind is moved ahead by at most LIVE_JUMP_NS at once; longer gaps (a stopped process, a
 * loaded host) are taken out of guest time. A guest that is ahead is slowed down by the rate. With the virtual clock there
 * are no anchors, idle periods take no time, and date and random seed are constants: two runs are identical. */
#ifndef HW_LIVE_H
#define HW_LIVE_H

#include "core/nondet.h"
#include "replay/console.h"

#define LIVE_ANCHOR_NS (NS_PER_S / 20)
#define LIVE_JUMP_NS (NS_PER_S / 100)
enum { LIVE_POLL_TICKS = 1000000 }; /* the console and the clock are looked at this often while the guest is busy */

struct live;
struct machine;

/* `c` is borrowed. `stop` (may be NULL) is polled: true ends the run (a signal handler sets it). */
must_check struct err *live_create(struct console *c, bool host_clock, const volatile bool *stop, struct live **out);
void live_destroy(struct live *l);
/* The machine whose clock is aligned; after machine_create(), before the first poll. Host time goes on from the machine's
 * virtual time of this moment. */
void live_bind(struct live *l, const struct machine *m);
/* While the guest idles: asked every 20 ms or so; true ends the wait, as a wake. NULL: nobody. */
void live_set_attention(struct live *l, bool (*wanted)(void *arg), void *arg);
struct nondet live_door(struct live *l);

/* Monotonic host time, ns; for those who show progress. */
uint64_t live_host_ns(void);

#endif
