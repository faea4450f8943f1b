/* tests/guest/rt.h: the runtime of self-checking guests.
 *
 * A guest is C with inline assembly, in 64-bit mode (rt64.S) or 32-bit protected mode without paging (rt32.S), started by
 * Multiboot. It calls nothing but this. main() checks with CHECK(); the first failure prints file and line on the debug
 * console (port 0xE9) and ends with debug exit 1 (status 3); returning ends with debug exit 0 (status 1).
 *
 * TRY(insns, inputs) runs instructions at CPL 0, TRY_USER at CPL 3; what they raise is in `trap` afterwards, with
 * trap.vector == NONE when they raised nothing. Execution goes on behind them either way.
 *
 *     TRY("mov %0, %%cr4", "r"(1ul << 40));
 *     CHECK_TRAP(VEC_GP, 0);
 *
 * Where another CPU is known to differ from the manual, or Hyperwind promises more than the architecture (the coherent TLB),
 * a check is made only there: on_hyperwind tells. */
#ifndef GUEST_RT_H
#define GUEST_RT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    VEC_DE = 0, VEC_DB = 1, VEC_NMI = 2, VEC_BP = 3, VEC_OF = 4, VEC_BR = 5, VEC_UD = 6, VEC_NM = 7, VEC_DF = 8, VEC_TS = 10,
    VEC_NP = 11, VEC_SS = 12, VEC_GP = 13, VEC_PF = 14, VEC_AC = 17,
    VEC_USER_RETURN = 0x30, /* INT 0x30 at CPL 3 ends TRY_USER */
    NONE = 0x100,
};
enum {
    FL_CF = 1, FL_ZF = 0x40, FL_TF = 0x100, FL_IF = 0x200, FL_IOPL3 = 0x3000, FL_NT = 0x4000, FL_RF = 0x10000, FL_VM = 0x20000,
    FL_AC = 0x40000,
    CR0_PE = 1, CR0_MP = 2, CR0_EM = 4, CR0_TS = 8, CR0_NE = 0x20, CR0_WP = 0x10000, CR0_AM = 0x40000,
    CR4_VME = 1, CR4_TSD = 4, CR4_DE = 8, CR4_PSE = 0x10, CR4_PAE = 0x20, CR4_PGE = 0x80, CR4_OSFXSR = 0x200, CR4_UMIP = 0x800,
    CR4_FSGSBASE = 0x10000, CR4_PCIDE = 0x20000, CR4_OSXSAVE = 0x40000, CR4_SMEP = 0x100000, CR4_SMAP = 0x200000,
    MSR_EFER = 0xc0000080u, EFER_SCE = 1,
};
#define CR0_PG 0x80000000ul

/* Pushed by the stubs; the last two only when the privilege changed (32-bit). The order is rt64.S's and rt32.S's. */
struct frame {
#ifdef __x86_64__
    unsigned long r15, r14, r13, r12, r11, r10, r9, r8;
#endif
    unsigned long di, si, bp, dx, cx, bx, ax;
    unsigned long vector, error;
    unsigned long ip, cs, flags, sp, ss;
};

struct trap {
    unsigned long vector, error, ip, cs, flags, sp, ss;
    unsigned long at;  /* address of the frame: of the saved instruction pointer */
    unsigned long cr2;
    unsigned count;    /* traps since the last TRY began */
};
extern volatile struct trap trap;
/* NULL, or called for every exception and interrupt; true: return to where it came from, false: treat as above. */
extern bool (*volatile trap_hook)(struct frame *f);

extern uint64_t gdt[64];
extern bool on_hyperwind;
void print(const char *s);
void print_hex(unsigned long x);
_Noreturn void finish(unsigned value);
_Noreturn void fail(const char *file, unsigned line, const char *text);

#define CHECK(cond)                                                                                    \
    do {                                                                                               \
        if (!(cond))                                                                                   \
            fail(__FILE__, __LINE__, #cond);                                                           \
    } while (0)
#define CHECK_TRAP(vec, err)                                                                           \
    do {                                                                                               \
        if (trap.vector != (unsigned long)(vec) || trap.error != (unsigned long)(err))                 \
            fail(__FILE__, __LINE__, "want trap " #vec ", error " #err);                               \
    } while (0)
/* Where QEMU 7.2's TCG does not follow the manual; each use says what it does. */
#define CHECK_TRAP_NOT_QEMU(vec, err)                                                                  \
    do {                                                                                               \
        if (on_hyperwind)                                                                              \
            CHECK_TRAP(vec, err);                                                                      \
    } while (0)
#define CHECK_NO_TRAP() CHECK_TRAP(NONE, 0)
#define CHECK_USER_OK() CHECK_TRAP(VEC_USER_RETURN, 0)

static inline void outb(uint16_t port, uint8_t x) { __asm__ volatile("outb %0, %1" : : "a"(x), "Nd"(port)); }
static inline uint64_t rdmsr(uint32_t n)
{
    uint32_t lo, hi;
    __asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(n));
    return lo | (uint64_t)hi << 32;
}
static inline void wrmsr(uint32_t n, uint64_t x)
{
    __asm__ volatile("wrmsr" : : "c"(n), "a"((uint32_t)x), "d"((uint32_t)(x >> 32)) : "memory");
}
static inline void cpuid(uint32_t leaf, uint32_t sub, uint32_t r[4])
{
    __asm__ volatile("cpuid" : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3]) : "a"(leaf), "c"(sub));
}
#define READ_REG(reg)                                                                                  \
    ({                                                                                                 \
        unsigned long x_;                                                                              \
        __asm__ volatile("mov %%" #reg ", %0" : "=r"(x_));                                             \
        x_;                                                                                            \
    })
#define WRITE_REG(reg, value) __asm__ volatile("mov %0, %%" #reg : : "r"((unsigned long)(value)) : "memory")

/* Where a trap resumes. */
extern unsigned long resume_ip, resume_sp;
/* A TRY may note in here what it is about to compare: usually where the fault is expected (see HERE). */
extern unsigned long want;
void try_begin(void);
void try_end(void);

#ifdef __x86_64__
#include "rt64.h"
#else
#include "rt32.h"
#endif

int main(void);

#endif
