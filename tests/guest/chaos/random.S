/* tests/guest/chaos/random.S: random bytes as code. Each round fills 512 bytes with them, gives the registers random values, and
 * jumps in; whatever happens, a fault, an interrupt or the watchdog begins the next round. The end is 0 after all
 * rounds, but the bytes may end the run in any other way as well: that is for the test to accept. case=
 *   0  32-bit, privilege 0    2  64-bit, privilege 0    4  real mode
 *   1  32-bit, privilege 3    3  64-bit, privilege 3    5  16-bit protected mode */
#include "chaos.h"

    .set ROUNDS, 3000
    .set AREA, 0x20000

chaos_main:
    WATCHDOG
    movl $ROUNDS, count
    cmpl $2, which
    je long_mode
    cmpl $3, which
    je long_mode
    movl $round, resume
round:
    lidt idt_pointer32
    decl count
    jz finish
    call fill
    mov which, %eax
    jmp *kinds(, %eax, 4)
finish:
    EXIT 0

fill:
    mov $AREA, %edi
    mov $128, %ecx
1:  RANDOM
    mov %eax, (%edi)
    add $4, %edi
    dec %ecx
    jnz 1b
    mov $AREA - 64, %edi            /* registers, for POPA */
    mov $8, %ecx
1:  RANDOM
    mov %eax, %edx
    and $0x3fffff, %eax
    test $0x03000000, %edx
    jz 2f
    or $0x20000, %eax
2:  mov %eax, (%edi)
    add $4, %edi
    dec %ecx
    jnz 1b
    ret

kernel32:
    mov $AREA - 64, %esp
    popa
    mov $AREA + 0x8000, %esp
    mov $AREA, %eax
    jmp *%eax

user32:
    mov $AREA - 64, %esp
    popa
    mov $stack_top, %esp
    pushl $SEL_UDATA
    pushl $AREA + 0x8000
    pushl $0x3202                   /* with IOPL 3 */
    pushl $SEL_UCODE32
    pushl $AREA
    mov $SEL_UDATA, %eax
    mov %eax, %ds
    mov %eax, %es
    iret

protected16:
    movw $AREA & 0xffff, gdt + SEL_CODE16 + 2
    movb $AREA >> 16, gdt + SEL_CODE16 + 4
    mov $AREA - 64, %esp
    popa
    mov $0x8000, %esp
    ljmp $SEL_CODE16, $0

    /* The vectors of real mode all lead to a few instructions at 0x600, which go back to protected mode. */
real:
    mov $real_code, %esi
    mov $0x500, %edi
    mov $real_end - real_code, %ecx
    rep movsb
    xor %edi, %edi
    mov $0x500 + real_back - real_code, %eax
    mov $256, %ecx
    rep stosl
    lidt ivt
    movw $0, gdt + SEL_CODE16 + 2
    movb $0, gdt + SEL_CODE16 + 4
    mov $AREA - 64, %esp
    popa
    ljmp $SEL_CODE16, $0x500
real_code:
    .code16
    mov $SEL_DATA16, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    mov %cr0, %eax
    and $0xfe, %al
    mov %eax, %cr0
    ljmp $0, $0x500 + 1f - real_code
1:  mov $AREA >> 4, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    mov $0xfff0, %sp
    ljmp $AREA >> 4, $0
real_back:
    cli
    cs lgdtl 0x500 + real_gdt - real_code
    mov %cr0, %eax
    or $1, %al
    mov %eax, %cr0
    ljmpl $SEL_CODE32, $after_real
real_gdt:
    .word 0x67
    .long gdt
    .balign 4
real_end:
    .code32
after_real:
    mov $SEL_DATA, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov $stack_top, %esp
    lidt idt_pointer32
    pushl $2                        /* IRET, which lets the next NMI in */
    pushl $SEL_CODE32
    pushl $round
    iret

long_mode:
    ENTER_LONG
    .code64
    movl $round64, resume
round64:
    decl count
    jz finish64
    mov $stack_top, %esp
    call fill64
    mov $AREA - 64, %esp
    pop %rbx
    pop %rcx
    pop %rdx
    pop %rsi
    pop %rdi
    pop %rbp
    pop %r8
    pop %r9
    mov %rsp, %r10
    lea (%rbx, %rdx), %r11
    bswap %r11
    cmpl $3, which
    je user64
    mov $AREA + 0x8000, %esp
    mov $AREA, %eax
    jmp *%rax
user64:
    mov $stack_top, %esp
    pushq $SEL_UDATA
    pushq $AREA + 0x8000
    pushq $0x3202
    pushq $SEL_UCODE64
    pushq $AREA
    iretq
finish64:
    EXIT 0
fill64:
    mov $AREA, %edi
    mov $128, %ecx
1:  RANDOM
    mov %eax, (%rdi)
    add $4, %edi
    dec %ecx
    jnz 1b
    mov $AREA - 64, %edi
    mov $16, %ecx
1:  RANDOM
    mov %eax, %edx
    and $0x3fffff, %eax
    test $0x01000000, %edx
    jz 2f
    xor %eax, %eax
2:  mov %eax, (%rdi)
    add $4, %edi
    dec %ecx
    jnz 1b
    ret
    .code32

    .section .data
kinds: .long kernel32, user32, 0, 0, real, protected16
count: .long 0
ivt:   .word 0x3ff
       .long 0
