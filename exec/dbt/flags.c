/* exec/dbt/flags.c: guest flags that are kept as the operands they came from.
 *
 * The host computes them with an instruction of the same kind, so the undefined ones agree with the interpreter's.
 * Called with the guest's vector registers in place too, so this file is compiled for general registers only. */
#include "exec/dbt/dbt.h"

/* aflags of `ins`, which may use a and b in its width w. */
#define FLAGS_OF(w, ins)                                                                               \
    ({                                                                                                 \
        uint64_t x_ = a;                                                                               \
        uint32_t fl_;                                                                                  \
        __asm__(ins "\n\tlahf\n\tseto %%al" : [x] "+&q"(x_), "=&a"(fl_) : [y] "q"(b) : "cc");          \
        fl_;                                                                                           \
    })
#define SHIFT_FLAGS(w, ins)                                                                            \
    ({                                                                                                 \
        uint64_t x_ = a;                                                                               \
        uint32_t fl_;                                                                                  \
        __asm__(ins " %%cl, %" w "[x]\n\tlahf\n\tseto %%al" : [x] "+&q"(x_), "=&a"(fl_) : "c"(b) : "cc"); \
        fl_;                                                                                           \
    })
#define FLAGS_OF_CC(bits, w, sfx)                                                                      \
    static uint32_t flags_of##bits(enum cc op, uint64_t a, uint64_t b)                    \
    {                                                                                                  \
        switch (op) {                                                                                  \
        case CC_CMP: return FLAGS_OF(w, "cmp" sfx " %" w "[y], %" w "[x]");                            \
        case CC_ADD_TO: return FLAGS_OF(w, "sub" sfx " %" w "[y], %" w "[x]\n\tadd" sfx " %" w "[y], %" w "[x]"); \
        case CC_SUB_FROM: return FLAGS_OF(w, "add" sfx " %" w "[y], %" w "[x]\n\tsub" sfx " %" w "[y], %" w "[x]"); \
        case CC_LOGIC: return FLAGS_OF(w, "test" sfx " %" w "[x], %" w "[x]");                         \
        case CC_SHL: return SHIFT_FLAGS(w, "shl" sfx);                                                 \
        case CC_SHR: return SHIFT_FLAGS(w, "shr" sfx);                                                 \
        case CC_SAR: return SHIFT_FLAGS(w, "sar" sfx);                                                 \
        case CC_INC: return FLAGS_OF(w, "dec" sfx " %" w "[x]\n\tinc" sfx " %" w "[x]");               \
        case CC_DEC: return FLAGS_OF(w, "inc" sfx " %" w "[x]\n\tdec" sfx " %" w "[x]");               \
        default: return FLAGS_OF(w, "test" sfx " %" w "[y], %" w "[x]");                               \
        }                                                                                              \
    }
FLAGS_OF_CC(8, "b", "b")
FLAGS_OF_CC(16, "w", "w")
FLAGS_OF_CC(32, "k", "l")
FLAGS_OF_CC(64, "q", "q")

static uint16_t flags_of(uint32_t op, uint64_t a, uint64_t b)
{
    enum cc cc = (enum cc)(op & 0xff);
    switch (op >> 8 & 3) {
    case 0: return (uint16_t)flags_of8(cc, a, b);
    case 1: return (uint16_t)flags_of16(cc, a, b);
    case 2: return (uint16_t)flags_of32(cc, a, b);
    default: return (uint16_t)flags_of64(cc, a, b);
    }
}

void flags_settle(struct vcpu *v, struct hot *h)
{
    const uint16_t cf = FL_CF << 8;
    if (h->cc_op != CC_RAW)
        h->aflags = flags_of(h->cc_op, h->cc_a, h->cc_op & CC_IMM ? (uint64_t)(int8_t)(h->cc_op >> 16) : h->cc_b);
    if (h->cc_inc)
        h->aflags = (uint16_t)((flags_of(h->cc_inc, h->cc_inc_a, 0) & ~cf) | (h->aflags & cf));
    h->cc_op = CC_RAW;
    h->cc_inc = 0;
    v->s.aflags = h->aflags;
}

/* ---- what this host does with undefined flags ---- */

/* Whether the flags after `ins` differ when those before it were all set. */
#define DEPENDS(ins)                                                                                   \
    ({                                                                                                 \
        uint32_t f0_ = 0x0200, f1_ = 0xd701;                                                           \
        uint64_t x_ = a, y_ = b, p_ = a, q_ = b;                                                       \
        __asm__("addb $0x7f, %%al\n\tsahf\n\t" ins "\n\tlahf\n\tseto %%al"                             \
                : "+&a"(f0_), [x] "+&r"(x_), [y] "+&r"(y_) : : "cc", "rdx", "rcx");                    \
        __asm__("addb $0x7f, %%al\n\tsahf\n\t" ins "\n\tlahf\n\tseto %%al"                             \
                : "+&a"(f1_), [x] "+&r"(p_), [y] "+&r"(q_) : : "cc", "rdx", "rcx");                    \
        (f0_ ^ f1_) & 0xffff;                                                                          \
    })

/* One-operand products are left out: IMUL with two shows the same. Divisions do depend. */
static bool depends(uint64_t a, uint64_t b)
{
    return DEPENDS("and %[y], %[x]") || DEPENDS("or %[y], %[x]") || DEPENDS("xor %[y], %[x]") ||
           DEPENDS("test %[y], %[x]") || DEPENDS("shl $3, %[x]") || DEPENDS("shr $3, %[x]") ||
           DEPENDS("sar $3, %[x]") || DEPENDS("shl $1, %[x]") || DEPENDS("shr $20, %w[x]") ||
           DEPENDS("shl $20, %w[x]") || DEPENDS("shll $9, %k[x]") || DEPENDS("shld $5, %[y], %[x]") ||
           DEPENDS("shrd $5, %[y], %[x]") || DEPENDS("shld $20, %w[y], %w[x]") || DEPENDS("imul %[y], %[x]") ||
           DEPENDS("imul %w[y], %w[x]") || DEPENDS("bsf %[y], %[x]") || DEPENDS("bsr %[y], %[x]") ||
           DEPENDS("tzcnt %[y], %[x]") || DEPENDS("lzcnt %[y], %[x]") || DEPENDS("popcnt %[y], %[x]") ||
           DEPENDS("andn %[y], %[x], %[x]") || DEPENDS("bextr %[y], %[x], %[x]") || DEPENDS("blsi %[y], %[x]") ||
           DEPENDS("blsr %[y], %[x]") || DEPENDS("blsmsk %[y], %[x]") || DEPENDS("bzhi %[y], %[x], %[x]") ||
           DEPENDS("fld1\n\tfldz\n\tfcomip\n\tfstp %%st(0)");
}

bool flags_are_clean(void)
{
    static const uint64_t samples[] = {0, 1, 0x8000000000000000, UINT64_MAX, 0x123456789abcdef0, 0x8877665544332211};
    for (unsigned i = 0; i < ARRAY_LEN(samples); i++)
        for (unsigned j = 0; j < ARRAY_LEN(samples); j++)
            if (depends(samples[i], samples[j]))
                return false;
    return true;
}
