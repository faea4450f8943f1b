/* gdb/listen.c: where a server listens. See listen.h. */
#include "gdb/listen.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "core/base/cleanup.h"

enum { BACKLOG = 4, SOCKET_FLAGS = SOCK_CLOEXEC | SOCK_NONBLOCK };

static struct err *finish(int *fd, char *address, char *path, int *fd_out, char **address_out, char **path_out)
{
    if (!address) {
        free(path);
        return err_new(ERR_HOST, "out of memory");
    }
    *fd_out = *fd;
    *fd = -1; /* it is the caller's now */
    *address_out = address;
    *path_out = path;
    return NULL;
}

/* ---- unix:PATH ---- */

/* A socket file that nobody answers behind is left over from a server that is gone. */
static bool stale(const struct sockaddr_un *a)
{
    struct stat st;
    AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCKET_FLAGS, 0);
    return fd >= 0 && !lstat(a->sun_path, &st) && S_ISSOCK(st.st_mode) &&
           connect(fd, (const struct sockaddr *)a, sizeof(*a)) && errno == ECONNREFUSED;
}

static struct err *listen_unix(const char *path, int *fd_out, char **address_out, char **path_out)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCKET_FLAGS, 0);
    if (fd < 0)
        return err_errno(ERR_HOST, errno, "cannot make a socket");
    if (!*path || strlen(path) >= sizeof(a.sun_path))
        return err_new(ERR_USAGE, "unix:%s: the path of a socket has 1 to %zu bytes", path, sizeof(a.sun_path) - 1);
    strcpy(a.sun_path, path);
    int failed = bind(fd, (struct sockaddr *)&a, sizeof(a));
    if (failed && errno == EADDRINUSE) {
        if (!stale(&a))
            return err_new(ERR_HOST, "unix:%s: another program listens there, or it is no socket", path);
        if (unlink(path))
            return err_errno(ERR_HOST, errno, "unix:%s: cannot remove the socket of a server that is gone", path);
        failed = bind(fd, (struct sockaddr *)&a, sizeof(a));
    }
    if (failed || listen(fd, BACKLOG))
        return err_errno(ERR_HOST, errno, "unix:%s: cannot listen there", path);
    char *copy = strdup(path);
    return finish(&fd, copy ? strdup(path) : NULL, copy, fd_out, address_out, path_out);
}

/* ---- [HOST:]PORT ---- */

/* HOST:PORT, [HOST]:PORT with colons in HOST, PORT. *host_out: allocated. */
static struct err *split(const char *where, char **host_out, const char **port_out)
{
    const char *colon = strrchr(where, ':'), *host = where;
    size_t len = colon ? (size_t)(colon - where) : 0;
    char *end;
    *port_out = colon ? colon + 1 : where;
    if (len >= 2 && host[0] == '[' && host[len - 1] == ']') {
        host++;
        len -= 2;
    }
    unsigned long port = strtoul(*port_out, &end, 10);
    if (end == *port_out || *end || **port_out < '0' || **port_out > '9' || port > UINT16_MAX)
        return err_new(ERR_USAGE, "%s: [HOST:]PORT or unix:PATH was expected", where);
    *host_out = len ? strndup(host, len) : strdup("127.0.0.1");
    return *host_out ? NULL : err_new(ERR_HOST, "out of memory");
}

static char *name_of(int fd)
{
    struct sockaddr_storage a;
    socklen_t len = sizeof(a);
    char host[NI_MAXHOST], port[NI_MAXSERV], *address;
    int flags = NI_NUMERICHOST | NI_NUMERICSERV;
    if (getsockname(fd, (struct sockaddr *)&a, &len) ||
        getnameinfo((struct sockaddr *)&a, len, host, sizeof(host), port, sizeof(port), flags))
        return NULL;
    return asprintf(&address, strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port) < 0 ? NULL : address;
}

static int bind_one(const struct addrinfo *a)
{
    int on = 1, fd = socket(a->ai_family, a->ai_socktype | SOCKET_FLAGS, a->ai_protocol);
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (!bind(fd, a->ai_addr, a->ai_addrlen) && !listen(fd, BACKLOG))
        return fd;
    int saved = errno;
    close(fd);
    errno = saved;
    return -1;
}

static struct err *listen_tcp(const char *where, int *fd_out, char **address_out, char **path_out)
{
    AUTO_FREE char *host = NULL;
    const char *port;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV}, *all;
    struct err *e = split(where, &host, &port);
    if (e)
        return e;
    int failed = getaddrinfo(host, port, &hints, &all);
    if (failed)
        return err_new(ERR_HOST, "%s: %s", where, gai_strerror(failed));
    AUTO_CLOSE int fd = -1;
    for (const struct addrinfo *a = all; a && fd < 0; a = a->ai_next)
        fd = bind_one(a);
    int saved = errno;
    freeaddrinfo(all);
    if (fd < 0)
        return err_errno(ERR_HOST, saved, "%s: cannot listen there", where);
    return finish(&fd, name_of(fd), NULL, fd_out, address_out, path_out);
}

struct err *listen_open(const char *where, int *fd_out, char **address_out, char **path_out)
{
    static const char prefix[] = "unix:";
    if (!strncmp(where, prefix, strlen(prefix)))
        return listen_unix(where + strlen(prefix), fd_out, address_out, path_out);
    return listen_tcp(where, fd_out, address_out, path_out);
}
