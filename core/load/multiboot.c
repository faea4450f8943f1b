/* core/load/multiboot.c: Multiboot kernels: ELF (32-bit, or 64-bit with a 32-bit entry), or any file whose header gives
 * the load addresses ("a.out kludge"). The initrd is module 0.
 * Reference: Multiboot Specification version 0.6.96, chapter 3; section numbers below. */
#include <stddef.h>

#include "core/load/elf.h"

enum {
    SEARCH_LEN = 8192, /* 3.1: the header lies in the first 8192 bytes, 4-byte aligned */
    HEADER_MAGIC = 0x1badb002,
    BOOT_MAGIC = 0x2badb002,
    /* 3.1.1: of bits 0-15, which a loader must understand, modules are always page aligned (0), memory is always
     * described (1), and video information (2) is a wish that a machine without video leaves unanswered, as GRUB does.
     */
    FLAGS_UNDERSTOOD = 0x7,
    FLAGS_MANDATORY = 0xffff,
    FLAG_ADDRESSES = 1 << 16,

    INFO_MEMORY = 1 << 0,
    INFO_CMDLINE = 1 << 2,
    INFO_MODULES = 1 << 3,
    INFO_MMAP = 1 << 6,
    INFO_LOADER = 1 << 9,
};

struct header { /* 3.1; the addresses count when FLAG_ADDRESSES is set */
    uint32_t magic, flags, checksum;
    uint32_t header_addr, load_addr, load_end_addr, bss_end_addr, entry_addr;
};
enum { HEADER_LEN_MIN = offsetof(struct header, header_addr) };

struct mb_info { /* 3.3 */
    uint32_t flags, mem_lower, mem_upper, boot_device, cmdline, mods_count, mods_addr, syms[4], mmap_len, mmap_addr;
    uint32_t drives_len, drives_addr, config_table, boot_loader_name, apm_table;
};
struct mb_module {
    uint32_t start, end, string, reserved;
};
struct mb_mmap { /* size counts from the field after it */
    uint32_t size;
    struct e820_entry e;
} __attribute__((packed));

struct info { /* in one piece of memory */
    struct mb_info mb;
    struct mb_module module;
    struct mb_mmap map[E820_MAX];
    char loader_name[12], module_string[8];
};

static bool find_header(const struct boot_image *img, struct header *out, uint32_t *off_out)
{
    size_t len = MIN(img->kernel_len, (size_t)SEARCH_LEN);
    for (size_t off = 0; range_in(off, HEADER_LEN_MIN, len); off += 4) {
        const uint8_t *at = img->kernel + off;
        if (get_le32(at) != HEADER_MAGIC || get_le32(at) + get_le32(at + 4) + get_le32(at + 8))
            continue;
        *out = (struct header){0};
        memcpy(out, at, MIN(sizeof(*out), len - off));
        *off_out = (uint32_t)off;
        return true;
    }
    return false;
}

static bool multiboot_probe(const struct load *ld)
{
    struct header h;
    uint32_t off;
    return find_header(ld->img, &h, &off);
}

static struct err *bad_addresses(const char *why)
{
    return err_new(ERR_INPUT, "kernel: the addresses in its Multiboot header cannot be: %s", why);
}

/* 3.1.3: the file is one piece that begins header_addr - load_addr before the header; zero load_end_addr: to the end of
 * the file; zero bss_end_addr: no BSS. */
static struct err *load_flat(struct load *ld, const struct header *h, uint32_t header_off, uint64_t *entry,
                             uint64_t *end)
{
    uint64_t before = (uint64_t)h->header_addr - h->load_addr;
    if (h->header_addr < h->load_addr || before > header_off)
        return bad_addresses("the header lies outside what is loaded");
    uint64_t off = header_off - before, len = ld->img->kernel_len - off;
    if (h->load_end_addr) {
        if (h->load_end_addr < h->load_addr)
            return bad_addresses("it ends before it begins");
        if (h->load_end_addr - h->load_addr > len)
            return err_new(ERR_INPUT,
                           "kernel: the file is truncated: its Multiboot header asks for %u bytes, the file has "
                           "%" PRIu64,
                           h->load_end_addr - h->load_addr, len);
        len = h->load_end_addr - h->load_addr;
    }
    *end = h->load_addr + len;
    if (h->bss_end_addr) {
        if (h->bss_end_addr < *end)
            return bad_addresses("its BSS ends before its data");
        *end = h->bss_end_addr;
    }
    struct err *e = load_claim(ld, h->load_addr, *end - h->load_addr, "the kernel");
    if (e)
        return e;
    load_put(ld, h->load_addr, ld->img->kernel + off, len);
    ld->kernel_addr = h->load_addr;
    *entry = h->entry_addr;
    return NULL;
}

