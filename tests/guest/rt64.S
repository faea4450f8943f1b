/* tests/guest/rt64.S: from Multiboot's 32-bit entry to main() in 64-bit mode; exception stubs. See rt64.h. */
    .set MAGIC, 0x1badb002
    .set KLUDGE, 0x10000            /* the header has the addresses: the image is flat */

    .section .multiboot, "a"
    .balign 4
header:
    .long MAGIC, KLUDGE, -(MAGIC + KLUDGE)
    .long header, image_start, image_end, bss_end, start32

    .text
    .code32
start32:
    cli
    mov $stack_top, %esp
    mov %ebx, boot_info
    /* pml4[0] -> pdpt_low -> pd_low[0..3]: 4 GiB in 2 MiB pages, supervisor by their leaves; pml4[1] -> pdpt_user ->
     * pd_user: user */
    movl $pdpt_low + 7, pml4
    movl $pdpt_user + 7, pml4 + 8
    movl $pd_low + 0x0007, pdpt_low
    movl $pd_low + 0x1003, pdpt_low + 8
    movl $pd_low + 0x2003, pdpt_low + 16
    movl $pd_low + 0x3007, pdpt_low + 24
    movl $pd_user + 7, pdpt_user
    xor %ecx, %ecx
1:  mov %ecx, %eax
    shl $21, %eax
    or $0x83, %eax
    mov %eax, pd_low(,%ecx,8)
    cmp $512, %ecx
    jae 2f
    or $4, %eax
    mov %eax, pd_user(,%ecx,8)
2:  inc %ecx
    cmp $2048, %ecx
    jb 1b
    mov $0x20, %eax                 /* PAE */
    mov %eax, %cr4
    mov $pml4, %eax
    mov %eax, %cr3
    mov $0xc0000080, %ecx
    rdmsr
    or $0x901, %eax                 /* SCE, LME, NXE */
    wrmsr
    mov $0x80010033, %eax           /* PG WP NE ET MP PE */
    mov %eax, %cr0
    lgdt gdt_ptr
    ljmp $0x08, $start64

    .code64
start64:
    mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    xor %eax, %eax
    mov %eax, %fs
    mov %eax, %gs
    call rt_init
    mov $0x38, %eax
    ltr %ax
    lidt idt_ptr
    call main
    xor %edi, %edi
    call finish

    /* Every stub is 16 bytes long. */
    .balign 16
    .globl stubs
stubs:
    .set vec, 0
    .rept 256
    .balign 16
    .if (vec == 8) || (vec >= 10 && vec <= 14) || (vec == 17)
    .else
    push $0
    .endif
    push $vec
    jmp common
    .set vec, vec + 1
    .endr

common:
    push %rax; push %rbx; push %rcx; push %rdx; push %rbp; push %rsi; push %rdi
    push %r8; push %r9; push %r10; push %r11; push %r12; push %r13; push %r14; push %r15
    mov %rsp, %rdi
    cld
    and $-16, %rsp
    mov %rdi, %rbx
    call rt_trap                    /* true: return */
    mov %rbx, %rsp
    test %al, %al
    setnz %al
    movzbl %al, %eax
    mov %eax, returning
    pop %r15; pop %r14; pop %r13; pop %r12; pop %r11; pop %r10; pop %r9; pop %r8
    pop %rdi; pop %rsi; pop %rbp; pop %rdx; pop %rcx; pop %rbx; pop %rax
    cmpl $0, returning
    je 1f
    add $16, %rsp
    iretq
1:  mov $0x10, %eax                 /* behind the TRY, at CPL 0 */
    mov %eax, %ss
    mov resume_sp, %rsp
    mov %eax, %ds
    mov %eax, %es
    push $2
    popf
    jmp *resume_ip

    .data
    .balign 16
    .globl gdt
gdt:
    .quad 0
    .quad 0x00af9b000000ffff        /* 08 kernel code, 64-bit */
    .quad 0x00cf93000000ffff        /* 10 kernel data */
    .quad 0x00cffb000000ffff        /* 18 user code, 32-bit */
    .quad 0x00cff3000000ffff        /* 20 user data */
    .quad 0x00affb000000ffff        /* 28 user code, 64-bit */
    .quad 0x00cff3000000ffff        /* 30 user data, for SYSEXIT to 64-bit code */
    .quad 0, 0                      /* 38 TSS, by rt_init */
    .quad 0x00cf9b000000ffff        /* 48 kernel code, 32-bit */
    .fill 64 - 10, 8, 0
gdt_ptr:
    .word 64 * 8 - 1
    .quad gdt
    .globl idt_ptr
idt_ptr:
    .word 256 * 16 - 1
    .quad idt

    .bss
    .balign 4096
    .globl pml4, pdpt_low, pd_low, user_stack, ist_stack, idt
pml4: .skip 4096
pdpt_low: .skip 4096
pd_low: .skip 4 * 4096
pdpt_user: .skip 4096
pd_user: .skip 4096
user_stack: .skip 4096
ist_stack: .skip 4096
idt: .skip 4096
    .skip 16384
stack_top:
    .skip 4096
    .globl trap_stack_top
trap_stack_top:
returning: .skip 4
    .globl boot_info
boot_info: .skip 4
    .section .note.GNU-stack, "", @progbits
