/* tests/unit/gdb_server.c: the server with clients that come, leave, interrupt, misbehave and vanish. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "gdb/server.h"
#include "tests/unit/fake_timeline.h"

enum { PATIENCE_MS = 10000 };

struct service {
    struct gdb_server *s;
    struct timeline *t;
    pthread_t thread;
    int status;
    struct err *e;
    volatile bool stop, done;
};

static void *run(void *arg)
{
    struct service *v = arg;
    v->e = gdb_server_run(v->s, v->t, &v->status);
    v->done = true;
    return NULL;
}

static struct service *start(const char *where, struct gdb_server_options o, bool past, uint64_t at, uint64_t end)
{
    struct service *v = calloc(1, sizeof(*v));
    assert_non_null(v);
    o.stop = &v->stop;
    struct err *e = gdb_server_create(where, &o, &v->s);
    if (e)
        fail_msg("%s", err_message(e));
    v->t = fake_timeline(past, end, &(struct timeline_options){.interrupted = gdb_server_interrupted, .arg = v->s});
    v->t->at = at;
    fake_settle(v->t);
    assert_int_equal(pthread_create(&v->thread, NULL, run, v), 0);
    return v;
}

static int join(struct service *v)
{
    pthread_join(v->thread, NULL);
    if (v->e)
        fail_msg("%s", err_message(v->e));
    assert_int_equal(v->t->adds, v->t->removes);
    int status = v->status;
    gdb_server_destroy(v->s);
    timeline_close(v->t);
    free(v);
    return status;
}

static int finish(struct service *v)
{
    v->stop = true;
    return join(v);
}

static int try_connect(const struct service *v)
{
    const char *address = gdb_server_address(v->s);
    struct sockaddr_un u = {.sun_family = AF_UNIX};
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    bool tcp = address[0] != '/';
    int fd = socket(tcp ? AF_INET : AF_UNIX, SOCK_STREAM, 0);
    if (tcp)
        in.sin_port = htons((uint16_t)atoi(strrchr(address, ':') + 1));
    else
        snprintf(u.sun_path, sizeof(u.sun_path), "%s", address);
    if (connect(fd, tcp ? (struct sockaddr *)&in : (struct sockaddr *)&u, tcp ? sizeof(in) : sizeof(u)))
        fail_msg("cannot connect to %s: %s", address, strerror(errno));
    return fd;
}

static void say(int fd, const char *bytes)
{
    assert_int_equal(send(fd, bytes, strlen(bytes), MSG_NOSIGNAL), strlen(bytes));
}

/* Bytes until `end` is among them; false: the connection was closed first. */
static bool hear(int fd, const char *end, char *out, size_t room)
{
    size_t n = 0;
    out[0] = '\0';
    while (!strstr(out, end)) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (poll(&p, 1, PATIENCE_MS) != 1)
            fail_msg("%s did not come, only %s", end, out);
        ssize_t got = recv(fd, out + n, room - n - 1, 0);
        if (got <= 0)
            return false;
        n += (size_t)got;
        out[n] = '\0';
    }
    return true;
}

static void expect(int fd, const char *bytes, const char *end)
{
    char heard[4096];
    say(fd, bytes);
    if (!hear(fd, end, heard, sizeof(heard)))
        fail_msg("closed after %s", bytes);
}

/* A client in no-ack mode. */
static int client(const struct service *v)
{
    int fd = try_connect(v);
    expect(fd, "$QStartNoAckMode#b0", "$OK#9a");
    return fd;
}

static uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static bool closed(int fd)
{
    char rest[4096];
    bool is = !hear(fd, "\001", rest, sizeof(rest));
    close(fd);
    return is;
}

