/* exec/x86/hostclass.c: asking the host CPU. See hostclass.h.
 *
 * How to add a fact: a function that mixes every answer it gets into the hash, and a row at the end of probes[]. */
#include "exec/x86/hostclass.h"

#include <emmintrin.h>

#include "core/base/hash.h"

static void mix(uint64_t *h, uint64_t x) { *h = hash64(&x, sizeof(x), *h); }

/* ---- integer instructions: undefined flags ---- */

static const uint64_t samples[] = {
    0, 1, 2, 3, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x12345678, 0x7fffffff, 0x80000000, 0xffffffff,
    0x0123456789abcdef, 0x7fffffffffffffff, 0x8000000000000000, 0xfedcba9876543210, 0xffffffffffffffff,
};

/* Flags before the instruction, as SAHF and `add al, 0x7f` take them: all clear, all set. */
static const uint16_t flags_before[] = {0x0200, 0xd701};

/* Run `insn` with RDX = x, RBX = y, RCX = c and either flags; mix RDX and the flags it leaves. RAX holds the flags
 * before and after; an instruction that needs it loads it by MOV. */
#define ASK(h, insn, x, y, c)                                                                                          \
    for (unsigned before_ = 0; before_ < ARRAY_LEN(flags_before); before_++) {                                         \
        uint64_t a_ = flags_before[before_], d_ = (x), b_ = (y), c_ = (c);                                             \
        __asm__ volatile("addb $0x7f, %%al\n\tsahf\n\t" insn "\n\tlahf\n\tseto %%al"                                   \
                         : "+a"(a_), "+d"(d_), "+b"(b_), "+c"(c_)                                                      \
                         :                                                                                             \
                         : "cc");                                                                                      \
        mix(h, a_ & 0xffff);                                                                                           \
        mix(h, d_);                                                                                                    \
    }

#define FOR_PAIRS(x, y)                                                                                                \
    for (unsigned i_ = 0; i_ < ARRAY_LEN(samples); i_++)                                                               \
        for (unsigned j_ = 0; j_ < ARRAY_LEN(samples); j_++)                                                           \
            for (uint64_t x = samples[i_], y = samples[j_], once_ = 1; once_; once_ = 0)
#define FOR_COUNTS(x, c)                                                                                               \
    for (unsigned i_ = 0; i_ < ARRAY_LEN(samples); i_++)                                                               \
        for (uint64_t x = samples[i_], c = 0; c < 64; c++)

static void probe_logic(uint64_t *h)
{
    FOR_PAIRS(x, y)
    {
        ASK(h, "and %%rbx, %%rdx", x, y, 0);
        ASK(h, "or %%ebx, %%edx", x, y, 0);
        ASK(h, "xor %%bx, %%dx", x, y, 0);
        ASK(h, "test %%bl, %%dl", x, y, 0);
    }
}

static void probe_mul(uint64_t *h)
{
    FOR_PAIRS(x, y)
    {
        ASK(h, "mov %%rbx, %%rax\n\tmul %%rdx", x, y, 0);
        ASK(h, "mov %%rbx, %%rax\n\tmul %%edx", x, y, 0);
        ASK(h, "mov %%rbx, %%rax\n\tmul %%dl", x, y, 0);
        ASK(h, "mov %%rbx, %%rax\n\timul %%rdx", x, y, 0);
        ASK(h, "mov %%rbx, %%rax\n\timul %%dx", x, y, 0);
        ASK(h, "imul %%rbx, %%rdx", x, y, 0);
        ASK(h, "imul %%ebx, %%edx", x, y, 0);
        ASK(h, "imul $-77, %%bx, %%dx", x, y, 0);
    }
}

static void probe_div(uint64_t *h)
{
    for (unsigned i = 0; i < ARRAY_LEN(samples); i++)
        for (uint64_t divisor = 3; divisor < 2000; divisor *= 7) {
            uint64_t x = samples[i];
            ASK(h, "mov %%rbx, %%rax\n\tdiv %%rcx", 1, x, divisor);
            ASK(h, "mov %%rbx, %%rax\n\tdiv %%ecx", 2, x, divisor);
            ASK(h, "mov %%rbx, %%rax\n\tidiv %%rcx", 0, x, divisor);
            ASK(h, "mov %%rbx, %%rax\n\tidiv %%ecx", 0, x, divisor);
            ASK(h, "mov %%rbx, %%rax\n\tmovzbl %%al, %%eax\n\tdiv %%cl", 0, x, divisor | 1);
        }
}

