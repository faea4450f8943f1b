/* gdb/monitor.h: the commands behind gdb's `monitor`: moving in time, looking at what gdb has no word for.
 *
 * How to add one: a function, and a row in commands[] of monitor.c; `help` and the number of arguments follow. */
#ifndef HW_GDB_MONITOR_H
#define HW_GDB_MONITOR_H

#include "gdb/target.h"

/* Executes a line; its output goes to target->g. False: there is no such command. */
bool gdb_monitor(struct gdb_target *target, const char *line);

enum { MONITOR_ARGS = 8 };
struct monitor {
    struct gdb_target *target;
    struct text *out;
    const char *line;         /* what follows the command's name, as it was written */
    int argc;                 /* words of it */
    char *argv[MONITOR_ARGS];
};

/* argv[i] as an address; false: said so. */
bool monitor_address(struct monitor *m, int i, uint64_t *out);

/* What QEMU's monitor shows, in its form, because scripts read it (monitor_x86.c, monitor_pages.c). */
void monitor_registers(struct monitor *m);
void monitor_mem(struct monitor *m);
void monitor_tlb(struct monitor *m);
void monitor_xp(struct monitor *m);
void monitor_gva2gpa(struct monitor *m);

#endif
