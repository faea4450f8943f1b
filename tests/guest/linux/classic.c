/*
 * Random programs of classic BPF, as socket filters and for seccomp (Linux, Documentation/networking/filter.rst and
 * Documentation/userspace-api/seccomp_filter.rst). The kernel translates them to eBPF and compiles that.
 */
#include "kernel_code.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    FILTERS = 150,
    PACKETS = 8,
    PACKET_LEN = 512,
    SECCOMP_FILTERS = 20,
    CALLS = 12,
    BODY_MAX = 120,
    CODE_MAX = 3 * BODY_MAX + 32,
    CELLS = 4, /* of the scratch memory; written first, since a kernel refuses what reads others */
};

/* What a program reads: a packet, or a system call. The latter in aligned words at constant offsets. */
enum input { PACKET, CALL };

struct program {
    enum input in;
    struct sock_filter code[CODE_MAX];
    unsigned short len;
};

static void put(struct program *p, uint16_t code, uint32_t k)
{
    p->code[p->len++] = (struct sock_filter)BPF_STMT(code, k);
}

static void put_jump(struct program *p, uint16_t code, uint32_t k, unsigned jt, unsigned jf)
{
    p->code[p->len++] = (struct sock_filter)BPF_JUMP(code, k, (uint8_t)jt, (uint8_t)jf);
}

static void put_load(struct program *p)
{
    static const struct {
        uint16_t size;
        uint32_t bytes;
    } sizes[] = {{BPF_W, 4}, {BPF_H, 2}, {BPF_B, 1}};
    if (p->in == CALL) {
        put(p, BPF_LD | BPF_W | BPF_ABS, (uint32_t)offsetof(struct seccomp_data, args) + pick(12) * 4);
        return;
    }
    unsigned i = pick(3);
    uint32_t k = pick(PACKET_LEN / 2 - sizes[i].bytes);
    switch (pick(3)) {
    case 0:
        put(p, BPF_LD | sizes[i].size | BPF_ABS, k);
        break;
    case 1:
        put(p, BPF_LDX | BPF_B | BPF_MSH, k);
        break;
    default:
        put(p, BPF_ALU | BPF_AND | BPF_K, PACKET_LEN / 2 - 1);
        put(p, BPF_MISC | BPF_TAX, 0);
        put(p, BPF_LD | sizes[i].size | BPF_IND, k);
    }
}

/* A zero in X ends a program that divides by it, and with 0, which seccomp takes for "kill". It knows no BPF_MOD
 * either. */
static void put_alu(struct program *p)
{
    static const uint16_t ops[] = {BPF_ADD, BPF_SUB, BPF_MUL, BPF_OR,  BPF_AND,
                                   BPF_XOR, BPF_LSH, BPF_RSH, BPF_DIV, BPF_MOD};
    unsigned i = pick(sizeof(ops) / sizeof(*ops) - (p->in == CALL ? 2 : 0));
    bool shift = ops[i] == BPF_LSH || ops[i] == BPF_RSH;
    if (pick(12) == 0)
        put(p, BPF_ALU | BPF_NEG, 0);
    else if (pick(2))
        put(p, BPF_ALU | BPF_K | ops[i], shift ? pick(32) : random_u32() >> pick(31) | 1);
    else
        put(p, BPF_ALU | BPF_X | ops[i], 0);
}

static void put_any(struct program *p, unsigned left)
{
    static const uint16_t tests[] = {BPF_JEQ, BPF_JGT, BPF_JGE, BPF_JSET};
    unsigned reach = (left > 40 ? 40 : left) + 1;
    switch (pick(10)) {
    case 0:
    case 1:
        put_load(p);
        break;
    case 2:
        put(p, pick(2) ? BPF_ST : BPF_STX, pick(CELLS));
        break;
    case 3:
        put(p, (pick(2) ? BPF_LD : BPF_LDX) | BPF_MEM, pick(CELLS));
        break;
    case 4:
        put(p, BPF_MISC | (pick(2) ? BPF_TAX : BPF_TXA), 0);
        break;
    case 5:
        put(p, (pick(2) ? BPF_LD : BPF_LDX) | BPF_W | (pick(4) ? BPF_IMM : BPF_LEN), random_u32());
        break;
    case 6:
        put_jump(p, BPF_JMP | tests[pick(4)] | (pick(2) ? BPF_K : BPF_X), random_u32() >> pick(32), pick(reach),
                 pick(reach));
        break;
    default:
        put_alu(p);
    }
}