static void probe_shift(uint64_t *h)
{
    FOR_COUNTS(x, c)
    {
        ASK(h, "shl %%cl, %%rdx", x, 0, c);
        ASK(h, "shl %%cl, %%edx", x, 0, c);
        ASK(h, "shl %%cl, %%dx", x, 0, c);
        ASK(h, "shl %%cl, %%dl", x, 0, c);
        ASK(h, "shr %%cl, %%rdx", x, 0, c);
        ASK(h, "shr %%cl, %%dx", x, 0, c);
        ASK(h, "shr %%cl, %%dl", x, 0, c);
        ASK(h, "sar %%cl, %%edx", x, 0, c);
        ASK(h, "sar %%cl, %%dl", x, 0, c);
        ASK(h, "shl $5, %%edx", x, 0, c);
        ASK(h, "shr $7, %%rdx", x, 0, c);
    }
}

static void probe_rotate(uint64_t *h)
{
    FOR_COUNTS(x, c)
    {
        ASK(h, "rol %%cl, %%rdx", x, 0, c);
        ASK(h, "rol %%cl, %%dx", x, 0, c);
        ASK(h, "ror %%cl, %%edx", x, 0, c);
        ASK(h, "ror %%cl, %%dl", x, 0, c);
        ASK(h, "rcl %%cl, %%rdx", x, 0, c);
        ASK(h, "rcl %%cl, %%dl", x, 0, c);
        ASK(h, "rcr %%cl, %%edx", x, 0, c);
        ASK(h, "rcr %%cl, %%dx", x, 0, c);
        ASK(h, "rol $9, %%edx", x, 0, c);
        ASK(h, "rcr $3, %%rdx", x, 0, c);
    }
}

static void probe_shift_double(uint64_t *h)
{
    FOR_COUNTS(x, c)
    {
        ASK(h, "shld %%cl, %%rbx, %%rdx", x, ~x * 3, c);
        ASK(h, "shld %%cl, %%ebx, %%edx", x, ~x * 3, c);
        ASK(h, "shld %%cl, %%bx, %%dx", x, ~x * 3, c);
        ASK(h, "shrd %%cl, %%rbx, %%rdx", x, ~x * 3, c);
        ASK(h, "shrd %%cl, %%ebx, %%edx", x, ~x * 3, c);
        ASK(h, "shrd %%cl, %%bx, %%dx", x, ~x * 3, c);
    }
}

static void probe_bit_test(uint64_t *h)
{
    FOR_COUNTS(x, c)
    {
        ASK(h, "bt %%rcx, %%rdx", x, 0, c);
        ASK(h, "bts %%ecx, %%edx", x, 0, c);
        ASK(h, "btr %%cx, %%dx", x, 0, c);
        ASK(h, "btc $11, %%rdx", x, 0, c);
    }
}

/* The destination for a source of 0 too: RDX keeps what it had, or not. */
static void probe_bit_scan(uint64_t *h)
{
    FOR_PAIRS(x, y)
    {
        ASK(h, "bsf %%rbx, %%rdx", x, y, 0);
        ASK(h, "bsf %%ebx, %%edx", x, y, 0);
        ASK(h, "bsf %%bx, %%dx", x, y, 0);
        ASK(h, "bsr %%rbx, %%rdx", x, y, 0);
        ASK(h, "bsr %%ebx, %%edx", x, y, 0);
        ASK(h, "bsr %%bx, %%dx", x, y, 0);
    }
}

static void probe_bmi(uint64_t *h)
{
    FOR_PAIRS(x, y)
    {
        ASK(h, "tzcnt %%rbx, %%rdx", x, y, 0);
        ASK(h, "lzcnt %%ebx, %%edx", x, y, 0);
        ASK(h, "andn %%rbx, %%rdx, %%rdx", x, y, 0);
        ASK(h, "bextr %%rbx, %%rdx, %%rdx", x, y, 0);
        ASK(h, "blsi %%rbx, %%rdx", x, y, 0);
        ASK(h, "blsmsk %%ebx, %%edx", x, y, 0);
        ASK(h, "blsr %%rbx, %%rdx", x, y, 0);
        ASK(h, "bzhi %%rbx, %%rdx, %%rdx", x, y, 0);
    }
}

/* ---- approximations ---- */

