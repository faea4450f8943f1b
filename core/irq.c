/* core/irq.c: how interrupt lines, the two kinds of controller and the CPU's interrupt pin are wired.
 *
 *   line n < 16 ---+--> 8259 input n ---INT---+--> LINT0 of the local APIC ---+--> CPU
 *                  |                          +--> I/O APIC pin 0             |
 *                  +--> I/O APIC pin n (PIT: 2) -----> local APIC IRR --------+
 *   line 16..23 ------> I/O APIC pin n
 *
 * The 8259's request reaches the CPU when LINT0 is set up as ExtINT, or an asserted I/O APIC pin is, or the local APIC
 * does not stand between: disabled in IA32_APIC_BASE, or disabled by software as after reset. The last is a choice:
 * on a PC the firmware leaves the APIC in virtual wire mode (Intel MP specification 3.6.2.2) for systems that know
 * the 8259 only, and here no firmware runs. Hence a guest that never touches the APIC gets its 8259 interrupts, and
 * one that enables the APIC decides by LINT0's register, which is masked at reset (SDM 11.4.7.1). */
#include "core/irq.h"

#include "core/dev/board.h"
#include "core/platform.h"

static bool pic_reaches_cpu(const struct machine *m)
{
    return pic_output(m) && (lapic_passes_pic(m) || ioapic_extint(m));
}

void irq_update(struct machine *m)
{
    bool pic = pic_output(m);
    ioapic_set_pin(m, GSI_PIC, pic);
    lapic_set_lint0(m, pic);
    bool intr = pic_reaches_cpu(m) || lapic_pending(m) >= 0;
    if (intr && !m->vcpu.intr)
        m->vcpu.brk |= VCPU_BRK_EVENT;
    m->vcpu.intr = intr;
}

void irq_set(struct machine *m, unsigned line, bool level)
{
    if (line < 16)
        pic_set_line(m, line, level);
    ioapic_set_pin(m, line == IRQ_PIT ? (unsigned)GSI_PIT : line, level);
    irq_update(m);
}

int irq_ack(struct machine *m)
{
    /* External interrupts go first: the CPU runs the INTA cycle when it sees INTR, the APIC's queue waits. */
    int vector = pic_reaches_cpu(m) ? (int)pic_ack(m) : lapic_ack(m);
    irq_update(m);
    return vector;
}

bool irq_nmi_possible(const struct machine *m)
{
    return ioapic_can_nmi(m) || lapic_can_nmi(m);
}
