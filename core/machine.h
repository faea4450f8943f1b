/* core/machine.h: a whole machine: one vCPU, memory, buses, clock, devices.
 * A machine is a pure function of (configuration, boot image, start facts, events). It belongs to one thread. */
#ifndef HW_MACHINE_H
#define HW_MACHINE_H

#include "core/bus.h"
#include "core/dev.h"
#include "core/mem.h"
#include "core/nondet.h"
#include "core/vclock.h"
#include "core/vcpu.h"

/* The version of everything a guest can observe: CPU model, instruction semantics, devices, loaders, ticks. A released
 * recording replays only on the version that made it, so every change of behaviour, fixes included, raises it. */
enum { MACHINE_VERSION = 1 };

enum machine_request { /* what the guest asked of the outside; the engine stops, the session acts */
    REQ_NONE,
    REQ_POWEROFF,   /* ACPI S5 */
    REQ_RESET,      /* 0xCF9, i8042 0xFE, port 0x92, reset register */
    REQ_DEBUG_EXIT, /* port 0xF4: request_value is (value << 1) | 1 */
    REQ_CRASH,      /* triple fault; the engine sets it */
};

struct machine_config {
    uint64_t ram_len;      /* bytes */
    uint64_t rate_q32;     /* initial virtual ns per tick, 32.32 */
    uint32_t cpu_features; /* CPU_* of core/cpu.h */
};

enum boot_part { BOOT_KERNEL, BOOT_INITRD, BOOT_PARTS };

/* What the guest is started from. Bytes are borrowed until machine_boot() returns. */
struct boot_image {
    const uint8_t *kernel;    /* bzImage, ELF (PVH), Multiboot 1; NULL with firmware */
    size_t kernel_len;
    const uint8_t *initrd;    /* Linux initrd, or the Multiboot module; may be NULL */
    size_t initrd_len;
    const char *cmdline;      /* never NULL */
    const uint8_t *firmware;  /* raw image entered at the reset vector; NULL otherwise */
    size_t firmware_len;
    /* May be NULL: then machine_boot() makes copies. Else it gives kernel or initrd once more, in malloc'd memory that
     * becomes the machine's: guests may read them long after they were loaded (fw_cfg), and hardly ever do. NULL when it
     * cannot; the guest reads zeros then, and whoever gave the image sees to it that this run counts for nothing. */
    uint8_t *(*again)(void *self, enum boot_part part);
    void *again_self;
};

struct machine {
    struct vcpu vcpu;
    struct mem mem;
    struct vclock clock;
    struct bus *bus;
    void *dev[DEV_COUNT];
    struct nondet nondet;            /* the door; only output() is called from devices */
    struct nondet_start start;
    struct machine_config config;
    enum machine_request request;    /* set by machine_request(), cleared by nobody: a machine ends once */
    uint32_t request_value;
    const struct boot_image *boot;   /* valid during machine_boot() only */
};

/* Build a machine with devices in reset state. rom_len: bytes of firmware to be mapped. `nd` is copied. */
must_check struct err *machine_create(const struct machine_config *cfg, size_t rom_len, struct nondet nd,
                                      struct machine **out);
void machine_destroy(struct machine *m);

/* Load the image and set the vCPU to its entry state (core/load/). Errors: ERR_INPUT with the reason. */
must_check struct err *machine_boot(struct machine *m, const struct boot_image *img);

/* From devices: end the run. The first request wins. */
void machine_request(struct machine *m, enum machine_request req, uint32_t value);

/* From the session, between two ticks: typed bytes arrive at UART `channel`. */
void machine_console_input(struct machine *m, unsigned channel, const uint8_t *data, size_t len);
/* How many more bytes the port takes now; what exceeds it is lost. */
size_t machine_console_room(const struct machine *m, unsigned channel);

/* Hash of all device state (field tables, in DEV order). */
uint64_t machine_devices_digest(const struct machine *m);

/* Everything but memory: ticks, registers, devices, in the order of their field tables. Between two ticks. The image of one
 * machine fits every machine of the same version. machine_load() takes back a request to end; memory must be as it was at
 * machine_save() already, and whoever executes the machine has to be told (exec_registers_changed()). */
size_t machine_image_len(const struct machine *m);
void machine_save(const struct machine *m, uint8_t *out);
void machine_load(struct machine *m, const uint8_t *in);
/* Whether an image from elsewhere may be loaded: no device and no engine can be made to do what it must not by it, whatever
 * the guest does then. The machine stays as it is. */
must_check struct err *machine_image_check(struct machine *m, const uint8_t *in, bool *good);

const struct dev_class *machine_dev_class(enum dev_id id);

#endif
