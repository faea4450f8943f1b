/* gdb/catch.h: catchpoints: events that the guest stops at, beside gdb's own breakpoints. gdb has no packet for them,
 * so they are set by monitor commands, and a stop is told as text. */
#ifndef HW_GDB_CATCH_H
#define HW_GDB_CATCH_H

#include "gdb/monitor.h"

/* Monitor commands: catch KIND [WHAT], catches, uncatch N|all. */
void monitor_catch(struct monitor *m);
void monitor_catches(struct monitor *m);
void monitor_uncatch(struct monitor *m);

/* Say which catchpoint was hit, when it was one. */
void gdb_catch_tell(const struct gdb_target *target, const struct timeline_hit *hit);
/* All of them, while there is a timeline: nobody is left who would be told. */
void gdb_catch_clear(struct gdb_target *target);

#endif
