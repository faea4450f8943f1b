/* analysis/kimage.c: reads and searches guest memory in large steps. */
#include "analysis/kimage.h"

#include <stdlib.h>

#include "core/base/cleanup.h"

enum { STEP = 2 << 20, NEEDLE_MAX = 64 };

static size_t read_some(const struct space *s, uint64_t addr, void *buf, size_t len)
{
    size_t (*read)(void *, uint64_t, void *, size_t) = s->physical ? s->rd->read_phys : s->rd->read;
    return MIN(read(s->rd->arg, addr, buf, len), len);
}

void space_read(const struct space *s, uint64_t addr, void *buf, size_t len)
{
    uint8_t *to = buf;
    while (len) {
        size_t n = read_some(s, addr, to, len);
        to += n, addr += n, len -= n;
        if (!len)
            return;
        size_t hole = MIN(len, PAGE_SIZE - (addr & PAGE_MASK)); /* memory is there or not by pages */
        memset(to, 0, hole);
        to += hole, addr += hole, len -= hole;
    }
}

/* The end of the last step stays in front of the next one, so that a match across the border is found. */
struct err *space_search(const struct space *s, const void *needle, size_t len,
                         bool (*fn)(void *arg, uint64_t addr), void *arg)
{
    AUTO_FREE uint8_t *buf = malloc(NEEDLE_MAX + STEP);
    if (!buf || len > NEEDLE_MAX || !len)
        return err_new(ERR_HOST, "no memory to search the guest's");
    uint64_t addr = s->physical ? 0 : KERNEL_MAP, rest = s->physical ? s->rd->phys_len : KERNEL_MAP_LEN;
    size_t kept = 0;
    for (size_t want; rest; addr += want, rest -= want) {
        want = MIN(rest, (uint64_t)STEP);
        size_t have = kept + read_some(s, addr, buf + kept, want);
        const uint8_t *end = buf + have, *at = buf;
        while ((at = memmem(at, (size_t)(end - at), needle, len))) {
            if (fn(arg, addr - kept + (uint64_t)(at - buf)))
                return NULL;
            at++;
        }
        kept = have == kept + want ? MIN(have, len - 1) : 0;
        memmove(buf, buf + have - kept, kept);
    }
    return NULL;
}

struct err *window_open(const struct space *s, uint64_t base, uint64_t len, struct window *out)
{
    *out = (struct window){.bytes = malloc(len ? len : 1), .base = base, .len = len};
    if (!out->bytes)
        return err_new(ERR_HOST, "no memory for %" PRIu64 " bytes of the guest's", len);
    space_read(s, base, out->bytes, len);
    return NULL;
}

void window_close(struct window *w)
{
    free(w->bytes);
    *w = (struct window){0};
}
