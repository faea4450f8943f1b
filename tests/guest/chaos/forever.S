/* tests/guest/chaos/forever.S: handlers that fault again, for ever, without ever becoming a double fault. The run goes on, its
 * ticks advance, and a tick limit ends it. case=
 *   0  32-bit, the handler of #UD is UD2; the stack falls through all of memory and wraps around
 *   1  64-bit, the same on an IST stack, whose frames overwrite each other
 *   2  a trap after every instruction, whose handler sets TF again
 *   3  the page fault handler is not present: a task gate's target faults in its first instruction, for ever
 *   4  INT 3 whose handler is INT 3, by privilege 3 code
 *   5  real mode, the handler of #UD is UD2
 *   6  64-bit, CR4.SMEP forbids every page there is: fetching the page fault's handler is a page fault */
#include "chaos.h"

chaos_main:
    mov which, %eax
    jmp *table(, %eax, 4)

handler_at:                         /* eax: vector, edx: handler */
    mov %dx, idt32(, %eax, 8)
    shr $16, %edx
    mov %dx, idt32 + 6(, %eax, 8)
    ret

undefined32:
    mov $6, %eax
    mov $1f, %edx
    call handler_at
    mov $0x90000, %esp
1:  ud2

undefined64:
    ENTER_LONG
    movw $0x18, idt64 + 6 * 16 + 2
    mov $1f, %eax
    mov %ax, idt64 + 6 * 16
    shr $16, %eax
    mov %ax, idt64 + 6 * 16 + 6
1:  ud2
    .code32

traps:
    mov $1, %eax
    mov $2f, %edx
    call handler_at
1:  pushf
    orl $0x100, (%esp)
    popf
    nop
    jmp 1b
2:  orl $0x100, 8(%esp)
    iret

tasks:
    movl $3f, tss_df + 0x20
    movl $SEL_DF << 16, idt32 + 6 * 8 /* #UD is a task as well */
    movl $0x8500, idt32 + 6 * 8 + 4
    ud2
3:  andb $0xfd, gdt + SEL_TSS + 5   /* make room for the next switch into this very task */
    mov $SEL_TSS, %eax
    ltr %ax
    andb $0xfd, gdt + SEL_DF + 5
    movl $3b, tss_df + 0x20
    ud2

no_fetch:
    ENTER_LONG
    mov %cr4, %rax
    or $1 << 20, %eax
    mov %rax, %cr4
    .code32

user:
    pushl $SEL_UDATA
    pushl $0x90000
    pushl $2
    pushl $SEL_UCODE32
    pushl $1f
    mov $3, %eax
    mov $1f, %edx
    call handler_at
    movw $SEL_UCODE32, idt32 + 3 * 8 + 2
    iret
1:  int3

    .section .data
table:  .long undefined32, undefined64, traps, tasks, user, real_start, no_fetch
ivt:    .word 0x3ff
        .long 0
    .section .text
real_start:
    mov $real_code, %esi
    mov $0x8000, %edi
    mov $64, %ecx
    rep movsb
    movl $0x8000 + real_again - real_code, 6 * 4 /* segment 0 */
    lidt ivt
    ljmp $SEL_CODE16, $0x8000
real_code:
    .code16
    mov $SEL_DATA16, %ax
    mov %ax, %ss
    mov %cr0, %eax
    and $0xfe, %al
    mov %eax, %cr0
    ljmp $0, $0x8000 + 1f - real_code
1:  mov $0x2000, %ax
    mov %ax, %ss
    xor %sp, %sp
real_again:
    ud2
