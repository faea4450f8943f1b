/* logfmt/file.h: sinks and sources over file descriptors. Internal to logfmt/. */
#ifndef HW_LOGFMT_FILE_H
#define HW_LOGFMT_FILE_H

#include "logfmt/log.h"

/* A new file, locked (flock(2)). A regular file that was there is unlinked, so that whoever reads it goes on reading it; where
 * that is not allowed it is emptied. Errors: ERR_HOST, also when another process has it locked. */
must_check struct err *file_sink_open(const char *path, struct log_sink *out);
/* An empty file that is open for writing; `fd` stays the caller's. Errors: ERR_HOST. */
must_check struct err *file_sink_of(int fd, const char *name, struct log_sink *out);
/* A regular file of any size; it may shrink or grow while it is read. Errors: ERR_INPUT, ERR_HOST. */
must_check struct err *file_source_open(const char *path, struct log_source *out);

#endif
