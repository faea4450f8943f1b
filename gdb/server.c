/* gdb/server.c: gdb over a socket. See server.h.
 *
 * Everything happens on one thread. While the guest stands, serve() waits for the socket; while it moves, the timeline
 * asks gdb_server_interrupted() every 20 ms or so, which does what serve() does without waiting. */
#include "gdb/server.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

#include "core/base/cleanup.h"
#include "gdb/catch.h"
#include "gdb/listen.h"
#include "gdb/regs.h"
#include "gdb/target.h"

enum {
    WAIT_MS = 100,          /* between looks at options.stop: a signal may come just before poll() */
    LAST_WORDS_MS = 1000,   /* for a client to read the last reply before the connection is closed */
};

struct gdb_server {
    struct gdb_server_options o;
    int listener, client;   /* client: -1: nobody */
    char *address, *path;   /* path: of a unix socket, to be removed; else NULL */
    struct gdb_target target;
    bool vanished;          /* the client, without a word */
    bool running;           /* a live guest, with nobody connected */
    bool moving;            /* at a client's request */
    bool live, over;
    uint64_t shown_ms;      /* when progress was shown, or a move began; of the host's clock */
};

static uint64_t host_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static bool asked(void *arg)
{
    return gdb_server_interrupted(arg, 0, 0, 0);
}

struct err *gdb_server_create(const char *where, const struct gdb_server_options *o, struct gdb_server **out)
{
    struct gdb_server *s = calloc(1, sizeof(*s));
    if (!s)
        return err_new(ERR_HOST, "out of memory");
    *s = (struct gdb_server){.o = *o, .listener = -1, .client = -1};
    s->target = (struct gdb_target){
        .arch = o->i386 ? &gdb_arch_i386 : &gdb_arch_x86_64, .interrupted = asked, .interrupted_arg = s,
    };
    struct err *e = listen_open(where, &s->listener, &s->address, &s->path);
    if (e) {
        gdb_server_destroy(s);
        return e;
    }
    *out = s;
    return NULL;
}

static void drop_client(struct gdb_server *s)
{
    if (s->target.t)
        gdb_catch_clear(&s->target);
    gdbs_destroy(s->target.g);
    s->target.g = NULL;
    cleanup_close(&s->client);
    s->client = -1;
    s->vanished = false;
}

void gdb_server_destroy(struct gdb_server *s)
{
    if (!s)
        return;
    drop_client(s);
    gdb_target_deinit(&s->target);
    cleanup_close(&s->listener);
    if (s->path)
        unlink(s->path);
    free(s->path);
    free(s->address);
    free(s);
}

const char *gdb_server_address(const struct gdb_server *s)
{
    return s->address;
}

struct gdb_symbols *gdb_server_symbols(struct gdb_server *s)
{
    return &s->target.symbols;
}

/* ---- the socket ---- */

static bool stopped(const struct gdb_server *s)
{
    return s->o.stop && *s->o.stop;
}

/* Whoever connects while somebody is served is turned away at once, rather than left to wait. */
static void accept_client(struct gdb_server *s)
{
    int on = 1, fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return; /* it has gone again */
    if (s->client >= 0) {
        close(fd);
        return;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)); /* of a unix socket: an error that does not matter */
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    s->target.g = gdbs_new(s->target.arch, &gdb_target_ops, &s->target,
                           &(struct gdbs_options){.reverse = timeline_has_past(s->target.t)});
    s->target.progress_ms = GDB_PROGRESS_MS;
    if (!timeline_has_past(s->target.t))
        gdb_symbols_forget(&s->target.symbols); /* it may have been started anew meanwhile, elsewhere in memory */
    if (!s->target.g)
        close(fd);
    else
        s->client = fd;
}

/* As much as the socket takes. */
static void send_output(struct gdb_server *s)
{
    size_t len;
    const uint8_t *p;
    while (p = gdbs_output(s->target.g, &len), len && !s->vanished) {
        ssize_t n = send(s->client, p, len, MSG_NOSIGNAL);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n < 0)
            s->vanished = true;
        else
            gdbs_output_done(s->target.g, (size_t)n);
    }
}

static void receive(struct gdb_server *s)
{
    uint8_t bytes[65536];
    ssize_t n = recv(s->client, bytes, sizeof(bytes), 0);
    if (n > 0 && !s->moving)
        s->shown_ms = host_ms(); /* what comes may be a command that takes long */
    if (n > 0)
        gdbs_feed(s->target.g, bytes, (size_t)n);
    else if (!n || (errno != EAGAIN && errno != EINTR))
        s->vanished = true;
}

static size_t unsent(const struct gdb_server *s)
{
    size_t len;
    gdbs_output(s->target.g, &len);
    return len;
}

