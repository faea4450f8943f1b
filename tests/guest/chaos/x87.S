/* tests/guest/chaos/x87.S: x87 instructions while an unmasked exception is pending and CR0.NE is 0. The exception goes to FERR#
 * and the instructions run all the same; the host, on which they run, must not raise it. Ends with 0. */
#include "chaos.h"

chaos_main:
    movl $checked, resume           /* any exception: wrong */
    mov %cr0, %eax
    and $~0x2e, %eax                /* MP, EM, TS, NE */
    mov %eax, %cr0
    fninit
    fldcw unmasked
    fld1
    fldz
    fdivrp                          /* 1 / 0: pending from here on */
    fnstsw %ax
    test $0x80, %al
    jz wrong
    mov $1000, %ecx
1:  fld1
    faddl number
    fstpl number
    fld1
    fsqrt
    fucomp
    loop 1b
    fnstsw %ax
    and $0x84, %al                  /* ES and ZE stay until they are cleared */
    cmp $0x84, %al
    jne wrong
    paddb %mm0, %mm1
    emms
    fnclex
    fnstsw %ax
    test $0x80, %al
    jnz wrong
    EXIT 0
checked:
    EXIT 2
wrong:
    EXIT 1

    .section .data
    .balign 8
number: .quad 0
unmasked: .word 0x340
