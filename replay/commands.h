/* replay/commands.h: the subcommands that live here. Each gets its own argv (argv[0] is its name), prints its own
 * verdicts, and returns an error or an exit status (docs/exit-codes.md). */
#ifndef HW_COMMANDS_H
#define HW_COMMANDS_H

#include "core/base/err.h"

must_check struct err *cmd_run(int argc, char **argv, int *status);
must_check struct err *cmd_record(int argc, char **argv, int *status);
must_check struct err *cmd_replay(int argc, char **argv, int *status);
must_check struct err *cmd_info(int argc, char **argv, int *status);
must_check struct err *cmd_bisect(int argc, char **argv, int *status);
must_check struct err *cmd_index(int argc, char **argv, int *status);
must_check struct err *cmd_dump(int argc, char **argv, int *status);

struct options;
/* Replay `path` as cmd_replay does; for record --verify. */
must_check struct err *replay_file(const char *path, const struct options *o, int *status);

#endif