/* Wait that long for something to do, and do it. */
static struct err *serve(struct gdb_server *s, int wait_ms)
{
    enum { GONE = POLLRDHUP | POLLHUP | POLLERR };
    struct pollfd fds[] = {{.fd = s->listener, .events = POLLIN}, {.fd = s->client, .events = POLLIN | POLLRDHUP}};
    if (s->client >= 0) {
        send_output(s);
        fds[1].events |= unsent(s) ? POLLOUT : 0;
    }
    int n = poll(fds, ARRAY_LEN(fds), wait_ms);
    if (n < 0 && errno != EINTR)
        return err_errno(ERR_HOST, errno, "cannot wait for gdb");
    if (n <= 0)
        return NULL;
    if (s->client >= 0 && fds[1].revents & (POLLIN | GONE))
        receive(s);
    if (fds[0].revents & POLLIN && !(s->client >= 0 && fds[1].revents & GONE)) /* else it is next */
        accept_client(s);
    if (s->client >= 0)
        send_output(s);
    return NULL;
}

static void show_progress(struct gdb_server *s, uint64_t from, uint64_t at, uint64_t to)
{
    uint64_t now = host_ms();
    if (s->client < 0 || s->vanished || !s->target.progress_ms || now - s->shown_ms < s->target.progress_ms)
        return;
    s->shown_ms = now;
    gdb_target_progress(&s->target, from, at, to);
}

bool gdb_server_interrupted(void *arg, uint64_t from, uint64_t at, uint64_t to)
{
    struct gdb_server *s = arg;
    if (stopped(s) || !s->target.t) /* before gdb_server_run() nobody is served */
        return stopped(s);
    show_progress(s, from, at, to);
    struct err *e = serve(s, 0);
    if (e) {
        err_destroy(e); /* serve() will say it again when the guest stands */
        return true;
    }
    if (s->client < 0)
        return false;
    return s->running || s->vanished || gdbs_interrupt_wanted(s->target.g);
}

/* Close the connection so that the last reply arrives: a socket that is closed with bytes unread resets it. */
static void say_goodbye(struct gdb_server *s)
{
    int waited = 0;
    while (!s->vanished && waited < LAST_WORDS_MS) {
        struct pollfd p = {.fd = s->client, .events = POLLIN | (unsent(s) ? POLLOUT : 0)};
        uint8_t bytes[4096];
        send_output(s);
        if (!unsent(s))
            shutdown(s->client, SHUT_WR);
        if (poll(&p, 1, 10) > 0 && p.revents & (POLLIN | POLLHUP) && recv(s->client, bytes, sizeof(bytes), 0) <= 0)
            break;
        waited += 10;
    }
    drop_client(s);
}

/* ---- the guest ---- */

/* A live guest runs on its own. */
static struct err *run_alone(struct gdb_server *s, int *status_out)
{
    struct timeline_stop stop;
    struct err *e = timeline_run(s->target.t, false, &stop);
    if (!e && stop.why == TL_END) {
        *status_out = stop.status;
        s->over = true;
    }
    if (s->client >= 0)
        s->running = false;
    return e;
}

static void client_left(struct gdb_server *s)
{
    say_goodbye(s);
    s->running = s->live && !s->target.dead;
    s->over |= s->o.once || s->target.dead;
}

static void move(struct gdb_server *s, const struct gdbs_resume *r, int *status_out)
{
    struct gdbs_stop stop;
    s->moving = true;
    gdb_target_move(&s->target, r, &stop, status_out);
    s->moving = false;
    if (!s->vanished)
        gdbs_report_stop(s->target.g, &stop);
    if (stop.kind == GDBS_STOP_EXITED || stop.kind == GDBS_STOP_SIGNALLED)
        client_left(s);
}

static struct err *next(struct gdb_server *s, int *status_out)
{
    struct gdbs_resume r;
    if (s->client < 0)
        return s->running ? run_alone(s, status_out) : serve(s, WAIT_MS);
    if (s->vanished) {
        client_left(s);
        return NULL;
    }
    switch (gdbs_wants(s->target.g, &r)) {
    case GDBS_WANT_BYTES:
        return serve(s, WAIT_MS);
    case GDBS_WANT_RESUME:
        send_output(s);
        move(s, &r, status_out);
        return NULL;
    case GDBS_WANT_KILL:
        s->over = true;
        say_goodbye(s);
        return NULL;
    case GDBS_WANT_DETACH:
    case GDBS_WANT_CLOSE:
        client_left(s);
        return NULL;
    }
    return NULL;
}

struct err *gdb_server_run(struct gdb_server *s, struct timeline *t, int *status_out)
{
    struct err *e = NULL;
    *status_out = 0;
    s->target.t = t;
    s->live = !timeline_has_past(t);
    s->running = s->live && !s->o.wait;
    s->over = false;
    while (!e && !s->over && !stopped(s))
        e = next(s, status_out);
    if (s->client >= 0)
        say_goodbye(s);
    s->target.t = NULL;
    return e;
}
