/* samples/multiboot/boot.S: the Multiboot header, the entry, and the interrupt stubs. */

MB_MAGIC = 0x1badb002
MB_FLAGS = 3 /* page-aligned modules, memory information */

        .section .multiboot, "a"
        .balign 4
        .long MB_MAGIC, MB_FLAGS, -(MB_MAGIC + MB_FLAGS)

        .text
        .globl _start
_start:
        movl $stack_top, %esp
        lgdt gdt_pointer /* the loader's GDT may be gone by now */
        ljmp $0x08, $1f
1:      movl $0x10, %ecx
        movl %ecx, %ds
        movl %ecx, %es
        movl %ecx, %ss
        cld
        pushl %ebx /* struct multiboot_info */
        pushl %eax /* magic */
        call main
2:      cli
        hlt
        jmp 2b

        .macro stub name, handler
        .globl \name
\name:  pushal
        cld
        call \handler
        popal
        iret
        .endm

        stub timer_stub, timer_interrupt
        stub serial_stub, serial_interrupt
        stub unexpected_stub, unexpected_interrupt

        .section .rodata
        .balign 8
gdt:    .quad 0
        .quad 0x00cf9b000000ffff /* flat code */
        .quad 0x00cf93000000ffff /* flat data */
gdt_pointer:
        .word . - gdt - 1
        .long gdt

        .bss
        .balign 16
        .skip 16384
stack_top:

        .section .note.GNU-stack, "", @progbits
