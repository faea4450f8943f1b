/* tests/guest/chaos/chaos.h: what the chaos guests share. Each is a Multiboot image that includes this first and defines
 * chaos_main, entered in 32-bit protected mode without paging. The command line chooses what it does: "case=N seed=N".
 *
 * Every vector leads to a handler which notes it in `vector`, makes the segments and the stack good again, and goes
 * on at `resume` by IRET, so that a guest survives most of what it does to itself:
 *   32-bit   faults on the current stack; the double fault is a task of its own, which survives a bad stack
 *   64-bit   (after ENTER_LONG) every vector has IST 1
 * WATCHDOG sends an NMI every 50 us through PIT and I/O APIC; it ends endless loops, interrupts off or not. */
    .set SEL_CODE32, 0x08
    .set SEL_DATA, 0x10
    .set SEL_CODE64, 0x18
    .set SEL_CODE16, 0x20
    .set SEL_UDATA, 0x2b
    .set SEL_UCODE32, 0x33
    .set SEL_UCODE64, 0x3b
    .set SEL_DATA16, 0x40
    .set SEL_TSS, 0x48
    .set SEL_DF, 0x50
    .set SEL_TSS64, 0x58
    .set LAPIC, 0xfee00000
    .set IOAPIC, 0xfec00000
    .set NOWHERE, 0xd0000000        /* neither memory nor a device */
    .set NO_VECTOR, 0x100

    .macro EXIT value
    mov $\value, %al
    out %al, $0xf4
    .endm

    .section .text
    .code32                         /* in an x86-64 object: GAS has no 64-bit code in a 32-bit one */
    .balign 4
    .long 0x1badb002, 0, -0x1badb002

    .globl _start
_start:
    cli
    mov $stack_top, %esp
    mov 16(%ebx), %esi              /* the command line */
    testl $4, (%ebx)
    jz 1f
    call parse
1:  lgdt gdt_pointer
    ljmp $SEL_CODE32, $2f
2:  mov $SEL_DATA, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov %eax, %fs
    mov %eax, %gs
    call build_tss
    call build_idt32
    lidt idt_pointer32
    mov $SEL_TSS, %eax
    ltr %ax
    jmp chaos_main

/* Any "e=N" or "d=N": "case=N", "seed=N". */
parse:
    lodsb
    test %al, %al
    jz 2f
    cmpb $'=', (%esi)
    jne parse
    mov %al, %bl
    inc %esi
    xor %ecx, %ecx
1:  movzbl (%esi), %edx
    sub $'0', %edx
    cmp $9, %edx
    ja 3f
    inc %esi
    imul $10, %ecx
    add %edx, %ecx
    jmp 1b
3:  cmp $'d', %bl
    je 4f
    mov %ecx, which
    jmp parse
4:  imul $0x9e3779b1, %ecx
    add %ecx, state
    jmp parse
2:  ret

build_tss:
    movl $stack_top, tss + 4
    movl $SEL_DATA, tss + 8
    movl $stack_top, tss64 + 4      /* RSP0 */
    movl $stack_top, tss64 + 0x24   /* IST1 */
    movw $0x68, tss + 0x66
    movw $0x68, tss64 + 0x66
    movl $double_fault, tss_df + 0x20
    movl $2, tss_df + 0x24
    movl $stack_top, tss_df + 0x38
    mov $SEL_DATA, %eax
    mov %eax, tss_df + 0x48
    mov %eax, tss_df + 0x50
    mov %eax, tss_df + 0x54
    movl $SEL_CODE32, tss_df + 0x4c
    mov $tss, %eax
    mov $gdt + SEL_TSS, %edi
    call 1f
    mov $tss_df, %eax
    mov $gdt + SEL_DF, %edi
    call 1f
    mov $tss64, %eax
    mov $gdt + SEL_TSS64, %edi
1:  mov %ax, 2(%edi)
    shr $16, %eax
    mov %al, 4(%edi)
    mov %ah, 7(%edi)
    ret

build_idt32:
    mov $stubs32, %eax
    mov $idt32, %edi
    mov $256, %ecx
1:  mov %eax, %edx
    mov %dx, (%edi)
    movw $SEL_CODE32, 2(%edi)
    movw $0xee00, 4(%edi)
    shr $16, %edx
    mov %dx, 6(%edi)
    add $16, %eax
    add $8, %edi
    loop 1b
    movl $SEL_DF << 16, idt32 + 64
    movl $0x8500, idt32 + 68        /* a task gate */
    ret

    .balign 16
stubs32:
    .set vec, 0
    .rept 256
    pushl $vec
    jmp handler32
    .balign 16
    .set vec, vec + 1
    .endr

handler32:
    cld
    mov $SEL_DATA, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %fs
    mov %eax, %gs
    pop %ebp
