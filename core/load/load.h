/* core/load/load.h: what the parts of machine_boot() share; nobody outside core/load/ and its tests includes it.
 *
 * A load is one call of machine_boot(). The format's loader claims the memory that the kernel file dictates, places
 * the rest (initrd, boot information) into what is left, writes memory through load_put() and sets the vCPU to
 * the entry state. RAM is zero at reset, so BSS needs no clearing: claims never overlap.
 *
 * (1) Everything here is a pure function of the boot image, the configuration and the start event: a recording calls
 *     machine_boot() again at replay and must get the same machine.
 * (2) The kernel file and the initrd are hostile: every length and address is checked before use, sums cannot wrap, and
 *     nothing is allocated by a number found in a file.
 *
 * How to add a format: a probe, a load function, and a row in boot.c's loaders[]. */
#ifndef HW_LOAD_H
#define HW_LOAD_H

#include "core/machine.h"

enum {
    /* Where PCs have them (the BIOS data area's fields are those of the IBM PC/AT BIOS). */
    BDA_BASE = 0x400,
    BDA_LEN = 0x100,
    BDA_EBDA_SEGMENT = 0x40e,  /* 16 bits: paragraph of the extended BIOS data area */
    BDA_BASE_MEM_KIB = 0x413,  /* 16 bits: KiB of RAM below the EBDA */
    EBDA_BASE = 0x9fc00,
    BIOS_BASE = 0xf0000,       /* the RSDP is searched here at 16-byte steps (ACPI 6.3, 5.2.5.1) */
    RSDP_BASE = BIOS_BASE,
    HIGH_BASE = 0x100000,
    INFO_LIMIT = 0x80000,      /* boot information goes below, highest first: clear of firmware and early stacks */

    ACPI_TABLES_LEN = 0x3000,  /* at the top of low RAM, below the NVS */
    ACPI_NVS_LEN = 0x1000,     /* the FACS */

    E820_MAX = 8,
    SEGMENTS_MAX = 64,                 /* loadable segments of one ELF file */
    CLAIMS_MAX = SEGMENTS_MAX + 16,
};

#define ENTRY_LIMIT GIB(4) /* 32-bit entry states, and the identity map of the 64-bit one, end here */

/* Memory map as the BIOS call of that name gives it (ACPI 6.3, 15.1). Multiboot and PVH use the same types. */
enum e820_type { E820_RAM = 1, E820_RESERVED = 2, E820_ACPI = 3, E820_NVS = 4 };
struct e820_entry {
    uint64_t addr, len;
    uint32_t type;
} __attribute__((packed));
struct e820_map {
    struct e820_entry e[E820_MAX]; /* ascending, disjoint, no entry empty */
    unsigned count;
};

/* ERR_INPUT when there is too little RAM to boot anything but firmware. */
must_check struct err *e820_build(const struct mem *mem, struct e820_map *out);
static inline uint64_t acpi_nvs_base(const struct mem *mem) { return mem->low_len - ACPI_NVS_LEN; }
static inline uint64_t acpi_tables_base(const struct mem *mem) { return acpi_nvs_base(mem) - ACPI_TABLES_LEN; }

struct claim {
    uint64_t start, end; /* [start, end) */
    const char *what;
};

struct load {
    struct machine *m;
    const struct boot_image *img;
    struct e820_map map;
    struct claim claims[CLAIMS_MAX];
    unsigned claim_count;
    /* Where things went, for fw_cfg; 0: nowhere. */
    uint64_t kernel_addr, kernel_entry, initrd_addr, cmdline_addr;
};

/* Is [off, off + len) inside `total` bytes? */
static inline bool range_in(uint64_t off, uint64_t len, uint64_t total) { return off <= total && len <= total - off; }

/* Take exactly this memory. `len` 0 is fine. Errors: outside usable RAM, or already taken. */
must_check struct err *load_claim(struct load *ld, uint64_t start, uint64_t len, const char *what);

/* Free memory inside [min, limit): the highest, or the lowest, place aligned to `align` (a power of two). load_find()
 * says whether there is such a place, load_place() takes it (ERR_INPUT when there is none). */
enum load_end { LOAD_LOWEST, LOAD_HIGHEST };
struct load_want {
    uint64_t len, align, min, limit;
    enum load_end end;
};
bool load_find(const struct load *ld, struct load_want want, uint64_t *out);
must_check struct err *load_place(struct load *ld, struct load_want want, const char *what, uint64_t *out);

/* Copy into memory that was claimed or placed. */
void load_put(struct load *ld, uint64_t addr, const void *data, size_t len);

/* Boot information below INFO_LIMIT. */
must_check struct err *load_place_info(struct load *ld, uint64_t len, uint64_t align, const char *what, uint64_t *out);

/* Place and copy the command line with its terminating 0, and the initrd: page aligned, len and align are filled in.
 * There may be no initrd. Set ld->cmdline_addr and ld->initrd_addr. */
must_check struct err *load_cmdline(struct load *ld);
must_check struct err *load_initrd(struct load *ld, struct load_want want);

/* Linux's: ERR_INPUT when the initrd is recognisably incomplete. */
must_check struct err *initrd_check(const struct boot_image *img);

/* Entry states. Both write a GDT into guest memory and leave RIP = entry, interrupts off, flat segments. */
enum { BOOT_CS = 0x10, BOOT_DS = 0x18, BOOT_TR = 0x20 };
must_check struct err *entry_flat32(struct load *ld, uint32_t entry); /* protected mode, paging off */
must_check struct err *entry_long64(struct load *ld, uint64_t entry); /* 64-bit mode, first 4 GiB identity-mapped */

/* The tables of this machine; returns nothing because the space is reserved and its use is fixed. */
void acpi_install(struct machine *m);

/* Tell the guest through fw_cfg what it was started from and where that lies. */
must_check struct err *fwcfg_publish(const struct load *ld);

struct loader {
    const char *name;
    bool (*probe)(const struct load *ld);
    struct err *(*load)(struct load *ld);
};
extern const struct loader loader_linux, loader_pvh, loader_multiboot;
must_check struct err *firmware_load(struct machine *m, const struct boot_image *img);

#endif
