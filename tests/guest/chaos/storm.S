/* tests/guest/chaos/storm.S: random values to everything that a device or the CPU has registers for. Ends with 0 when the
 * storm is over. case=
 *   0  all ports, all widths, all but those that end the run
 *   1  all ports
 *   2  local APIC and I/O APIC registers, at any offset and width, interrupts on
 *   3  MSRs
 *   4  control registers, EFER, XCR0
 *   5  debug registers, TF, accesses to what they watch
 *   6  string input and output, to and from memory, devices and page tables
 *   7  the ports of timers and interrupt controllers alone, interrupts on
 * 2 to 5 are 64-bit code. */
#include "chaos.h"

    .set ROUNDS, 200000

chaos_main:
    mov which, %eax
    jmp *table(, %eax, 4)

/* edx = a port. The interesting ones are near the bottom. CF: it must be left alone. */
random_port:
    RANDOM
    mov %eax, %edx
    test $0x10000, %eax
    jz 1f
    and $0x7ff, %edx
1:  movzwl %dx, %edx
    cmpl $1, which
    je 3f
    lea 3(%edx), %ecx               /* the widest access reaches 3 ports further */
    .irp port, 0xf4, 0xf5, 0xf6, 0xf7, 0xcf9, 0x604, 0x605, 0x92, 0x64
    cmp $\port, %edx
    ja 2f
    cmp $\port, %ecx
    jae 4f
2:
    .endr
3:  clc
    ret
4:  stc
    ret

ports:
    movl $back, resume
    movl $ROUNDS, count
back:
    mov $stack_top, %esp
    decl count
    jz done
    call random_port
    jc back
    push %edx
    RANDOM
    mov %eax, %ecx
    RANDOM
    pop %edx
    shr $8, %ecx
    and $7, %ecx
    jmp *accesses(, %ecx, 4)
in8:  in %dx, %al
    jmp back
in16: in %dx, %ax
    jmp back
in32: in %dx, %eax
    jmp back
out8: out %al, %dx
    jmp back
out16: out %ax, %dx
    jmp back
out32: out %eax, %dx
    jmp back
done:
    EXIT 0

timers:
    movl $timers_back, resume
    movl $ROUNDS, count
timers_back:
    mov $stack_top, %esp
    decl count
    jz done
    sti
    RANDOM
    mov %eax, %ecx
    and $31, %ecx
    movzwl timer_ports(, %ecx, 2), %edx
    shr $8, %eax
    test $0x10000, %eax
    jz 1f
    and $7, %eax                    /* small counts */
1:  test $0x20000, %eax
    jz 1f
    in %dx, %al
1:  out %al, %dx
    jmp timers_back

strings:
    movl $strings_back, resume
    movl $20000, count
strings_back:
    mov $stack_top, %esp
    decl count
    jz done
    call random_port
    jc strings_back
    push %edx
    RANDOM
    mov %eax, %ecx
    RANDOM
    mov %eax, %ebx
    pop %edx
    and $3, %eax
    mov targets(, %eax, 4), %edi
    mov targets(, %eax, 4), %esi
    movzbl %bl, %eax
    add %eax, %edi
    add %eax, %esi
    and $63, %ecx
    shr $8, %ebx
    and $7, %ebx
    test $1, %ebx
    jz 1f
    std
1:  jmp *string_accesses(, %ebx, 4)
ins8:  rep insb
    jmp strings_back
ins16: rep insw
    jmp strings_back
ins32: rep insl
    jmp strings_back
outs8: rep outsb
    jmp strings_back
outs16: rep outsw
    jmp strings_back
outs32: rep outsl
    jmp strings_back

mmio:
    ENTER_LONG
    .code64
    movl $mmio_back, resume
    movl $ROUNDS, count
mmio_back:
    decl count
    jz done64
    sti
    RANDOM
    mov %eax, %ecx
    mov $LAPIC, %esi
    mov $IOAPIC, %edi
    test $0x4000, %eax
    cmovz %rdi, %rsi
    mov %eax, %edi
    and $0xff0, %edi                /* mostly a register, at times between two */
    test $0x70000, %eax
    jnz 1f
    and $0xfff, %ecx
    mov %ecx, %edi
1:  cmp $IOAPIC, %esi
    jne 1f
    and $0x5f, %edi
1:  add %rdi, %rsi
    RANDOM
    mov %eax, %ecx
    RANDOM
    and $0xfffcf8ff, %eax           /* delivery mode fixed and no shorthand, or an INIT soon ends the run */
    test $0x100, %ecx
    jz 1f
    and $0xff, %eax
1:  and $7, %ecx
    jmp *mmio_accesses(, %rcx, 8)
ld8: mov (%rsi), %al
    jmp mmio_back
ld32: mov (%rsi), %eax
    jmp mmio_back
ld64: movups (%rsi), %xmm0
    jmp mmio_back
st8: mov %al, (%rsi)
    jmp mmio_back
st32: mov %eax, (%rsi)
    jmp mmio_back
st64: movups %xmm0, (%rsi)
    jmp mmio_back
rmw32: lock xadd %eax, (%rsi)
    jmp mmio_back
done64:
    EXIT 0
    .code32

msrs:
    ENTER_LONG
    .code64
    movl $msrs_back, resume
    movl $ROUNDS, count
msrs_back:
    decl count
    jz done64
    RANDOM
    mov %eax, %ebx
    mov %eax, %ecx
    and $0x1fff, %ecx
    test $0x10000, %ebx
    jz 1f
    and $0x3ff, %ecx
1:  test $0x20000, %ebx
    jz 1f
    or $0xc0000000, %ecx
    test $0x40000, %ebx
    jz 1f
    and $0xc0000103, %ecx
