/* tests/guest/chaos/nowhere.S: jumps and calls to where no code is. Each must raise the right exception, and the next one
 * must work as well. Ends with 0, or with the number of the first jump that went wrong.
 * case=0: 32-bit code; 1: 64-bit code. */
#include "chaos.h"

    .macro ROW target, want
    .long \target, \want
    .endm

chaos_main:
    cmpl $1, which
    je long_mode

    mov $rows32, %esi
    mov $1, %ebx
next32:
    mov %ebx, number
    mov %esi, row
    movl $NO_VECTOR, vector
    movl $back32, resume
    jmp *(%esi)
back32:
    mov row, %esi
    mov number, %ebx
    mov vector, %eax
    cmp %eax, 4(%esi)
    jne failed
    add $8, %esi
    inc %ebx
    cmp $rows32_end, %esi
    jb next32
    EXIT 0

failed:
    mov %bl, %al
    out %al, $0xf4

long_mode:
    ENTER_LONG
    .code64
    movl $0, pd + 8 * 8             /* 16 MiB: not present */
    movl $0x01002087, pd + 9 * 8    /* 18 MiB: an address in the middle of a large page: reserved bits */
    movl $NOWHERE + 7, pdpt + 8     /* the second GiB: its table is nowhere */
    movl $LAPIC + 7, pdpt + 16      /* the third: its table is a device */
    movl $0x80000087, pd + 7 * 8    /* 14 MiB: maps to beyond RAM */
    mov $rows64, %esi
    mov $1, %ebx
next64:
    mov %ebx, number
    mov %esi, row
    movl $NO_VECTOR, vector
    movl $back64, resume
    jmp *(%rsi)
back64:
    mov row, %esi
    mov number, %ebx
    mov vector, %eax
    cmp %eax, 8(%rsi)
    jne failed64
    add $16, %esi
    inc %ebx
    cmp $rows64_end, %esi
    jb next64
    EXIT 0
failed64:
    mov %bl, %al
    out %al, $0xf4

    .section .data
    .balign 16
row:    .long 0
number: .long 0
rows32:                             /* a device, and nothing, read as FF FF: #UD */
    ROW NOWHERE, 6
    ROW LAPIC, 6
    ROW LAPIC+0xfff, 6
    ROW LAPIC-1, 6
    ROW IOAPIC, 6
    ROW IOAPIC+0x10, 6
    ROW 0xfffffff0, 6
    ROW 0xffffffff, 13              /* its second byte lies beyond the limit of CS */
    ROW 0x80000000, 6
    ROW 0x04000000-1, 6           /* the last byte of RAM is 0, ADD; its operand is nowhere */
    ROW NOWHERE, 6
rows32_end:
    .balign 16
rows64:
    .quad 0x0000800000000000, 13    /* not canonical */
    .quad 0x7fffffffffffffff, 13
    .quad 0xffff7fffffffffff, 13
    .quad 0x00007fffffffffff, 14
    .quad 0xffffffffffffffff, 14
    .quad 0xfffffffffffff000, 14
    .quad 0xffff800000000000, 14
    .quad 16 << 20, 14
    .quad 15 << 20, 6               /* beyond RAM */
    .quad 18 << 20, 14
    .quad 0x40000000, 14
    .quad 0x80000000, 14
    .quad 14 << 20, 6
    .quad LAPIC, 6
    .quad LAPIC + 0xffd, 6
    .quad 0xffffffff, 14            /* FF, and the byte that it needs is not mapped */
    .quad 0x100000000, 14
    .quad NOWHERE, 6
rows64_end:
