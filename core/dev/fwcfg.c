/* core/dev/fwcfg.c: QEMU's firmware configuration device, port interface without DMA.
 * Reference: QEMU's docs/specs/fw_cfg.rst.
 *
 * A 16-bit write to port 0x510 selects an item and rewinds; each read of port 0x511 gives its next byte. Items that do
 * not exist, and bytes past the end of one, read as 0; writes to the data port are ignored (QEMU 2.4 and later).
 *
 * The items are no device state: they follow from the machine's configuration and boot image, which a recording
 * carries. The state is what the guest moves: selector and offset. */
#include <arpa/inet.h>
#include <stdlib.h>

#include <linux/qemu_fw_cfg.h>

#include "core/base/check.h"
#include "core/dev.h"
#include "core/dev/fwcfg.h"
#include "core/machine.h"

enum { SELECTOR_OFF = 0, DATA_OFF = 1, FILES_MAX = FW_CFG_FILE_SLOTS_MIN, ITEMS_MAX = FW_CFG_FILE_FIRST + FILES_MAX };

struct fwcfg_state {
    uint16_t selector;
    uint64_t offset; /* of the next byte; stops at the end of the item */
};

struct item {
    uint8_t *data; /* owned */
    size_t len;
    uint8_t *(*again)(void *self, enum boot_part part); /* not NULL: it has the data */
    void *again_self;
    enum boot_part part;
};

struct fwcfg {
    struct fwcfg_state s;
    struct item items[ITEMS_MAX]; /* by key; the well-known ones, then the files */
    struct fw_cfg_file files[FILES_MAX];
    unsigned file_count;
};

struct err *fwcfg_set(void *dev, uint16_t key, const void *data, size_t len)
{
    struct fwcfg *f = dev;
    CHECK(key < ITEMS_MAX, "fw_cfg key 0x%x", key);
    uint8_t *copy = malloc(len ? len : 1);
    if (!copy)
        return err_new(ERR_HOST, "out of memory for %zu bytes of fw_cfg data", len);
    if (len)
        memcpy(copy, data, len);
    free(f->items[key].data);
    f->items[key] = (struct item){.data = copy, .len = len};
    return NULL;
}

void fwcfg_set_later(void *dev, uint16_t key, const struct boot_image *img, unsigned part, size_t len)
{
    struct fwcfg *f = dev;
    CHECK(key < ITEMS_MAX && img->again, "fw_cfg key 0x%x", key);
    free(f->items[key].data);
    f->items[key] =
        (struct item){.len = len, .again = img->again, .again_self = img->again_self, .part = (enum boot_part)part};
}

struct err *fwcfg_set_u16(void *dev, uint16_t key, uint16_t v) { return fwcfg_set(dev, key, &v, sizeof(v)); }
struct err *fwcfg_set_u32(void *dev, uint16_t key, uint32_t v) { return fwcfg_set(dev, key, &v, sizeof(v)); }

/* The directory is a big-endian count and that many entries, big-endian too. */
static struct err *set_directory(struct fwcfg *f)
{
    struct {
        uint32_t count;
        struct fw_cfg_file files[FILES_MAX];
    } dir = {.count = htonl(f->file_count)};
    memcpy(dir.files, f->files, sizeof(dir.files));
    return fwcfg_set(f, FW_CFG_FILE_DIR, &dir, sizeof(dir.count) + f->file_count * sizeof(dir.files[0]));
}

struct err *fwcfg_set_file(void *dev, const char *name, const void *data, size_t len)
{
    struct fwcfg *f = dev;
    CHECK(f->file_count < FILES_MAX && strlen(name) < sizeof(f->files[0].name) && len <= UINT32_MAX, "fw_cfg file %s",
          name);
    uint16_t key = (uint16_t)(FW_CFG_FILE_FIRST + f->file_count);
    struct err *e = fwcfg_set(f, key, data, len);
    if (e)
        return e;
    struct fw_cfg_file *file = &f->files[f->file_count++];
    *file = (struct fw_cfg_file){.size = htonl((uint32_t)len), .select = htons(key)};
    memcpy(file->name, name, strlen(name));
    return set_directory(f);
}

static struct err *set_machine_facts(struct fwcfg *f, const struct machine *m)
{
    uint64_t ram_len = m->config.ram_len;
    struct err *e;
    if ((e = fwcfg_set(f, FW_CFG_SIGNATURE, "QEMU", FW_CFG_SIG_SIZE)) ||
        (e = fwcfg_set_u32(f, FW_CFG_ID, FW_CFG_VERSION)) ||
        (e = fwcfg_set(f, FW_CFG_RAM_SIZE, &ram_len, sizeof(ram_len))) || (e = fwcfg_set_u16(f, FW_CFG_NOGRAPHIC, 1)) ||
        (e = fwcfg_set_u16(f, FW_CFG_NB_CPUS, 1)) || (e = fwcfg_set_u16(f, FW_CFG_MAX_CPUS, 1)) ||
        (e = set_directory(f)))
        return e;
    return NULL;
}

static void fwcfg_destroy(void *dev)
{
    struct fwcfg *f = dev;
    if (!f)
        return;
    for (unsigned i = 0; i < ITEMS_MAX; i++)
        free(f->items[i].data);
    free(f);
}

static void *fwcfg_create(struct machine *m)
{
    struct fwcfg *f = calloc(1, sizeof(*f));
    struct err *e = f ? set_machine_facts(f, m) : NULL;
    if (!e)
        return f;
    err_destroy(e); /* it can only be memory */
    fwcfg_destroy(f);
    return NULL;
}

/* The item that the guest selected, NULL for none. Bit 14 asks for write access, which changes nothing; the keys with bit
 * 15 are the architecture's own, and there are none. */
static struct item *selected(struct fwcfg *f)
{
    unsigned key = f->s.selector & ~FW_CFG_WRITE_CHANNEL;
    return key < ITEMS_MAX ? &f->items[key] : NULL;
}

static uint64_t fwcfg_read(void *dev, struct bus_access a)
{
    struct fwcfg *f = dev;
    if (a.off != DATA_OFF)
        return UINT64_MAX; /* the selector is write-only */
    struct item *item = selected(f);
    if (!item)
        return 0;
    if (item->again) {
        item->data = item->again(item->again_self, item->part);
        item->len = item->data ? item->len : 0;
        item->again = NULL;
    }
    return f->s.offset < item->len ? item->data[f->s.offset++] : 0;
}

static void fwcfg_write(void *dev, struct bus_access a, uint64_t value)
{
    struct fwcfg *f = dev;
    if (a.off != SELECTOR_OFF || a.width != 2)
        return;
    f->s.selector = (uint16_t)value;
    f->s.offset = 0;
}

static void *fwcfg_state_of(void *dev) { return &((struct fwcfg *)dev)->s; }

static const struct bus_region fwcfg_regions[] = {{.space = BUS_PIO,
                                                   .base = FWCFG_PORT,
                                                   .len = 2,
                                                   .min_width = 1,
                                                   .max_width = 2,
                                                   .read = fwcfg_read,
                                                   .write = fwcfg_write},
                                                  {0}};
static const struct snap_field fwcfg_fields[] = {SNAP(struct fwcfg_state, selector), SNAP(struct fwcfg_state, offset),
                                                 SNAP_END};
const struct dev_class dev_fwcfg = {.name = "fwcfg",
                                    .create = fwcfg_create,
                                    .destroy = fwcfg_destroy,
                                    .regions = fwcfg_regions,
                                    .state = fwcfg_fields,
                                    .state_of = fwcfg_state_of};
