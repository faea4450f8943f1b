/* tests/unit/load.c: the loaders, their entry states, the memory map, the ACPI tables, fw_cfg, and hostile images.
 * Images are built here, in memory, field by field from the formats' documents, not with the loader's own structures.
 */
#include <elf.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <asm/bootparam.h>
#include <cmocka.h>

#include "core/base/hash.h"
#include "core/load/load.h"
#include "core/platform.h"

/* --- machines ---------------------------------------------------------------------------------------------------- */

static struct err *fixed_start(void *nd, struct nondet_start *out)
{
    (void)nd;
    out->wall_ns = 1700000000 * NS_PER_S;
    for (unsigned i = 0; i < sizeof(out->seed); i++)
        out->seed[i] = (uint8_t)(i * 3 + 1);
    return NULL;
}

static void no_output(void *nd, enum nondet_stream stream, uint8_t channel, const uint8_t *data, size_t len)
{
    (void)nd, (void)stream, (void)channel, (void)data, (void)len;
}

static const struct nondet_ops nd_ops = {.start = fixed_start, .output = no_output};

static void assert_ok(struct err *e)
{
    if (e)
        fail_msg("%s", err_message(e));
}

static struct machine *new_machine(uint64_t ram_len, size_t rom_len)
{
    struct machine_config cfg = {.ram_len = ram_len, .rate_q32 = UINT64_C(1) << 32};
    struct machine *m = NULL;
    assert_ok(machine_create(&cfg, rom_len, (struct nondet){.ops = &nd_ops}, &m));
    fixed_start(NULL, &m->start);
    return m;
}

static struct machine *boot(uint64_t ram_len, const struct boot_image *img)
{
    struct machine *m = new_machine(ram_len, 0);
    assert_ok(machine_boot(m, img));
    return m;
}

/* Boot must fail with ERR_INPUT and this text in its one line. */
static void assert_refused_with(uint64_t ram_len, const struct boot_image *img, const char *text)
{
    struct machine *m = new_machine(ram_len, 0);
    struct err *e = machine_boot(m, img);
    assert_non_null(e);
    assert_int_equal(err_code(e), ERR_INPUT);
    if (!strstr(err_message(e), text) || strchr(err_message(e), '\n'))
        fail_msg("expected \"%s\" in \"%s\"", text, err_message(e));
    err_destroy(e);
    machine_destroy(m);
}

/* Whatever the image is, boot ends: with success or with a one-line ERR_INPUT. */
static void assert_survives(uint64_t ram_len, const struct boot_image *img)
{
    struct machine *m = new_machine(ram_len, 0);
    struct err *e = machine_boot(m, img);
    if (e) {
        assert_int_equal(err_code(e), ERR_INPUT);
        assert_null(strchr(err_message(e), '\n'));
    }
    err_destroy(e);
    machine_destroy(m);
}

static void get(const struct machine *m, uint64_t addr, void *buf, size_t len)
{
    assert_int_equal(mem_read(&m->mem, gpa(addr), buf, len), len);
}
static uint64_t get_n(const struct machine *m, uint64_t addr, size_t len)
{
    uint64_t v = 0;
    get(m, addr, &v, len);
    return v;
}
static void assert_string_at(const struct machine *m, uint64_t addr, const char *s)
{
    char buf[128];
    assert_true(strlen(s) < sizeof(buf));
    get(m, addr, buf, strlen(s) + 1);
    assert_string_equal(buf, s);
}

static struct boot_image kernel_image(const uint8_t *kernel, size_t len)
{
    return (struct boot_image){.kernel = kernel, .kernel_len = len, .cmdline = "console=ttyS0"};
}

/* --- synthetic kernels ------------------------------------------------------------------------------------------- */

enum { BZ_SETUP = 5 * 512, BZ_CODE = 8192, BZ_LEN = BZ_SETUP + BZ_CODE };

static void make_bzimage(uint8_t *f)
{
    memset(f, 0, BZ_LEN);
    f[0x1f1] = 4;                      /* setup_sects */
    put_le32(f + 0x1f4, BZ_CODE / 16); /* syssize */
    put_le16(f + 0x1fe, 0xaa55);
    f[0x200] = 0xeb;
    f[0x201] = 0x6a; /* the header ends at 0x26c */
    memcpy(f + 0x202, "HdrS", 4);
    put_le16(f + 0x206, 0x020f);
    f[0x211] = 1;                    /* LOADED_HIGH */
    put_le32(f + 0x22c, 0x7fffffff); /* initrd_addr_max */
    put_le32(f + 0x230, 0x200000);   /* kernel_alignment */
    f[0x234] = 1;                    /* relocatable */
    put_le16(f + 0x236, XLF_KERNEL_64 | XLF_CAN_BE_LOADED_ABOVE_4G);
    put_le32(f + 0x238, 255);       /* cmdline_size */
    put_le64(f + 0x258, 0x1000000); /* pref_address */
    put_le32(f + 0x260, 0x300000);  /* init_size */
    for (unsigned i = 0; i < BZ_CODE; i++)
        f[BZ_SETUP + i] = (uint8_t)(i ^ i >> 8);
}

struct seg_spec {
    uint32_t type;
    uint64_t off, vaddr, paddr, filesz, memsz;
};

/* Headers at 0, then `segs`' program headers. The caller fills the rest. */
static void make_elf(uint8_t *f, size_t len, bool is64, uint64_t entry, const struct seg_spec *segs, unsigned n)
{
    memset(f, 0, len);
    if (is64) {
        Elf64_Ehdr h = {.e_type = ET_EXEC,
                        .e_machine = EM_X86_64,
                        .e_version = 1,
                        .e_entry = entry,
                        .e_phoff = sizeof(h),
                        .e_ehsize = sizeof(h),
                        .e_phentsize = sizeof(Elf64_Phdr),
                        .e_phnum = (Elf64_Half)n};
        memcpy(h.e_ident, "\177ELF\2\1\1", 7);
        memcpy(f, &h, sizeof(h));
        for (unsigned i = 0; i < n; i++) {
            Elf64_Phdr p = {.p_type = segs[i].type,
                            .p_offset = segs[i].off,
                            .p_vaddr = segs[i].vaddr,
                            .p_paddr = segs[i].paddr,
                            .p_filesz = segs[i].filesz,
                            .p_memsz = segs[i].memsz,
                            .p_align = 4};
            memcpy(f + sizeof(h) + i * sizeof(p), &p, sizeof(p));
        }
        return;
    }
    Elf32_Ehdr h = {.e_type = ET_EXEC,
                    .e_machine = EM_386,
                    .e_version = 1,
                    .e_entry = (Elf32_Addr)entry,
                    .e_phoff = sizeof(h),
                    .e_ehsize = sizeof(h),
                    .e_phentsize = sizeof(Elf32_Phdr),
                    .e_phnum = (Elf32_Half)n};
    memcpy(h.e_ident, "\177ELF\1\1\1", 7);
    memcpy(f, &h, sizeof(h));
    for (unsigned i = 0; i < n; i++) {
        Elf32_Phdr p = {segs[i].type,
                        (Elf32_Off)segs[i].off,
                        (Elf32_Addr)segs[i].vaddr,
                        (Elf32_Addr)segs[i].paddr,
                        (Elf32_Word)segs[i].filesz,
                        (Elf32_Word)segs[i].memsz,
                        0,
                        4};
        memcpy(f + sizeof(h) + i * sizeof(p), &p, sizeof(p));
    }
}