1:  test $0x80000, %ebx
    jz 1f
    and $0x3f, %ecx
    or $0x800, %ecx                 /* x2APIC */
1:  test $0x100000, %ebx
    jnz 1f
    rdmsr
    test $0x200000, %ebx
    jnz 2f
1:  push %rcx
    RANDOM
    mov %eax, %ecx
    RANDOM
    mov %ecx, %edx
    pop %rcx
    test $0x400000, %ebx
    jz 2f
    xor %edx, %edx
    test $0x800000, %ebx
    jz 2f
    and $0xff, %eax
2:  cmp $0x830, %ecx                /* ICR: INIT ends the run */
    je msrs_back
    cmp $0xc0000080, %ecx           /* EFER is case 4's */
    je msrs_back
    wrmsr
    jmp msrs_back
    .code32

control:
    ENTER_LONG
    .code64
    movl $control_back, resume
    movl $ROUNDS, count
control_back:
    mov $0x6b0, %eax
    test $0x40000, %ebx             /* now and then what the last round left */
    jz 1f
    mov %rax, %cr4
    mov $0x80010033, %eax
    mov %rax, %cr0
    mov $pml4, %eax
    mov %rax, %cr3
1:  decl count
    jz done64
    RANDOM
    mov %eax, %ebx
    RANDOM
    mov %eax, %ecx
    and $31, %ecx
    mov $1, %edi
    shl %cl, %edi                   /* flip one bit, or write anything */
    test $0x3000, %ebx
    jz 1f
    mov %eax, %edi
1:  mov %ebx, %ecx
    and $7, %ecx
    jmp *controls(, %rcx, 8)
cr0: mov %cr0, %rax
    xor %rdi, %rax
    mov %rax, %cr0
    jmp control_back
cr3: mov %cr3, %rax
    and $0x18, %edi                 /* PWT, PCD: another address would be the end */
    xor %rdi, %rax
    mov %rax, %cr3
    jmp control_back
cr4: mov %cr4, %rax
    xor %rdi, %rax
    mov %rax, %cr4
    jmp control_back
cr8: mov %rdi, %cr8
    mov %cr8, %rax
    jmp control_back
efer: mov $0xc0000080, %ecx
    rdmsr
    xor %edi, %eax
    test $0x8000, %ebx
    jnz 1f
    xor %edi, %edx
1:  and $0xfffff7ff, %eax
    wrmsr
    jmp control_back
xcr: mov %edi, %eax
    mov %ebx, %edx
    xor %ecx, %ecx
    test $0x70, %ebx
    jnz 1f
    and $15, %eax
    xor %edx, %edx
1:  xsetbv
    xgetbv
    jmp control_back
flags: and $0xffff4eff, %edi        /* no TF; NT would end in a fault only */
    push %rdi
    popfq
    jmp control_back
words: mov %edi, %eax
    lmsw %ax
    smsw %eax
    clts
    jmp control_back
    .code32

debug:
    ENTER_LONG
    .code64
    movl $debug_back, resume
    movl $20000, count
debug_back:
    decl count
    jz done64
    RANDOM
    mov %eax, %ebx
    RANDOM
    mov %eax, %edi
    and $0x3ff, %eax
    add $watched, %eax
    test $0x10, %ebx
    jz 1f
    mov $LAPIC + 0x80, %eax
1:  test $0x60, %ebx
    jnz 1f
    mov $debug_back, %eax
1:  mov %ebx, %ecx
    and $7, %ecx
    jmp *debugs(, %rcx, 8)
dr0: mov %rax, %dr0
    jmp touch
dr1: mov %rax, %dr1
    jmp touch
dr2: mov %rax, %dr2
    jmp touch
dr3: mov %rax, %dr3
    jmp touch
dr4: mov %rdi, %dr4
    mov %dr5, %rax
    jmp touch
dr6: mov %rdi, %dr6
    jmp touch
dr7: and $0xffff0fff, %edi
    mov %rdi, %dr7
    jmp touch
touch:
    mov %ebx, %ecx
    shr $8, %ecx
    and $0x3f0, %ecx
    movups watched(%rcx), %xmm0
    movups %xmm0, watched + 3(%rcx)
    incq watched(%rcx)
    mov $watched, %edi
    lea 64(%rdi), %rsi
    mov $16, %ecx
    rep movsb
    test $0x1000000, %ebx
    jz debug_back
    pushq $0x102
    popfq
    mov LAPIC + 0x80, %eax
    jmp debug_back
    .code32

    .section .data
    .balign 8
mmio_accesses: .long ld8, 0, ld32, 0, ld64, 0, st8, 0, st32, 0, st32, 0, st64, 0, rmw32, 0
controls: .long cr0, 0, cr3, 0, cr4, 0, cr8, 0, efer, 0, xcr, 0, flags, 0, words, 0
debugs: .long dr0, 0, dr1, 0, dr2, 0, dr3, 0, dr4, 0, dr6, 0, dr7, 0, dr7, 0
table: .long ports, ports, mmio, msrs, control, debug, strings, timers
accesses: .long in8, in16, in32, out8, out16, out32, out8, out8
string_accesses: .long ins8, ins16, ins32, outs8, outs16, outs32, ins8, outs8
targets: .long watched, LAPIC + 0x300, pml4, NOWHERE
count: .long 0
timer_ports:
    .word 0x20, 0x21, 0xa0, 0xa1, 0x40, 0x41, 0x42, 0x43, 0x43, 0x43, 0x61, 0x61, 0x70, 0x71, 0x71, 0x4d0
    .word 0x4d1, 0x20, 0x21, 0xa0, 0xa1, 0x40, 0x40, 0x43, 0x43, 0x70, 0x71, 0x600, 0x602, 0x608, 0x3f9, 0x3f8

    .section .bss
    .balign 4096
watched: .skip 4096
