/* gdb/scratch.c: see scratch.h.
 *
 * A directory with a file LOCK in it is a session's, and in use while that file is locked (flock(2)); the kernel unlocks it
 * for those who were killed. The file gets this name when it is locked, so that no session takes a new one for left behind. */
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
#define LOCK ".session"
#define LOCK_NEW ".new"

static const char *const names[SCRATCH_FILES] = {"socket", "hyperwind.py", "kernel.elf"};

static void path_in(const char *dir, const char *name, char out[SCRATCH_PATH_MAX])
{
    snprintf(out, SCRATCH_PATH_MAX, "%s/%s", dir, name);
}

static const char *parent(void)
{
    const char *tmp = getenv("TMPDIR");
    return tmp && *tmp && strlen(tmp) <= 30 ? tmp : "/tmp"; /* a socket's path has little room */
}

/* A file of ours, locked. -1: it is not there, somebody else's, or locked. */
static int lock(const char *path, int flags)
{
    struct stat st;
    int fd = open(path, flags | O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
    if (fd >= 0 && !flock(fd, LOCK_EX | LOCK_NB) && !fstat(fd, &st) && S_ISREG(st.st_mode) && st.st_uid == geteuid())
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}

/* What is not ours in it keeps the directory. */
static void empty_and_remove(const char *dir)
{
    char path[SCRATCH_PATH_MAX];
    for (unsigned i = 0; i < SCRATCH_FILES; i++) {
        path_in(dir, names[i], path);
        unlink(path);
    }
    path_in(dir, LOCK_NEW, path);
    unlink(path);
    path_in(dir, LOCK, path);
    unlink(path);
    rmdir(dir);
}

static void remove_left_behind(void)
{
    char dir[SCRATCH_PATH_MAX - 32], path[SCRATCH_PATH_MAX];
    DIR *all = opendir(parent());
    for (const struct dirent *d; all && (d = readdir(all)); ) {
        if (strlen(d->d_name) != strlen(TEMPLATE) || strncmp(d->d_name, TEMPLATE, strlen(TEMPLATE) - 6) != 0)
            continue;
        snprintf(dir, sizeof(dir), "%s/%.16s", parent(), d->d_name);
        path_in(dir, LOCK, path);
        int fd = lock(path, 0);
        if (fd < 0)
            continue;
        empty_and_remove(dir);
        close(fd);
    }
    if (all)
        closedir(all);
}

struct err *scratch_make(struct scratch *s)
{
    char fresh[SCRATCH_PATH_MAX], locked[SCRATCH_PATH_MAX];
    remove_left_behind();
    snprintf(s->dir, sizeof(s->dir), "%s/" TEMPLATE, parent());
    if (!mkdtemp(s->dir)) {
        struct err *e = err_errno(ERR_HOST, errno, "cannot make a directory %s for gdb's files", s->dir);
        s->dir[0] = 0;
        return e;
    }
    path_in(s->dir, LOCK_NEW, fresh);
    path_in(s->dir, LOCK, locked);
    s->fd = lock(fresh, O_CREAT | O_EXCL);
    if (s->fd >= 0) /* otherwise this file system has no locks: nobody cleans up after us should we be killed */
        (void)!rename(fresh, locked);
    return NULL;
}

void scratch_remove(struct scratch *s)
{
    if (!s->dir[0])
        return;
    empty_and_remove(s->dir);
    if (s->fd >= 0)
        close(s->fd);
    s->dir[0] = 0;
}

void scratch_path(const struct scratch *s, enum scratch_file file, char out[SCRATCH_PATH_MAX])
{
    path_in(s->dir, names[file], out);
}