enum { ELF_LEN = 0x2000, NOTE_OFF = 0x800, SEG_OFF = 0x1000, SEG_LEN = 0x800, MB_OFF = 0x400 };
static const struct seg_spec good_segs[3] = {
    {PT_LOAD, SEG_OFF, 0xffffffff80100000, 0x100000, SEG_LEN, 0x5000},
    {PT_LOAD, SEG_OFF + SEG_LEN, 0xffffffff80200000, 0x200000, 0x100, 0x100},
    {PT_NOTE, NOTE_OFF, 0, 0, 0x30, 0x30},
};

/* A GNU note, then Xen's with a `desc_len` descriptor. */
static void put_pvh_note(uint8_t *f, uint32_t entry, uint32_t desc_len)
{
    uint8_t *n = f + NOTE_OFF;
    put_le32(n, 4), put_le32(n + 4, 4), put_le32(n + 8, 1), memcpy(n + 12, "GNU", 4);
    n += 20;
    put_le32(n, 4), put_le32(n + 4, desc_len), put_le32(n + 8, 18), memcpy(n + 12, "Xen", 4);
    put_le32(n + 16, entry);
}

static void make_pvh(uint8_t *f, bool is64)
{
    make_elf(f, ELF_LEN, is64, 0x100000, good_segs, 3);
    memset(f + SEG_OFF, 0x5a, SEG_LEN + 0x100);
    put_pvh_note(f, 0x100040, is64 ? 8 : 4);
}

static void put_multiboot_header(uint8_t *at, uint32_t flags)
{
    put_le32(at, 0x1badb002), put_le32(at + 4, flags), put_le32(at + 8, -(0x1badb002 + flags));
}

/* ELF without notes; entry is a virtual address in the first segment. */
static void make_multiboot(uint8_t *f, bool is64)
{
    struct seg_spec segs[2] = {good_segs[0], good_segs[1]};
    if (!is64)
        segs[0].vaddr = 0xc0100000, segs[1].vaddr = 0xc0200000;
    make_elf(f, ELF_LEN, is64, segs[0].vaddr + 0x10, segs, 2);
    memset(f + SEG_OFF, 0x5a, SEG_LEN + 0x100);
    put_multiboot_header(f + MB_OFF, 3);
}

enum { FLAT_LEN = 0x900, FLAT_OFF = 0x100 };
static void make_flat(uint8_t *f)
{
    memset(f, 0xc3, FLAT_LEN);
    put_multiboot_header(f + FLAT_OFF, 0x10003);
    put_le32(f + FLAT_OFF + 12, 0x110000 + FLAT_OFF - 0x40); /* header_addr: 0x40 bytes of the file are not loaded */
    put_le32(f + FLAT_OFF + 16, 0x110000);                   /* load_addr */
    put_le32(f + FLAT_OFF + 20, 0x110800);                   /* load_end_addr */
    put_le32(f + FLAT_OFF + 24, 0x112000);                   /* bss_end_addr */
    put_le32(f + FLAT_OFF + 28, 0x110080);                   /* entry_addr */
}

/* --- memory map -------------------------------------------------------------------------------------------------- */

static void test_e820(void **state)
{
    (void)state;
    static const uint64_t sizes[] = {MIB(16), MIB(512), GIB(3), GIB(5), GIB(64)};
    for (unsigned i = 0; i < ARRAY_LEN(sizes); i++) {
        struct mem mem;
        struct e820_map map;
        assert_ok(mem_init(&mem, sizes[i], 0));
        assert_ok(e820_build(&mem, &map));
        uint64_t low = MIN(sizes[i], GIB(3)), tables = low - ACPI_NVS_LEN - ACPI_TABLES_LEN;
        const struct e820_entry expected[] = {
            {0, 0x9fc00, 1},
            {0x9fc00, 0x400, 2},
            {0xf0000, 0x10000, 2},
            {0x100000, tables - 0x100000, 1},
            {tables, ACPI_TABLES_LEN, 3},
            {low - ACPI_NVS_LEN, ACPI_NVS_LEN, 4},
            {GIB(4), sizes[i] - low, 1},
        };
        assert_int_equal(map.count, sizes[i] > low ? 7 : 6);
        assert_memory_equal(map.e, expected, map.count * sizeof(expected[0]));
        mem_deinit(&mem);
    }
}

static void test_too_little_ram(void **state)
{
    (void)state;
    static uint8_t f[BZ_LEN];
    make_bzimage(f);
    struct boot_image img = kernel_image(f, BZ_LEN);
    assert_refused_with(MIB(1), &img, "too little");
    assert_refused_with(MIB(4), &img, "--memory");
}

/* --- entry states ------------------------------------------------------------------------------------------------ */

static void assert_flat_segments(const struct vcpu_state *s, uint16_t code_attr)
{
    assert_int_equal(s->seg[S_CS].sel, 0x10);
    assert_int_equal(s->seg[S_CS].attr, code_attr);
    for (unsigned i = S_ES; i <= S_GS; i++) {
        assert_int_equal(s->seg[i].base, 0);
        assert_int_equal(s->seg[i].limit, UINT32_MAX);
        if (i != S_CS) {
            assert_int_equal(s->seg[i].sel, 0x18);
            assert_int_equal(s->seg[i].attr, 0xc093);
        }
    }
    assert_int_equal(s->seg[S_TR].attr, 0x8b);
    assert_int_equal(s->seg[S_TR].limit, 0x67);
    assert_int_equal(vcpu_rflags(s), 2);
    assert_int_equal(s->cpl, 0);
}

/* The hidden parts must be what reloading the selectors from the GDT in memory would give. */
static void assert_gdt_agrees(const struct machine *m)
{
    static const enum segreg regs[] = {S_CS, S_DS, S_TR};
    for (unsigned i = 0; i < ARRAY_LEN(regs); i++) {
        const struct seg *g = &m->vcpu.s.seg[regs[i]];
        assert_true((uint32_t)(g->sel + 7) <= m->vcpu.s.gdtr.limit);
        uint64_t d = get_n(m, m->vcpu.s.gdtr.base + g->sel, 8);
        uint32_t limit = (uint32_t)((d & 0xffff) | (d >> 32 & 0xf0000));
        assert_int_equal(d >> 40 & 0xf0ff, g->attr);
        assert_int_equal(d >> 55 & 1 ? limit << 12 | 0xfff : limit, g->limit);
    }
}

static void assert_flat32(const struct machine *m, uint32_t entry)
{
    const struct vcpu_state *s = &m->vcpu.s;
    assert_flat_segments(s, 0xc09b);
    assert_int_equal(s->cr0, CR0_PE | CR0_ET);
    assert_int_equal(s->cr4, 0);
    assert_int_equal(s->efer, 0);
    assert_int_equal(s->r[R_RIP], entry);
    assert_gdt_agrees(m);
}

/* A walk of the boot page tables; ~0 where nothing is mapped. */
static uint64_t walk(const struct machine *m, uint64_t va)
{
    uint64_t at = m->vcpu.s.cr3;
    for (unsigned shift = 39; shift >= 21; shift -= 9) {
        uint64_t e = get_n(m, (at & ~UINT64_C(0xfff)) + (va >> shift & 511) * 8, 8);
        if ((e & 3) != 3)
            return UINT64_MAX;
        at = e & ~UINT64_C(0xfff);
        if (e & 0x80)
            return at + (va & ((UINT64_C(1) << shift) - 1));
    }
    return UINT64_MAX;
}

static void test_linux(void **state)
{
    (void)state;
    static uint8_t f[BZ_LEN], initrd[5000], code[BZ_CODE];
    make_bzimage(f);
    memset(initrd, 0x77, sizeof(initrd));
    struct boot_image img = kernel_image(f, BZ_LEN);
    img.initrd = initrd, img.initrd_len = sizeof(initrd);
    struct machine *m = boot(MIB(64), &img);
    const struct vcpu_state *s = &m->vcpu.s;

    assert_flat_segments(s, 0xa09b);
    assert_gdt_agrees(m);
    assert_int_equal(s->cr0, CR0_PE | CR0_ET | CR0_PG);
    assert_int_equal(s->cr4, CR4_PAE);
    assert_int_equal(s->efer, EFER_LME | EFER_LMA);
    assert_int_equal(s->r[R_RIP], 0x1000200);
    for (uint64_t va = 0; va < GIB(4); va += MIB(2))
        assert_int_equal(walk(m, va + 0x1234), va + 0x1234);
    assert_int_equal(walk(m, GIB(4)), UINT64_MAX);
    get(m, 0x1000000, code, BZ_CODE);
    assert_memory_equal(code, f + BZ_SETUP, BZ_CODE);

    struct boot_params p;
    get(m, s->r[R_RSI], &p, sizeof(p));
    assert_int_equal(p.hdr.type_of_loader, 0xff);
    assert_int_equal(p.hdr.version, 0x20f);
    assert_int_equal(p.hdr.header, 0x53726448);
    assert_int_equal(p.sentinel, 0);
    assert_int_equal(p.acpi_rsdp_addr, 0xf0000);
    assert_int_equal(p.e820_entries, 6);
    assert_int_equal(p.e820_table[3].addr, 0x100000);
    assert_string_at(m, p.hdr.cmd_line_ptr, "console=ttyS0");
    assert_int_equal(p.hdr.ramdisk_size, sizeof(initrd));
    assert_int_equal(p.hdr.ramdisk_image, (MIB(64) - 0x4000 - sizeof(initrd)) & ~UINT64_C(0xfff));
    assert_int_equal(p.ext_ramdisk_image, 0);
    assert_int_equal(get_n(m, p.hdr.ramdisk_image + sizeof(initrd) - 1, 1), 0x77);

    struct setup_data d;
    uint8_t seed[64];
    get(m, p.hdr.setup_data, &d, sizeof(d));
    get(m, p.hdr.setup_data + sizeof(d), seed, sizeof(seed));
    assert_int_equal(d.next, 0);
    assert_int_equal(d.type, SETUP_RNG_SEED);
    assert_int_equal(d.len, 64);
    assert_memory_equal(seed, m->start.seed, 64);

    /* What firmware leaves: BIOS data, virtual wire, MTRRs. */
    assert_int_equal(get_n(m, 0x40e, 2), 0x9fc0);
    assert_int_equal(get_n(m, 0x413, 2), 639);
    assert_int_equal(bus_read(m->bus, BUS_MMIO, LAPIC_BASE + 0xf0, 4), 0x10f);
    assert_int_equal(bus_read(m->bus, BUS_MMIO, LAPIC_BASE + 0x350, 4), 0x700);
    assert_int_equal(bus_read(m->bus, BUS_MMIO, LAPIC_BASE + 0x360, 4), 0x400);
    assert_int_equal(s->mtrr_def_type, 0xc06);
    assert_int_equal(s->mtrr_base[0], 0xc0000000);
    assert_int_equal(s->mtrr_mask[0] & 0xffffffff, 0xc0000800);
    machine_destroy(m);
}

