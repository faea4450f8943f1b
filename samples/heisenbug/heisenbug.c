/* samples/heisenbug/heisenbug.c: a guest that fails now and then, and says so long after it went wrong.
 *
 * The main loop measures, and notes each result in a journal; the timer interrupt notes a heartbeat in the same journal.
 * At the end every entry is checked. There is a mistake in it, and this comment does not say where: README.md finds it.
 *
 * It ends through the debug-exit port: 0 when the journal is right, 1 when it is not, 2 when something else went wrong. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    COM1 = 0x3f8,
    DEBUG_EXIT = 0xf4,
    PIC1 = 0x20, PIC2 = 0xa0, EOI = 0x20,
    PIT_CHANNEL0 = 0x40, PIT_MODE = 0x43, PIT_HZ = 1193182,
    TIMER_HZ = 1000,
    IRQ_BASE = 0x20, IRQ_TIMER = 0, VECTORS = 0x30,
    ROUNDS = 400, SAMPLES = 4000,
    ENTRIES = 16384, WORDS = 6,
};

void main(void);
void timer_interrupt(void);
void unexpected_interrupt(void);
extern const char timer_stub[], unexpected_stub[];

static inline void outb(uint16_t port, uint8_t v) { __asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(port)); }
static inline void outl(uint16_t port, uint32_t v) { __asm__ volatile("outl %0, %1" : : "a"(v), "Nd"(port)); }
static inline uint8_t inb(uint16_t port)
{
    uint8_t v;
    __asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}

/* --- COM1, polled ------------------------------------------------------------------------------------------------- */

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

static void print_unsigned(uint64_t v)
{
    if (v >= 10)
        print_unsigned(v / 10);
    put((char)('0' + v % 10));
}

static _Noreturn void finish(uint32_t code)
{
    outl(DEBUG_EXIT, code);
    for (;;)
        __asm__ volatile("cli; hlt");
}

static _Noreturn void give_up(const char *why)
{
    print(why);
    finish(2);
}

/* --- the journal -------------------------------------------------------------------------------------------------- */

enum kind { MEASUREMENT = 1, HEARTBEAT };

struct entry {
    uint64_t kind, number;
    uint64_t word[WORDS]; /* functions of kind and number */
};

static struct {
    volatile unsigned count;
    struct entry entry[ENTRIES];
} journal;

static uint64_t word_of(uint64_t kind, uint64_t number, unsigned i)
{
    return (number << 8 | kind << 4 | i) * 0x9e3779b97f4a7c15u;
}

static __attribute__((noinline)) void journal_append(uint64_t kind, uint64_t number)
{
    if (journal.count == ENTRIES)
        give_up("the journal is full\n");
    struct entry *e = &journal.entry[journal.count];
    e->kind = kind;
    e->number = number;
    for (unsigned i = 0; i < WORDS; i++)
        e->word[i] = word_of(kind, number, i);
    journal.count = (unsigned)(e - journal.entry) + 1;
}

static _Noreturn void check_failed(unsigned n, unsigned i)
{
    print("ASSERTION FAILED: journal.entry[");
    print_unsigned(n);
    print("].word[");
    print_unsigned(i);
    print("] is damaged\n");
    finish(1);
}

static void journal_check(void)
{
    for (unsigned n = 0; n < journal.count; n++) {
        const struct entry *e = &journal.entry[n];
        for (unsigned i = 0; i < WORDS; i++)
            if (e->word[i] != word_of(e->kind, e->number, i))
                check_failed(n, i);
    }
}

/* --- interrupts ---------------------------------------------------------------------------------------------------- */

static uint64_t heartbeats;

void timer_interrupt(void)
{
    journal_append(HEARTBEAT, ++heartbeats);
    outb(PIC1, EOI);
}

void unexpected_interrupt(void)
{
    give_up("unexpected interrupt or exception\n");
}

static struct {
    uint16_t offset_0, selector, attributes, offset_16;
    uint32_t offset_32, reserved;
} idt[VECTORS];

static void set_gate(unsigned vector, const char *stub)
{
    uint64_t at = (uint64_t)stub;
    idt[vector].offset_0 = (uint16_t)at;
    idt[vector].offset_16 = (uint16_t)(at >> 16);
    idt[vector].offset_32 = (uint32_t)(at >> 32);
    idt[vector].selector = 0x08;
    idt[vector].attributes = 0x8e00; /* present interrupt gate */
}

static void pic_init(void)
{
    outb(PIC1, 0x11), outb(PIC2, 0x11); /* ICW1: edge, cascade, ICW4 follows */
    outb(PIC1 + 1, IRQ_BASE), outb(PIC2 + 1, IRQ_BASE + 8);
    outb(PIC1 + 1, 1 << 2), outb(PIC2 + 1, 2);
    outb(PIC1 + 1, 1), outb(PIC2 + 1, 1); /* 8086 mode */
    outb(PIC1 + 1, (uint8_t) ~(1 << IRQ_TIMER));
    outb(PIC2 + 1, 0xff);
}

static void interrupts_init(void)
{
    struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) pointer = {sizeof(idt) - 1, (uint64_t)idt};
    for (unsigned i = 0; i < VECTORS; i++)
        set_gate(i, unexpected_stub);
    set_gate(IRQ_BASE + IRQ_TIMER, timer_stub);
    __asm__ volatile("lidt %0" : : "m"(pointer));
    pic_init();
    unsigned divisor = PIT_HZ / TIMER_HZ;
    outb(PIT_MODE, 0x34); /* channel 0, both bytes, rate generator */
    outb(PIT_CHANNEL0, divisor & 0xff);
    outb(PIT_CHANNEL0, (uint8_t)(divisor >> 8));
    __asm__ volatile("sti");
}

/* --- the work ------------------------------------------------------------------------------------------------------ */

/* A sensor that every PC has: the timer's counter. */
static unsigned sample(void)
{
    outb(PIT_MODE, 0); /* latch channel 0 */
    unsigned low = inb(PIT_CHANNEL0);
    return low | (unsigned)inb(PIT_CHANNEL0) << 8;
}

static uint64_t measure(void)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < SAMPLES; i++)
        sum += sample();
    return sum;
}

void main(void)
{
    interrupts_init();
    for (unsigned round = 0; round < ROUNDS; round++)
        journal_append(MEASUREMENT, measure());
    __asm__ volatile("cli");
    journal_check();
    print_unsigned(heartbeats);
    print(" heartbeats, the journal is right\n");
    finish(0);
}