/* 4096 mantissas, a step of which is finer than any table known, in a few binades; then the special values. */
static void probe_table(uint64_t *h, __m128 (*op)(__m128))
{
    static const uint32_t special[] = {0, 0x80000000, 1, 0x007fffff, 0x00800000, 0x7e800000, 0x7f000001, 0x7f7fffff,
                                       0x7f800000, 0xff800000, 0x7fc00000, 0x7f800001, 0xbf800000, 0x3f800000};
    uint32_t out[4];
    for (uint32_t i = 0; i < 4096; i++) {
        int m = (int)(i << 11);
        __m128i x = _mm_set_epi32(0x3f800000 | m, 0x40000000 | m, 0x7e000000 | m, 0x00800000 | m);
        _mm_storeu_si128((__m128i *)out, _mm_castps_si128(op(_mm_castsi128_ps(x))));
        *h = hash64(out, sizeof(out), *h);
    }
    for (unsigned i = 0; i < ARRAY_LEN(special); i++) {
        _mm_storeu_si128((__m128i *)out, _mm_castps_si128(op(_mm_castsi128_ps(_mm_set1_epi32((int)special[i])))));
        mix(h, out[0]);
    }
}
static __m128 rcp(__m128 x) { return _mm_rcp_ps(x); }
static __m128 rsqrt(__m128 x) { return _mm_rsqrt_ps(x); }
static void probe_rcp(uint64_t *h) { probe_table(h, rcp); }
static void probe_rsqrt(uint64_t *h) { probe_table(h, rsqrt); }

/* Which of several NaNs a dot product returns. */
static void probe_dot_nan(uint64_t *h)
{
    static const uint32_t nan[4] = {0x7fc00001, 0xffc00002, 0x7fc00003, 0x7fc00004};
    for (unsigned i = 0; i < 256; i++) {
        uint32_t a[4], b[4];
        for (unsigned j = 0; j < 4; j++) {
            a[j] = i >> j & 1 ? nan[j] : 0x3f800000;
            b[j] = i >> (4 + j) & 1 ? nan[j] | 0x100 : 0x40000000;
        }
        __m128 x = _mm_loadu_ps((const float *)a), y = _mm_loadu_ps((const float *)b);
        __asm__ volatile("dpps $0xff, %1, %0" : "+x"(x) : "x"(y));
        _mm_storeu_ps((float *)a, x);
        *h = hash64(a, sizeof(a), *h);
    }
}

/* ---- x87 ---- */

struct ext { uint64_t mantissa; uint16_t exponent; uint8_t pad[6]; };

/* Run `insn` with x on top of the stack and y below, then take what it left: two registers and the status word. */
#define ASK_X87(h, insn, x, y)                                                                                         \
    do {                                                                                                               \
        struct ext x_ = (x), y_ = (y), r_ = {0}, s_ = {0};                                                             \
        uint16_t sw_;                                                                                                  \
        __asm__ volatile("fldt %4\n\tfldt %3\n\t" insn "\n\tfnstsw %2\n\tfstpt %0\n\tfstpt %1\n\tfninit"               \
                         : "=m"(r_), "=m"(s_), "=m"(sw_)                                                               \
                         : "m"(x_), "m"(y_)                                                                            \
                         : "st", "st(1)", "st(2)", "st(3)", "st(4)", "st(5)", "st(6)", "st(7)");                       \
        mix(h, r_.mantissa ^ (uint64_t)r_.exponent << 32);                                                             \
        mix(h, s_.mantissa ^ (uint64_t)s_.exponent << 32);                                                             \
        mix(h, sw_);                                                                                                   \
    } while (0)

/* A spread of arguments: mantissas by a multiplicative walk, exponents from tiny to beyond every reduction limit. */
static struct ext argument(unsigned i, unsigned salt)
{
    static const int16_t exponents[] = {-70, -40, -20, -8, -3, -2, -1, 0, 1, 2, 5, 10, 30, 62, 63, 64, 200};
    uint64_t m = (i + 1) * UINT64_C(0x9e3779b97f4a7c15) ^ salt * UINT64_C(0xd1342543de82ef95);
    unsigned sign = (unsigned)(m >> 7 & 1) << 15;
    return (struct ext){m | bit(63), (uint16_t)(sign | (unsigned)(0x3fff + exponents[i % ARRAY_LEN(exponents)])), {0}};
}
/* The same between -1 and 1. */
static struct ext fraction(unsigned i, unsigned salt)
{
    struct ext x = argument(i, salt);
    x.exponent = (uint16_t)((x.exponent & 0x8000) | (0x3ffe - i % 30));
    return x;
}

enum { X87_ARGUMENTS = 17 * 40 };
#define X87_PROBE(name, insn, x, y)                                                                                    \
    static void name(uint64_t *h)                                                                                      \
    {                                                                                                                  \
        for (unsigned i = 0; i < X87_ARGUMENTS; i++)                                                                   \
            ASK_X87(h, insn, x, y);                                                                                    \
    }