static void test_linux_placement(void **state)
{
    (void)state;
    static uint8_t f[BZ_LEN], initrd[0x201000];
    make_bzimage(f);
    struct boot_image img = kernel_image(f, BZ_LEN);

    /* The preferred address is not to be had: the lowest aligned one above it. */
    put_le64(f + 0x258, 0xa0000);
    struct machine *m = boot(MIB(12), &img);
    assert_int_equal(m->vcpu.s.r[R_RIP], 0x200200);
    machine_destroy(m);
    f[0x234] = 0;
    assert_refused_with(MIB(12), &img, "--memory");
    make_bzimage(f);
    assert_refused_with(MIB(12), &img, "--memory"); /* never below it */
    put_le64(f + 0x258, 0xa0000);
    put_le32(f + 0x230, 0x180000); /* alignment that is no power of two */
    assert_refused_with(MIB(12), &img, "--memory");
    make_bzimage(f);

    /* An initrd that does not fit below initrd_addr_max goes above 4 GiB when the kernel can. */
    make_bzimage(f);
    put_le32(f + 0x22c, 0x1fffff);
    img.initrd = initrd, img.initrd_len = sizeof(initrd);
    m = boot(GIB(5), &img);
    struct boot_params p;
    get(m, m->vcpu.s.r[R_RSI], &p, sizeof(p));
    assert_int_equal((uint64_t)p.ext_ramdisk_image << 32 | p.hdr.ramdisk_image, GIB(6) - sizeof(initrd));
    machine_destroy(m);
    put_le16(f + 0x236, XLF_KERNEL_64);
    assert_refused_with(GIB(5), &img, "initrd");
    /* The limit is inclusive. */
    put_le32(f + 0x22c, 0x100000 + sizeof(initrd) - 1);
    m = boot(GIB(5), &img);
    get(m, m->vcpu.s.r[R_RSI], &p, sizeof(p));
    assert_int_equal(p.hdr.ramdisk_image, 0x100000);
    machine_destroy(m);
}

static void test_linux_refused(void **state)
{
    (void)state;
    static uint8_t f[BZ_LEN];
    static char long_line[300];
    static uint8_t nothing[1];
    make_bzimage(f);
    struct boot_image img = kernel_image(f, BZ_LEN), bad = img;

    put_le16(f + 0x206, 0x20b);
    assert_refused_with(MIB(64), &img, "2.11");
    make_bzimage(f);
    put_le16(f + 0x236, XLF_CAN_BE_LOADED_ABOVE_4G);
    assert_refused_with(MIB(64), &img, "64-bit");
    make_bzimage(f);
    put_le32(f + 0x1f4, UINT32_MAX);
    assert_refused_with(MIB(64), &img, "truncated");
    put_le32(f + 0x1f4, 0);
    assert_refused_with(MIB(64), &img, "no kernel code");
    make_bzimage(f);
    f[0x201] = 4;
    assert_refused_with(MIB(64), &img, "damaged");
    make_bzimage(f);
    put_le32(f + 0x260, UINT32_MAX);
    assert_refused_with(MIB(64), &img, "--memory");
    make_bzimage(f);
    put_le64(f + 0x258, UINT64_MAX - 0x1000);
    f[0x234] = 0;
    assert_refused_with(MIB(64), &img, "beyond 4 GiB");
    make_bzimage(f);
    memset(long_line, 'x', 256);
    bad.cmdline = long_line;
    assert_refused_with(MIB(64), &bad, "255");
    bad = img;
    bad.initrd = nothing;
    assert_refused_with(MIB(64), &bad, "empty");
    bad = img;
    bad.kernel_len = 0;
    assert_refused_with(MIB(64), &bad, "empty");
    bad = kernel_image((const uint8_t *)"#!/bin/sh\n", 10);
    assert_refused_with(MIB(64), &bad, "no bzImage");
    bad = img;
    bad.kernel_len = BZ_LEN - 1;
    assert_refused_with(MIB(64), &bad, "truncated");
}

static size_t put_cpio(char *at, const char *name, size_t data_len)
{
    size_t name_len = strlen(name) + 1;
    memset(at, 0, 512);
    snprintf(at, 128, "070701%048d%08zx%032d%08zx%08d%s", 0, data_len, 0, name_len, 0, name);
    return align_up(align_up(110 + name_len, 4) + data_len, 4);
}

static void test_initrd_cpio(void **state)
{
    (void)state;
    static uint8_t f[BZ_LEN];
    static char cpio[2048];
    make_bzimage(f);
    struct boot_image img = kernel_image(f, BZ_LEN);
    size_t init_end = put_cpio(cpio, "init", 101);
    size_t len = init_end + put_cpio(cpio + init_end, "TRAILER!!!", 0);
    img.initrd = (const uint8_t *)cpio;
    for (img.initrd_len = 6; img.initrd_len < len; img.initrd_len++)
        if (img.initrd_len < init_end + 110 + 11)
            assert_refused_with(MIB(64), &img, "initrd: the cpio archive is truncated");
    img.initrd_len = 512; /* zero padding */
    machine_destroy(boot(MIB(64), &img));
    memcpy(cpio + 512, "\x1f\x8b compressed", 12); /* an archive of another kind behind it */
    img.initrd_len = 524;
    machine_destroy(boot(MIB(64), &img));
    memcpy(cpio + 512, "070701", 6);
    assert_refused_with(MIB(64), &img, "at byte 512");
}

static void assert_elf_loaded(const struct machine *m)
{
    assert_int_equal(get_n(m, 0x100000, 1), 0x5a);
    assert_int_equal(get_n(m, 0x100000 + SEG_LEN - 1, 2), 0x005a);
    assert_int_equal(get_n(m, 0x2000ff, 2), 0x005a);
}

static void test_pvh(void **state)
{
    (void)state;
    static uint8_t f[ELF_LEN], initrd[100];
    for (unsigned is64 = 0; is64 < 2; is64++) {
        make_pvh(f, is64);
        struct boot_image img = kernel_image(f, ELF_LEN);
        img.initrd = initrd, img.initrd_len = sizeof(initrd);
        struct machine *m = boot(MIB(16), &img);
        assert_flat32(m, 0x100040);
        assert_elf_loaded(m);
        uint64_t info = m->vcpu.s.r[R_RBX];
        assert_int_equal(get_n(m, info, 4), 0x336ec578);
        assert_int_equal(get_n(m, info + 4, 4), 1);
        assert_int_equal(get_n(m, info + 12, 4), 1); /* modules */
        uint64_t module = get_n(m, info + 16, 8), map = get_n(m, info + 40, 8);
        assert_int_equal(get_n(m, module, 8), MIB(16) - 0x5000);
        assert_int_equal(get_n(m, module + 8, 8), sizeof(initrd));
        assert_string_at(m, get_n(m, info + 24, 8), "console=ttyS0");
        assert_int_equal(get_n(m, info + 32, 8), 0xf0000);
        assert_int_equal(get_n(m, info + 48, 4), 6);
        assert_int_equal(get_n(m, map + 3 * 24, 8), 0x100000);
        assert_int_equal(get_n(m, map + 3 * 24 + 16, 4), 1);
        machine_destroy(m);
    }
}

