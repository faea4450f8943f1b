/* gdb/agent.c: the stack machine of agent expressions. One table says how each opcode is called, how many values it
 * takes and leaves and how many operand bytes follow it; so bounds are checked in one place, before it runs. */
#include "gdb/agent.h"

struct eval {
    const uint8_t *code;
    size_t len, pc;
    uint64_t stack[AGENT_STACK];
    unsigned depth;
    const struct agent_reader *reader;
    void *arg;
    const char *why; /* set: it failed */
};

struct opcode {
    const char *name;
    uint8_t takes, leaves, operand; /* values, values, bytes */
    /* v: the values taken, the deepest first, and where those that are left go; x: the operand, big-endian. */
    void (*run)(struct eval *e, uint64_t *v, uint64_t x);
};

#define OP(name, expression)                                                                           \
    static void op_##name(struct eval *e, uint64_t *v, uint64_t x)                                     \
    {                                                                                                  \
        (void)e;                                                                                       \
        (void)x;                                                                                       \
        v[0] = (expression);                                                                           \
    }
OP(add, v[0] + v[1])
OP(sub, v[0] - v[1])
OP(mul, v[0] * v[1])
OP(lsh, v[1] < 64 ? v[0] << v[1] : 0)
OP(rsh_unsigned, v[1] < 64 ? v[0] >> v[1] : 0)
OP(log_not, !v[0])
OP(bit_and, v[0] & v[1])
OP(bit_or, v[0] | v[1])
OP(bit_xor, v[0] ^ v[1])
OP(bit_not, ~v[0])
OP(equal, v[0] == v[1])
OP(less_signed, (int64_t)v[0] < (int64_t)v[1])
OP(less_unsigned, v[0] < v[1])
OP(const, x)
OP(zero_ext, x < 64 ? v[0] & ((UINT64_C(1) << x) - 1) : v[0])
#undef OP

static void op_rsh_signed(struct eval *e, uint64_t *v, uint64_t x)
{
    (void)e;
    (void)x;
    uint64_t sign = v[0] >> 63 ? UINT64_MAX : 0, by = MIN(v[1], 63);
    v[0] = by ? v[0] >> by | sign << (64 - by) : v[0];
}

/* Sign extension from the low x bits. */
static void op_ext(struct eval *e, uint64_t *v, uint64_t x)
{
    if (!x || x > 64) {
        e->why = "sign extension from a width that is none";
        return;
    }
    uint64_t sign = UINT64_C(1) << (x - 1), mask = sign | (sign - 1);
    v[0] = ((v[0] & mask) ^ sign) - sign;
}

static bool divisible(struct eval *e, const uint64_t *v)
{
    if (!v[1])
        e->why = "division by zero";
    return v[1] != 0;
}

static void op_div_unsigned(struct eval *e, uint64_t *v, uint64_t x)
{
    (void)x;
    if (divisible(e, v))
        v[0] /= v[1];
}

static void op_rem_unsigned(struct eval *e, uint64_t *v, uint64_t x)
{
    (void)x;
    if (divisible(e, v))
        v[0] %= v[1];
}

/* The one quotient that does not fit wraps, as it does in gdb's own evaluation on two's complement hosts. */
static void op_div_signed(struct eval *e, uint64_t *v, uint64_t x)
{
    (void)x;
    if (divisible(e, v))
        v[0] = v[1] == UINT64_MAX ? 0 - v[0] : (uint64_t)((int64_t)v[0] / (int64_t)v[1]);
}

static void op_rem_signed(struct eval *e, uint64_t *v, uint64_t x)
{
    (void)x;
    if (divisible(e, v))
        v[0] = v[1] == UINT64_MAX ? 0 : (uint64_t)((int64_t)v[0] % (int64_t)v[1]);
}

static void load(struct eval *e, uint64_t *v, size_t len)
{
    uint8_t bytes[8] = {0};
    if (e->reader->memory(e->arg, v[0], bytes, len))
        v[0] = get_le64(bytes);
    else
        e->why = "memory that is not mapped";
}

static void op_ref8(struct eval *e, uint64_t *v, uint64_t x) { (void)x; load(e, v, 1); }
static void op_ref16(struct eval *e, uint64_t *v, uint64_t x) { (void)x; load(e, v, 2); }
static void op_ref32(struct eval *e, uint64_t *v, uint64_t x) { (void)x; load(e, v, 4); }
static void op_ref64(struct eval *e, uint64_t *v, uint64_t x) { (void)x; load(e, v, 8); }

static void op_reg(struct eval *e, uint64_t *v, uint64_t x)
{
    if (!e->reader->reg(e->arg, (unsigned)x, v))
        e->why = "a register that there is not";
}

static void jump(struct eval *e, uint64_t to)
{
    if (to >= e->len)
        e->why = "a jump out of the expression";
    else
        e->pc = (size_t)to;
}

static void op_goto(struct eval *e, uint64_t *v, uint64_t x)
{
    (void)v;
    jump(e, x);
}

static void op_if_goto(struct eval *e, uint64_t *v, uint64_t x)
{
    if (v[0])
        jump(e, x);
}

static void op_dup(struct eval *e, uint64_t *v, uint64_t x)
{
    (void)e;
    (void)x;
    v[1] = v[0];
}

static void op_pop(struct eval *e, uint64_t *v, uint64_t x)
{
    (void)e;
    (void)v;
    (void)x;
}

static void op_swap(struct eval *e, uint64_t *v, uint64_t x)
{
    (void)e;
    (void)x;
    uint64_t old = v[0];
    v[0] = v[1];
    v[1] = old;
}

/* a b c => c a b, c being the top. */
static void op_rot(struct eval *e, uint64_t *v, uint64_t x)
{
    (void)e;
    (void)x;
    uint64_t c = v[2];
    v[2] = v[1];
    v[1] = v[0];
    v[0] = c;
}

/* The x-th value below the top; it takes none, so v[0] is the new top. */
static void op_pick(struct eval *e, uint64_t *v, uint64_t x)
{
    if (x >= e->depth)
        e->why = "the stack is too shallow";
    else
        v[0] = v[-1 - (int64_t)x];
}

static void op_end(struct eval *e, uint64_t *v, uint64_t x)
{
    (void)x;
    (void)v;
    e->pc = SIZE_MAX;
}

