/* core/load/boot.c: machine_boot(): choose the loader, and do what PC firmware does before it starts one. See load.h.
 */
#include "core/base/check.h"
#include "core/cpu.h"
#include "core/load/elf.h"
#include "core/load/load.h"
#include "core/platform.h"

static const struct loader *const loaders[] = {&loader_linux, &loader_pvh, &loader_multiboot};

static const struct loader *choose(const struct load *ld)
{
    for (unsigned i = 0; i < ARRAY_LEN(loaders); i++)
        if (loaders[i]->probe(ld))
            return loaders[i];
    return NULL;
}

static struct err *unknown_kernel(const struct boot_image *img)
{
    if (elf_probe(img->kernel, img->kernel_len)) {
        struct elf elf;
        struct err *e = elf_parse(img->kernel, img->kernel_len, &elf);
        if (e)
            return e;
        return err_new(ERR_INPUT,
                       "kernel: the ELF file has neither a PVH entry note nor a Multiboot header; for Linux pass "
                       "the bzImage (vmlinuz), or a vmlinux built with CONFIG_PVH");
    }
    return err_new(ERR_INPUT,
                   "kernel: the file (%zu bytes) is no bzImage, no ELF with a PVH entry and no Multiboot kernel",
                   img->kernel_len);
}

static struct err *check_image(const struct boot_image *img)
{
    if (!img->kernel || !img->kernel_len)
        return err_new(ERR_INPUT, "kernel: the file is empty");
    if (img->initrd && !img->initrd_len)
        return err_new(ERR_INPUT, "initrd: the file is empty");
    if (img->initrd && img->initrd_len > UINT32_MAX)
        return err_new(ERR_INPUT, "initrd: %zu bytes are more than the 4 GiB that boot protocols can express",
                       img->initrd_len);
    return NULL;
}

/* --- what PC firmware leaves behind ------------------------------------------------------------------------------ */

static void put16(struct machine *m, uint64_t addr, uint16_t v)
{
    size_t done = mem_load(&m->mem, gpa(addr), &v, sizeof(v));
    CHECK(done == sizeof(v), "the BIOS data area is no RAM");
}

static void put_bios_data(struct machine *m)
{
    put16(m, BDA_EBDA_SEGMENT, EBDA_BASE >> 4);
    put16(m, BDA_BASE_MEM_KIB, EBDA_BASE >> 10);
    put16(m, EBDA_BASE, 1); /* its length in KiB */
}

/* MTRRs (SDM vol. 3, 12.11): everything write-back, except the VGA window, the ROM area and the last GiB below 4 GiB,
 * where devices are. Linux turns PAT off when firmware left the MTRRs disabled. */
static void set_mtrrs(struct machine *m)
{
    enum { UC = 0, WP = 5, WB = 6, ENABLE = 1 << 11, FIXED_ENABLE = 1 << 10, MASK_VALID = 1 << 11 };
    static const uint8_t fixed[11] = {WB, WB, UC, WP, WP, WP, WP, WP, WP, WP, WP}; /* 64K, 16K x 2, 4K x 8 */
    struct vcpu_state *s = &m->vcpu.s;
    for (unsigned i = 0; i < ARRAY_LEN(fixed); i++)
        s->mtrr_fixed[i] = fixed[i] * UINT64_C(0x0101010101010101);
    s->mtrr_base[0] = MEM_LOW_MAX | UC;
    s->mtrr_mask[0] = (bit(VCPU_MAXPHYADDR) - GIB(1)) | MASK_VALID;
    s->mtrr_def_type = ENABLE | FIXED_ENABLE | WB;
}

/* Virtual wire mode (MP Specification 1.4, 3.6.2.2): the 8259's output reaches the CPU through LINT0, so that a guest
 * that knows no APIC gets its interrupts. */
static void set_virtual_wire(struct machine *m)
{
    enum {
        SVR = 0xf0,
        LVT_LINT0 = 0x350,
        LVT_LINT1 = 0x360,
        SVR_ENABLE_SPURIOUS_0F = 0x10f,
        EXTINT = 0x700,
        NMI = 0x400
    };
    bus_write(m->bus, BUS_MMIO, LAPIC_BASE + SVR, 4, SVR_ENABLE_SPURIOUS_0F);
    bus_write(m->bus, BUS_MMIO, LAPIC_BASE + LVT_LINT0, 4, EXTINT);
    bus_write(m->bus, BUS_MMIO, LAPIC_BASE + LVT_LINT1, 4, NMI);
}

/* ----------------------------------------------------------------------------------------------------------------- */

static struct err *boot_kernel(struct load *ld)
{
    struct err *e = check_image(ld->img);
    if (e || (e = e820_build(&ld->m->mem, &ld->map)) || (e = load_claim(ld, BDA_BASE, BDA_LEN, "the BIOS data area")))
        return e;
    const struct loader *loader = choose(ld);
    if (!loader)
        return unknown_kernel(ld->img);
    if ((e = loader->load(ld)))
        return e;
    put_bios_data(ld->m);
    acpi_install(ld->m);
    set_mtrrs(ld->m);
    set_virtual_wire(ld->m);
    return NULL;
}

struct err *machine_boot(struct machine *m, const struct boot_image *img)
{
    struct load ld = {.m = m, .img = img};
    vcpu_reset(&m->vcpu);
    m->boot = img;
    struct err *e = img->firmware ? firmware_load(m, img) : boot_kernel(&ld);
    if (!e)
        e = fwcfg_publish(&ld);
    m->boot = NULL;
    return e;
}
