/* tests/guest/chaos/tables.S: storms in memory: code and page tables that are rewritten all the time. Ends with 0. case=
 *   0  self-modifying code: an instruction changes the immediate of the next one, and its own
 *   1  page directory entries rewritten in a loop, accesses through them
 *   2  thousands of address spaces
 *   3  tables that map themselves at every level, walked and written through themselves
 *   4  a page that is page table, code and stack at once
 *   5  string instructions that wrap around, and run over tables, code and devices
 * All are 64-bit code. */
#include "chaos.h"

chaos_main:
    ENTER_LONG
    .code64
    mov which, %eax
    mov table(, %rax, 8), %rax
    jmp *%rax

finish:
    EXIT 0
wrong:
    EXIT 1

modify:
    mov $300000, %ecx
1:  incl 2f + 1(%rip)
2:  mov $0, %eax
    incl 3f + 1
3:  mov $0, %edx
    cmp %eax, %edx
    jne wrong
    movb $0x90, 4f                  /* NOP over NOP, then INC over it and back */
4:  nop
    dec %ecx
    jnz 1b
    jmp finish

    /* PD entry 20 (40 MiB) leads to 4, 6 or 8 MiB in turn. */
entries:
    movl $0x11111111, 4 << 20
    movl $0x22222222, 6 << 20
    movl $0x33333333, 8 << 20
    mov $200000, %ecx
1:  mov $4 << 20 | 0x87, %eax
    mov %rax, pd + 20 * 8
    cmpl $0x11111111, 40 << 20
    jne wrong
    add $2 << 20, %eax
    mov %rax, pd + 20 * 8
    cmpl $0x22222222, 40 << 20
    jne wrong
    add $2 << 20, %eax
    xchg %rax, pd + 20 * 8
    cmpl $0x33333333, 40 << 20
    jne wrong
    lock btsl $6, pd + 20 * 8
    incl pml4 + 256 * 8 + 4         /* an entry that nobody uses */
    dec %ecx
    jnz 1b
    jmp finish

    /* 2048 PML4s at 16 MiB, all with the same lower half. */
spaces:
    mov $16 << 20, %edi
    mov $2048, %ecx
1:  mov pml4, %rax
    mov %rax, (%rdi)
    mov %rdi, %rax
    or $3, %al
    mov %rax, 511 * 8(%rdi)
    add $4096, %edi
    dec %ecx
    jnz 1b
    mov $40000, %ebx
1:  RANDOM
    and $2047, %eax
    shl $12, %eax
    add $16 << 20, %eax
    mov %rax, %cr3
    mov 0xfffffffffffffff8, %rdx    /* its own last entry */
    xor %rax, %rdx
    and $~0xfff, %rdx
    jnz wrong
    dec %ebx
    jnz 1b
    jmp finish

selves:
    mov $pml4 + 7, %eax
    mov %rax, pml4 + 511 * 8
    mov $pdpt + 7, %eax
    mov %rax, pdpt + 511 * 8
    mov $pd + 7, %eax
    mov %rax, pd + 300 * 8
    mov $50000, %ecx
    mov $0xfffffffffffff000, %rbx
1:  mov (%rbx), %rax                /* PML4 through itself four times */
    cmp pml4, %rax
    jne wrong
    mov %rax, 256 * 8(%rbx)
    movq $0, 256 * 8(%rbx)
    mov $0x7fc0000000, %rdx         /* PDPT 511: the PDPT as PD, its entries as tables */
    mov (%rdx), %rax
    mov %rax, (%rdx)
    mov $300 << 21, %eax            /* PD 300: the PD as PT */
    mov 8(%rax), %rdx
    mov %rdx, 8(%rax)
    incq 511 * 8(%rbx)              /* the entry that maps all this: present no longer */
    movl $1f, resume
    mov (%rbx), %rax
    jmp wrong
1:  decq pml4 + 511 * 8
    mov $0xfffffffffffff000, %rbx
    dec %ecx
    jmp 2f
2:  subl $1, turns
    jz finish
    mov $1, %ecx
    mov (%rbx), %rax
    cmp pml4, %rax
    jne wrong
    incq 511 * 8(%rbx)
    movl $1b, resume
    mov (%rbx), %rax
    jmp wrong

    /* 12 MiB is a page table (all of 2 MiB at 42 MiB by 4 KiB pages); code is in its upper half, the stack above. */
together:
    mov $12 << 20, %edi
    mov $512, %ecx
    mov $7, %eax
    or $12 << 20, %eax
1:  mov %rax, (%rdi)
    add $8, %rdi
    dec %ecx
    jnz 1b
    mov $small, %esi
    mov $(12 << 20) + 3072, %edi
    mov $small_end - small, %ecx
    rep movsb
    movl $(12 << 20) + 7, pd + 21 * 8
    mov $(42 << 20) + 4096, %esp
    mov $100000, %ebx
    mov $(42 << 20) + 3072, %eax
    jmp *%rax
small:
    push %rbx
    pushq $0x1234
    mov (42 << 20), %rax
    mov %rax, (42 << 20) + 2048
    xor $0x20, %al
    mov %rax, (42 << 20)
    pop %rax
    pop %rbx
    dec %ebx
    jnz small
    mov $finish, %eax
    jmp *%rax
small_end:

    /* Each may fault or not; all must come back. */
strings:
    movl $strings_back, resume
    movl $3000, turns
strings_back:
    cld
    decl turns
    jz finish
    RANDOM
    mov %eax, %ebx
    RANDOM
    mov %eax, %ecx
    and $0x1fff, %ecx
    test $0x100000, %ebx
    jz 1f
    or $-1, %rcx                    /* until it faults */
1:  mov %ebx, %esi
    shr $4, %esi
    and $7, %esi
    mov places(, %rsi, 8), %rsi
    mov %ebx, %edi
    shr $8, %edi
    and $7, %edi
    mov places(, %rdi, 8), %rdi
    test $0x10000, %ebx
    jz 1f
    std
1:  test $0x20000, %ebx
    jz 1f
    add $3, %rdi
1:  cmp $0x1000, %rcx
    jbe 1f
    mov $-64, %rdi                  /* a long one runs into what is not mapped */
1:  and $15, %ebx
    mov operations(, %rbx, 8), %rax
    jmp *%rax
s0: rep movsb
    jmp strings_back
s1: rep movsq
    jmp strings_back
s2: rep stosb
    jmp strings_back
s3: addr32 rep movsl
    jmp strings_back
s4: repe cmpsb
    jmp strings_back
s5: repne scasl
    jmp strings_back
s6: rep lodsq
    jmp strings_back
s7: movsq
    jmp strings_back

    .section .data
    .balign 8
    /* Sources and destinations: copies of a table onto itself, scratch memory, devices, the edges of everything. */
places: .long spare, 0, LAPIC + 0x80, 0, IOAPIC, 0, spare + 4000, 0
        .quad -16, 0x7fffffffffff
        .long NOWHERE, 0, 0xfffffff0, 0
operations:
        .long s0, 0, s1, 0, s2, 0, s3, 0, s4, 0, s5, 0, s6, 0, s7, 0
        .long s0, 0, s1, 0, s2, 0, s3, 0, s4, 0, s5, 0, s6, 0, s1, 0
table:  .long modify, 0, entries, 0, spaces, 0, selves, 0, together, 0, strings, 0
turns:  .long 2000

    .section .bss
    .balign 4096
spare:  .skip 3 * 8192
