/* tests/guest/chaos/triple.S: triple faults. case=0: real mode, 1: 32-bit protected mode, 2: 64-bit mode, 3: the page table is
 * gone, 4: the double fault's task has no TSS, 5: the stack and all tables are in a device. */
#include "chaos.h"

chaos_main:
    mov which, %eax
    jmp *table(, %eax, 4)

real_mode:
    mov $real_code, %esi
    mov $0x8000, %edi
    mov $64, %ecx
    rep movsb
    lidt empty
    ljmp $SEL_CODE16, $0x8000
real_code:
    .code16
    mov %cr0, %eax
    and $0xfe, %al
    mov %eax, %cr0
    ljmp $0, $0x8000 + 1f - real_code
1:  int3
    .code32

protected_mode:
    lidt empty
    ud2

long_mode:
    ENTER_LONG
    lidt empty
    ud2
    .code32

no_tables:
    ENTER_LONG
    mov $NOWHERE, %eax
    mov %rax, %cr3
    nop
    .code32

no_task:
    movl $0xfff8 << 16, idt32 + 8 * 8
    movl $0xfff8 << 16, idt32 + 6 * 8
    movl $0xfff8 << 16, idt32 + 13 * 8
    ud2

in_device:
    lidt in_lapic
    mov $IOAPIC + 0x100, %esp
    lgdt in_lapic
    ud2

    .section .data
table: .long real_mode, protected_mode, long_mode, no_tables, no_task, in_device
empty: .word 0
       .long 0, 0
in_lapic:
       .word 0xfff
       .long LAPIC, 0
