/* core/load/publish.c: the boot image as fw_cfg items: for firmware that loads kernels itself, and for guests that
 * look. Sizes and addresses are 32 bits wide there; what lies above 4 GiB has address 0. */
#include <linux/qemu_fw_cfg.h>

#include "core/dev/fwcfg.h"
#include "core/load/load.h"

struct blob {
    uint16_t addr_key, size_key, data_key;
    uint64_t addr;
    const void *data;
    size_t len;
    enum boot_part part; /* BOOT_PARTS: none that can be had again */
};

static struct err *publish_blob(void *dev, const struct boot_image *img, const struct blob *b)
{
    uint32_t addr = b->addr > UINT32_MAX ? 0 : (uint32_t)b->addr;
    struct err *e = fwcfg_set_u32(dev, b->addr_key, addr);
    if (!e)
        e = fwcfg_set_u32(dev, b->size_key, (uint32_t)b->len);
    if (e)
        return e;
    if (!img->again || b->part == BOOT_PARTS || !b->len)
        return fwcfg_set(dev, b->data_key, b->data, b->len);
    fwcfg_set_later(dev, b->data_key, img, b->part, b->len);
    return NULL;
}

/* QEMU's "etc/e820" lists RAM only, as 20-byte entries. */
static struct err *publish_ram(void *dev, const struct mem *mem)
{
    struct e820_entry ram[2] = {{0, mem->low_len, E820_RAM}, {GIB(4), mem->ram_len - mem->low_len, E820_RAM}};
    return fwcfg_set_file(dev, "etc/e820", ram, sizeof(ram[0]) * (ram[1].len ? 2 : 1));
}

struct err *fwcfg_publish(const struct load *ld)
{
    const struct boot_image *img = ld->img;
    void *dev = ld->m->dev[DEV_FWCFG];
    const struct blob blobs[] = {
        {FW_CFG_KERNEL_ADDR, FW_CFG_KERNEL_SIZE, FW_CFG_KERNEL_DATA, ld->kernel_addr, img->kernel, img->kernel_len,
         BOOT_KERNEL},
        {FW_CFG_INITRD_ADDR, FW_CFG_INITRD_SIZE, FW_CFG_INITRD_DATA, ld->initrd_addr, img->initrd, img->initrd_len,
         BOOT_INITRD},
        {FW_CFG_CMDLINE_ADDR, FW_CFG_CMDLINE_SIZE, FW_CFG_CMDLINE_DATA, ld->cmdline_addr, img->cmdline,
         strlen(img->cmdline) + 1, BOOT_PARTS},
    };
    struct err *e = fwcfg_set_u32(dev, FW_CFG_KERNEL_ENTRY, (uint32_t)ld->kernel_entry);
    for (unsigned i = 0; !e && i < ARRAY_LEN(blobs); i++)
        e = publish_blob(dev, img, &blobs[i]);
    return e ? e : publish_ram(dev, &ld->m->mem);
}
