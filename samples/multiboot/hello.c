/* samples/multiboot/hello.c: a guest that can be read in five minutes: it says hello on COM1, counts ten timer
 * interrupts, gives back what was typed meanwhile, and ends: through the debug-exit port when its command line says
 * exit=N, else by powering off as the ACPI tables tell. No library, no allocation, 32-bit protected mode. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    COM1 = 0x3f8,
    DEBUG_EXIT = 0xf4,
    PIC1 = 0x20, PIC2 = 0xa0, EOI = 0x20,
    PIT_CHANNEL0 = 0x40, PIT_MODE = 0x43, PIT_HZ = 1193182,
    TICKS = 10, TICKS_PER_S = 20,
    IRQ_BASE = 0x20, IRQ_TIMER = 0, IRQ_COM1 = 4, VECTORS = 0x30,
    MULTIBOOT_MAGIC = 0x2badb002, INFO_CMDLINE = 1 << 2,
};

struct multiboot_info {
    uint32_t flags, mem_lower, mem_upper, boot_device, cmdline;
};

void main(uint32_t magic, const struct multiboot_info *info);
void timer_interrupt(void);
void serial_interrupt(void);
void unexpected_interrupt(void);
extern const char timer_stub[], serial_stub[], unexpected_stub[];

static inline void outb(uint16_t port, uint8_t v) { __asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(port)); }
static inline void outw(uint16_t port, uint16_t v) { __asm__ volatile("outw %0, %1" : : "a"(v), "Nd"(port)); }
static inline void outl(uint16_t port, uint32_t v) { __asm__ volatile("outl %0, %1" : : "a"(v), "Nd"(port)); }
static inline uint8_t inb(uint16_t port)
{
    uint8_t v;
    __asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}

/* --- COM1 --------------------------------------------------------------------------------------------------------- */

static volatile char line[80];
static volatile unsigned line_len;
static volatile bool line_done;

static void serial_init(void)
{
    outb(COM1 + 3, 0x80); /* divisor latch */
    outb(COM1 + 0, 1);    /* 115200 baud */
    outb(COM1 + 1, 0);
    outb(COM1 + 3, 0x03); /* 8n1 */
    outb(COM1 + 2, 0x07); /* FIFOs on and empty */
    outb(COM1 + 4, 0x0b); /* DTR, RTS, and OUT2, which lets the interrupt out */
    outb(COM1 + 1, 0x01); /* interrupt on received data */
}

static void put(char c)
{
    while (!(inb(COM1 + 5) & 0x20))
        ;
    outb(COM1, (uint8_t)c);
}

static void print(const char *s)
{
    for (; *s; s++) {
        if (*s == '\n')
            put('\r');
        put(*s);
    }
}

static void print_unsigned(unsigned v)
{
    if (v >= 10)
        print_unsigned(v / 10);
    put((char)('0' + v % 10));
}

void serial_interrupt(void)
{
    while (inb(COM1 + 5) & 1) {
        char c = (char)inb(COM1);
        if (c == '\r' || c == '\n')
            line_done = line_len > 0;
        else if (!line_done && line_len < sizeof(line) - 1)
            line[line_len++] = c;
    }
    outb(PIC1, EOI);
}

static void echo_line(void)
{
    if (!line_done)
        return;
    print("you typed: ");
    for (unsigned i = 0; i < line_len; i++)
        put(line[i]);
    print("\n");
    line_len = 0;
    line_done = false;
}

/* --- interrupts ---------------------------------------------------------------------------------------------------- */

static volatile unsigned ticks;

void timer_interrupt(void)
{
    ticks++;
    outb(PIC1, EOI);
}

static void power_off(void);

void unexpected_interrupt(void)
{
    print("unexpected interrupt or exception, giving up\n");
    power_off();
}

static struct {
    uint16_t offset_low, selector;
    uint16_t attributes, offset_high;
} idt[VECTORS];

static void set_gate(unsigned vector, const char *stub)
{
    uint32_t at = (uint32_t)stub;
    idt[vector].offset_low = (uint16_t)at;
    idt[vector].offset_high = (uint16_t)(at >> 16);
    idt[vector].selector = 0x08;
    idt[vector].attributes = 0x8e00; /* present 32-bit interrupt gate */
}

