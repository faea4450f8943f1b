/* core/load/linux.c: bzImage by the 64-bit entry of the Linux/x86 boot protocol.
 * Reference: the kernel's Documentation/arch/x86/boot.rst ("boot.rst") and zero-page.rst; the structures are those of
 * its user-space headers. */
#include <stddef.h>

#include <asm/bootparam.h>

#include "core/load/load.h"

enum {
    HEADER_OFF = offsetof(struct boot_params, hdr), /* in the file and in boot_params alike */
    PROTOCOL_MIN = 0x020c,                          /* 2.12 (Linux 3.8): xloadflags */
    HEADER_LEN_MIN = offsetof(struct setup_header, init_size) + 4,
    BOOT_FLAG = 0xaa55,
    MAGIC = 0x53726448, /* "HdrS" */
    SECTOR = 512,
    SETUP_SECTS_DEFAULT = 4, /* boot.rst: 0 means 4 */
    ENTRY64_OFF = 0x200,
    LOADER_UNDEFINED = 0xff, /* type_of_loader without an assigned id */
};

struct kernel {
    struct setup_header hdr;
    const uint8_t *code; /* the protected-mode part */
    uint64_t code_len;
};

/* boot_params and what its setup_data points to, in one piece. */
struct info {
    struct boot_params params;
    uint8_t seed[sizeof(struct setup_data) + sizeof(((struct nondet_start *)0)->seed)];
};
_Static_assert(sizeof(struct boot_params) == PAGE_SIZE, "the zero page is one page");

static bool linux_probe(const struct load *ld)
{
    const uint8_t *k = ld->img->kernel;
    return ld->img->kernel_len >= HEADER_OFF + offsetof(struct setup_header, version) &&
           get_le16(k + HEADER_OFF + offsetof(struct setup_header, boot_flag)) == BOOT_FLAG &&
           get_le32(k + HEADER_OFF + offsetof(struct setup_header, header)) == MAGIC;
}

static struct err *truncated(uint64_t need, size_t have)
{
    return err_new(ERR_INPUT,
                   "kernel: the bzImage is truncated: its header asks for %" PRIu64 " bytes, the file has %zu", need,
                   have);
}

/* boot.rst: the header ends at 0x202 + the byte at 0x201 (the offset of a short jump over it). */
static struct err *read_header(const uint8_t *file, size_t len, struct setup_header *hdr)
{
    if (len < HEADER_OFF + HEADER_LEN_MIN)
        return truncated(HEADER_OFF + HEADER_LEN_MIN, len);
    unsigned version = get_le16(file + HEADER_OFF + offsetof(struct setup_header, version));
    if (version < PROTOCOL_MIN)
        return err_new(ERR_INPUT, "kernel: boot protocol %u.%02u is too old, 2.12 (Linux 3.8) or newer is needed",
                       version >> 8, version & 0xff);
    size_t header_len = 0x202 + file[0x201] - HEADER_OFF;
    if (header_len < HEADER_LEN_MIN)
        return err_new(ERR_INPUT,
                       "kernel: the bzImage's setup header is %zu bytes long, at least %d are needed; the file "
                       "is damaged",
                       header_len, HEADER_LEN_MIN);
    header_len = MIN(header_len, sizeof(*hdr));
    if (len < HEADER_OFF + header_len)
        return truncated(HEADER_OFF + header_len, len);
    *hdr = (struct setup_header){0};
    memcpy(hdr, file + HEADER_OFF, header_len);
    return NULL;
}

static struct err *kernel_parse(const struct boot_image *img, struct kernel *out)
{
    struct err *e = read_header(img->kernel, img->kernel_len, &out->hdr);
    if (e)
        return e;
    const struct setup_header *h = &out->hdr;
    if (!(h->xloadflags & XLF_KERNEL_64))
        return err_new(ERR_INPUT, "kernel: this bzImage has no 64-bit entry; use a 64-bit (x86-64) kernel");
    uint64_t setup_len = (uint64_t)((h->setup_sects ? h->setup_sects : SETUP_SECTS_DEFAULT) + 1) * SECTOR;
    out->code_len = (uint64_t)h->syssize * 16;
    if (!range_in(setup_len, out->code_len, img->kernel_len))
        return truncated(setup_len + out->code_len, img->kernel_len);
    if (out->code_len <= ENTRY64_OFF)
        return err_new(ERR_INPUT, "kernel: the bzImage holds no kernel code; the file is damaged");
    out->code = img->kernel + setup_len;
    return NULL;
}

/* boot.rst, pref_address: there if possible, else, if relocatable, at the next free multiple of kernel_alignment above it:
 * the kernel's entry code moves itself up to its preferred address when it finds itself below
 * (arch/x86/boot/compressed/head_64.S). init_size bytes from the runtime start must be RAM. */
