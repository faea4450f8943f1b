/* core/dev/fwcfg.h: the loader's side of the fw_cfg device: what guests may read through it. */
#ifndef HW_FWCFG_H
#define HW_FWCFG_H

#include "core/base/base.h"
#include "core/base/err.h"

enum { FWCFG_PORT = 0x510 }; /* selector (16 bits); data at the next port */

/* `dev`: machine.dev[DEV_FWCFG]. Add an item (FW_CFG_* of <linux/qemu_fw_cfg.h>), replacing one of the same key; the
 * bytes are copied. Before the first tick only. Errors: ERR_HOST (memory). */
must_check struct err *fwcfg_set(void *dev, uint16_t key, const void *data, size_t len);
must_check struct err *fwcfg_set_u16(void *dev, uint16_t key, uint16_t v);
must_check struct err *fwcfg_set_u32(void *dev, uint16_t key, uint32_t v);

/* The same for `len` bytes of a boot image that has `again`, which is asked for them when the guest first reads one. */
struct boot_image;
void fwcfg_set_later(void *dev, uint16_t key, const struct boot_image *img, unsigned part, size_t len);

/* Add a named file; the directory lists files in the order in which they were added. `name`: at most 55 bytes. */
must_check struct err *fwcfg_set_file(void *dev, const char *name, const void *data, size_t len);

#endif
