/* gdb/stepping.h: steps that leave a source line. */
#ifndef HW_GDB_STEPPING_H
#define HW_GDB_STEPPING_H

#include "gdb/target.h"

/* One step ahead at least, then on while the program counter is in [start, end); breakpoints stop it as they stop a
 * step. An interrupt or a fault on the way is no way out of the range: its handler runs until it returns. (gdb cannot
 * tell, and without unwind tables for the handler it would stop there. A single step does enter it: it is one tick.) */
must_check struct err *stepping_range(struct gdb_target *target, uint64_t start, uint64_t end,
                                      struct timeline_stop *stop);

#endif