static void test_session(void **state)
{
    (void)state;
    struct service *v = start("0", (struct gdb_server_options){0}, true, 50, 1000);
    assert_memory_equal(gdb_server_address(v->s), "127.0.0.1:", 10);
    int fd = client(v);
    expect(fd, "$?#00", "$T05");
    expect(fd, "$bs#00", "thread:1");
    expect(fd, "$Z0,1003,1#00", "$OK");
    expect(fd, "$bc#00", "thread:1");
    assert_int_equal(v->t->at, 35);
    expect(fd, "$D#00", "$OK");
    assert_true(closed(fd));
    fd = client(v); /* again: as it was left, without the breakpoint */
    expect(fd, "$bc#00", "replaylog:begin");
    assert_int_equal(v->t->at, 0);
    say(fd, "$k#00");
    assert_true(closed(fd));
    assert_int_equal(join(v), 0);
}

static void test_once(void **state)
{
    (void)state;
    struct service *v = start("localhost:0", (struct gdb_server_options){.once = true}, true, 0, 1000);
    int fd = client(v);
    close(fd); /* without a word */
    assert_int_equal(join(v), 0);
}

/* ^C, forwards and backwards, with a history that takes for ever. */
static void test_interrupt(void **state)
{
    (void)state;
    struct service *v = start("0", (struct gdb_server_options){0}, true, UINT64_MAX / 2, UINT64_MAX);
    int fd = client(v);
    const char *const moves[] = {"$bc#00", "$vCont;c#00", "$vCont;r1000,1010:1#00",
                                 "$qRcmd,6c6173742d77726974652031#00"};
    for (size_t i = 0; i < ARRAY_LEN(moves); i++) {
        say(fd, moves[i]);
        usleep(30000);
        uint64_t from = now_ms();
        expect(fd, "\003", i == 3 ? "$OK#" : "$T02");
        assert_true(now_ms() - from < 2000); /* generous: sanitizers, a loaded host */
    }
    expect(fd, "$?#00", "$T02");
    close(fd);
    assert_int_equal(finish(v), 0);
}

static void test_vanishes(void **state)
{
    (void)state;
    struct service *v = start("0", (struct gdb_server_options){0}, true, UINT64_MAX / 2, UINT64_MAX);
    int fd = client(v);
    say(fd, "$Z0,9999,1#00$bc#00");
    usleep(20000);
    close(fd); /* in the middle of a move */
    fd = client(v);
    expect(fd, "$?#00", "$T05");
    say(fd, "$m1000,"); /* in the middle of a packet */
    close(fd);
    fd = client(v);
    expect(fd, "$?#00", "$T05");
    /* Garbage. */
    for (unsigned i = 0; i < 100; i++)
        say(fd, "\001$$$#\003}}}*~~~$#00$#zz$qXfer:#00$m#00$vCont;#00$Z0,#00$X1,ffffffff:#00$H#00");
    close(fd);
    fd = client(v);
    expect(fd, "$?#00", "$T0");
    close(fd);
    assert_int_equal(finish(v), 0);
}

static void test_one_at_a_time(void **state)
{
    (void)state;
    struct service *v = start("0", (struct gdb_server_options){0}, true, 0, 1000);
    int fd = client(v), second = try_connect(v);
    assert_true(closed(second));
    expect(fd, "$?#00", "$T05");
    close(fd);
    assert_int_equal(finish(v), 0);
}

static void test_live(void **state)
{
    (void)state;
    struct service *v = start("0", (struct gdb_server_options){0}, false, 0, UINT64_MAX);
    int fd = client(v); /* attaching stops it */
    expect(fd, "$?#00", "$T05");
    uint64_t at = v->t->at;
    usleep(50000);
    assert_int_equal(v->t->at, at);
    expect(fd, "$Z0,1003,1#00", "$OK");
    expect(fd, "$vCont;c#00", "thread:1");
    assert_int_equal(v->t->at % FAKE_LOOP, 3);
    at = v->t->at;
    close(fd); /* it goes on, without the breakpoint */
    usleep(200000);
    fd = client(v);
    assert_true(v->t->at > at + FAKE_LOOP);
    expect(fd, "$D#00", "$OK");
    assert_true(closed(fd));
    assert_int_equal(finish(v), 0);
}

