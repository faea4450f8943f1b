/* replay/console.c: the host's side of the console. See console.h. */
#include "replay/console.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

enum { OUTPUT_CHUNK = 4096, OUTPUT_HIGH = 1 << 20, ESCAPE = 0x1d /* Ctrl-] */ };

struct console {
    int in, out; /* -1: none */
    int listener;
    char *socket_path;
    bool raw, escaped; /* terminal is raw; the last byte was the escape key */
    bool in_eof;
    uint8_t *buf; /* pending output */
    size_t len, cap;
};

/* ---- the terminal, of which a process has one ---- */

static struct termios saved;
static volatile int raw_fd = -1;

void console_restore(void)
{
    if (raw_fd >= 0)
        tcsetattr(raw_fd, TCSANOW, &saved);
    raw_fd = -1;
}

static void restore_and_die(int sig)
{
    console_restore();
    raise(sig); /* its disposition is the default one again */
}

/* Whatever ends the process must not leave the user with a raw terminal. */
static void restore_when_killed(void)
{
    static const int fatal[] = {SIGABRT, SIGQUIT, SIGSEGV, SIGBUS};
    for (size_t i = 0; i < ARRAY_LEN(fatal); i++) {
        struct sigaction old, sa = {.sa_handler = restore_and_die, .sa_flags = (int)SA_RESETHAND};
        if (!sigaction(fatal[i], NULL, &old) && old.sa_handler == SIG_DFL)
            sigaction(fatal[i], &sa, NULL);
    }
}

/* ---- opening ---- */

static void set_raw(struct console *c)
{
    if (!isatty(c->in) || tcgetattr(c->in, &saved))
        return;
    struct termios t = saved;
    cfmakeraw(&t);
    t.c_oflag |= OPOST; /* the guest's own newlines come with carriage returns, our messages do not */
    restore_when_killed();
    c->raw = !tcsetattr(c->in, TCSANOW, &t);
    if (!c->raw)
        return;
    raw_fd = c->in;
    dprintf(STDERR_FILENO, "hyperwind: Ctrl-] q leaves the guest\n");
}

/* Only a socket nobody serves any more may be replaced; any other file is somebody's data. */
static struct err *claim_path(const char *path)
{
    struct stat st;
    if (lstat(path, &st))
        return NULL;
    if (!S_ISSOCK(st.st_mode))
        return err_new(ERR_USAGE, "--console unix:%s: the file exists and is no socket; choose another path", path);
    if (unlink(path))
        return err_errno(ERR_HOST, errno, "cannot replace the socket %s", path);
    return NULL;
}

static struct err *open_socket(struct console *c, const char *path)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    if (!*path || strlen(path) >= sizeof(a.sun_path))
        return err_new(ERR_USAGE, "--console unix:PATH needs a path of 1 to %zu bytes", sizeof(a.sun_path) - 1);
    strcpy(a.sun_path, path);
    struct err *e = claim_path(path);
    if (e)
        return e;
    c->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->listener < 0 || bind(c->listener, (struct sockaddr *)&a, sizeof(a)) || listen(c->listener, 1))
        return err_errno(ERR_HOST, errno, "cannot listen on %s", path);
    c->socket_path = strdup(path);
    dprintf(STDERR_FILENO, "hyperwind: waiting for a client on %s\n", path);
    c->in = c->out = accept4(c->listener, NULL, NULL, SOCK_CLOEXEC);
    if (c->in < 0)
        return err_errno(ERR_HOST, errno, "no client on %s", path);
    return NULL;
}

static struct err *create(struct console **out)
{
    struct console *c = calloc(1, sizeof(*c));
    if (!c)
        return err_new(ERR_HOST, "out of memory for the console");
    c->in = c->out = c->listener = -1;
    *out = c;
    return NULL;
}

struct err *console_open_output(struct console **out)
{
    struct err *e = create(out);
    if (!e)
        (*out)->out = STDOUT_FILENO;
    return e;
}