#define UNABLE(text) {text, 0, 0, 0, NULL}
static const struct opcode opcodes[] = {
    [0x01] = UNABLE("floating point (float)"),
    [0x02] = {"add", 2, 1, 0, op_add},
    [0x03] = {"sub", 2, 1, 0, op_sub},
    [0x04] = {"mul", 2, 1, 0, op_mul},
    [0x05] = {"div_signed", 2, 1, 0, op_div_signed},
    [0x06] = {"div_unsigned", 2, 1, 0, op_div_unsigned},
    [0x07] = {"rem_signed", 2, 1, 0, op_rem_signed},
    [0x08] = {"rem_unsigned", 2, 1, 0, op_rem_unsigned},
    [0x09] = {"lsh", 2, 1, 0, op_lsh},
    [0x0a] = {"rsh_signed", 2, 1, 0, op_rsh_signed},
    [0x0b] = {"rsh_unsigned", 2, 1, 0, op_rsh_unsigned},
    [0x0c] = UNABLE("a trace buffer (trace)"),
    [0x0d] = UNABLE("a trace buffer (trace_quick)"),
    [0x0e] = {"log_not", 1, 1, 0, op_log_not},
    [0x0f] = {"bit_and", 2, 1, 0, op_bit_and},
    [0x10] = {"bit_or", 2, 1, 0, op_bit_or},
    [0x11] = {"bit_xor", 2, 1, 0, op_bit_xor},
    [0x12] = {"bit_not", 1, 1, 0, op_bit_not},
    [0x13] = {"equal", 2, 1, 0, op_equal},
    [0x14] = {"less_signed", 2, 1, 0, op_less_signed},
    [0x15] = {"less_unsigned", 2, 1, 0, op_less_unsigned},
    [0x16] = {"ext", 1, 1, 1, op_ext},
    [0x17] = {"ref8", 1, 1, 0, op_ref8},
    [0x18] = {"ref16", 1, 1, 0, op_ref16},
    [0x19] = {"ref32", 1, 1, 0, op_ref32},
    [0x1a] = {"ref64", 1, 1, 0, op_ref64},
    [0x1b] = UNABLE("floating point (ref_float)"),
    [0x1c] = UNABLE("floating point (ref_double)"),
    [0x1d] = UNABLE("floating point (ref_long_double)"),
    [0x1e] = UNABLE("floating point (l_to_d)"),
    [0x1f] = UNABLE("floating point (d_to_l)"),
    [0x20] = {"if_goto", 1, 0, 2, op_if_goto},
    [0x21] = {"goto", 0, 0, 2, op_goto},
    [0x22] = {"const8", 0, 1, 1, op_const},
    [0x23] = {"const16", 0, 1, 2, op_const},
    [0x24] = {"const32", 0, 1, 4, op_const},
    [0x25] = {"const64", 0, 1, 8, op_const},
    [0x26] = {"reg", 0, 1, 2, op_reg},
    [0x27] = {"end", 0, 0, 0, op_end},
    [0x28] = {"dup", 1, 2, 0, op_dup},
    [0x29] = {"pop", 1, 0, 0, op_pop},
    [0x2a] = {"zero_ext", 1, 1, 1, op_zero_ext},
    [0x2b] = {"swap", 2, 2, 0, op_swap},
    [0x2c] = UNABLE("a trace variable (getv)"),
    [0x2d] = UNABLE("a trace variable (setv)"),
    [0x2e] = UNABLE("a trace variable (tracev)"),
    [0x2f] = UNABLE("a trace buffer (tracenz)"),
    [0x30] = UNABLE("a trace buffer (trace16)"),
    [0x32] = {"pick", 0, 1, 1, op_pick},
    [0x33] = {"rot", 3, 3, 0, op_rot},
    [0x34] = UNABLE("printing (printf)"),
};

static const char *check(const struct eval *e, const struct opcode *op)
{
    if (!op->name)
        return "an unknown opcode";
    if (!op->run)
        return op->name;
    if (op->takes > e->depth)
        return "the stack is too shallow";
    if (e->depth - op->takes + op->leaves > AGENT_STACK)
        return "the stack is full";
    return op->operand > e->len - e->pc ? "it ends inside an instruction" : NULL;
}

static void step(struct eval *e)
{
    static const struct opcode none;
    uint8_t byte = e->code[e->pc++];
    const struct opcode *op = byte < ARRAY_LEN(opcodes) ? &opcodes[byte] : &none;
    e->why = check(e, op);
    if (e->why)
        return;
    uint64_t x = 0;
    for (unsigned i = 0; i < op->operand; i++)
        x = x << 8 | e->code[e->pc++];
    op->run(e, e->stack + e->depth - op->takes, x);
    e->depth = e->depth - op->takes + op->leaves;
}

bool agent_eval(const uint8_t *code, size_t len, const struct agent_reader *reader, void *arg, uint64_t *value_out,
                const char **why_out)
{
    struct eval e = {.code = code, .len = len, .reader = reader, .arg = arg};
    for (unsigned n = 0; !e.why && e.pc != SIZE_MAX; n++) {
        if (n == AGENT_STEPS)
            e.why = "it does not end";
        else if (e.pc >= len)
            e.why = "it runs past its last instruction";
        else
            step(&e);
    }
    if (!e.why && !e.depth)
        e.why = "it leaves no value";
    if (e.why)
        *why_out = e.why;
    else
        *value_out = e.stack[e.depth - 1];
    return !e.why;
}
