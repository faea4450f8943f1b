/* tests/replay/guest.S: a small Multiboot guest whose path depends on everything that crosses the door.
 *
 * Each round it stirs 64 KiB of memory (some 180,000 ticks), mixes in the time stamp counter, and mixes in and echoes
 * what was typed at COM1. Every 16th round prints the state, so that a replay that differs anywhere shows on the console
 * soon. The command line chooses: rounds=N (default 200), and how it ends, end=X:
 *   exit    debug exit with value 1, status 3 (default)      reset   reset through the keyboard controller
 *   halt    HLT with interrupts off                          triple  triple fault
 *   look    as exit, after mixing in what fw_cfg says its kernel and its module are
 * A typed 'q' ends it before its rounds are over.
 */
    .set MULTIBOOT_MAGIC, 0x1badb002
    .set COM1, 0x3f8
    .set COM1_LSR, COM1 + 5
    .set BUFFER_DWORDS, 16384

    .section .text
    .balign 4
    .long MULTIBOOT_MAGIC, 0, -MULTIBOOT_MAGIC

    .globl _start
_start:
    mov $stack_top, %esp
    movl $200, rounds
    movb $'e', end
    testl $4, (%ebx)                    /* flags: is there a command line? */
    jz 1f
    mov 16(%ebx), %esi
    call parse_command_line
1:  mov $banner, %esi
    call print
    movl $0x2545f491, state
    xor %ebp, %ebp                      /* the round */
round:
    cmp rounds, %ebp
    jae finish
    call stir
    rdtsc
    xor %eax, state
    call poll_input
    test $15, %ebp
    jnz 1f
    call report
1:  inc %ebp
    jmp round

finish:
    cmpb $'l', end
    jne 1f
    mov $0x08, %esi                     /* FW_CFG_KERNEL_SIZE, _DATA */
    mov $0x11, %edi
    call look
    mov $0x0b, %esi                     /* FW_CFG_INITRD_SIZE, _DATA */
    mov $0x12, %edi
    call look
1:  mov $done, %esi
    call print
    call report
    mov end, %al
    cmp $'r', %al
    je end_reset
    cmp $'h', %al
    je end_halt
    cmp $'t', %al
    je end_triple
    mov $1, %al
    out %al, $0xf4
end_halt:
    cli
    hlt
    jmp end_halt
end_reset:
    mov $0xfe, %al
    out %al, $0x64
    jmp end_halt
end_triple:
    lidt no_idt
    int3

/* esi: key of the item that holds a size; edi: of the one that has so many bytes. */
look:
    mov $0x510, %edx
    mov %esi, %eax
    out %ax, %dx
    inc %edx
    mov $4, %ebx
1:  in %dx, %al
    shrd $8, %eax, %ecx
    dec %ebx
    jnz 1b
    dec %edx
    mov %edi, %eax
    out %ax, %dx
    inc %edx
    jecxz 3f
    xor %eax, %eax
2:  in %dx, %al
    roll $5, state
    xor %eax, state
    dec %ecx
    jnz 2b
3:  ret

/* esi: "path rounds=12 end=triple". The words may come in any order. */
parse_command_line:
    mov (%esi), %al
    test %al, %al
    jz 3f
    cmpl $0x6e756f72, (%esi)            /* "roun" */
    jne 1f
    add $7, %esi
    call parse_number
    mov %eax, rounds
    jmp parse_command_line
1:  cmpl $0x3d646e65, (%esi)            /* "end=" */
    jne 2f
    mov 4(%esi), %al
    mov %al, end
    add $4, %esi
2:  inc %esi
    jmp parse_command_line
3:  ret

parse_number:
    xor %eax, %eax
1:  movzbl (%esi), %ecx
    sub $'0', %ecx
    cmp $9, %ecx
    ja 2f
    imul $10, %eax
    add %ecx, %eax
    inc %esi
    jmp 1b
2:  ret

/* xorshift over the buffer: each word depends on all that came before it. */
stir:
    mov state, %eax
    xor %ecx, %ecx
1:  mov %eax, %edx
    shl $13, %edx
    xor %edx, %eax
    mov %eax, %edx
    shr $17, %edx
    xor %edx, %eax
    add buffer(, %ecx, 4), %eax
    mov %eax, buffer(, %ecx, 4)
    inc %ecx
    cmp $BUFFER_DWORDS, %ecx
    jne 1b
    mov %eax, state
    ret

poll_input:
    mov $COM1_LSR, %dx
    in %dx, %al
    test $1, %al
    jz 2f
    mov $COM1, %dx
    in %dx, %al
    movzbl %al, %eax
    cmp $'q', %al
    jne 1f
    mov %ebp, rounds
1:  add %eax, state
    call put_char
    jmp poll_input
2:  ret

report:
    mov state, %edi
    mov $8, %ecx
1:  rol $4, %edi
    mov %edi, %eax
    and $15, %eax
    mov digits(%eax), %al
    call put_char
    loop 1b
    mov $'\n', %al
    jmp put_char

print:
    lodsb
    test %al, %al
    jz 1f
    call put_char
    jmp print
1:  ret

put_char:
    push %eax
    mov $COM1_LSR, %dx
1:  in %dx, %al
    test $0x20, %al
    jz 1b
    pop %eax
    mov $COM1, %dx
    out %al, %dx
    ret

digits: .ascii "0123456789abcdef"
banner: .asciz "guest: started\n"
done:   .asciz "guest: done "

    .balign 4
no_idt: .word 0
        .long 0

    .section .bss
    .balign 4096
buffer: .skip BUFFER_DWORDS * 4
state:  .skip 4
rounds: .skip 4
end:    .skip 4
    .balign 16
    .skip 4096
stack_top:

    .section .note.GNU-stack,"",@progbits
