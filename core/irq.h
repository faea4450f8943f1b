/* core/irq.h: interrupt lines and the interface between interrupt controllers and the vCPU.
 * Devices drive global system interrupts (GSI 0..23). GSI n reaches I/O APIC pin n and, for n < 16, 8259 input n,
 * except that the PIT (ISA IRQ 0) is I/O APIC pin 2, as the MADT says. Lines are level signals; edge detection is
 * the controllers'. */
#ifndef HW_IRQ_H
#define HW_IRQ_H

#include "core/base/base.h"

struct machine;

/* Set ISA line 0..15 (routed as above) or GSI 16..23. */
void irq_set(struct machine *m, unsigned line, bool level);

/* The vCPU acknowledges: the vector to deliver (the controllers' state advances). Only while vcpu->intr is true.
 * May return a spurious vector; -1 when nothing is left to deliver after all. */
int irq_ack(struct machine *m);

/* Recompute vcpu->intr after any controller change; sets VCPU_BRK_EVENT when it rises. Controllers call it. */
void irq_update(struct machine *m);

/* Whether a device could still reach a vCPU that has interrupts off: an NMI or INIT is routed from some pin. */
bool irq_nmi_possible(const struct machine *m);

/* CR8 and the x2APIC/TSC-deadline/APIC_BASE MSRs are the local APIC's. rdmsr/wrmsr return false for #GP(0). */
uint64_t lapic_cr8(struct machine *m);
void lapic_set_cr8(struct machine *m, uint64_t tpr_class); /* 0..15 */
bool lapic_rdmsr(struct machine *m, uint32_t msr, uint64_t *out);
bool lapic_wrmsr(struct machine *m, uint32_t msr, uint64_t value);
/* vcpu.s.tsc_adjust changed (WRMSR of TSC or TSC_ADJUST): an armed TSC deadline moves with it. */
void lapic_tsc_moved(struct machine *m);

#endif
