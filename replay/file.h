/* replay/file.h: whole input files in memory. */
#ifndef HW_FILE_H
#define HW_FILE_H

#include "core/base/err.h"

/* Read the file; free(*data). `what` names its role in messages. Errors: ERR_INPUT (missing, no regular file, larger than
 * max_len, which is stated as being the guest's memory), ERR_HOST. */
must_check struct err *file_load(const char *what, const char *path, uint64_t max_len, uint8_t **data, size_t *len);

#endif
