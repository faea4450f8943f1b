/* gdb/scratch.h: a directory in $TMPDIR for what gdb reads as files, for as long as a session lasts. */
#ifndef HW_SCRATCH_H
#define HW_SCRATCH_H

#include "core/base/err.h"

enum scratch_file { SCRATCH_SOCKET, SCRATCH_PYTHON, SCRATCH_SYMBOLS, SCRATCH_FILES };

enum { SCRATCH_PATH_MAX = 96 }; /* with its 0 */

struct scratch {
    char dir[64]; /* "": not made */
    int fd;       /* of a file in it, locked: somebody is using it; -1: it could not be locked */
};

/* A new one. Those of sessions that were killed, the only ones that leave theirs behind, are removed. ERR_HOST. */
must_check struct err *scratch_make(struct scratch *s);
/* With what is in it. Fine when it was not made: all zero. */
void scratch_remove(struct scratch *s);

void scratch_path(const struct scratch *s, enum scratch_file file, char out[SCRATCH_PATH_MAX]);

#endif