/* A becomes a number of 8 bits that all of A has a part in. */
static void put_fold(struct program *p)
{
    for (uint32_t by = 16; by >= 8; by /= 2) {
        put(p, BPF_ST, 0);
        put(p, BPF_ALU | BPF_RSH | BPF_K, by);
        put(p, BPF_LDX | BPF_MEM, 0);
        put(p, BPF_ALU | BPF_XOR | BPF_X, 0);
    }
    put(p, BPF_ALU | BPF_AND | BPF_K, 0xff);
}

/* The body's end is where put_fold() begins: a jump reaches no further than that. */
static void put_body(struct program *p)
{
    unsigned steps = 4 + pick(BODY_MAX - 4);
    for (uint32_t i = 0; i < CELLS; i++) {
        put_load(p);
        put(p, BPF_ST, i);
    }
    put(p, BPF_LDX | BPF_IMM, random_u32());
    for (unsigned left = steps; left--;)
        put_any(p, left);
    put_fold(p);
}

/* A filter returns how much of a packet the receiver sees: nothing, or a length that tells the result. */
static void socket_filter(unsigned number)
{
    struct program p = {.in = PACKET};
    int pair[2];
    uint8_t packet[PACKET_LEN], got[PACKET_LEN];
    char line[PACKETS * 4 + 1] = "";

    put_body(&p);
    put(&p, BPF_ALU | BPF_ADD | BPF_K, 1);
    put(&p, BPF_RET | BPF_A, 0);
    struct sock_fprog prog = {.len = p.len, .filter = p.code};
    if (socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) ||
        setsockopt(pair[1], SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog))) {
        failed("filter %u of %u instructions", number, p.len);
        return;
    }
    for (unsigned i = 0; i < PACKETS; i++) {
        for (unsigned b = 0; b < PACKET_LEN; b++)
            packet[b] = (uint8_t)random_u32();
        ssize_t len =
            send(pair[0], packet, PACKET_LEN, 0) == PACKET_LEN ? recv(pair[1], got, PACKET_LEN, MSG_DONTWAIT) : -2;
        if ((len < 0 && errno != EAGAIN) || len == -2 || (len > 0 && memcmp(packet, got, (size_t)len)))
            failed("packet %u of filter %u", i, number);
        sprintf(line + 4 * i, " %03x", len > 0 ? (unsigned)len : 0);
    }
    say("filter %u, %u instructions:%s", number, p.len, line);
    close(pair[0]);
    close(pair[1]);
}

/* In a child, since nobody can take a filter off again. What it returns for getppid() is that call's errno. */
static void seccomp_filter(unsigned number)
{
    struct program p = {.in = CALL};
    uint64_t args[CALLS][6];
    char line[CALLS * 3 + 1] = "";

    put(&p, BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    put_jump(&p, BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 1, 0);
    put(&p, BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    put_body(&p);
    put(&p, BPF_ALU | BPF_OR | BPF_K, SECCOMP_RET_ERRNO);
    put(&p, BPF_RET | BPF_A, 0);
    for (unsigned i = 0; i < CALLS; i++)
        for (unsigned j = 0; j < 6; j++)
            args[i][j] = (uint64_t)random_u32() << 32 | random_u32();
    struct sock_fprog prog = {.len = p.len, .filter = p.code};
    pid_t child = fork();
    if (child == 0) {
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog)) {
            failed("seccomp filter %u of %u instructions", number, p.len);
            _exit(1);
        }
        for (unsigned i = 0; i < CALLS; i++) {
            const uint64_t *a = args[i];
            long result = syscall(SYS_getppid, a[0], a[1], a[2], a[3], a[4], a[5]);
            sprintf(line + 3 * i, " %02x", (unsigned)(result < 0 ? errno : 0));
        }
        say("seccomp %u, %u instructions:%s", number, p.len, line);
        _exit(0);
    }
    int status = 1;
    if (child < 0 || waitpid(child, &status, 0) != child || status)
        failed("seccomp filter %u: status %x", number, (unsigned)status);
}

void classic_filters(void)
{
    for (unsigned i = 0; i < FILTERS; i++)
        socket_filter(i);
    for (unsigned i = 0; i < SECCOMP_FILTERS; i++)
        seccomp_filter(i);
}
