/* core/dev/board.h: the wires between devices that are no bus: interrupt controllers to one another, the PIT's sight
 * of them, typed input. Private to core/irq.c, core/machine.c and core/dev.
 *
 * Functions here change controller state only; whoever called them ends with irq_update(), which passes the 8259's
 * output on and recomputes the CPU's interrupt pin. Levels of input pins are state of the controllers, so after a
 * checkpoint was loaded no device has to drive its line again. */
#ifndef HW_DEV_BOARD_H
#define HW_DEV_BOARD_H

#include "core/machine.h"

__extension__ typedef unsigned __int128 ratio_wide;
/* a * mul / div without overflow of the product; the caller knows that the quotient fits. */
static inline uint64_t ratio_floor(uint64_t a, uint64_t mul, uint64_t div)
{
    return (uint64_t)((ratio_wide)a * mul / div);
}
static inline uint64_t ratio_ceil(uint64_t a, uint64_t mul, uint64_t div)
{
    return (uint64_t)(((ratio_wide)a * mul + div - 1) / div);
}

/* 8259 pair. */
void pic_set_line(struct machine *m, unsigned line, bool level);
bool pic_output(const struct machine *m);                     /* the master's INT */
unsigned pic_ack(struct machine *m);                          /* INTA cycles: the vector, maybe the spurious one */
bool pic_line_open(const struct machine *m, unsigned line);   /* not masked */
bool pic_line_latched(const struct machine *m, unsigned line); /* requested, not yet acknowledged */

/* I/O APIC. */
void ioapic_set_pin(struct machine *m, unsigned pin, bool level);
void ioapic_eoi(struct machine *m, uint8_t vector);
void ioapic_resend(struct machine *m);                        /* level requests nobody accepted before */
bool ioapic_extint(const struct machine *m);                  /* an asserted pin asks for the 8259's vector */
bool ioapic_pin_open(const struct machine *m, unsigned pin);  /* not masked */
bool ioapic_can_nmi(const struct machine *m);                 /* an open pin delivers NMI, or INIT */
bool ioapic_pin_is_level(const struct machine *m, unsigned pin);

/* Local APIC. */
enum apic_mode { /* delivery modes, SDM 11.5.1 and 82093AA 3.2.4 */
    APIC_FIXED = 0, APIC_LOWEST = 1, APIC_SMI = 2, APIC_NMI = 4, APIC_INIT = 5, APIC_STARTUP = 6, APIC_EXTINT = 7,
};
struct apic_message {
    uint32_t dest; /* UINT32_MAX in physical mode: everybody */
    uint8_t vector;
    uint8_t mode;  /* enum apic_mode */
    bool logical, level;
};
bool lapic_deliver(struct machine *m, struct apic_message msg); /* false: nobody accepted it */
void lapic_set_lint0(struct machine *m, bool level);
bool lapic_passes_pic(const struct machine *m);               /* LINT0 reaches the CPU as an external interrupt */
bool lapic_can_nmi(const struct machine *m);                  /* LINT0 is open and delivers NMI */
int lapic_pending(const struct machine *m);                   /* vector above the processor priority, or -1 */
int lapic_ack(struct machine *m);                             /* the same, now in service */

/* PIT: its output is a function of time that is evaluated only where somebody could see it. A controller calls
 * pit_sync() before it shows or changes its masks and requests, pit_rearm() after. */
void pit_sync(struct machine *m);
void pit_rearm(struct machine *m);

void uart_input(struct machine *m, unsigned channel, const uint8_t *data, size_t len);
size_t uart_input_room(const struct machine *m, unsigned channel);

#endif
