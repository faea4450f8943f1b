/* replay/file.c: whole input files in memory. */
#include "replay/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "core/base/cleanup.h"

static struct err *read_all(int fd, const char *what, const char *path, uint8_t *buf, size_t len)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = read(fd, buf + done, len - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(ERR_HOST, errno, "cannot read the %s %s", what, path);
        if (n == 0)
            return err_new(ERR_INPUT, "the %s %s became shorter while it was read", what, path);
        done += (size_t)n;
    }
    return NULL;
}

struct err *file_load(const char *what, const char *path, uint64_t max_len, uint8_t **data, size_t *len)
{
    struct stat st;
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st))
        return err_errno(ERR_INPUT, errno, "cannot open the %s %s", what, path);
    if (!S_ISREG(st.st_mode))
        return err_new(ERR_INPUT, "the %s %s is not a regular file", what, path);
    if ((uint64_t)st.st_size > max_len)
        return err_new(ERR_INPUT, "the %s %s (%" PRIu64 " MiB) does not fit into the guest's memory (%" PRIu64
                       " MiB); give it more with --memory", what, path, (uint64_t)st.st_size >> 20, max_len >> 20);
    AUTO_FREE uint8_t *buf = malloc((size_t)st.st_size + 1);
    if (!buf)
        return err_new(ERR_HOST, "out of memory for the %s %s", what, path);
    struct err *e = read_all(fd, what, path, buf, (size_t)st.st_size);
    if (e)
        return e;
    *data = buf;
    *len = (size_t)st.st_size;
    buf = NULL;
    return NULL;
}
