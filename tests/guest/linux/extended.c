/*
 * eBPF (Linux, Documentation/bpf/instruction-set.rst): random programs, run by the kernel as its JIT compiles them and
 * evaluated here; and jumps between programs that the kernel patches while they are in use.
 *
 * The programs are of type XDP, since the kernel patches its "dispatcher" anew for each of them that it runs.
 */
#include "kernel_code.h"

#include <errno.h>
#include <linux/bpf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    PROGRAMS = 60,
    RUNS = 4,
    SWITCHES = 40,
    PACKET_LEN = 64,
    STEPS_MAX = 60,
    CODE_MAX = STEPS_MAX + 64,
    ROUNDS = 3,
    STACK_LEN = 32, /* bytes below R10 that a body may use */
};

struct program {
    struct bpf_insn code[CODE_MAX];
    int len;
    int body, end; /* what the evaluator runs: from the body's first instruction up to, not including, end */
};

/* What a body may use: not R1, the context, R9, its loop's counter, and R10, the frame. */
static const uint8_t free_regs[] = {0, 2, 3, 4, 5, 6, 7, 8};
enum { FREE_REGS = sizeof(free_regs), COUNTER = 9, FRAME = 10 };

static void put(struct program *p, uint8_t code, uint8_t dst, uint8_t src, int off, int32_t imm)
{
    p->code[p->len++] =
        (struct bpf_insn){.code = code, .dst_reg = dst & 15, .src_reg = src & 15, .off = (int16_t)off, .imm = imm};
}

static void put_map(struct program *p, uint8_t dst, int map)
{
    put(p, BPF_LD | BPF_DW | BPF_IMM, dst, BPF_PSEUDO_MAP_FD, 0, map);
    put(p, 0, 0, 0, 0, 0);
}

static uint8_t some_reg(void) { return free_regs[pick(FREE_REGS)]; }

/* ---- Random bodies ---- */

static const struct {
    uint8_t code;
    int bytes;
} sizes[] = {{BPF_DW, 8}, {BPF_W, 4}, {BPF_H, 2}, {BPF_B, 1}};

/* An offset from R10 for an access of so many bytes, aligned to them. */
static int stack_offset(int bytes) { return -STACK_LEN + (int)pick((uint32_t)(STACK_LEN / bytes)) * bytes; }

static void put_alu(struct program *p)
{
    static const uint8_t ops[] = {BPF_ADD, BPF_SUB, BPF_MUL, BPF_DIV, BPF_OR,   BPF_AND,
                                  BPF_LSH, BPF_RSH, BPF_MOD, BPF_XOR, BPF_ARSH, BPF_MOV};
    uint8_t op = ops[pick(sizeof(ops))], class = pick(2) ? BPF_ALU64 : BPF_ALU;
    int32_t imm = (int32_t)(random_u32() >> pick(31)) | 1;
    if (op == BPF_LSH || op == BPF_RSH || op == BPF_ARSH)
        imm &= class == BPF_ALU64 ? 63 : 31;
    if (pick(2))
        put(p, class | op | BPF_X, some_reg(), some_reg(), 0, 0);
    else
        put(p, class | op | BPF_K, some_reg(), 0, 0, imm);
}

static void put_atomic(struct program *p)
{
    static const int32_t ops[] = {BPF_ADD,
                                  BPF_OR,
                                  BPF_AND,
                                  BPF_XOR,
                                  BPF_ADD | BPF_FETCH,
                                  BPF_OR | BPF_FETCH,
                                  BPF_AND | BPF_FETCH,
                                  BPF_XOR | BPF_FETCH,
                                  BPF_XCHG,
                                  BPF_CMPXCHG};
    unsigned i = pick(2);
    put(p, BPF_STX | BPF_ATOMIC | sizes[i].code, FRAME, some_reg(), stack_offset(sizes[i].bytes),
        ops[pick(sizeof(ops) / sizeof(*ops))]);
}

