/* tests/fuzz/fuzz_ksyms.c: libFuzzer over ksyms_find() and ksyms_write_elf(): a kernel's memory with bytes changed.
 *
 * Input: byte 0: which layout; then changes of 4 bytes each: an offset (16 bits), which region it is in, and the byte
 * put there. Whatever is found must be consistent, and what is not found must be a one-line error. */
#include "core/base/check.h"
#include "tests/analysis/fake_kernel.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static const struct { uint32_t begin, len; } regions[] = {
    {FAKE_TABLES, 0x10000}, {FAKE_BANNER, 0x108}, {FAKE_BOOT_PARAMS, 0x260}, {FAKE_ORC_IP, 10 * FAKE_ORC},
};

static void check_found(const struct ksyms *ks)
{
    uint64_t last = 0;
    for (size_t i = 0; i < ksyms_count(ks); i++) {
        struct ksym s = ksyms_at(ks, i), again;
        CHECK(s.addr >= last && s.name[0], "symbol %zu", i);
        CHECK(ksyms_by_name(ks, s.name, &again) && again.addr <= s.addr, "%s", s.name);
        last = s.addr;
    }
    struct err *e = ksyms_write_elf(ks, "/dev/null");
    err_destroy(e); /* libelf may refuse such a file */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len < 1)
        return 0;
    struct fake_kernel k;
    fake_kernel_init(&k, &fake_layouts[data[0] % FAKE_LAYOUTS]);
    for (size_t at = 1; at + 4 <= len; at += 4) {
        unsigned r = data[at + 2] % ARRAY_LEN(regions);
        fake_image(&k)[regions[r].begin + get_le16(data + at) % regions[r].len] = data[at + 3];
    }
    struct ksyms_reader rd = fake_reader(&k);
    struct ksyms *ks = NULL;
    struct err *e = ksyms_find(&rd, &ks);
    CHECK(!e || (err_code(e) == ERR_UNSUPPORTED && !strchr(err_message(e), '\n')), "%s", err_message(e));
    if (!e)
        check_found(ks);
    err_destroy(e);
    ksyms_destroy(ks);
    fake_kernel_deinit(&k);
    return 0;
}