static void assert_multiboot_info(const struct machine *m, uint64_t module_at, size_t module_len)
{
    assert_int_equal(m->vcpu.s.r[R_RAX], 0x2badb002);
    uint64_t info = m->vcpu.s.r[R_RBX];
    assert_int_equal(get_n(m, info, 4), 0x24d);
    assert_int_equal(get_n(m, info + 4, 4), 639);
    assert_int_equal(get_n(m, info + 8, 4), (MIB(16) - 0x4000 - MIB(1)) >> 10);
    assert_string_at(m, get_n(m, info + 16, 4), "console=ttyS0");
    assert_int_equal(get_n(m, info + 20, 4), 1);
    uint64_t module = get_n(m, info + 24, 4), map = get_n(m, info + 48, 4), map_len = get_n(m, info + 44, 4);
    assert_int_equal(get_n(m, module, 4), module_at);
    assert_int_equal(get_n(m, module + 4, 4), module_at + module_len);
    assert_string_at(m, get_n(m, module + 8, 4), "initrd");
    assert_string_at(m, get_n(m, info + 64, 4), "Hyperwind");
    unsigned entries = 0, usable = 0;
    for (uint64_t at = map; at < map + map_len; at += get_n(m, at, 4) + 4, entries++)
        usable += get_n(m, at + 20, 4) == 1;
    assert_int_equal(entries, 6);
    assert_int_equal(usable, 2);
}

static void test_multiboot_elf(void **state)
{
    (void)state;
    static uint8_t f[ELF_LEN], initrd[100];
    for (unsigned is64 = 0; is64 < 2; is64++) {
        make_multiboot(f, is64);
        struct boot_image img = kernel_image(f, ELF_LEN);
        img.initrd = initrd, img.initrd_len = sizeof(initrd);
        struct machine *m = boot(MIB(16), &img);
        assert_flat32(m, 0x100010);
        assert_elf_loaded(m);
        assert_multiboot_info(m, 0x201000, sizeof(initrd));
        machine_destroy(m);
    }
    make_multiboot(f, false);
    struct boot_image img = kernel_image(f, ELF_LEN);
    put_multiboot_header(f + MB_OFF, 0x23);
    assert_refused_with(MIB(16), &img, "flags 0x20");
    make_multiboot(f, false);
    put_le32(f + 24, 0x300000); /* an entry outside every segment is a physical address */
    struct machine *m = boot(MIB(16), &img);
    assert_flat32(m, 0x300000);
    machine_destroy(m);
}

static void test_multiboot_flat(void **state)
{
    (void)state;
    static uint8_t f[FLAT_LEN], initrd[100];
    make_flat(f);
    struct boot_image img = kernel_image(f, FLAT_LEN);
    img.initrd = initrd, img.initrd_len = sizeof(initrd);
    struct machine *m = boot(MIB(16), &img);
    assert_flat32(m, 0x110080);
    assert_multiboot_info(m, 0x112000, sizeof(initrd));
    assert_int_equal(get_n(m, 0x110000 + FLAT_OFF - 0x40, 4), 0x1badb002);
    assert_int_equal(get_n(m, 0x1107ff, 2), 0x00c3);
    machine_destroy(m);

    put_le32(f + FLAT_OFF + 20, 0); /* to the end of the file */
    put_le32(f + FLAT_OFF + 24, 0);
    m = boot(MIB(16), &img);
    assert_int_equal(get_n(m, 0x110000 + FLAT_LEN - 0x40 - 1, 2), 0x00c3);
    machine_destroy(m);

    static const struct {
        uint32_t field, value;
        const char *text;
    } bad[] = {
        {12, 0x10ffff, "header lies outside"}, /* header below load_addr */
        {12, 0x110101, "header lies outside"}, /* begins before the file */
        {20, 0x10ffff, "ends before it begins"},
        {20, 0xfffffff0, "truncated"},
        {24, 0x110001, "BSS"},
        {24, 0xfffffff0, "--memory"},
    };
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        make_flat(f);
        put_le32(f + FLAT_OFF + bad[i].field, bad[i].value);
        assert_refused_with(MIB(16), &img, bad[i].text);
    }
}

static void test_firmware(void **state)
{
    (void)state;
    enum { LEN = 0x30010 }; /* not whole pages */
    static uint8_t rom[LEN];
    for (unsigned i = 0; i < LEN; i++)
        rom[i] = (uint8_t)(i * 7 + (i >> 8));
    struct boot_image img = {.firmware = rom, .firmware_len = LEN, .cmdline = ""};
    struct machine *m = new_machine(MIB(16), align_up(LEN, PAGE_SIZE));
    assert_ok(machine_boot(m, &img));
    static uint8_t back[LEN];
    get(m, GIB(4) - LEN, back, LEN);
    assert_memory_equal(back, rom, LEN);
    get(m, 0xe0000, back, 0x20000);
    assert_memory_equal(back, rom + LEN - 0x20000, 0x20000);
    assert_int_equal(m->vcpu.s.seg[S_CS].base, 0xffff0000);
    assert_int_equal(m->vcpu.s.seg[S_CS].sel, 0xf000);
    assert_int_equal(m->vcpu.s.r[R_RIP], 0xfff0);
    assert_int_equal(m->vcpu.s.cr0 & CR0_PE, 0);
    assert_int_equal(get_n(m, 0x40e, 2), 0);
    machine_destroy(m);
    img.firmware_len = 15;
    assert_refused_with(MIB(16), &img, "reset vector");
}

/* --- hostile files ----------------------------------------------------------------------------------------------- */

static void test_truncated(void **state)
{
    (void)state;
    static uint8_t bz[BZ_LEN], pvh32[ELF_LEN], pvh64[ELF_LEN], mb[ELF_LEN], flat[FLAT_LEN];
    make_bzimage(bz), make_pvh(pvh32, false), make_pvh(pvh64, true), make_multiboot(mb, false), make_flat(flat);
    const struct {
        const uint8_t *file;
        size_t len, step_from;
    } files[] = {{bz, BZ_LEN, 0x280},
                 {pvh32, ELF_LEN, NOTE_OFF + 0x40},
                 {pvh64, ELF_LEN, NOTE_OFF + 0x40},
                 {mb, ELF_LEN, MB_OFF + 0x20},
                 {flat, FLAT_LEN, FLAT_OFF + 0x20}};
    for (unsigned i = 0; i < ARRAY_LEN(files); i++) {
        for (size_t len = 0; len < files[i].len; len += len < files[i].step_from ? 1 : 199) {
            uint8_t *exact = malloc(len ? len : 1); /* so that a sanitizer sees one byte too far */
            memcpy(exact, files[i].file, len);
            struct boot_image img = kernel_image(exact, len);
            assert_survives(MIB(16), &img);
            free(exact);
        }
    }
}

