/* core/platform.h: where things are on the board: ports, memory-mapped bases, interrupt lines and the few fixed values
 * that device models, ACPI tables and loaders must agree on. Constants only.
 *
 * The board: one CPU with local APIC id 0, one I/O APIC with 24 pins (GSI 0..23), an 8259 pair behind it, ISA devices,
 * ACPI fixed hardware, no PCI bus, no HPET. What the tables must say:
 *   MADT   local APIC 0 enabled; I/O APIC id IOAPIC_ID at IOAPIC_BASE, GSI base 0; PCAT_COMPAT set; override ISA IRQ 0
 *          -> GSI GSI_PIT (conforming, i.e. edge/high); override ISA IRQ 9 -> GSI 9 (level, active high: the SCI).
 *   FADT   SMI_CMD 0 (ACPI mode always on, SCI_EN reads as one), the PM block below, TMR_VAL_EXT (32-bit timer), reset
 *          register below with RESET_REG_SUP, no GPE block, power button as control-method (PWR_BUTTON set: no fixed
 *          button), SLP_BUTTON set, FIX_RTC set (the RTC does not wake through PM1), no P_LVL2/3.
 *          IAPC_BOOT_ARCH: LEGACY_DEVICES and 8042 set (keyboard and mouse port are there), VGA_NOT_PRESENT set, no
 *          CMOS_RTC_NOT_PRESENT, MSI_NOT_SUPPORTED set.
 *   DSDT   \_S5 = { PM_SLP_TYP_S5, PM_SLP_TYP_S5, 0, 0 }; COM1..COM4 PNP0501; RTC PNP0B00 (0x70, 2 ports, IRQ 8);
 *          PS/2 keyboard PNP0303 (ports 0x60, 0x64, IRQ 1) and mouse PNP0F13 (IRQ 12).
 *   CPUID  leaf 0x15: crystal clock APIC_TIMER_HZ, TSC ratio VCLOCK_TSC_HZ / APIC_TIMER_HZ. */
#ifndef HW_PLATFORM_H
#define HW_PLATFORM_H

/* Interrupt controllers. */
#define IOAPIC_BASE 0xfec00000u
#define LAPIC_BASE 0xfee00000u /* fixed: moving it (IA32_APIC_BASE) is refused with #GP(0) */
enum {
    IOAPIC_ID = 0,
    IOAPIC_PINS = 24,
    IOAPIC_VERSION = 0x20, /* with an EOI register */
    IOAPIC_LEN = 0x1000,
    LAPIC_LEN = 0x1000,
    LAPIC_ID = 0,
    APIC_TIMER_HZ = 1000000000, /* input clock of the local APIC timer, before its divider: one tick a virtual ns */
    PIC_MASTER_PORT = 0x20,
    PIC_SLAVE_PORT = 0xa0,
    PIC_ELCR_PORT = 0x4d0, /* 0x4d0 master, 0x4d1 slave */
    PIC_MASTER_VECTOR = 0x08, /* vectors at reset, as a PC BIOS programs them; all inputs masked */
    PIC_SLAVE_VECTOR = 0x70,
};

/* Lines as irq_set() takes them: ISA line n is 8259 input n and I/O APIC pin n, the PIT excepted (pin GSI_PIT). The
 * 8259's output is wired to I/O APIC pin 0, for delivery mode ExtINT. */
enum {
    IRQ_PIT = 0,
    IRQ_KEYBOARD = 1,
    IRQ_CASCADE = 2,
    IRQ_COM2 = 3, /* and COM4 */
    IRQ_COM1 = 4, /* and COM3 */
    IRQ_RTC = 8,
    IRQ_SCI = 9, /* level, active high */
    IRQ_MOUSE = 12,
    GSI_PIC = 0,
    GSI_PIT = 2,
};

/* ISA devices. */
enum {
    PIT_PORT = 0x40, /* 0x40..0x43 */
    PIT_HZ = 1193182,
    SPEAKER_PORT = 0x61,
    I8042_DATA_PORT = 0x60,
    I8042_COMMAND_PORT = 0x64,
    RTC_PORT = 0x70, /* 0x70, 0x71 */
    POST_PORT = 0x80,
    FAST_A20_PORT = 0x92,
    DEBUG_CONSOLE_PORT = 0xe9,
    DEBUG_EXIT_PORT = 0xf4, /* 0xf4..0xf7 */
    PCI_CONFIG_PORT = 0xcf8, /* 0xcf8..0xcff: no bus behind it, reads as ones */
    UART_COUNT = 4,
    UART_LEN = 8,
    COM1_PORT = 0x3f8,
    COM2_PORT = 0x2f8,
    COM3_PORT = 0x3e8,
    COM4_PORT = 0x2e8,
    UART_CLOCK_HZ = 1843200,
};

/* ACPI fixed hardware (ACPI 6.4, section 4.8). */
enum {
    PM_BASE = 0x600,
    PM1A_EVT_PORT = PM_BASE,     /* PM1 status (2 bytes), PM1 enable (2 bytes) */
    PM1A_EVT_LEN = 4,
    PM1A_CNT_PORT = PM_BASE + 4, /* PM1 control */
    PM1A_CNT_LEN = 2,
    PM_TMR_PORT = PM_BASE + 8,   /* 32 bits wide */
    PM_TMR_LEN = 4,
    PM_TMR_HZ = 3579545,
    PM_SLP_TYP_S5 = 5,
    RESET_PORT = 0xcf9,          /* one byte; also the FADT reset register */
    RESET_VALUE = 0x06,
};

/* CMOS registers beyond the clock, as PC firmware fills them. */
enum {
    CMOS_CENTURY = 0x32, /* FADT CENTURY */
};

#endif
