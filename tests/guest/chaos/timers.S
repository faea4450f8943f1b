/* tests/guest/chaos/timers.S: timers programmed as fast as they go, and with absurd values. The guest must get on: it ends with 0
 * after a fixed amount of work. case=
 *   0  PIT, mode 2, count 1            4  TSC deadline, 0, past, far and next
 *   1  PIT, mode 3, count 2, latched   5  all of them at once, interrupts off
 *   2  local APIC, periodic, count 1   6  HLT until 2000 of the APIC's interrupts have come
 *   3  RTC, 8 kHz, and its updates     7  the square wave of channel 2, read back all the time */
#include "chaos.h"

    .macro PORT port, value
    mov $\value, %al
    out %al, $\port
    .endm

chaos_main:
    movl $interrupted, resume
    movl $0x1ff, LAPIC + 0xf0
    PORT 0x20, 0x11                 /* both 8259s: vectors 0x20 and 0x28, automatic EOI, nothing masked */
    PORT 0xa0, 0x11
    PORT 0x21, 0x20
    PORT 0xa1, 0x28
    PORT 0x21, 4
    PORT 0xa1, 2
    PORT 0x21, 3
    PORT 0xa1, 3
    PORT 0x21, 0
    PORT 0xa1, 0
    movl $0x700, LAPIC + 0x350      /* LINT0: ExtINT */
    mov which, %eax
    call *table(, %eax, 4)
    cmpl $5, which
    je interrupted
    sti
interrupted:
    movl $0, LAPIC + 0xb0
    mov $stack_top, %esp
    cmpl $6, which
    je sleep
    cmpl $5, which
    je 1f
    sti
1:  mov done, %ecx                  /* work, whose progress no interrupt can take away */
    cmp $100000, %ecx
    jae finish
    incl done
    test $15, %ecx
    jnz 1b
    mov %ecx, %eax
    mov $0x0c, %al                  /* the RTC's flags, or it falls silent */
    out %al, $0x70
    in $0x71, %al
    mov $0x80, %al
    out %al, $0x43
    in $0x42, %al
    in $0x42, %al
    cmpl $4, which
    jne 1b
    call deadline
    jmp 1b
sleep:
    cmpl $2000, faults
    jae finish
    sti
    hlt
    jmp sleep
finish:
    cli
    EXIT 0

pit:
    PORT 0x43, 0x34
    PORT 0x40, 1
    PORT 0x40, 0
    ret

pit_square:
    PORT 0x43, 0x36
    PORT 0x40, 2
    PORT 0x40, 0
    ret

apic:
    movl $0xb, LAPIC + 0x3e0
    movl $0x20040, LAPIC + 0x320
    movl $1, LAPIC + 0x380
    ret

rtc:
    PORT 0x70, 0x0a
    PORT 0x71, 0x23
    PORT 0x70, 0x0b
    PORT 0x71, 0x72
    ret

deadline:
    movl $0x40040, LAPIC + 0x320
    mov $0x6e0, %ecx
    mov done, %eax
    shr $4, %eax
    and $3, %eax
    movl deadlines + 4(, %eax, 8), %edx
    movl deadlines(, %eax, 8), %eax
    cmp $2, %eax
    jne 1f
    rdtsc
    add $1, %eax
    adc $0, %edx
1:  wrmsr
    ret

speaker:
    PORT 0x61, 3
    PORT 0x43, 0xb6
    PORT 0x42, 1
    PORT 0x42, 0
    ret

all:
    call pit
    call apic
    call rtc
    jmp speaker

    .section .data
    .balign 8
deadlines: .quad 0, -1, 2, 1
table: .long pit, pit_square, apic, rtc, deadline, all, apic, speaker
done: .long 0