static void test_elf_hostile(void **state)
{
    (void)state;
    static uint8_t f[ELF_LEN];
    struct boot_image img = kernel_image(f, ELF_LEN);
    static const struct {
        struct seg_spec second;
        const char *text;
    } bad[] = {
        {{PT_LOAD, SEG_OFF, 0, 0x104fff, 1, 1}, "overlaps"},
        {{PT_LOAD, SEG_OFF, 0, 0xfffff, 2, 2}, "not all usable RAM"},
        {{PT_LOAD, SEG_OFF, 0, 0x400, 2, 2}, "overlaps the BIOS data area"},
        {{PT_LOAD, SEG_OFF, 0, GIB(1), 2, 2}, "--memory"},
        {{PT_LOAD, SEG_OFF, 0, UINT64_MAX, 2, 2}, "--memory"},
        {{PT_LOAD, SEG_OFF, 0, 0x200000, 2, UINT64_MAX}, "--memory"},
        {{PT_LOAD, SEG_OFF, 0, 0x200000, 3, 2}, "longer in the file"},
        {{PT_LOAD, SEG_OFF, 0, 0x200000, UINT64_MAX, UINT64_MAX}, "beyond the end"},
        {{PT_LOAD, UINT64_MAX, 0, 0x200000, 2, 2}, "beyond the end"},
        {{PT_NOTE, UINT64_MAX - 4, 0, 0, 8, 8}, "beyond the end"},
    };
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        struct seg_spec segs[3] = {good_segs[0], bad[i].second, good_segs[2]};
        make_elf(f, ELF_LEN, true, 0x100000, segs, 3);
        put_pvh_note(f, 0x100000, 4);
        assert_refused_with(MIB(16), &img, bad[i].text);
    }
    struct seg_spec many[SEGMENTS_MAX + 1];
    for (unsigned i = 0; i < ARRAY_LEN(many); i++)
        many[i] = (struct seg_spec){PT_LOAD, SEG_OFF, 0, 0x100000 + 0x1000 * i, 1, 1};
    make_elf(f, ELF_LEN, true, 0, many, ARRAY_LEN(many));
    assert_refused_with(MIB(16), &img, "segments");
    make_elf(f, ELF_LEN, true, 0, NULL, 0);
    assert_refused_with(MIB(16), &img, "no loadable segment");

    make_pvh(f, true);
    put_le16(f + 56, 0xffff); /* e_phnum */
    assert_refused_with(MIB(16), &img, "program headers");
    make_pvh(f, true);
    put_le64(f + 32, UINT64_MAX); /* e_phoff */
    assert_refused_with(MIB(16), &img, "program headers");
    make_pvh(f, true);
    put_le16(f + 18, 183); /* AArch64 */
    assert_refused_with(MIB(16), &img, "another processor");
    make_pvh(f, true);
    put_le16(f + 16, ET_REL);
    assert_refused_with(MIB(16), &img, "no executable");
    make_pvh(f, true);
    put_pvh_note(f, 0x100000, 5); /* a descriptor of neither 4 nor 8 bytes is no entry */
    assert_refused_with(MIB(16), &img, "neither a PVH entry note nor a Multiboot header");
    make_pvh(f, true);
    put_le32(f + NOTE_OFF, UINT32_MAX); /* a note that runs away ends the search */
    assert_refused_with(MIB(16), &img, "neither a PVH entry note nor a Multiboot header");
    make_pvh(f, true);
    put_le32(f + NOTE_OFF + 20 + 20, 1); /* entry beyond 4 GiB */
    assert_refused_with(MIB(16), &img, "beyond 4 GiB");
}

/* --- ACPI -------------------------------------------------------------------------------------------------------- */

static uint8_t *read_table(const struct machine *m, uint64_t at, const char *signature, uint32_t *len_out)
{
    uint32_t len = (uint32_t)get_n(m, at + 4, 4);
    assert_in_range(len, 36, 0x3000);
    uint8_t *t = malloc(len), sum = 0;
    get(m, at, t, len);
    assert_memory_equal(t, signature, 4);
    for (uint32_t i = 0; i < len; i++)
        sum = (uint8_t)(sum + t[i]);
    assert_int_equal(sum, 0);
    *len_out = len;
    return t;
}

/* Disassemble the table with iasl, which checks its structure. */
static void check_with_iasl(const uint8_t *table, uint32_t len)
{
#ifdef HW_IASL
    char dir[] = "/tmp/hw-acpi-XXXXXX", path[64], cmd[512];
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/t.aml", dir);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(table, 1, len, f), len);
    fclose(f);
    snprintf(cmd, sizeof(cmd),
             "cd %s && %s -d t.aml >log 2>&1 && test -s t.dsl && ! grep -iE 'error|warning|invalid' log t.dsl", dir,
             HW_IASL);
    int rc = system(cmd);
    if (rc)
        fail_msg("iasl complains; see %s", dir);
    snprintf(cmd, sizeof(cmd), "rm -r %s", dir);
    assert_int_equal(system(cmd), 0);
#else
    (void)table, (void)len;
#endif
}

static bool contains(const uint8_t *hay, size_t hay_len, const void *needle, size_t len)
{
    return memmem(hay, hay_len, needle, len) != NULL;
}

/* The DSDT's literals are those of platform.h. */
static void check_dsdt(const uint8_t *t, uint32_t len)
{
    const uint8_t s5[] = {'_', 'S', '5', '_', 0x12, 8, 4, 0x0a, PM_SLP_TYP_S5, 0x0a, PM_SLP_TYP_S5, 0, 0};
    assert_true(contains(t, len, s5, sizeof(s5)));
    static const struct {
        uint16_t port;
        uint8_t len;
        uint16_t irqs;
    } io[] = {{COM1_PORT, UART_LEN, 1 << IRQ_COM1},
              {COM2_PORT, UART_LEN, 1 << IRQ_COM2},
              {COM3_PORT, UART_LEN, 1 << IRQ_COM1},
              {COM4_PORT, UART_LEN, 1 << IRQ_COM2},
              {RTC_PORT, 2, 1 << IRQ_RTC},
              {I8042_DATA_PORT, 1, 0},
              {I8042_COMMAND_PORT, 1, 1 << IRQ_KEYBOARD},
              {PM_BASE, 12, 0},
              {PIC_MASTER_PORT, 2, 0},
              {PIC_SLAVE_PORT, 2, 0},
              {PIC_ELCR_PORT, 2, 0},
              {PIT_PORT, 4, 0},
              {DEBUG_EXIT_PORT, 4, 0}};
    for (unsigned i = 0; i < ARRAY_LEN(io); i++) { /* ACPI 6.3, 6.4.2.5: I/O port descriptor; 6.4.2.1: IRQ */
        uint8_t d[11] = {0x47, 1, 0, 0, 0, 0, 1, io[i].len, 0x22};
        put_le16(d + 2, io[i].port), put_le16(d + 4, io[i].port), put_le16(d + 9, io[i].irqs);
        assert_true(contains(t, len, d, io[i].irqs ? 11 : 8));
    }
}