static void test_live_waits(void **state)
{
    (void)state;
    struct service *v = start("0", (struct gdb_server_options){.wait = true}, false, 0, 100);
    usleep(150000);
    assert_int_equal(v->t->at, 0);
    int fd = client(v);
    expect(fd, "$vCont;s#00", "thread:1");
    assert_int_equal(v->t->at, 1);
    expect(fd, "$vCont;c#00", "$W07");
    assert_true(closed(fd));
    assert_int_equal(join(v), 7);
}

static void test_live_ends_alone(void **state)
{
    (void)state;
    struct service *v = start("0", (struct gdb_server_options){0}, false, 0, 100);
    assert_int_equal(join(v), 7);
}

/* ---- where it listens ---- */

static void test_unix(void **state)
{
    (void)state;
    char where[64], *path = where + strlen("unix:");
    struct stat st;
    snprintf(where, sizeof(where), "unix:/tmp/hw_gdb_test.%d", getpid());
    struct service *v = start(where, (struct gdb_server_options){0}, true, 0, 1000);
    assert_string_equal(gdb_server_address(v->s), path);
    int fd = client(v);
    expect(fd, "$?#00", "$T05");
    close(fd);
    struct gdb_server *second;
    struct err *e = gdb_server_create(where, &(struct gdb_server_options){0}, &second);
    assert_non_null(e);
    assert_non_null(strstr(err_message(e), "another program listens there"));
    err_destroy(e);
    finish(v);
    assert_int_equal(stat(path, &st), -1);

    /* What a server leaves that was killed. */
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    strcpy(a.sun_path, path);
    fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    close(fd);
    assert_int_equal(stat(path, &st), 0);
    v = start(where, (struct gdb_server_options){0}, true, 0, 1000);
    close(client(v));
    finish(v);

    /* A file that is no socket stays. */
    FILE *f = fopen(path, "w");
    fclose(f);
    e = gdb_server_create(where, &(struct gdb_server_options){0}, &second);
    assert_non_null(e);
    err_destroy(e);
    assert_int_equal(stat(path, &st), 0);
    unlink(path);
}

static void test_bad_addresses(void **state)
{
    (void)state;
    static const struct { const char *where; enum err_code code; } rows[] = {
        {"", ERR_USAGE}, {"x", ERR_USAGE}, {"65536", ERR_USAGE}, {"-1", ERR_USAGE}, {"localhost:", ERR_USAGE},
        {"1:2x", ERR_USAGE}, {"unix:", ERR_USAGE}, {"unix:/no/such/folder/s", ERR_HOST},
        {"no.such.host.invalid:1", ERR_HOST}, {"192.0.2.1:0", ERR_HOST},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct gdb_server *s;
        struct err *e = gdb_server_create(rows[i].where, &(struct gdb_server_options){0}, &s);
        if (!e)
            fail_msg("%s: no error", rows[i].where);
        if (err_code(e) != rows[i].code || strchr(err_message(e), '\n'))
            fail_msg("%s: %s", rows[i].where, err_message(e));
        err_destroy(e);
    }
    char where[32];
    struct gdb_server *first, *second;
    assert_null(gdb_server_create("127.0.0.1:0", &(struct gdb_server_options){0}, &first));
    snprintf(where, sizeof(where), "%s", gdb_server_address(first));
    struct err *e = gdb_server_create(where, &(struct gdb_server_options){0}, &second);
    assert_non_null(e);
    assert_non_null(strstr(err_message(e), "Address already in use"));
    err_destroy(e);
    gdb_server_destroy(first);
    gdb_server_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_session), cmocka_unit_test(test_once), cmocka_unit_test(test_interrupt),
        cmocka_unit_test(test_vanishes), cmocka_unit_test(test_one_at_a_time), cmocka_unit_test(test_live),
        cmocka_unit_test(test_live_waits), cmocka_unit_test(test_live_ends_alone), cmocka_unit_test(test_unix),
        cmocka_unit_test(test_bad_addresses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
