/* tests/unit/ksyms.c: the symbol tables of every layout, read back; damage, which must be noticed and never hurt. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <unistd.h>

#include <cmocka.h>
#include <libelf.h>

#include "analysis/frame.h"
#include "analysis/ksyms.h"
#include "tests/analysis/fake_kernel.h"

static struct ksyms *find(struct fake_kernel *k)
{
    struct ksyms_reader rd = fake_reader(k);
    struct ksyms *ks = NULL;
    struct err *e = ksyms_find(&rd, &ks);
    if (e)
        fail_msg("%s: %s", k->layout->banner, err_message(e));
    return ks;
}

static void expect_none(struct fake_kernel *k, const char *text)
{
    struct ksyms_reader rd = fake_reader(k);
    struct ksyms *ks = NULL;
    struct err *e = ksyms_find(&rd, &ks);
    assert_non_null(e);
    assert_int_equal(err_code(e), ERR_UNSUPPORTED);
    assert_non_null(strstr(err_message(e), text));
    assert_null(strchr(err_message(e), '\n'));
    err_destroy(e);
}

static void test_layouts(void **state)
{
    (void)state;
    for (unsigned l = 0; l < FAKE_LAYOUTS; l++) {
        struct fake_kernel k;
        fake_kernel_init(&k, &fake_layouts[l]);
        struct ksyms *ks = find(&k);
        assert_int_equal(ksyms_count(ks), k.count);
        for (unsigned i = 0; i < k.count; i++) {
            struct ksym s = ksyms_at(ks, i);
            assert_int_equal(s.addr, k.symbol[i].addr);
            assert_int_equal(s.type, k.symbol[i].name[0]);
            assert_string_equal(s.name, k.symbol[i].name + 1);
        }
        uint64_t slide;
        bool all = k.layout->all;
        assert_int_equal(ksyms_slide(ks, &slide), all);
        assert_int_equal(slide, all ? FAKE_SLIDE : 0);
        assert_string_equal(ksyms_banner(ks), all ? k.layout->banner : "");
        assert_int_equal(ksyms_unwind_count(ks), FAKE_ORC); /* without their symbols they are searched for */
        ksyms_destroy(ks);
        fake_kernel_deinit(&k);
    }
}

static void test_lookup(void **state)
{
    (void)state;
    struct fake_kernel k;
    fake_kernel_init(&k, &fake_layouts[2]);
    struct ksyms *ks = find(&k);
    struct ksym s;
    assert_true(ksyms_by_name(ks, "same", &s)); /* there are two */
    assert_int_equal(s.addr, IMAGE_LINEAR + 0x100 + 0x40 * 9);
    assert_int_equal(s.size, 0x40);
    assert_false(ksyms_by_name(ks, "sam", &s));
    assert_false(ksyms_by_name(ks, "", &s));
    assert_true(ksyms_by_addr(ks, IMAGE_LINEAR + 0xff, &s)); /* the global one of two, which are as long */
    assert_string_equal(s.name, "_text");
    assert_int_equal(s.size, 0x100);
    assert_int_equal(ksyms_at(ks, 3).size, 0x100);
    assert_true(ksyms_by_addr(ks, IMAGE_LINEAR + 0x100 + 0x40 * 9 + 0x3f, &s));
    assert_string_equal(s.name, "same");
    assert_true(ksyms_by_addr(ks, 0xfff, &s));
    assert_string_equal(s.name, "__per_cpu_start");
    assert_true(ksyms_by_addr(ks, IMAGE_LINEAR + IMAGE_LEN, &s)); /* the last: nobody knows how long */
    assert_int_equal(s.size, 0);
    assert_false(ksyms_by_addr(ks, IMAGE_LINEAR + IMAGE_LEN + 1, &s));
    ksyms_destroy(ks);
    fake_kernel_deinit(&k);
}

static void test_no_kernel(void **state)
{
    (void)state;
    struct fake_kernel k;
    fake_kernel_init(&k, &fake_layouts[3]);
    put_le64(fake_image(&k) + FAKE_PHYS_BASE, 0);
    expect_none(&k, "has not begun to run");
    put_le32(fake_image(&k) + FAKE_TABLES + align_up(4 * (uint64_t)k.count, 8) + 8, 0); /* num_syms */
    expect_none(&k, "no Linux kernel");
    for (uint32_t i = 0; i < IMAGE_PHYS + FAKE_TABLES; i += 8) /* as many false markers as there can be */
        put_le32(k.ram + i, 0), put_le32(k.ram + i + 4, 600);
    expect_none(&k, "no Linux kernel");
    memset(k.ram, 0, FAKE_RAM);
    expect_none(&k, "no Linux kernel");
    for (unsigned i = 0; i + 20 <= FAKE_RAM; i += 20) /* full of false starts */
        memcpy(k.ram + i, "0\0001\0002\0003\0004\0005\0006\0007\0008\0009", 20);
    expect_none(&k, "no Linux kernel");
    fake_kernel_deinit(&k);
}

