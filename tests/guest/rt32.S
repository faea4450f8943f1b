/* tests/guest/rt32.S: from Multiboot's entry to main() in flat 32-bit protected mode; exception stubs. See rt32.h. */
    .set MAGIC, 0x1badb002
    .set KLUDGE, 0x10000            /* the header has the addresses: the image is flat */

    .section .multiboot, "a"
    .balign 4
header:
    .long MAGIC, KLUDGE, -(MAGIC + KLUDGE)
    .long header, image_start, image_end, bss_end, start32

    .text
start32:
    cli
    mov $stack_top, %esp
    lgdt gdt_ptr
    ljmp $0x08, $1f
1:  mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    xor %eax, %eax
    mov %eax, %fs
    mov %eax, %gs
    call rt_init
    mov $0x28, %eax
    ltr %ax
    lidt idt_ptr
    call main
    push $0
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

    .globl common
common:
    push %eax; push %ebx; push %ecx; push %edx; push %ebp; push %esi; push %edi
    mov %ds, %esi
    mov %es, %edi
    mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %esp, %ebx
    cld
    push %ebx
    call rt_trap                    /* true: return */
    mov %ebx, %esp
    test %al, %al
    jz 1f
    mov %esi, %ds
    mov %edi, %es
    pop %edi; pop %esi; pop %ebp; pop %edx; pop %ecx; pop %ebx; pop %eax
    add $8, %esp
    iret
1:  mov $0x10, %eax                 /* behind the TRY, at CPL 0 */
    mov %eax, %ss
    mov resume_sp, %esp
    xor %eax, %eax
    mov %eax, %fs
    mov %eax, %gs
    push $2
    popf
    jmp *resume_ip

    .data
    .balign 16
    .globl gdt
gdt:
    .quad 0
    .quad 0x00cf9b000000ffff        /* 08 kernel code */
    .quad 0x00cf93000000ffff        /* 10 kernel data */
    .quad 0x00cffb000000ffff        /* 18 user code */
    .quad 0x00cff3000000ffff        /* 20 user data */
    .quad 0                         /* 28 TSS, by rt_init */
    .fill 64 - 6, 8, 0
gdt_ptr:
    .word 64 * 8 - 1
    .long gdt
    .globl idt_ptr
idt_ptr:
    .word 256 * 8 - 1
    .long idt

    .bss
    .balign 4096
    .globl user_stack, other_stack, idt
user_stack: .skip 4096
other_stack: .skip 4096
idt: .skip 2048
    .skip 16384
stack_top:
    .skip 4096
    .globl trap_stack_top
trap_stack_top:
    .section .note.GNU-stack, "", @progbits