X87_PROBE(probe_fsin, "fsin", argument(i, 1), argument(i, 2))
X87_PROBE(probe_fcos, "fcos", argument(i, 1), argument(i, 2))
X87_PROBE(probe_fsincos, "fsincos", argument(i, 1), argument(i, 2))
X87_PROBE(probe_fptan, "fptan", argument(i, 1), argument(i, 2))
X87_PROBE(probe_fpatan, "fpatan", argument(i, 1), argument(i * 7, 2))
X87_PROBE(probe_f2xm1, "f2xm1", fraction(i, 1), argument(i, 2))
X87_PROBE(probe_fyl2x, "fyl2x", argument(i, 1), argument(i * 5, 2))
X87_PROBE(probe_fyl2xp1, "fyl2xp1", fraction(i, 1), argument(i * 3, 2))
X87_PROBE(probe_fprem, "fprem", argument(i, 1), argument(i * 11, 2))
X87_PROBE(probe_fprem1, "fprem1", argument(i, 1), argument(i * 11, 2))

/* C0 to C3 where the manual calls them undefined. */
static void probe_x87_conditions(uint64_t *h)
{
    for (unsigned i = 0; i < 64; i++) {
        ASK_X87(h, "fxam\n\tfadd %%st(1), %%st", argument(i, 1), argument(i, 2));
        ASK_X87(h, "fxam\n\tfdiv %%st(1), %%st", argument(i, 1), argument(i, 2));
        ASK_X87(h, "fcom\n\tfsqrt", argument(i, 1), argument(i, 2));
        ASK_X87(h, "fcom\n\tfld1\n\tfxch", argument(i, 1), argument(i, 2));
        ASK_X87(h, "fxam\n\tfrndint\n\tfchs", argument(i, 1), argument(i, 2));
        ASK_X87(h, "fcom\n\tfnclex", argument(i, 1), argument(i, 2));
    }
}

/* Unsupported encodings and digits beyond 9. */
static void probe_x87_odd(uint64_t *h)
{
    for (unsigned i = 0; i < 64; i++) {
        struct ext odd = argument(i, 3);
        odd.mantissa &= ~bit(63);
        ASK_X87(h, "fadd %%st(1), %%st", odd, argument(i, 2));
        struct ext bcd = {(i + 1) * UINT64_C(0x9e3779b97f4a7c15), (uint16_t)(i * 1237), {0}};
        __asm__ volatile("fbld %1\n\tfstpt %0\n\tfninit" : "=m"(odd) : "m"(bcd) : "st");
        mix(h, odd.mantissa);
        mix(h, odd.exponent);
    }
}

/* ---- the list; the order is that of recordings: append only ---- */

static const struct { const char *name; void (*ask)(uint64_t *h); } probes[] = {
    {"flags.logic", probe_logic},
    {"flags.mul", probe_mul},
    {"flags.div", probe_div},
    {"flags.shift", probe_shift},
    {"flags.rotate", probe_rotate},
    {"flags.shift_double", probe_shift_double},
    {"flags.bit_test", probe_bit_test},
    {"bit_scan", probe_bit_scan},
    {"flags.bmi", probe_bmi},
    {"sse.rcp", probe_rcp},
    {"sse.rsqrt", probe_rsqrt},
    {"sse.dot_nan", probe_dot_nan},
    {"x87.fsin", probe_fsin},
    {"x87.fcos", probe_fcos},
    {"x87.fsincos", probe_fsincos},
    {"x87.fptan", probe_fptan},
    {"x87.fpatan", probe_fpatan},
    {"x87.f2xm1", probe_f2xm1},
    {"x87.fyl2x", probe_fyl2x},
    {"x87.fyl2xp1", probe_fyl2xp1},
    {"x87.fprem", probe_fprem},
    {"x87.fprem1", probe_fprem1},
    {"x87.conditions", probe_x87_conditions},
    {"x87.odd_operands", probe_x87_odd},
};
_Static_assert(ARRAY_LEN(probes) <= HOST_CLASS_MAX, "room for every fact");

void host_class_probe(struct host_class *out)
{
    memset(out, 0, sizeof(*out));
    for (unsigned i = 0; i < ARRAY_LEN(probes); i++) {
        uint64_t h = i;
        probes[i].ask(&h);
        out->fact[i].name = probes[i].name;
        out->fact[i].value = h;
    }
    out->count = ARRAY_LEN(probes);
}

const char *host_class_compare(const struct host_class *a, const struct host_class *b)
{
    unsigned n = MIN(a->count, b->count);
    for (unsigned i = 0; i < n; i++)
        if (strcmp(a->fact[i].name, b->fact[i].name) != 0 || a->fact[i].value != b->fact[i].value)
            return a->fact[i].name;
    if (a->count == b->count)
        return NULL;
    return a->count > n ? a->fact[n].name : b->fact[n].name;
}
