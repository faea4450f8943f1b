/* exec/interp/flags.h: arithmetic on the host with the guest's arithmetic flags.
 *
 * The flags of every operation are the host's, undefined ones included: each operation is the host instruction itself,
 * executed with the guest's flags loaded where they can show through. vcpu_state.aflags is AX after LAHF; SETO AL, so
 * giving and taking flags costs two instructions:
 *   FLAGS_GIVE   AX -> host: OF by an addition that overflows exactly when AL is 1, the others by SAHF
 *   FLAGS_TAKE   host -> AX
 * An asm that uses them binds aflags to "a", early-clobbered. */
#ifndef HW_INTERP_FLAGS_H
#define HW_INTERP_FLAGS_H

#include "exec/x86/access.h"
#include "exec/x86/lower.h"

#define FLAGS_GIVE "addb $0x7f, %%al\n\tsahf\n\t"
#define FLAGS_GIVE_CF "sahf\n\t" /* where OF is written in any case */
#define FLAGS_TAKE "\n\tlahf\n\tseto %%al"

enum { /* bits of aflags */
    AFL_OF = 1, AFL_CF = FL_CF << 8, AFL_PF = FL_PF << 8, AFL_AF = FL_AF << 8, AFL_ZF = FL_ZF << 8, AFL_SF = FL_SF << 8,
};

/* Suffixes of the assembler, and memory as the guest sees it: of no particular alignment. */
#define SFX8 "b"
#define SFX16 "w"
#define SFX32 "l"
#define SFX64 "q"
typedef uint8_t mem8_t;
typedef uint16_t mem16_t __attribute__((aligned(1)));
typedef uint32_t mem32_t __attribute__((aligned(1)));
typedef uint64_t mem64_t __attribute__((aligned(1)));

/* Registers by byte offset. */
#define GET8(v, o) REG8(v, o)
#define GET16(v, o) REG16(v, o)
#define GET32(v, o) REG32(v, o)
#define GET64(v, o) REG64(v, o)
#define SET8(v, o, x) ((void)(REG8(v, o) = (x)))
#define SET16(v, o, x) ((void)(REG16(v, o) = (x)))
#define SET32(v, o, x) reg_set32(v, o, x)
#define SET64(v, o, x) ((void)(REG64(v, o) = (x)))

/* Byte offset of a GPR. */
#define GPR(r) ((r) * 8u)

#define FOR_SIZES(X, ...) X(8, ##__VA_ARGS__) X(16, ##__VA_ARGS__) X(32, ##__VA_ARGS__) X(64, ##__VA_ARGS__)

/* uintN_t f_NAMEN(v, a, b): a OP b, flags set. */
#define FLAG_OP2(bits, name, give)                                                                     \
    static inline uint##bits##_t f_##name##bits(struct vcpu *v, uint##bits##_t a, uint##bits##_t b)    \
    {                                                                                                  \
        uint32_t fl = v->s.aflags;                                                                     \
        __asm__(give #name SFX##bits " %[b], %[a]" FLAGS_TAKE                                          \
                : [a] "+q"(a), "+&a"(fl) : [b] "q"(b) : "cc");                                         \
        v->s.aflags = (uint16_t)fl;                                                                    \
        return a;                                                                                      \
    }
/* The same where no flag of before can show: saves the load. */
#define FLAG_OP2_OUT(bits, name)                                                                       \
    static inline uint##bits##_t f_##name##bits(struct vcpu *v, uint##bits##_t a, uint##bits##_t b)    \
    {                                                                                                  \
        uint32_t fl;                                                                                   \
        __asm__(#name SFX##bits " %[b], %[a]" FLAGS_TAKE : [a] "+q"(a), "=&a"(fl) : [b] "q"(b) : "cc"); \
        v->s.aflags = (uint16_t)fl;                                                                    \
        return a;                                                                                      \
    }
FOR_SIZES(FLAG_OP2_OUT, add)
FOR_SIZES(FLAG_OP2_OUT, or)
FOR_SIZES(FLAG_OP2, adc, FLAGS_GIVE_CF)
FOR_SIZES(FLAG_OP2, sbb, FLAGS_GIVE_CF)
FOR_SIZES(FLAG_OP2_OUT, and)
FOR_SIZES(FLAG_OP2_OUT, sub)
FOR_SIZES(FLAG_OP2_OUT, xor)
FOR_SIZES(FLAG_OP2_OUT, cmp)
FOR_SIZES(FLAG_OP2_OUT, test)

/* Conditions (enum cond), as bit tests of aflags. */
static inline bool cond_O(uint32_t f) { return f & AFL_OF; }
static inline bool cond_B(uint32_t f) { return f & AFL_CF; }
static inline bool cond_Z(uint32_t f) { return f & AFL_ZF; }
static inline bool cond_BE(uint32_t f) { return f & (AFL_CF | AFL_ZF); }
static inline bool cond_S(uint32_t f) { return f & AFL_SF; }
static inline bool cond_P(uint32_t f) { return f & AFL_PF; }
static inline bool cond_L(uint32_t f) { return (f >> 15 ^ f) & 1; } /* SF != OF */
static inline bool cond_LE(uint32_t f) { return (f & AFL_ZF) || cond_L(f); }
#define FOR_CONDITIONS(X)                                                                              \
    X(O, cond_O(f)) X(NO, !cond_O(f)) X(B, cond_B(f)) X(NB, !cond_B(f)) X(Z, cond_Z(f)) X(NZ, !cond_Z(f)) \
    X(BE, cond_BE(f)) X(NBE, !cond_BE(f)) X(S, cond_S(f)) X(NS, !cond_S(f)) X(P, cond_P(f)) X(NP, !cond_P(f)) \
    X(L, cond_L(f)) X(NL, !cond_L(f)) X(LE, cond_LE(f)) X(NLE, !cond_LE(f))

#endif