/* Whatever byte of the tables is changed: the same number of symbols, or none. */
static void test_damage(void **state)
{
    (void)state;
    uint32_t random = 1;
    for (unsigned l = 0; l < FAKE_LAYOUTS; l++) {
        struct fake_kernel k;
        fake_kernel_init(&k, &fake_layouts[l]);
        unsigned refused = 0;
        for (unsigned i = 0; i < 60; i++) {
            random = random * 1664525 + 1013904223;
            uint8_t *p = fake_image(&k) + FAKE_TABLES + (random >> 4) % (k.tables_end - FAKE_TABLES), old = *p;
            *p ^= (uint8_t)(1 + random % 255);
            struct ksyms_reader rd = fake_reader(&k);
            struct ksyms *ks = NULL;
            struct err *e = ksyms_find(&rd, &ks);
            assert_true(e ? err_code(e) == ERR_UNSUPPORTED : ksyms_count(ks) == k.count);
            refused += !!e;
            err_destroy(e);
            ksyms_destroy(ks);
            *p = old;
        }
        assert_in_range(refused, 5, 55); /* names and seqs can be damaged unnoticed, lengths and addresses cannot */
        fake_kernel_deinit(&k);
    }
}

/* ---- unwind rules ---- */

/* libelf's view of a section. */
static Elf_Data *section(Elf *elf, const char *name, Elf64_Shdr *out)
{
    size_t names;
    assert_int_equal(elf_getshdrstrndx(elf, &names), 0);
    for (Elf_Scn *s = NULL; (s = elf_nextscn(elf, s));) {
        *out = *elf64_getshdr(s);
        if (!strcmp(elf_strptr(elf, names, out->sh_name), name))
            return elf_getdata(s, NULL);
    }
    fail_msg("no section %s", name);
    return NULL;
}

static void test_elf(void **state)
{
    (void)state;
    struct fake_kernel k;
    fake_kernel_init(&k, &fake_layouts[2]);
    struct ksyms *ks = find(&k);
    char path[] = "ksyms-test-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_null(ksyms_write_elf(ks, path));
    elf_version(EV_CURRENT);
    Elf *elf = elf_begin(fd, ELF_C_READ, NULL);
    Elf64_Shdr sh;
    Elf_Data *data = section(elf, ".symtab", &sh);
    assert_int_equal(sh.sh_size / sh.sh_entsize, k.count + 1);
    const Elf64_Sym *sym = data->d_buf;
    unsigned functions = 0;
    for (unsigned i = 1; i <= k.count; i++) {
        assert_int_equal(ELF64_ST_BIND(sym[i].st_info) == STB_LOCAL, i < sh.sh_info);
        functions += ELF64_ST_TYPE(sym[i].st_info) == STT_FUNC;
    }
    assert_true(functions > FAKE_SYMBOLS - 30);
    section(elf, ".text", &sh);
    assert_int_equal(sh.sh_addr, IMAGE_LINEAR);
    assert_int_equal(sh.sh_size, IMAGE_LEN - 0x1000);
    assert_true(section(elf, ".debug_frame", &sh)->d_size > FAKE_ORC * 20);
    elf_end(elf);
    uint8_t *in_memory;
    size_t len;
    assert_null(ksyms_elf(ks, &in_memory, &len));
    uint8_t *in_file = malloc(len + 1);
    assert_int_equal(pread(fd, in_file, len + 1, 0), len);
    assert_memory_equal(in_memory, in_file, len);
    free(in_memory);
    free(in_file);
    close(fd);
    unlink(path);
    struct err *e = ksyms_write_elf(ks, "/nowhere/at/all");
    assert_non_null(e);
    assert_int_equal(err_code(e), ERR_HOST);
    err_destroy(e);
    ksyms_destroy(ks);
    fake_kernel_deinit(&k);
}

