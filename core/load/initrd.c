/* core/load/initrd.c: is a Linux initrd whole? Only what can be told without unpacking: an uncompressed cpio archive
 * ("newc", the kernel's Documentation/driver-api/early-userspace/buffer-format.rst), alone or in front of others.
 * Compressed archives are the kernel's to judge; it reports a truncated one itself. */
#include "core/load/load.h"

enum {
    CPIO_HEADER = 110, /* "070701" or "070702", then 13 fields of 8 hexadecimal digits */
    CPIO_MAGIC = 6,
    FIELD_FILE_LEN = 6,
    FIELD_NAME_LEN = 11,
};
static const char trailer[] = "TRAILER!!!";

static bool is_cpio(const uint8_t *at, size_t left)
{
    return left >= CPIO_MAGIC && (!memcmp(at, "070701", CPIO_MAGIC) || !memcmp(at, "070702", CPIO_MAGIC));
}

/* A digit that is none counts as 0: damage in there makes a wrong length, which the walk notices. */
static uint32_t hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : 0;
}

static uint32_t cpio_field(const uint8_t *header, unsigned field)
{
    uint32_t v = 0;
    for (unsigned i = 0; i < 8; i++)
        v = v << 4 | hex_digit(header[CPIO_MAGIC + field * 8 + i]);
    return v;
}

struct member {
    uint64_t end; /* offset of the next member */
    bool is_trailer;
};

static bool read_member(const uint8_t *file, size_t len, uint64_t off, struct member *out)
{
    if (!is_cpio(file + off, len - off) || len - off < CPIO_HEADER)
        return false;
    uint64_t name_len = cpio_field(file + off, FIELD_NAME_LEN), file_len = cpio_field(file + off, FIELD_FILE_LEN);
    uint64_t data = align_up(off + CPIO_HEADER + name_len, 4), end = data + file_len;
    if (off + CPIO_HEADER + name_len > len || (file_len && end > len))
        return false;
    out->is_trailer = name_len == sizeof(trailer) && !memcmp(file + off + CPIO_HEADER, trailer, sizeof(trailer));
    out->end = MIN(align_up(end, 4), len); /* the last padding may be missing */
    return true;
}

struct err *initrd_check(const struct boot_image *img)
{
    if (!img->initrd)
        return NULL;
    const uint8_t *file = img->initrd;
    size_t len = img->initrd_len;
    uint64_t off = 0;
    while (is_cpio(file + off, len - off)) {
        struct member member = {0};
        while (!member.is_trailer) {
            if (!read_member(file, len, off, &member))
                return err_new(ERR_INPUT,
                               "initrd: the cpio archive is truncated or damaged: it breaks off at byte %" PRIu64
                               " of %zu",
                               off, len);
            off = member.end;
        }
        while (off < len && !file[off])
            off++;
    }
    return NULL;
}
