/* gdb/scratch.c: see scratch.h.
 *
 * A directory belongs to whoever holds the lock on it (flock(2)), which the kernel gives up for those who were killed. */
#include "gdb/scratch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define TEMPLATE "hyperwind.XXXXXX" /* as of mkdtemp() */

static const char *const names[SCRATCH_FILES] = {"socket", "hyperwind.py", "kernel.elf"};

static const char *parent(void)
{
    const char *tmp = getenv("TMPDIR");
    return tmp && *tmp && strlen(tmp) <= 30 ? tmp : "/tmp"; /* a socket's path has little room */
}

/* The lock on a directory of ours that still has this name; `how`: as of flock(). -1: somebody else's, or gone. */
static int lock(const char *dir, int how)
{
    struct stat named, opened;
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0 && !flock(fd, how) && !fstat(fd, &opened) && !lstat(dir, &named) && opened.st_dev == named.st_dev &&
        opened.st_ino == named.st_ino && opened.st_uid == geteuid())
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}

/* Locked by us. A file of somebody else in it keeps the directory. */
static void empty_and_remove(const char *dir, int fd)
{
    for (unsigned i = 0; i < SCRATCH_FILES; i++)
        unlinkat(fd, names[i], 0);
    rmdir(dir);
    close(fd);
}

static void remove_left_behind(void)
{
    char path[SCRATCH_PATH_MAX];
    DIR *all = opendir(parent());
    for (const struct dirent *d; all && (d = readdir(all)); ) {
        if (strlen(d->d_name) != strlen(TEMPLATE) || strncmp(d->d_name, TEMPLATE, strlen(TEMPLATE) - 6) != 0)
            continue;
        snprintf(path, sizeof(path), "%s/%.32s", parent(), d->d_name);
        int fd = lock(path, LOCK_EX | LOCK_NB);
        if (fd >= 0)
            empty_and_remove(path, fd);
    }
    if (all)
        closedir(all);
}

struct err *scratch_make(struct scratch *s)
{
    remove_left_behind();
    do { /* until no other session takes it for left behind before it is locked */
        snprintf(s->dir, sizeof(s->dir), "%s/" TEMPLATE, parent());
        if (!mkdtemp(s->dir))
            break;
        s->fd = lock(s->dir, LOCK_EX);
        if (s->fd >= 0)
            return NULL;
    } while (access(s->dir, F_OK));
    struct err *e = err_errno(ERR_HOST, errno, "cannot make and lock a directory %s for gdb's files", s->dir);
    s->dir[0] = 0;
    return e;
}

void scratch_remove(struct scratch *s)
{
    if (s->dir[0])
        empty_and_remove(s->dir, s->fd);
    s->dir[0] = 0;
}

void scratch_path(const struct scratch *s, enum scratch_file file, char out[SCRATCH_PATH_MAX])
{
    snprintf(out, SCRATCH_PATH_MAX, "%s/%s", s->dir, names[file]);
}