/* One entry after the four shared ones: its address range and its instructions. */
static void test_frame_bytes(void **state)
{
    (void)state;
    const struct orc_rule rules[] = {
        {.ip = 0x1000, .kind = ORC_CALL, .cfa = {ORC_REGISTER, 7, 8}},
        {.ip = 0x1001, .kind = ORC_CALL, .cfa = {ORC_REGISTER, 7, 16}, .rbp = {ORC_CFA, 6, -16}},
        {.ip = 0x1100, .kind = ORC_CALL, .cfa = {ORC_AT_SP_PLUS, 7, 8}, .rbp = {ORC_CFA, 6, -16}},
    };
    static const uint8_t want[] = {
        0, 0x10, 0, 0, 0, 0, 0, 0, 0x00, 0x02, 0, 0, 0, 0, 0, 0, /* begin, length */
        0,                              /* no augmentation data */
        0x0c, 7, 8,                     /* DW_CFA_def_cfa RSP + 8 */
        0x41, 0x0c, 7, 16, 0x11, 6, 2,  /* after 1: RSP + 16, RBP at CFA - 16 */
        0x02, 0xff, 0x0f, 6, 0x77, 0, 0x06, 0x11, 8, 0x22, /* after 0xff: breg7 0, deref, consts 8, plus */
    };
    struct frame_bytes out;
    assert_null(frame_encode(rules, ARRAY_LEN(rules), 0x1200, &out));
    size_t at = 0, entries = 0;
    while (get_le32(out.data + at + 4) == UINT32_MAX) {
        at += 4 + get_le32(out.data + at);
        entries++;
        assert_int_equal(at % 8, 0);
    }
    assert_int_equal(entries, 5);
    assert_memory_equal(out.data + at + 8, want, sizeof(want));
    assert_int_equal(at + 4 + get_le32(out.data + at), out.len);
    free(out.data);
}

/* Formats differ by version: the same bits, read by each. */
static size_t read_nothing(void *arg, uint64_t at, void *buf, size_t len)
{
    (void)arg, (void)at, (void)buf, (void)len;
    return 0;
}

static size_t read_bytes(void *arg, uint64_t at, void *buf, size_t len)
{
    size_t n = at < 64 ? MIN(len, 64 - at) : 0;
    memcpy(buf, (uint8_t *)arg + (n ? at : 0), n);
    return n;
}

static void test_orc_formats(void **state)
{
    (void)state;
    static const struct { unsigned version; uint16_t word; uint8_t kind, base; } cases[] = {
        {6 << 8 | 1, 0x0005, ORC_CALL, ORC_REGISTER},
        {6 << 8 | 1, 0x0105, ORC_REGS, ORC_REGISTER},
        {6 << 8 | 1, 0x0205, ORC_REGS_PARTIAL, ORC_REGISTER},
        {6 << 8 | 1, 0x0400, ORC_END, 0},
        {6 << 8 | 1, 0x0000, ORC_UNKNOWN, 0},
        {6 << 8 | 1, 0x000f, ORC_UNKNOWN, 0},          /* no such register */
        {6 << 8 | 1, 0x00f5, ORC_UNKNOWN, 0},
        {6 << 8 | 1, 0x0009, ORC_CALL, ORC_AT_SP_PLUS},
        {5 << 8 | 10, 0x0009, ORC_CALL, ORC_AT_REGISTER},
        {6 << 8 | 3, 0x0505, ORC_REGS, ORC_REGISTER},  /* signal */
        {6 << 8 | 3, 0x0800, ORC_END, 0},
        {6 << 8 | 6, 0x0205, ORC_CALL, ORC_REGISTER},
        {6 << 8 | 6, 0x0b05, ORC_REGS, ORC_REGISTER},
        {6 << 8 | 6, 0x0405, ORC_REGS_PARTIAL, ORC_REGISTER},
        {6 << 8 | 6, 0x0100, ORC_END, 0},
        {6 << 8 | 6, 0x0705, ORC_UNKNOWN, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        uint8_t bytes[64] = {0};
        put_le32(bytes, 0x10);                /* ip[0]: 0x10 */
        put_le16(bytes + 8, 24);
        put_le16(bytes + 12, cases[i].word);
        struct ksyms_reader rd = {bytes, read_nothing, read_bytes, sizeof(bytes)};
        struct kimage k = {.space = {&rd, true}, .delta = 0x1000};
        put_le32(bytes, 0x10), put_le32(bytes + 4, 0x20);
        struct orc_where w = {0x1000, 0x1008, 0x1008, 0x1000, 0x1040, cases[i].version};
        struct orc orc;
        assert_null(orc_read(&k, &w, &orc));
        assert_int_equal(orc.count, 2);
        assert_int_equal(orc.rule[0].ip, 0x1010);
        assert_int_equal(orc.rule[1].ip, 0x1024);
        assert_int_equal(orc.rule[0].kind, cases[i].kind);
        assert_int_equal(orc.rule[0].cfa.base, cases[i].base);
        orc_deinit(&orc);
        put_le32(bytes + 4, (uint32_t)-0x40); /* not ascending */
        assert_null(orc_read(&k, &w, &orc));
        assert_int_equal(orc.count, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layouts),     cmocka_unit_test(test_lookup),      cmocka_unit_test(test_no_kernel),
        cmocka_unit_test(test_damage),      cmocka_unit_test(test_elf),         cmocka_unit_test(test_frame_bytes),
        cmocka_unit_test(test_orc_formats),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