static void put_any(struct program *p, unsigned left)
{
    static const uint8_t tests[] = {BPF_JEQ,  BPF_JNE, BPF_JGT, BPF_JGE,  BPF_JSET, BPF_JSGT,
                                    BPF_JSGE, BPF_JLT, BPF_JLE, BPF_JSLT, BPF_JSLE};
    unsigned size = pick(4);
    int at = stack_offset(sizes[size].bytes);
    switch (pick(16)) {
    case 0:
        put(p, BPF_LDX | BPF_MEM | sizes[size].code, some_reg(), FRAME, at, 0);
        break;
    case 1:
        put(p, BPF_STX | BPF_MEM | sizes[size].code, FRAME, some_reg(), at, 0);
        break;
    case 2:
        put(p, BPF_ST | BPF_MEM | sizes[size].code, FRAME, 0, at, (int32_t)random_u32());
        break;
    case 3:
        put_atomic(p);
        break;
    case 4:
        put(p, (pick(2) ? BPF_ALU64 : BPF_ALU) | BPF_NEG, some_reg(), 0, 0, 0);
        break;
    case 5:
        put(p, BPF_ALU | BPF_END | (pick(2) ? BPF_TO_BE : BPF_TO_LE), some_reg(), 0, 0, 16 << pick(3));
        break;
    case 6:
        put(p, (pick(2) ? BPF_JMP : BPF_JMP32) | tests[pick(sizeof(tests))] | (pick(2) ? BPF_X : BPF_K), some_reg(), 0,
            (int)pick((left > 20 ? 20 : left) + 1), 0);
        if (p->code[p->len - 1].code & BPF_X)
            p->code[p->len - 1].src_reg = some_reg() & 15;
        else
            p->code[p->len - 1].imm = (int32_t)(random_u32() >> pick(32));
        break;
    default:
        put_alu(p);
    }
}

