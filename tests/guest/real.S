/* tests/guest/real.S: a firmware image of 64 KiB, entered at the reset vector: the state after reset, real-address mode,
 * "unreal" segments, the ways into protected mode and back. SDM vol. 3, 9.1 and 20.1. Ends by debug exit: 0 is a pass,
 * the number of the failed check otherwise, printed on port 0xE9 as a letter too ('A' is 1). */
    .code16
    .text
    .globl _start
base:

/* CHECK n, condition code under which all is well */
    .macro ok n cc
    j\cc 1f
    mov $\n, %al
    jmp failed
1:
    .endm

start:
    /* ---- 1..9: the state after reset (still in the registers and segments) ---- */
    mov %dx, %bp
    mov %cs, %cx
    cmp $0xf000, %cx
    ok 1 e
    mov %ds, %cx
    or %cx, %cx
    ok 2 z
    smsw %cx
    test $1, %cl
    ok 3 z
    mov %cr0, %ecx
    and $0x60000000, %ecx
    cmp $0x60000000, %ecx           /* CD and NW are set */
    ok 4 e
    mov %cr4, %ecx
    or %ecx, %ecx
    ok 5 z
    test $0x0f00, %bp               /* DX has the processor's signature */
    ok 6 nz

    /* ---- 10..: stack, interrupts ---- */
    xor %ax, %ax
    mov %ax, %ss
    mov $0x7000, %sp
    mov %ax, %es
    pushf
    pop %ax
    and $0x0200, %ax
    ok 10 z
    /* the interrupt vector table at 0: all vectors to `unexpected` */
    xor %di, %di
    mov $256, %cx
    cld
1:  mov $unexpected - base, %ax
    stosw
    mov $0xf000, %ax
    stosw
    loop 1b
    movw $handler - base, %es:4 * 0x40
    sti
    int $0x40
after_int:
    ok 11 c                         /* the handler set CF in the saved flags */
    pushf
    pop %ax
    test $0x0200, %ax
    ok 12 nz                        /* IRET restored IF */
    cli
    cmp $0x7000, %sp
    ok 13 e

    /* divide error: the saved IP is the instruction's */
    movw $divide - base, %es:0
    xor %cx, %cx
    xor %dx, %dx
    mov $1, %ax
    xor %bx, %bx
fault_at:
    div %cx
    cmp $0x1234, %bx
    ok 14 e
    /* #UD, #BR, INT3, INTO */
    movw $invalid - base, %es:4 * 6
    xor %bx, %bx
    ud2
    cmp $0x5678, %bx
    ok 15 e
    movw $count - base, %es:4 * 3
    movw $count - base, %es:4 * 4
    xor %bx, %bx
    int3
    mov $0x7f, %al
    add $1, %al
    into
    cmp $2, %bx
    ok 16 e

    /* single step: TF is cleared in the handler, restored by IRET */
    movw $step - base, %es:4
    xor %bx, %bx
    pushf
    pop %ax
    or $0x100, %ax
    push %ax
    popf
    nop
    nop
    pushf
    andw $0xfeff, %ss:0x6ffe
    popf
    cmp $5, %bx
    ok 17 e

    /* ---- 20..: addressing ---- */
    mov $0x2000, %ax
    mov %ax, %ds
    movl $0x11223344, 0x10
    mov $0x2001, %ax
    mov %ax, %ds
    cmpl $0x11223344, 0
    ok 20 e
    mov $0xffff, %ax                /* above 1 MiB: the A20 gate is open */
    mov %ax, %ds
    movw $0x55aa, 0x10              /* linear 0x100000 */
    cmpw $0x55aa, %es:0
    ok 21 ne
    /* FAR calls and jumps */
    lcall $0xf000, $far_proc - base
    cmp $0x99, %al
    ok 22 e
    cmp $0x7000, %sp
    ok 23 e
    ljmp $0xff00, $far_jumped - base - 0xf000
