/* analysis/kimage.h: reading a kernel's image, found by its contents, through linear or physical addresses. Private.
 *
 * The image is one contiguous piece of physical memory, and mapped as one piece from 0xffffffff80000000 up (Linux,
 * Documentation/arch/x86/x86_64/mm.rst). Seen from user mode with page-table isolation hardly anything of it is
 * mapped: then physical memory is the way in. An address of a `space` is one or the other. */
#ifndef HW_KIMAGE_H
#define HW_KIMAGE_H

#include "analysis/ksyms.h"

#define KERNEL_MAP UINT64_C(0xffffffff80000000) /* __START_KERNEL_map */
#define KERNEL_MAP_LEN GIB(1)                   /* KERNEL_IMAGE_SIZE with KASLR */
#define KERNEL_ALIGN MIB(2)                     /* the image lies at a multiple of it, in both kinds of address */

struct space {
    const struct ksyms_reader *rd;
    bool physical;
};

/* Any range; what cannot be read is zero. */
void space_read(const struct space *s, uint64_t addr, void *buf, size_t len);

/* Call `fn` for each place where the bytes of `needle` are, by ascending address, until it returns true. Of the linear
 * space only KERNEL_MAP is searched. Errors: ERR_HOST. */
must_check struct err *space_search(const struct space *s, const void *needle, size_t len,
                                    bool (*fn)(void *arg, uint64_t addr), void *arg);

/* A piece of a space in host memory, so that its tables can be followed without copying. Out of range reads as zero. */
struct window {
    uint8_t *bytes;
    uint64_t base, len; /* base: address in the space */
};
/* Errors: ERR_HOST. */
must_check struct err *window_open(const struct space *s, uint64_t base, uint64_t len, struct window *out);
void window_close(struct window *w);
static inline bool window_has(const struct window *w, uint64_t at, uint64_t len)
{
    return at <= w->len && len <= w->len - at;
}
static inline uint32_t window_u32(const struct window *w, uint64_t at)
{
    return window_has(w, at, 4) ? get_le32(w->bytes + at) : 0;
}
static inline uint64_t window_u64(const struct window *w, uint64_t at)
{
    return window_has(w, at, 8) ? get_le64(w->bytes + at) : 0;
}

/* The image by its own (linear) addresses, whichever way leads to it. */
struct kimage {
    struct space space;
    uint64_t delta; /* linear address minus address in the space */
};
static inline void kimage_read(const struct kimage *k, uint64_t linear, void *buf, size_t len)
{
    space_read(&k->space, linear - k->delta, buf, len);
}

#endif