static void check_fadt(const struct machine *m, const uint8_t *t, uint32_t len)
{
    assert_int_equal(len, 276);
    assert_int_equal(t[8], 6);
    assert_int_equal(get_le16(t + 46), IRQ_SCI);
    assert_int_equal(get_le32(t + 48), 0);     /* SMI_CMD */
    assert_int_equal(get_le16(t + 109), 0x0f); /* IAPC_BOOT_ARCH */
    static const struct {
        unsigned off32, len_off, x_off;
        uint32_t port;
    } blocks[] = {{56, 88, 148, PM1A_EVT_PORT}, {64, 89, 172, PM1A_CNT_PORT}, {76, 91, 208, PM_TMR_PORT}};
    for (unsigned i = 0; i < ARRAY_LEN(blocks); i++) {
        assert_int_equal(get_le32(t + blocks[i].off32), blocks[i].port);
        assert_int_equal(t[blocks[i].x_off], 1);
        assert_int_equal(t[blocks[i].x_off + 1], t[blocks[i].len_off] * 8);
        assert_int_equal(get_le64(t + blocks[i].x_off + 4), blocks[i].port);
    }
    assert_int_equal(get_le64(t + 116 + 4), RESET_PORT);
    assert_int_equal(t[128], RESET_VALUE);
    assert_true(get_le32(t + 112) & 1 << 10);
    uint32_t facs = get_le32(t + 36), dsdt_len;
    assert_int_equal(facs & 63, 0);
    assert_int_equal(get_n(m, facs, 4), 0x53434146); /* "FACS" */
    assert_int_equal(get_n(m, facs + 4, 4), 64);
    assert_int_equal(get_le64(t + 132), 0); /* X_FIRMWARE_CTRL */
    assert_int_equal(get_le64(t + 140), get_le32(t + 40));
    uint8_t *dsdt = read_table(m, get_le32(t + 40), "DSDT", &dsdt_len);
    check_dsdt(dsdt, dsdt_len);
    check_with_iasl(dsdt, dsdt_len);
    free(dsdt);
}

static void check_madt(const uint8_t *t, uint32_t len)
{
    assert_int_equal(get_le32(t + 36), LAPIC_BASE);
    assert_int_equal(get_le32(t + 40), 1);
    static const uint8_t expected[] = {0, 8, 0, 0, 1, 0,  0,   0, 1,       12, IOAPIC_ID, 0, 0, 0, 0xc0, 0xfe,
                                       0, 0, 0, 0, 2, 10, 0,   0, GSI_PIT, 0,  0,         0, 0, 0, 2,    10,
                                       0, 9, 9, 0, 0, 0,  0xd, 0, 4,       6,  0xff,      0, 0, 1};
    assert_int_equal(len, 44 + sizeof(expected));
    assert_memory_equal(t + 44, expected, sizeof(expected));
}

static void test_acpi(void **state)
{
    (void)state;
    static uint8_t f[BZ_LEN];
    make_bzimage(f);
    struct boot_image img = kernel_image(f, BZ_LEN);
    struct machine *m = boot(MIB(64), &img);
    uint8_t rsdp[36], sum20 = 0, sum36 = 0;
    get(m, 0xf0000, rsdp, sizeof(rsdp));
    assert_memory_equal(rsdp, "RSD PTR ", 8);
    for (unsigned i = 0; i < 36; i++) {
        sum36 = (uint8_t)(sum36 + rsdp[i]);
        sum20 = (uint8_t)(sum20 + (i < 20 ? rsdp[i] : 0));
    }
    assert_int_equal(sum20, 0);
    assert_int_equal(sum36, 0);
    assert_int_equal(rsdp[15], 2);
    uint32_t rsdt_len, xsdt_len, len;
    uint8_t *rsdt = read_table(m, get_le32(rsdp + 16), "RSDT", &rsdt_len);
    uint8_t *xsdt = read_table(m, get_le64(rsdp + 24), "XSDT", &xsdt_len);
    assert_int_equal(rsdt_len, 36 + 2 * 4);
    assert_int_equal(xsdt_len, 36 + 2 * 8);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(get_le32(rsdt + 36 + i * 4), get_le64(xsdt + 36 + i * 8));
    uint8_t *fadt = read_table(m, get_le64(xsdt + 36), "FACP", &len);
    check_fadt(m, fadt, len);
    check_with_iasl(fadt, len);
    uint8_t *madt = read_table(m, get_le64(xsdt + 44), "APIC", &len);
    check_madt(madt, len);
    check_with_iasl(madt, len);
    check_with_iasl(xsdt, xsdt_len);
    free(rsdt), free(xsdt), free(fadt), free(madt);
    machine_destroy(m);
}

/* --- fw_cfg ------------------------------------------------------------------------------------------------------ */

static void fwcfg_select(struct machine *m, uint16_t key) { bus_write(m->bus, BUS_PIO, 0x510, 2, key); }
static uint64_t fwcfg_bytes(struct machine *m, unsigned n)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < n; i++)
        v |= bus_read(m->bus, BUS_PIO, 0x511, 1) << (8 * i);
    return v;
}
static uint64_t fwcfg_item(struct machine *m, uint16_t key, unsigned n)
{
    fwcfg_select(m, key);
    return fwcfg_bytes(m, n);
}

struct again { unsigned count; bool fails; };

static uint8_t *give_again(void *self, enum boot_part part)
{
    struct again *a = self;
    a->count++;
    uint8_t *data = a->fails ? NULL : malloc(BZ_LEN);
    if (data)
        memset(data, part == BOOT_KERNEL ? 0x4b : 0x49, BZ_LEN);
    return data;
}

