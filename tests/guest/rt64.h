/* tests/guest/rt64.h: the part of rt.h for 64-bit guests.
 *
 * Linear memory: [0, 4 GiB) is identity-mapped for the supervisor, [USER_ALIAS, +1 GiB) maps the same first GiB for
 * the user, so code at CPL 3 runs at its address + USER_ALIAS. */
#ifndef GUEST_RT64_H
#define GUEST_RT64_H

enum { /* selectors */
    KCS = 0x08, KDS = 0x10, UCS32 = 0x1b, UDS = 0x23, UCS = 0x2b, UDS2 = 0x33, TSS_SEL = 0x38, KCS32 = 0x48,
    FREE_SEL = 0x60, /* slots from here on are the guest's */
};
#define USER_ALIAS 0x8000000000ul

struct tss64 { uint32_t rsvd0; uint64_t rsp[3]; uint64_t rsvd1; uint64_t ist[7]; uint64_t rsvd2; uint16_t rsvd3, iomap; uint8_t bitmap[16]; } __attribute__((packed));
extern struct tss64 tss;
struct gate64 { uint16_t off0, sel, attr, off1; uint32_t off2, rsvd; };
extern struct gate64 idt[256];
extern uint32_t boot_info; /* address of Multiboot's information */
extern volatile uint64_t pml4[512], pdpt_low[512], pd_low[4][512];
extern uint8_t user_stack[4096], ist_stack[4096];
#define USER_STACK_TOP ((unsigned long)user_stack + sizeof(user_stack) + USER_ALIAS)

static inline void *user_ptr(const void *p) { return (char *)(uintptr_t)p + USER_ALIAS; }
static inline void invlpg(const void *p) { __asm__ volatile("invlpg (%0)" : : "r"(p) : "memory"); }

/* The next instruction's address goes to `want`. */
#define HERE "lea 7f(%%rip), %%r8; mov %%r8, want\n7:"

/* Instructions may change any register but %rsp (when they do not trap); %r8 to %r11 are theirs. */
#define TRY_ENTER_                                                                                     \
    "push %%rax; push %%rbx; push %%rcx; push %%rdx; push %%rsi; push %%rdi; push %%rbp\n"             \
    "lea 9f(%%rip), %%r8; mov %%r8, resume_ip; mov %%rsp, resume_sp\n"
#define TRY_LEAVE_ "\n9: pop %%rbp; pop %%rdi; pop %%rsi; pop %%rdx; pop %%rcx; pop %%rbx; pop %%rax"

#define TRY(insns, ...)                                                                                \
    do {                                                                                               \
        try_begin();                                                                                   \
        __asm__ volatile(TRY_ENTER_ insns TRY_LEAVE_                                                   \
                         : : __VA_ARGS__ : "r8", "r9", "r10", "r11", "memory", "cc");                  \
        try_end();                                                                                     \
    } while (0)

/* rflags: IOPL, AC, TF and so on of the user code. alias: where it and its stack are mapped. */
#define TRY_USER_AT(cs, alias, rflags, insns, ...)                                                            \
    do {                                                                                               \
        try_begin();                                                                                   \
        __asm__ volatile(TRY_ENTER_                                                                    \
                         "pushq %[ss_]; pushq %[sp_]; pushq %[fl_]; pushq %[cs_]\n"                    \
                         "lea 8f(%%rip), %%r8; add %[al_], %%r8; push %%r8; iretq\n"                   \
                         "8:" insns "\nint $0x30" TRY_LEAVE_                                           \
                         : : [ss_] "i"(UDS), [cs_] "i"(cs), [sp_] "r"(USER_STACK_TOP - USER_ALIAS + (alias)),        \
                           [al_] "r"((unsigned long)(alias)),                                          \
                           [fl_] "r"((unsigned long)(rflags) | 2), ##__VA_ARGS__                       \
                         : "r8", "r9", "r10", "r11", "memory", "cc");                                  \
        try_end();                                                                                     \
    } while (0)
#define TRY_USER_FLAGS(rflags, insns, ...) TRY_USER_AT(UCS, USER_ALIAS, rflags, insns, ##__VA_ARGS__)
/* 32-bit code; between user_low(true) and user_low(false). */
#define TRY_USER32(insns, ...) TRY_USER_AT(UCS32, 0, 0, ".code32\n" insns "\n.code64\n", ##__VA_ARGS__)
#define TRY_USER(insns, ...) TRY_USER_FLAGS(0, insns, ##__VA_ARGS__)

/* Give the user the first 2 MiB, where the guest lies, or take them away. */
static inline void user_low(bool on)
{
    pd_low[0][0] = (pd_low[0][0] & ~4ull) | (on ? 4 : 0);
    invlpg((const void *)0x100000);
}

static inline void set_gate(unsigned vec, void (*fn)(void), uint16_t sel, uint16_t attr)
{
    uint64_t a = (uintptr_t)fn;
    idt[vec] = (struct gate64){(uint16_t)a, sel, attr, (uint16_t)(a >> 16), (uint32_t)(a >> 32), 0};
}

#endif