struct err *console_open(const char *spec, struct console **out)
{
    struct console *c = NULL;
    struct err *e = create(&c);
    if (e)
        return e;
    if (!strcmp(spec, "stdio")) {
        c->in = STDIN_FILENO;
        c->out = STDOUT_FILENO;
        set_raw(c);
    } else if (!strncmp(spec, "unix:", 5)) {
        e = open_socket(c, spec + 5);
    } else if (strcmp(spec, "none")) {
        e = err_new(ERR_USAGE, "--console %s: expected stdio, none or unix:PATH", spec);
    }
    if (e) {
        console_close(c);
        return e;
    }
    *out = c;
    return NULL;
}

/* ---- output ---- */

static void give_up_output(struct console *c)
{
    c->out = -1; /* the reader is gone; the guest goes on */
    c->len = 0;
}

/* Write what is pending; wait for the reader only when `wait`. */
static void drain(struct console *c, bool wait)
{
    size_t done = 0;
    while (c->out >= 0 && done < c->len) {
        struct pollfd p = {c->out, POLLOUT, 0};
        int ready = poll(&p, 1, wait ? -1 : 0);
        if (ready < 0 && errno == EINTR && wait)
            continue;
        if (ready <= 0)
            break;
        ssize_t n = write(c->out, c->buf + done, MIN(c->len - done, (size_t)OUTPUT_CHUNK));
        if (n < 0 && errno != EINTR && errno != EAGAIN)
            give_up_output(c);
        else if (n > 0)
            done += (size_t)n;
    }
    if (done < c->len)
        memmove(c->buf, c->buf + done, c->len - done);
    c->len = done < c->len ? c->len - done : 0;
}

static bool reserve(struct console *c, size_t more)
{
    if (c->len + more <= c->cap)
        return true;
    size_t cap = MAX(2 * c->cap, align_up(c->len + more, OUTPUT_CHUNK));
    uint8_t *grown = realloc(c->buf, cap);
    if (!grown)
        return false;
    c->buf = grown;
    c->cap = cap;
    return true;
}

void console_write(struct console *c, const uint8_t *data, size_t len)
{
    if (c->out < 0)
        return;
    if (c->len + len > OUTPUT_HIGH || !reserve(c, len))
        drain(c, true);
    if (!reserve(c, len))
        return;
    memcpy(c->buf + c->len, data, len);
    c->len += len;
    if (c->len >= OUTPUT_CHUNK)
        drain(c, false);
}

void console_flush(struct console *c)
{
    drain(c, false);
}

void console_drain(struct console *c)
{
    drain(c, true);
}

/* ---- input ---- */

static bool has_input(const struct console *c)
{
    return c->in >= 0 && !c->in_eof;
}

bool console_input_ready(const struct console *c)
{
    struct pollfd p = {c->in, POLLIN, 0};
    return has_input(c) && poll(&p, 1, 0) > 0;
}

/* Take the escape key out of what was typed at a terminal. */
static size_t filter_escape(struct console *c, uint8_t *buf, size_t n, bool *leave)
{
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        if (!c->escaped && buf[i] == ESCAPE) {
            c->escaped = true;
            continue;
        }
        if (c->escaped && buf[i] == 'q')
            *leave = true;
        else
            buf[kept++] = buf[i];
        c->escaped = false;
    }
    return kept;
}

size_t console_read(struct console *c, uint8_t *buf, size_t max, bool *leave)
{
    if (!console_input_ready(c))
        return 0;
    ssize_t n = read(c->in, buf, max);
    if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN))
        c->in_eof = true; /* end of input is no reason to stop the guest */
    if (n <= 0)
        return 0;
    return c->raw ? filter_escape(c, buf, (size_t)n, leave) : (size_t)n;
}

void console_wait(struct console *c, uint64_t timeout_ns)
{
    drain(c, false);
    struct pollfd p = {has_input(c) ? c->in : -1, POLLIN, 0};
    struct timespec t = {(time_t)(timeout_ns / NS_PER_S), (long)(timeout_ns % NS_PER_S)};
    ppoll(&p, 1, timeout_ns == UINT64_MAX ? NULL : &t, NULL);
}

void console_close(struct console *c)
{
    if (!c)
        return;
    drain(c, true);
    if (c->raw)
        console_restore();
    if (c->listener >= 0) {
        if (c->in >= 0)
            close(c->in);
        close(c->listener);
    }
    if (c->socket_path)
        unlink(c->socket_path);
    free(c->socket_path);
    free(c->buf);
    free(c);
}
