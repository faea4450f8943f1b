/* gdb/listen.h: where a server listens. */
#ifndef HW_GDB_LISTEN_H
#define HW_GDB_LISTEN_H

#include "core/base/err.h"

/* A listening, non-blocking socket, as gdb_server_create() says. *address_out is what a client connects to, *path_out
 * the file to remove in the end or NULL; both are the caller's to free. */
must_check struct err *listen_open(const char *where, int *fd_out, char **address_out, char **path_out);

#endif
