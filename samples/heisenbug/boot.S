/* samples/heisenbug/boot.S: the Multiboot header, the way to 64-bit mode, and the interrupt stubs. */

MB_MAGIC = 0x1badb002
MB_FLAGS = 3 /* page-aligned modules, memory information */

        .section .multiboot, "a"
        .balign 4
        .long MB_MAGIC, MB_FLAGS, -(MB_MAGIC + MB_FLAGS)

        .cfi_sections .debug_frame /* so that backtraces go through interrupts */

        .text
        .code32
        .globl _start
_start:
        cld
        movl $stack_top, %esp
        movl $pdpt + 3, pml4 /* the first GiB at its own address, in pages of 2 MiB */
        movl $pd + 3, pdpt
        xorl %ecx, %ecx
1:      movl %ecx, %eax
        shll $21, %eax
        orl $0x83, %eax
        movl %eax, pd(,%ecx,8)
        incl %ecx
        cmpl $512, %ecx
        jb 1b
        movl $0x20, %eax /* PAE */
        movl %eax, %cr4
        movl $pml4, %eax
        movl %eax, %cr3
        movl $0xc0000080, %ecx /* EFER */
        rdmsr
        orl $0x100, %eax /* LME */
        wrmsr
        movl $0x80010033, %eax /* PG WP NE ET MP PE */
        movl %eax, %cr0
        lgdt gdt_pointer
        ljmp $0x08, $start64

        .code64
        .cfi_startproc
        .cfi_undefined rip /* nobody called */
start64:
        movl $0x10, %eax
        movl %eax, %ds
        movl %eax, %es
        movl %eax, %ss
        xorl %ebp, %ebp
        call main
1:      cli
        hlt
        jmp 1b
        .cfi_endproc

        .macro save reg
        pushq %\reg
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset \reg, 0
        .endm
        .macro restore reg
        popq %\reg
        .cfi_adjust_cfa_offset -8
        .cfi_restore \reg
        .endm

        /* What the CPU pushed lies at the CFA: RIP, CS, RFLAGS, RSP, SS. */
        .macro stub name, handler
        .globl \name
        .type \name, @function
\name:
        .cfi_startproc simple
        .cfi_signal_frame
        .cfi_def_cfa rsp, 0
        .cfi_offset rip, 0
        .cfi_offset rsp, 24
        .irp reg, rax, rcx, rdx, rsi, rdi, r8, r9, r10, r11
        save \reg
        .endr
        cld
        call \handler
        .irp reg, r11, r10, r9, r8, rdi, rsi, rdx, rcx, rax
        restore \reg
        .endr
        iretq
        .cfi_endproc
        .size \name, . - \name
        .endm

        stub timer_stub, timer_interrupt
        stub unexpected_stub, unexpected_interrupt

        .section .rodata
        .balign 8
gdt:    .quad 0
        .quad 0x00af9b000000ffff /* 64-bit code */
        .quad 0x00cf93000000ffff /* data */
gdt_pointer:
        .word . - gdt - 1
        .quad gdt

        .bss
        .balign 4096
pml4:   .skip 4096
pdpt:   .skip 4096
pd:     .skip 4096
        .skip 16384
stack_top:

        .section .note.GNU-stack, "", @progbits