back:
    /* PUSH SP pushes the old value; 32-bit operands work */
    mov %sp, %bx
    push %sp
    pop %ax
    cmp %bx, %ax
    ok 25 e
    pushl $0x12345678
    pop %ax
    pop %cx
    cmp $0x5678, %ax
    ok 26 e
    cmp $0x1234, %cx
    ok 27 e

    /* ---- 30..: protected mode and back, with big segments ---- */
    xor %ax, %ax
    mov %ax, %ds
    lgdtl %cs:gdt_ptr - base
    mov %cr0, %eax
    and $0x9fffffff, %eax
    or $1, %al
    mov %eax, %cr0
    ljmp $0x08, $protected16 - base
protected16:
    mov $0x10, %ax                  /* data, 4 GiB */
    mov %ax, %ds
    mov %ax, %fs
    mov %cr0, %eax
    and $0xfe, %al
    mov %eax, %cr0
    ljmp $0xf000, $real_again - base
real_again:
    xor %ax, %ax
    mov %ax, %ss
    mov $0x7000, %sp
    mov $0x200000, %ebx
    movl $0xcafe, (%ebx)            /* the limit of 4 GiB stays: "unreal" mode */
    xor %ax, %ax
    mov %ax, %ds                    /* a load in real mode keeps it too */
    cmpl $0xcafe, (%ebx)
    ok 30 e
    mov %cr0, %eax
    test $1, %al
    ok 31 z

    /* ---- into 32-bit code ---- */
    mov %cr0, %eax
    or $1, %al
    mov %eax, %cr0
    ljmpl $0x18, $0xf0000 + protected32 - base
    .code32
protected32:
    mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %ss
    mov $0x7000, %esp
    cmpl $0xcafe, 0x200000
    jne 2f
    push $0x11223344
    pop %eax
    cmp $0x11223344, %eax
    jne 2f
    ljmp $0x08, $to_real - base
2:  mov $32, %al
    out %al, $0xf4
    .code16
to_real:
    mov %cr0, %eax
    and $0xfe, %al
    mov %eax, %cr0
    ljmp $0xf000, $done - base
done:
    mov $0x50, %al                  /* 'P' */
    out %al, $0xe9
    mov $10, %al
    out %al, $0xe9
    xor %al, %al
    out %al, $0xf4
    hlt

failed:
    mov %al, %ah
    add $0x40, %al
    out %al, $0xe9
    mov $10, %al
    out %al, $0xe9
    mov %ah, %al
    out %al, $0xf4
    hlt
unexpected:
    mov $63, %al
    jmp failed
far_proc:
    mov $0x99, %al
    lret

/* Handlers. IF and TF are clear in them. */
handler:
    push %bp
    mov %sp, %bp
    push %ax
    pushf
    pop %ax
    test $0x0300, %ax
    jnz 1f
    cmpw $after_int - base, 2(%bp)
    jne 1f
    cmpw $0xf000, 4(%bp)
    jne 1f
    orw $1, 6(%bp)
1:  pop %ax
    pop %bp
    iret
divide:
    push %bp
    mov %sp, %bp
    cmpw $fault_at - base, 2(%bp)
    jne 1f
    mov $0x1234, %bx
1:  addw $2, 2(%bp)
    pop %bp
    iret
invalid:
    push %bp
    mov %sp, %bp
    mov $0x5678, %bx
    addw $2, 2(%bp)
    pop %bp
    iret
count:
step:
    inc %bx
    iret

    .balign 8
gdt:
    .quad 0
    .quad 0x00009b0f0000ffff        /* 08 16-bit code at 0xf0000 */
    .quad 0x00cf93000000ffff        /* 10 data, 4 GiB */
    .quad 0x00cf9b000000ffff        /* 18 32-bit code, 4 GiB */
gdt_ptr:
    .word 31
    .long 0xf0000 + gdt - base

    .org 0xf100
far_jumped:                         /* with CS 0xff00 this is offset 0x100 */
    mov %cs, %ax
    cmp $0xff00, %ax
    je 1f
    mov $24, %al
    ljmp $0xf000, $failed - base
1:  ljmp $0xf000, $back - base

    .org 0xfff0
    ljmp $0xf000, $start - base
    .org 0x10000