/* Kernel and initrd are asked for when the guest reads the first byte, once. */
static void test_fwcfg_again(void **state)
{
    (void)state;
    static uint8_t f[BZ_LEN], initrd[3] = {1, 2, 3};
    struct again again = {0};
    make_bzimage(f);
    struct boot_image img = kernel_image(f, BZ_LEN);
    img.initrd = initrd, img.initrd_len = sizeof(initrd);
    img.again = give_again, img.again_self = &again;
    struct machine *m = boot(MIB(64), &img);
    assert_int_equal(fwcfg_item(m, 0x08, 4), BZ_LEN);
    fwcfg_select(m, 0x11);
    assert_int_equal(again.count, 0);
    assert_int_equal(fwcfg_item(m, 0x11, 4), 0x4b4b4b4b);
    assert_int_equal(fwcfg_item(m, 0x11, 4), 0x4b4b4b4b);
    assert_int_equal(again.count, 1);
    again.fails = true;
    assert_int_equal(fwcfg_item(m, 0x12, 4), 0);
    assert_int_equal(fwcfg_item(m, 0x12, 4), 0);
    assert_int_equal(again.count, 2);
    machine_destroy(m);
    again.fails = false;
    m = boot(MIB(64), &img);
    assert_int_equal(fwcfg_item(m, 0x12, 4), 0x494949); /* three bytes, and past the end */
    machine_destroy(m);
}

static void test_fwcfg(void **state)
{
    (void)state;
    static uint8_t f[BZ_LEN], initrd[3] = {1, 2, 3};
    make_bzimage(f);
    struct boot_image img = kernel_image(f, BZ_LEN);
    img.initrd = initrd, img.initrd_len = sizeof(initrd);
    struct machine *m = boot(GIB(5), &img);
    assert_int_equal(fwcfg_item(m, 0, 4), 0x554d4551); /* "QEMU" */
    assert_int_equal(fwcfg_bytes(m, 2), 0);            /* past the end */
    assert_int_equal(fwcfg_item(m, 1, 4), 1);          /* no DMA */
    assert_int_equal(fwcfg_item(m, 3, 8), GIB(5));
    assert_int_equal(fwcfg_item(m, 4, 2), 1);
    assert_int_equal(fwcfg_item(m, 5, 2), 1);
    assert_int_equal(fwcfg_item(m, 0x08, 4), BZ_LEN);
    assert_int_equal(fwcfg_item(m, 0x07, 4), 0x1000000);
    assert_int_equal(fwcfg_item(m, 0x10, 4), 0x1000200);
    assert_int_equal(fwcfg_item(m, 0x12, 4), 0x030201);
    assert_int_equal(fwcfg_item(m, 0x0b, 4), 3);
    assert_int_equal(fwcfg_item(m, 0x14, 4), sizeof("console=ttyS0"));
    assert_int_equal(fwcfg_item(m, 0x15, 4), 0x736e6f63); /* "cons" */
    assert_int_equal(fwcfg_item(m, 0x19, 4), 0x01000000); /* one file, big-endian */
    assert_int_equal(fwcfg_bytes(m, 4), 0x28000000);      /* 40 bytes */
    assert_int_equal(fwcfg_bytes(m, 2), 0x2000);          /* key 0x20 */
    assert_int_equal(fwcfg_bytes(m, 2), 0);
    assert_int_equal(fwcfg_bytes(m, 8), 0x303238652f637465); /* "etc/e820" */
    machine_destroy(m);
}

static void test_fwcfg_odd(void **state)
{
    (void)state;
    struct machine *m = new_machine(MIB(16), 0);
    for (unsigned key = 0; key < 0x10000; key += 7) { /* every key may be selected */
        fwcfg_select(m, (uint16_t)key);
        fwcfg_bytes(m, 2);
    }
    fwcfg_select(m, 0x4000); /* write access asked for: the same item */
    bus_write(m->bus, BUS_PIO, 0x511, 1, 0xff);
    assert_int_equal(fwcfg_bytes(m, 4), 0x554d4551);
    bus_write(m->bus, BUS_PIO, 0x510, 1, 3); /* half a selector is none */
    assert_int_equal(fwcfg_bytes(m, 1), 0);
    assert_int_equal(bus_read(m->bus, BUS_PIO, 0x510, 2), 0xffff);
    machine_destroy(m);
}

/* --- a boot is a function of its inputs -------------------------------------------------------------------------- */

static void hash_page(void *arg, uint32_t page)
{
    struct {
        struct mem *mem;
        uint64_t hash;
    } *h = arg;
    h->hash = hash64(mem_page_host(h->mem, page), PAGE_SIZE, h->hash + page);
}

static void test_pure(void **state)
{
    (void)state;
    static uint8_t f[3][ELF_LEN + BZ_LEN];
    make_bzimage(f[0]), make_pvh(f[1], true), make_multiboot(f[2], false);
    static const size_t lens[3] = {BZ_LEN, ELF_LEN, ELF_LEN};
    for (unsigned i = 0; i < 3; i++) {
        struct {
            struct mem *mem;
            uint64_t hash;
        } h[2];
        uint64_t cpu[2];
        for (unsigned run = 0; run < 2; run++) {
            struct boot_image img = kernel_image(f[i], lens[i]);
            struct machine *m = boot(MIB(64), &img);
            assert_null(m->boot);
            h[run].mem = &m->mem, h[run].hash = 0;
            for (uint32_t page = 0; page < m->mem.page_count; page++)
                hash_page(&h[run], page);
            cpu[run] = hash64(&m->vcpu.s, sizeof(m->vcpu.s), 0);
            machine_destroy(m);
        }
        assert_int_equal(h[0].hash, h[1].hash);
        assert_int_equal(cpu[0], cpu[1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_e820),
        cmocka_unit_test(test_too_little_ram),
        cmocka_unit_test(test_linux),
        cmocka_unit_test(test_linux_placement),
        cmocka_unit_test(test_linux_refused),
        cmocka_unit_test(test_initrd_cpio),
        cmocka_unit_test(test_pvh),
        cmocka_unit_test(test_multiboot_elf),
        cmocka_unit_test(test_multiboot_flat),
        cmocka_unit_test(test_firmware),
        cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_elf_hostile),
        cmocka_unit_test(test_acpi),
        cmocka_unit_test(test_fwcfg_again),
        cmocka_unit_test(test_fwcfg),
        cmocka_unit_test(test_fwcfg_odd),
        cmocka_unit_test(test_pure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
