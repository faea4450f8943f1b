/* logfmt/file.c: see file.h. `self` is the descriptor itself. Reading is by pread(): a mapping of a file that somebody
 * cuts short would end in SIGBUS. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "logfmt/file.h"

static void *self_of(int fd)
{
    return (void *)(intptr_t)fd;
}

static int fd_of(void *self)
{
    return (int)(intptr_t)self;
}

static int64_t file_write(void *self, const void *data, size_t len)
{
    ssize_t n;
    do
        n = write(fd_of(self), data, len);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

static int file_truncate(void *self, uint64_t len)
{
    int fd = fd_of(self);
    return ftruncate(fd, (off_t)len) || lseek(fd, (off_t)len, SEEK_SET) < 0 ? -errno : 0;
}

/* What is no file on a disk (/dev/null, a pipe) has nothing to wait for. */
static int file_sync(void *self)
{
    return fsync(fd_of(self)) && errno != EINVAL && errno != EROFS ? -errno : 0;
}

static void file_close(void *self)
{
    close(fd_of(self));
}

static int64_t file_read_at(void *self, uint64_t offset, void *buf, size_t len)
{
    ssize_t n;
    do
        n = pread(fd_of(self), buf, len, (off_t)offset);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

struct err *file_sink_open(const char *path, struct log_sink *out)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0)
        return err_errno(ERR_HOST, errno, "cannot create the recording %s", path);
    *out = (struct log_sink){self_of(fd), file_write, file_truncate, file_sync, file_close};
    return NULL;
}

static struct err *check_source(int fd, const char *path, uint64_t *len_out)
{
    struct stat st;
    if (fstat(fd, &st))
        return err_errno(ERR_HOST, errno, "cannot examine %s", path);
    if (!S_ISREG(st.st_mode))
        return err_new(ERR_INPUT, "%s is no regular file", path);
    *len_out = (uint64_t)st.st_size;
    return NULL;
}

struct err *file_source_open(const char *path, struct log_source *out)
{
    uint64_t len = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO without a writer must not block */
    if (fd < 0)
        return err_errno(ERR_INPUT, errno, "cannot open the recording %s", path);
    struct err *e = check_source(fd, path, &len);
    if (e) {
        close(fd);
        return e;
    }
    *out = (struct log_source){self_of(fd), len, file_read_at, file_close};
    return NULL;
}