static struct err *load_kernel(struct load *ld, uint64_t *entry, uint64_t *end)
{
    struct header h;
    uint32_t off;
    if (!find_header(ld->img, &h, &off))
        return err_new(ERR_INPUT, "kernel: no Multiboot header");
    uint32_t unknown = h.flags & FLAGS_MANDATORY & ~FLAGS_UNDERSTOOD;
    if (unknown)
        return err_new(ERR_INPUT, "kernel: its Multiboot header needs features that do not exist here (flags 0x%x)",
                       unknown);
    if (h.flags & FLAG_ADDRESSES) {
        if (!range_in(off, sizeof(h), MIN(ld->img->kernel_len, (size_t)SEARCH_LEN)))
            return err_new(ERR_INPUT, "kernel: the file is truncated in its Multiboot header");
        return load_flat(ld, &h, off, entry, end);
    }
    if (!elf_probe(ld->img->kernel, ld->img->kernel_len))
        return err_new(ERR_INPUT,
                       "kernel: it has a Multiboot header but is neither ELF nor gives load addresses (flag 16)");
    struct elf elf;
    struct err *e = elf_parse(ld->img->kernel, ld->img->kernel_len, &elf);
    if (e)
        return e;
    *entry = elf_entry_phys(&elf);
    return elf_load(ld, &elf, end);
}

static struct err *put_info(struct load *ld, uint64_t *at_out)
{
    struct err *e = load_place_info(ld, sizeof(struct info), 16, "the Multiboot information", at_out);
    if (e)
        return e;
    uint32_t at = (uint32_t)*at_out;
    struct info info = {
        .mb = {.flags = INFO_MEMORY | INFO_CMDLINE | INFO_MODULES | INFO_MMAP | INFO_LOADER,
               .mem_lower = EBDA_BASE >> 10,
               .mem_upper = (uint32_t)((acpi_tables_base(&ld->m->mem) - HIGH_BASE) >> 10), /* to the first hole */
               .cmdline = (uint32_t)ld->cmdline_addr,
               .mods_count = ld->initrd_addr != 0,
               .mods_addr = at + offsetof(struct info, module),
               .mmap_len = ld->map.count * sizeof(struct mb_mmap),
               .mmap_addr = at + offsetof(struct info, map),
               .boot_loader_name = at + offsetof(struct info, loader_name)},
        .loader_name = "Hyperwind",
        .module_string = "initrd",
    };
    if (ld->initrd_addr)
        info.module = (struct mb_module){.start = (uint32_t)ld->initrd_addr,
                                         .end = (uint32_t)(ld->initrd_addr + ld->img->initrd_len),
                                         .string = at + offsetof(struct info, module_string)};
    for (unsigned i = 0; i < ld->map.count; i++)
        info.map[i] = (struct mb_mmap){.size = sizeof(struct e820_entry), .e = ld->map.e[i]};
    load_put(ld, at, &info, sizeof(info));
    return NULL;
}

static struct err *multiboot_load(struct load *ld)
{
    uint64_t entry, end, info;
    struct err *e = load_kernel(ld, &entry, &end);
    if (e)
        return e;
    if (entry >= ENTRY_LIMIT)
        return err_new(ERR_INPUT, "kernel: its entry 0x%" PRIx64 " is beyond 4 GiB; the file is damaged", entry);
    /* Right behind the kernel, where the small kernels of this format expect modules. */
    struct load_want module = {.min = MAX(end, (uint64_t)HIGH_BASE), .limit = ENTRY_LIMIT, .end = LOAD_LOWEST};
    if ((e = load_initrd(ld, module)) || (e = load_cmdline(ld)) || (e = put_info(ld, &info)) ||
        (e = entry_flat32(ld, (uint32_t)entry)))
        return e;
    ld->m->vcpu.s.r[R_RAX] = BOOT_MAGIC; /* 3.2 */
    ld->m->vcpu.s.r[R_RBX] = info;
    return NULL;
}

const struct loader loader_multiboot = {"Multiboot", multiboot_probe, multiboot_load};
