/* logfmt/file.h: sinks and sources over file descriptors. Internal to logfmt/. */
#ifndef HW_LOGFMT_FILE_H
#define HW_LOGFMT_FILE_H

#include "logfmt/log.h"

/* Create or empty the file. Errors: ERR_HOST. */
must_check struct err *file_sink_open(const char *path, struct log_sink *out);
/* A regular file of any size; it may shrink or grow while it is read. Errors: ERR_INPUT, ERR_HOST. */
must_check struct err *file_source_open(const char *path, struct log_source *out);

#endif