static void pic_init(void)
{
    outb(PIC1, 0x11), outb(PIC2, 0x11); /* ICW1: edge, cascade, ICW4 follows */
    outb(PIC1 + 1, IRQ_BASE), outb(PIC2 + 1, IRQ_BASE + 8);
    outb(PIC1 + 1, 1 << 2), outb(PIC2 + 1, 2);
    outb(PIC1 + 1, 1), outb(PIC2 + 1, 1); /* 8086 mode */
    outb(PIC1 + 1, (uint8_t) ~(1 << IRQ_TIMER | 1 << IRQ_COM1));
    outb(PIC2 + 1, 0xff);
}

static void interrupts_init(void)
{
    struct {
        uint16_t limit;
        uint32_t base;
    } __attribute__((packed)) pointer = {sizeof(idt) - 1, (uint32_t)idt};
    for (unsigned i = 0; i < VECTORS; i++)
        set_gate(i, unexpected_stub);
    set_gate(IRQ_BASE + IRQ_TIMER, timer_stub);
    set_gate(IRQ_BASE + IRQ_COM1, serial_stub);
    __asm__ volatile("lidt %0" : : "m"(pointer));
    pic_init();
    unsigned divisor = PIT_HZ / TICKS_PER_S;
    outb(PIT_MODE, 0x34); /* channel 0, both bytes, rate generator */
    outb(PIT_CHANNEL0, divisor & 0xff);
    outb(PIT_CHANNEL0, (uint8_t)(divisor >> 8));
}

/* --- the end ------------------------------------------------------------------------------------------------------- */

static bool equal(const char *a, const char *b, size_t len)
{
    while (len && *a == *b)
        a++, b++, len--;
    return len == 0;
}

static uint32_t get32(uint32_t at) { return *(const uint32_t *)at; }

static uint32_t find_rsdp(void)
{
    for (uint32_t at = 0xe0000; at < 0x100000; at += 16)
        if (equal((const char *)at, "RSD PTR ", 8))
            return at;
    return 0;
}

static uint32_t find_fadt(uint32_t rsdt)
{
    for (uint32_t at = rsdt + 36; at < rsdt + get32(rsdt + 4); at += 4)
        if (equal((const char *)get32(at), "FACP", 4))
            return get32(at);
    return 0;
}

/* \_S5 is a package whose first element is the value for SLP_TYP: 0x12, length, count, then 0, 1 or 0x0a and a byte. */
static int find_s5(uint32_t dsdt)
{
    const uint8_t *end = (const uint8_t *)(dsdt + get32(dsdt + 4));
    for (const uint8_t *p = (const uint8_t *)dsdt + 36; p + 9 < end; p++)
        if (equal((const char *)p, "_S5_\x12", 5))
            return p[7] == 0x0a ? p[8] : p[7];
    return -1;
}

static void power_off(void)
{
    uint32_t rsdp = find_rsdp(), fadt = rsdp ? find_fadt(get32(rsdp + 16)) : 0;
    int s5 = fadt ? find_s5(get32(fadt + 40)) : -1;
    if (s5 >= 0)
        outw((uint16_t)get32(fadt + 64), (uint16_t)(s5 << 10 | 1 << 13)); /* PM1a control: SLP_TYP, SLP_EN */
    else
        print("no way to power off was found\n");
    for (;;)
        __asm__ volatile("cli; hlt");
}

static void finish(const char *cmdline)
{
    for (const char *p = cmdline; *p; p++) {
        if (!equal(p, "exit=", 5))
            continue;
        uint32_t code = 0;
        for (p += 5; *p >= '0' && *p <= '9'; p++)
            code = code * 10 + (uint32_t)(*p - '0');
        outl(DEBUG_EXIT, code);
        break;
    }
    power_off();
}

void main(uint32_t magic, const struct multiboot_info *info)
{
    serial_init();
    const char *cmdline = magic == MULTIBOOT_MAGIC && (info->flags & INFO_CMDLINE) ? (const char *)info->cmdline : "";
    print("hello from a Multiboot guest\ncommand line: ");
    print(cmdline);
    print("\nRAM above 1 MiB: ");
    print_unsigned(info->mem_upper);
    print(" KiB\n");
    interrupts_init();
    for (unsigned seen = 0; seen < TICKS;) {
        __asm__ volatile("cli");
        if (ticks == seen && !line_done)
            __asm__ volatile("sti; hlt"); /* nothing can come between the two */
        __asm__ volatile("sti");
        echo_line();
        if (ticks == seen)
            continue;
        seen++;
        print("tick ");
        print_unsigned(seen);
        print("\n");
    }
    print("bye\n");
    finish(cmdline);
}
