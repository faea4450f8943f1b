/* logfmt/file.c: see file.h. `self` is the descriptor itself. Reading is by pread(): a mapping of a file that somebody
 * cuts short would end in SIGBUS. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/cleanup.h"
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

static struct log_sink sink_of(int fd)
{
    return (struct log_sink){self_of(fd), file_write, file_truncate, file_sync, file_close};
}

/* Nobody else has it locked, and it is still what `path` names. Where locks are not known there are none. */
static bool locked(int fd, const char *path)
{
    struct stat here, there;
    if (flock(fd, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK)
        return false;
    return !fstat(fd, &here) && !stat(path, &there) && here.st_dev == there.st_dev && here.st_ino == there.st_ino;
}

/* A new file in the place of `old`, which is locked; `old` itself, emptied, where its name cannot be taken away from it.
 * Negative: it failed, and errno says why. */
static int renewed(int old, const char *path, mode_t mode)
{
    AUTO_FREE char *real = realpath(path, NULL); /* a symbolic link stays one */
    if (!real || unlink(real))
        return ftruncate(old, 0) ? -1 : old;
    int fd = open(real, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return -1;
    (void)flock(fd, LOCK_EX | LOCK_NB); /* nobody else knows it yet */
    (void)fchmod(fd, mode & 0777);
    return fd;
}

struct err *file_sink_open(const char *path, struct log_sink *out)
{
    struct stat st;
    AUTO_CLOSE int old = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    if (old < 0 || fstat(old, &st))
        return err_errno(ERR_HOST, errno, "cannot create the recording %s", path);
    int fd = old;
    if (S_ISREG(st.st_mode) && !locked(old, path))
        return err_new(ERR_HOST, "cannot create the recording %s: it is being written by somebody else", path);
    if (S_ISREG(st.st_mode) && st.st_size)
        fd = renewed(old, path, st.st_mode);
    if (fd < 0)
        return err_errno(ERR_HOST, errno, "cannot create the recording %s", path);
    if (fd == old)
        old = -1;
    *out = sink_of(fd);
    return NULL;
}

struct err *file_sink_of(int fd, const char *name, struct log_sink *out)
{
    int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (own < 0)
        return err_errno(ERR_HOST, errno, "cannot write the recording %s", name);
    *out = sink_of(own);
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