static struct err *place_kernel(struct load *ld, const struct kernel *k)
{
    const struct setup_header *h = &k->hdr;
    uint64_t room = MAX(k->code_len, (uint64_t)h->init_size), align = h->kernel_alignment;
    bool at_pref = h->pref_address <= ENTRY_LIMIT && range_in(h->pref_address, room, ENTRY_LIMIT);
    struct err *e = at_pref
                        ? load_claim(ld, h->pref_address, room, "the kernel")
                        : err_new(ERR_INPUT, "kernel: the bzImage's preferred address 0x%" PRIx64 " is beyond 4 GiB",
                                  (uint64_t)h->pref_address);
    if (!e) {
        ld->kernel_addr = h->pref_address;
        return NULL;
    }
    if (!h->relocatable_kernel || align < PAGE_SIZE || (align & (align - 1)))
        return e;
    err_destroy(e);
    struct load_want want = {.len = room, .align = align, .min = MAX(HIGH_BASE, h->pref_address),
                             .limit = ENTRY_LIMIT, .end = LOAD_LOWEST};
    return load_place(ld, want, "the kernel", &ld->kernel_addr);
}

/* boot.rst, initrd_addr_max: the highest address the initrd may occupy. A kernel that can be loaded above 4 GiB takes
 * its initrd there too (xloadflags bit 1), which only a large initrd needs. */
static struct err *place_initrd(struct load *ld, const struct setup_header *h)
{
    struct load_want want = {.len = ld->img->initrd_len,
                             .align = PAGE_SIZE,
                             .min = HIGH_BASE,
                             .limit = (uint64_t)h->initrd_addr_max + 1,
                             .end = LOAD_HIGHEST};
    uint64_t at;
    if ((h->xloadflags & XLF_CAN_BE_LOADED_ABOVE_4G) && !load_find(ld, want, &at))
        want.limit = UINT64_MAX;
    return load_initrd(ld, want);
}

static void fill_params(const struct load *ld, const struct setup_header *h, uint64_t seed_addr, struct boot_params *p)
{
    p->hdr = *h;
    p->hdr.type_of_loader = LOADER_UNDEFINED;
    p->hdr.cmd_line_ptr = (uint32_t)ld->cmdline_addr;
    p->hdr.ramdisk_image = (uint32_t)ld->initrd_addr;
    p->hdr.ramdisk_size = ld->initrd_addr ? (uint32_t)ld->img->initrd_len : 0;
    p->ext_ramdisk_image = (uint32_t)(ld->initrd_addr >> 32);
    p->hdr.setup_data = seed_addr;
    p->acpi_rsdp_addr = RSDP_BASE;
    p->e820_entries = (uint8_t)ld->map.count;
    for (unsigned i = 0; i < ld->map.count; i++)
        p->e820_table[i] =
            (struct boot_e820_entry){.addr = ld->map.e[i].addr, .size = ld->map.e[i].len, .type = ld->map.e[i].type};
}

static struct err *put_info(struct load *ld, const struct setup_header *h, uint64_t *params_out)
{
    struct err *e = load_place_info(ld, sizeof(struct info), PAGE_SIZE, "the boot parameters", params_out);
    if (e)
        return e;
    struct info info = {0};
    const struct nondet_start *start = &ld->m->start;
    struct setup_data head = {.type = SETUP_RNG_SEED, .len = sizeof(start->seed)};
    memcpy(info.seed, &head, sizeof(head));
    memcpy(info.seed + sizeof(head), start->seed, sizeof(start->seed));
    fill_params(ld, h, *params_out + offsetof(struct info, seed), &info.params);
    load_put(ld, *params_out, &info, sizeof(info));
    return NULL;
}

static struct err *linux_load(struct load *ld)
{
    struct kernel k;
    struct err *e = kernel_parse(ld->img, &k);
    if (e)
        return e;
    size_t cmdline_len = strlen(ld->img->cmdline);
    if (cmdline_len > k.hdr.cmdline_size)
        return err_new(ERR_INPUT, "the command line is %zu bytes long, this kernel takes %u (--append)", cmdline_len,
                       k.hdr.cmdline_size);
    uint64_t params;
    if ((e = initrd_check(ld->img)) || (e = place_kernel(ld, &k)) || (e = place_initrd(ld, &k.hdr)) ||
        (e = load_cmdline(ld)) || (e = put_info(ld, &k.hdr, &params)) ||
        (e = entry_long64(ld, ld->kernel_addr + ENTRY64_OFF)))
        return e;
    load_put(ld, ld->kernel_addr, k.code, k.code_len);
    ld->m->vcpu.s.r[R_RSI] = params;
    return NULL;
}

const struct loader loader_linux = {"bzImage", linux_probe, linux_load};