resume32:
    mov %eax, %ss
    mov $stack_top, %esp
    mov %ebp, vector
    incl faults
    pushl $2
    pushl $SEL_CODE32
    pushl resume
    iret

double_fault:
    andb $0xfd, gdt + SEL_TSS + 5
    mov $SEL_TSS, %eax
    ltr %ax
    andb $0xfd, gdt + SEL_DF + 5
    clts
    pushl $2                        /* the task is nested no longer */
    popf
    mov $8, %ebp
    mov $SEL_DATA, %eax
    jmp resume32

    .macro WATCHDOG
    movl $0x10 + 2 * 2, IOAPIC      /* pin 2 is the PIT: NMI, edge, to APIC 0 */
    movl $0x0400, IOAPIC + 0x10
    movl $0x1ff, LAPIC + 0xf0
    mov $0x34, %al
    out %al, $0x43
    mov $60, %al
    out %al, $0x40
    xor %eax, %eax
    out %al, $0x40
    .endm

    /* To 64-bit code: 4 GiB, identical, 2 MiB pages, for everybody. Continues behind the macro. */
    .macro ENTER_LONG
    movl $pdpt + 7, pml4
    movl $pd + 0x0007, pdpt
    movl $pd + 0x1007, pdpt + 8
    movl $pd + 0x2007, pdpt + 16
    movl $pd + 0x3007, pdpt + 24
    xor %ecx, %ecx
1:  mov %ecx, %eax
    shl $21, %eax
    or $0x87, %eax
    mov %eax, pd(, %ecx, 8)
    inc %ecx
    cmp $2048, %ecx
    jb 1b
    mov $0x6b0, %eax                /* PAE, PGE, PSE, OSFXSR, OSXMMEXCPT */
    mov %eax, %cr4
    mov $pml4, %eax
    mov %eax, %cr3
    mov $0xc0000080, %ecx
    mov $0x901, %eax                /* SCE, LME, NXE */
    xor %edx, %edx
    wrmsr
    mov $0x80010033, %eax
    mov %eax, %cr0
    ljmp $SEL_CODE64, $1f
    .code64
1:  call build_idt64
    lidt idt_pointer64
    mov $SEL_TSS64, %eax
    ltr %ax
    .endm

    .code64
build_idt64:
    mov $stubs64, %eax
    mov $idt64, %edi
    mov $256, %ecx
1:  mov %eax, %edx
    mov %dx, (%rdi)
    movw $SEL_CODE64, 2(%rdi)
    movw $0xee01, 4(%rdi)           /* IST 1 */
    shr $16, %edx
    mov %dx, 6(%rdi)
    movq $0, 8(%rdi)
    add $16, %eax
    add $16, %edi
    loop 1b
    ret

    .balign 16
stubs64:
    .set vec, 0
    .rept 256
    push $vec
    jmp handler64
    .balign 16
    .set vec, vec + 1
    .endr

handler64:
    cld
    pop %rbp
    mov $SEL_DATA, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov $stack_top, %esp
    mov %ebp, vector
    incl faults
    push $SEL_DATA
    push $stack_top
    push $2
    push $SEL_CODE64
    mov resume, %eax
    push %rax
    iretq

    /* eax = the next of a sequence; the upper half of a 64-bit LCG, to which 32 bits of state are enough here. */
    .macro RANDOM
    imul $1664525, state, %eax
    add $1013904223, %eax
    mov %eax, state
    mov %eax, %edx
    shr $15, %edx
    imul $0x2c1b3c6d, %edx, %edx
    xor %edx, %eax
    .endm
    .code32

    .section .data
    .balign 16
gdt:
    .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff, 0x00af9b000000ffff, 0x00009b000000ffff
    .quad 0x00cff3000000ffff, 0x00cffb000000ffff, 0x00affb000000ffff, 0x000093000000ffff
    .quad 0x0000890000000067, 0x0000890000000067, 0x0000890000000067, 0
gdt_end:
gdt_pointer:
    .word gdt_end - gdt - 1
    .long gdt, 0
idt_pointer32:
    .word 0x7ff
    .long idt32
idt_pointer64:
    .word 0xfff
    .long idt64, 0
    .balign 4
which:  .long 0
state:  .long 1
vector: .long NO_VECTOR
resume: .long 0, 0
faults: .long 0

    .section .bss
    .balign 4096
pml4:   .skip 4096
pdpt:   .skip 4096
pd:     .skip 4 * 4096
idt32:  .skip 2048
idt64:  .skip 4096
tss:    .skip 0x80
tss_df: .skip 0x80
tss64:  .skip 0x80
    .balign 4096
    .skip 8192
stack_top:
    .skip 64

    .section .note.GNU-stack, "", @progbits
    .section .text