/* Registers and stack are filled from the packet; R0 becomes a number of 32 bits that all of them have a part in. */
static void make(struct program *p, int sums)
{
    p->len = 0;
    put(p, BPF_LDX | BPF_MEM | BPF_W, 6, 1, offsetof(struct xdp_md, data), 0);
    put(p, BPF_LDX | BPF_MEM | BPF_W, 7, 1, offsetof(struct xdp_md, data_end), 0);
    put(p, BPF_ALU64 | BPF_MOV | BPF_X, 0, 6, 0, 0);
    put(p, BPF_ALU64 | BPF_ADD | BPF_K, 0, 0, 0, PACKET_LEN);
    put(p, BPF_JMP | BPF_JLE | BPF_X, 0, 7, 2, 0);
    put(p, BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 0);
    put(p, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
    for (int i = 0; i < FREE_REGS; i++)
        if (free_regs[i] != 6)
            put(p, BPF_LDX | BPF_MEM | BPF_DW, free_regs[i], 6, 8 * i, 0);
    for (int at = 0; at < STACK_LEN; at += 8) {
        put(p, BPF_LDX | BPF_MEM | BPF_DW, COUNTER, 6, 32 + at, 0);
        put(p, BPF_STX | BPF_MEM | BPF_DW, FRAME, COUNTER, at - STACK_LEN, 0);
    }
    put(p, BPF_LDX | BPF_MEM | BPF_DW, 6, 6, 8 * 5, 0);
    put(p, BPF_ALU64 | BPF_MOV | BPF_K, COUNTER, 0, 0, ROUNDS);

    p->body = p->len;
    for (unsigned left = 4 + pick(STEPS_MAX - 4); left--;)
        put_any(p, left);
    put(p, BPF_ALU64 | BPF_SUB | BPF_K, COUNTER, 0, 0, 1);
    put(p, BPF_JMP | BPF_JNE | BPF_K, COUNTER, 0, p->body - p->len - 1, 0);
    for (int i = 1; i < FREE_REGS; i++) {
        put(p, BPF_ALU64 | BPF_MUL | BPF_K, 0, 0, 0, 31);
        put(p, BPF_ALU64 | BPF_XOR | BPF_X, 0, free_regs[i], 0, 0);
    }
    put(p, BPF_ALU64 | BPF_MOV | BPF_X, 6, 0, 0, 0);
    put(p, BPF_ALU64 | BPF_RSH | BPF_K, 6, 0, 0, 32);
    put(p, BPF_ALU | BPF_XOR | BPF_X, 6, 0, 0, 0);
    p->end = p->len;

    /* The number is also added to a map's only element. */
    put(p, BPF_ST | BPF_MEM | BPF_W, FRAME, 0, -4, 0);
    put(p, BPF_ALU64 | BPF_MOV | BPF_X, 2, FRAME, 0, 0);
    put(p, BPF_ALU64 | BPF_ADD | BPF_K, 2, 0, 0, -4);
    put_map(p, 1, sums);
    put(p, BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_map_lookup_elem);
    put(p, BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 1, 0);
    put(p, BPF_STX | BPF_ATOMIC | BPF_DW, 0, 6, 0, BPF_ADD);
    put(p, BPF_ALU64 | BPF_MOV | BPF_X, 0, 6, 0, 0);
    put(p, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
}

/* ---- The evaluator ---- */

struct state {
    uint64_t r[10];
    uint8_t stack[STACK_LEN];
};

static uint64_t truncated(uint64_t value, int bytes)
{
    return bytes == 8 ? value : value & ((UINT64_C(1) << 8 * bytes) - 1);
}

static int bytes_of(uint8_t code)
{
    for (int i = 0;; i++)
        if (sizes[i].code == BPF_SIZE(code))
            return sizes[i].bytes;
}

static uint64_t load(const struct state *s, int off, int bytes)
{
    uint64_t value = 0;
    memcpy(&value, s->stack + STACK_LEN + off, (size_t)bytes);
    return value;
}

static void store(struct state *s, int off, int bytes, uint64_t value)
{
    memcpy(s->stack + STACK_LEN + off, &value, (size_t)bytes);
}

static uint64_t alu(uint8_t op, uint64_t a, uint64_t b, bool wide)
{
    unsigned by = (unsigned)b & (wide ? 63 : 31);
    switch (op) {
    case BPF_ADD:
        return a + b;
    case BPF_SUB:
        return a - b;
    case BPF_MUL:
        return a * b;
    case BPF_DIV:
        return b ? a / b : 0;
    case BPF_MOD:
        return b ? a % b : a;
    case BPF_OR:
        return a | b;
    case BPF_AND:
        return a & b;
    case BPF_XOR:
        return a ^ b;
    case BPF_LSH:
        return a << by;
    case BPF_RSH:
        return a >> by;
    case BPF_ARSH:
        return wide ? (uint64_t)((int64_t)a >> by) : (uint64_t)((int32_t)a >> by);
    case BPF_NEG:
        return -a;
    default:
        return b; /* BPF_MOV */
    }
}

static uint64_t swapped(uint64_t value, int bits, bool to_big)
{
    uint64_t cut = truncated(value, bits / 8);
    return to_big ? __builtin_bswap64(cut) >> (64 - bits) : cut;
}

static bool taken(uint8_t op, uint64_t a, uint64_t b, bool wide)
{
    int64_t sa = wide ? (int64_t)a : (int32_t)a, sb = wide ? (int64_t)b : (int32_t)b;
    switch (op) {
    case BPF_JEQ:
        return a == b;
    case BPF_JNE:
        return a != b;
    case BPF_JGT:
        return a > b;
    case BPF_JGE:
        return a >= b;
    case BPF_JLT:
        return a < b;
    case BPF_JLE:
        return a <= b;
    case BPF_JSET:
        return a & b;
    case BPF_JSGT:
        return sa > sb;
    case BPF_JSGE:
        return sa >= sb;
    case BPF_JSLT:
        return sa < sb;
    default:
        return sa <= sb; /* BPF_JSLE */
    }
}

static void atomic(struct state *s, const struct bpf_insn *in, int bytes)
{
    uint64_t old = load(s, in->off, bytes), *src = &s->r[in->src_reg], operand = *src;
    if (in->imm == BPF_CMPXCHG) {
        store(s, in->off, bytes, old == truncated(s->r[0], bytes) ? operand : old);
        s->r[0] = old;
        return;
    }
    store(s, in->off, bytes, in->imm == BPF_XCHG ? operand : alu(in->imm & 0xf0, old, operand, true));
    if (in->imm & BPF_FETCH)
        *src = old;
}

/* One instruction; returns how many to skip behind it. */
static int step(struct state *s, const struct bpf_insn *in)
{
    uint64_t *dst = &s->r[in->dst_reg];
    uint64_t src = BPF_SRC(in->code) == BPF_X ? s->r[in->src_reg] : (uint64_t)(int64_t)in->imm;
    uint8_t class = BPF_CLASS(in->code), op = BPF_OP(in->code);
    bool wide = class == BPF_ALU64 || class == BPF_JMP;
    int bytes = bytes_of(in->code);
    switch (class) {
    case BPF_LDX:
        *dst = load(s, in->off, bytes);
        return 0;
    case BPF_ST:
        store(s, in->off, bytes, (uint64_t)(int64_t)in->imm);
        return 0;
    case BPF_STX:
        if (BPF_MODE(in->code) == BPF_ATOMIC)
            atomic(s, in, bytes);
        else
            store(s, in->off, bytes, s->r[in->src_reg]);
        return 0;
    case BPF_ALU:
    case BPF_ALU64:
        if (op == BPF_END)
            *dst = swapped(*dst, in->imm, BPF_SRC(in->code) == BPF_TO_BE);
        else if (wide)
            *dst = alu(op, *dst, src, true);
        else
            *dst = (uint32_t)alu(op, (uint32_t)*dst, (uint32_t)src, false);
        return 0;
    default:
        return (wide ? taken(op, *dst, src, true) : taken(op, (uint32_t)*dst, (uint32_t)src, false)) ? in->off : 0;
    }
}

static uint32_t evaluate(const struct program *p, const uint8_t *packet)
{
    struct state s = {.r = {[COUNTER] = ROUNDS}};
    for (int i = 0; i < FREE_REGS; i++)
        memcpy(&s.r[free_regs[i]], packet + (free_regs[i] == 6 ? 8 * 5 : 8 * i), 8);
    memcpy(s.stack, packet + 32, STACK_LEN);
    for (int pc = p->body; pc < p->end; pc++)
        pc += step(&s, &p->code[pc]);
    return (uint32_t)s.r[6];
}

/* ---- bpf(2) ---- */

static int bpf(int command, union bpf_attr *attr) { return (int)syscall(SYS_bpf, command, attr, sizeof(*attr)); }

static int make_map(uint32_t type, uint32_t value_size)
{
    return bpf(BPF_MAP_CREATE,
               &(union bpf_attr){.map_type = type, .key_size = 4, .value_size = value_size, .max_entries = 1});
}

static int load_program(const struct program *p)
{
    static char log[65536];
    log[0] = '\0';
    int fd = bpf(BPF_PROG_LOAD, &(union bpf_attr){.prog_type = BPF_PROG_TYPE_XDP,
                                                  .insns = (uintptr_t)p->code,
                                                  .insn_cnt = (uint32_t)p->len,
                                                  .license = (uintptr_t) "GPL",
                                                  .log_level = 1,
                                                  .log_buf = (uintptr_t)log,
                                                  .log_size = sizeof(log)});
    if (fd < 0)
        failed("an eBPF program of %d instructions: ... %.200s", p->len,
               strlen(log) > 200 ? log + strlen(log) - 200 : log);
    return fd;
}

static uint32_t run_program(int program, const uint8_t *packet)
{
    union bpf_attr attr = {
        .test = {.prog_fd = (uint32_t)program, .data_in = (uintptr_t)packet, .data_size_in = PACKET_LEN}};
    if (bpf(BPF_PROG_TEST_RUN, &attr))
        failed("eBPF program's run");
    return attr.test.retval;
}

static void run_random(unsigned number, int sums, uint64_t *sum)
{
    struct program p;
    uint8_t packet[PACKET_LEN];
    char line[RUNS * 9 + 1] = "";
    make(&p, sums);
    int fd = load_program(&p);
    if (fd < 0)
        return;
    for (int i = 0; i < RUNS; i++) {
        for (int b = 0; b < PACKET_LEN; b++)
            packet[b] = (uint8_t)random_u32();
        uint32_t wanted = evaluate(&p, packet), got = run_program(fd, packet);
        if (wanted != got)
            failed("eBPF program %u, run %d: %08x instead of %08x", number, i, got, wanted);
        *sum += wanted;
        sprintf(line + 9 * i, " %08x", got);
    }
    say("ebpf %u, %d instructions:%s", number, p.len, line);
    close(fd);
}

/* A program that calls whatever slot 0 of a program array holds: the kernel patches the jump when that changes. */
static void switch_targets(void)
{
    enum { NOBODY = 1, TARGETS = 2 };
    static const uint8_t packet[PACKET_LEN];
    struct program p = {.len = 0};
    int slots = make_map(BPF_MAP_TYPE_PROG_ARRAY, 4), targets[TARGETS], key = 0, wrong = 0;
    put_map(&p, 2, slots);
    put(&p, BPF_ALU64 | BPF_MOV | BPF_K, 3, 0, 0, 0);
    put(&p, BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_tail_call);
    put(&p, BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, NOBODY);
    put(&p, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
    int caller = load_program(&p);
    for (int i = 0; i < TARGETS; i++) {
        p.len = 0;
        put(&p, BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, NOBODY + 1 + i);
        put(&p, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
        targets[i] = load_program(&p);
    }
    for (int i = 0; i < SWITCHES; i++) {
        unsigned target = pick(TARGETS + 1), wanted = target < TARGETS ? NOBODY + 1 + target : NOBODY;
        union bpf_attr attr = {.map_fd = (uint32_t)slots, .key = (uintptr_t)&key};
        if (target < TARGETS)
            attr.value = (uintptr_t)&targets[target];
        if (bpf(target < TARGETS ? BPF_MAP_UPDATE_ELEM : BPF_MAP_DELETE_ELEM, &attr) &&
            (target < TARGETS || errno != ENOENT))
            failed("slot of a program array");
        wrong += run_program(caller, packet) != wanted;
    }
    if (wrong)
        failed("%d of %d tail calls went elsewhere", wrong, SWITCHES);
    else
        say("ebpf: %d tail calls, patched in between", SWITCHES);
}

void extended_filters(void)
{
    uint64_t sum = 0, kernels_sum = 0;
    int key = 0, sums = make_map(BPF_MAP_TYPE_ARRAY, 8);
    for (unsigned i = 0; i < PROGRAMS; i++)
        run_random(i, sums, &sum);
    if (bpf(BPF_MAP_LOOKUP_ELEM,
            &(union bpf_attr){.map_fd = (uint32_t)sums, .key = (uintptr_t)&key, .value = (uintptr_t)&kernels_sum}) ||
        sum != kernels_sum)
        failed("the map holds %llx instead of %llx", (unsigned long long)kernels_sum, (unsigned long long)sum);
    else
        say("ebpf: the map holds %llx", (unsigned long long)sum);
    switch_targets();
}
