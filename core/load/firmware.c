/* core/load/firmware.c: a raw firmware image, entered at the reset vector in real mode (SDM vol. 3, 9.1.4).
 * The image ends at 4 GiB, where the CPU fetches its first instruction, and its last 128 KiB are also at the end of the
 * first MiB, where a PC's chipset shadows them. Such a guest builds its own tables; fw_cfg tells it about RAM. */
#include "core/base/check.h"
#include "core/load/load.h"

enum { SHADOW_LEN = 128 << 10, FIRMWARE_MIN = 16 /* from the reset vector to 4 GiB */ };

struct err *firmware_load(struct machine *m, const struct boot_image *img)
{
    size_t len = img->firmware_len, rom_len = (size_t)m->mem.rom_pages << PAGE_SHIFT;
    if (len < FIRMWARE_MIN)
        return err_new(ERR_INPUT, "firmware: %zu bytes are too short to hold a reset vector", len);
    if (len > rom_len)
        return err_new(ERR_INPUT, "firmware: %zu bytes do not fit into the ROM of %zu bytes", len, rom_len);
    size_t shadow = MIN(len, (size_t)SHADOW_LEN);
    size_t done = mem_load(&m->mem, gpa(GIB(4) - len), img->firmware, len);
    CHECK(done == len, "the ROM takes %zu of %zu bytes", done, len);
    done = mem_load(&m->mem, gpa(HIGH_BASE - shadow), img->firmware + (len - shadow), shadow);
    CHECK(done == shadow, "the first MiB is no RAM");
    return NULL;
}
