/* tests/guest/rt32.h: the part of rt.h for 32-bit guests: flat protected mode without paging, code and data shared by
 * CPL 0 and 3. */
#ifndef GUEST_RT32_H
#define GUEST_RT32_H

enum { KCS = 0x08, KDS = 0x10, UCS = 0x1b, UDS = 0x23, TSS_SEL = 0x28, FREE_SEL = 0x40 };

struct tss32 {
    uint32_t link, esp0, ss0, esp1, ss1, esp2, ss2, cr3, eip, eflags, eax, ecx, edx, ebx, esp, ebp, esi, edi;
    uint32_t es, cs, ss, ds, fs, gs, ldt;
    uint16_t trap, iomap;
    uint8_t bitmap[16];
} __attribute__((packed));
extern struct tss32 tss;
struct gate32 { uint16_t off0, sel, attr, off1; };
extern struct gate32 idt[256];
extern uint8_t user_stack[4096], other_stack[4096];
#define USER_STACK_TOP ((unsigned long)user_stack + sizeof(user_stack))

/* access: byte 5 of the descriptor; flags: G 8, D/B 4, L 2, AVL 1. */
static inline uint64_t make_desc(uint32_t base, uint32_t limit, unsigned access, unsigned flags)
{
    return (limit & 0xffff) | (uint64_t)(base & 0xffffff) << 16 | (uint64_t)access << 40 |
           (uint64_t)(limit >> 16 & 15) << 48 | (uint64_t)flags << 52 | (uint64_t)(base >> 24) << 56;
}
static inline uint64_t make_gate(uint32_t off, uint16_t sel, unsigned access, unsigned params)
{
    return (off & 0xffff) | (uint64_t)sel << 16 | (uint64_t)params << 32 | (uint64_t)access << 40 |
           (uint64_t)(off >> 16) << 48;
}
static inline void set_gate(unsigned vec, void (*fn)(void), uint16_t sel, uint16_t attr)
{
    uint32_t a = (uintptr_t)fn;
    idt[vec] = (struct gate32){(uint16_t)a, sel, attr, (uint16_t)(a >> 16)};
}

#define HERE "movl $7f, want\n7:"
/* Instructions may change any register but %esp (when they do not trap). */
#define TRY_ENTER_ "pusha; movl $9f, resume_ip; mov %%esp, resume_sp\n"
#define TRY_LEAVE_ "\n9: popa"

#define TRY(insns, ...)                                                                                \
    do {                                                                                               \
        try_begin();                                                                                   \
        __asm__ volatile(TRY_ENTER_ insns TRY_LEAVE_ : : __VA_ARGS__ : "memory", "cc");                \
        try_end();                                                                                     \
    } while (0)

/* %eax is not an input: it loads DS and ES. */
#define TRY_USER_FLAGS(eflags, insns, ...)                                                             \
    do {                                                                                               \
        try_begin();                                                                                   \
        __asm__ volatile(TRY_ENTER_                                                                    \
                         "push %[ss_]; push %[sp_]; push %[fl_]; push %[cs_]; push $8f; iret\n"        \
                         "8: mov %[ss_], %%eax; mov %%eax, %%ds; mov %%eax, %%es\n" insns "\nint $0x30" TRY_LEAVE_ \
                         : : [ss_] "i"(UDS), [cs_] "i"(UCS), [sp_] "i"(user_stack + 4096),             \
                           [fl_] "i"((eflags) | 2), ##__VA_ARGS__ : "memory", "cc");                   \
        try_end();                                                                                     \
    } while (0)
#define TRY_USER(insns, ...) TRY_USER_FLAGS(0, insns, ##__VA_ARGS__)

#endif
