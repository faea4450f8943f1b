/* core/load/pvh.c: ELF kernels with a PVH entry note.
 * References: Xen's docs/misc/pvh.pandoc (x86/HVM direct boot ABI: the entry state) and the public header
 * arch-x86/hvm/start_info.h (the structures, version 1). */
#include <stddef.h>

#include "core/load/elf.h"

enum {
    XEN_ELFNOTE_PHYS32_ENTRY = 18,
    START_MAGIC = 0x336ec578,
    START_VERSION = 1, /* with the memory map */
};

struct start_info {
    uint32_t magic, version, flags, module_count;
    uint64_t modules, cmdline, rsdp;
    uint64_t memmap;
    uint32_t memmap_count, reserved;
};
struct module {
    uint64_t addr, len, cmdline, reserved;
};
struct memmap_entry {
    uint64_t addr, len;
    uint32_t type, reserved;
};

struct info { /* in one piece of memory */
    struct start_info start;
    struct module initrd;
    struct memmap_entry map[E820_MAX];
};
_Static_assert(sizeof(struct start_info) == 56 && sizeof(struct module) == 32 && sizeof(struct memmap_entry) == 24,
               "the ABI's layouts");

static bool find_entry(const struct load *ld, const struct elf *elf, uint64_t *entry)
{
    return elf_find_note(ld->img->kernel, elf, "Xen", XEN_ELFNOTE_PHYS32_ENTRY, entry);
}

static bool pvh_probe(const struct load *ld)
{
    struct elf elf;
    uint64_t entry;
    if (!elf_probe(ld->img->kernel, ld->img->kernel_len))
        return false;
    struct err *e = elf_parse(ld->img->kernel, ld->img->kernel_len, &elf);
    if (!e)
        return find_entry(ld, &elf, &entry);
    err_destroy(e); /* whoever loads it tells */
    return false;
}

static struct err *put_info(struct load *ld, uint64_t *at)
{
    struct err *e = load_place_info(ld, sizeof(struct info), 16, "the PVH start info", at);
    if (e)
        return e;
    struct info info = {
        .start = {.magic = START_MAGIC,
                  .version = START_VERSION,
                  .module_count = ld->initrd_addr != 0,
                  .modules = ld->initrd_addr ? *at + offsetof(struct info, initrd) : 0,
                  .cmdline = ld->cmdline_addr,
                  .rsdp = RSDP_BASE,
                  .memmap = *at + offsetof(struct info, map),
                  .memmap_count = ld->map.count},
        .initrd = {.addr = ld->initrd_addr, .len = ld->initrd_addr ? ld->img->initrd_len : 0},
    };
    for (unsigned i = 0; i < ld->map.count; i++)
        info.map[i] = (struct memmap_entry){ld->map.e[i].addr, ld->map.e[i].len, ld->map.e[i].type, 0};
    load_put(ld, *at, &info, sizeof(info));
    return NULL;
}

static struct err *pvh_load(struct load *ld)
{
    struct elf elf;
    uint64_t entry, end, info;
    struct err *e = elf_parse(ld->img->kernel, ld->img->kernel_len, &elf);
    if (e)
        return e;
    if (!find_entry(ld, &elf, &entry) || entry >= ENTRY_LIMIT)
        return err_new(ERR_INPUT, "kernel: its PVH entry is beyond 4 GiB; the file is damaged");
    if ((e = elf_load(ld, &elf, &end)))
        return e;
    struct load_want initrd = {.min = HIGH_BASE, .limit = ENTRY_LIMIT, .end = LOAD_HIGHEST};
    if ((e = load_initrd(ld, initrd)) || (e = load_cmdline(ld)) || (e = put_info(ld, &info)) ||
        (e = entry_flat32(ld, (uint32_t)entry)))
        return e;
    ld->m->vcpu.s.r[R_RBX] = info;
    return NULL;
}

const struct loader loader_pvh = {"ELF with a PVH entry", pvh_probe, pvh_load};
