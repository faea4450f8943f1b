/* gdb/commands.h: what the program does with gdb. */
#ifndef HW_GDB_COMMANDS_H
#define HW_GDB_COMMANDS_H

#include "core/base/err.h"

struct options;
struct session;

/* `hyperwind debug`. */
must_check struct err *cmd_debug(int argc, char **argv, int *status);

/* As guest_debug_fn: a live guest with o->gdb. */
must_check struct err *gdb_attach(const struct options *o, struct session *s, bool recorded, const volatile bool *stop);

#endif
