/* tests/analysis/fake_kernel.h: memory that looks like a Linux kernel's, in the layouts of all versions, for tests
 * of ksyms that need no kernel. RAM lies at physical 0; the image in it at IMAGE_PHYS, which is linear IMAGE_LINEAR. */
#ifndef FAKE_KERNEL_H
#define FAKE_KERNEL_H

#include <stdio.h>
#include <stdlib.h>

#include "analysis/ksyms.h"

enum {
    FAKE_RAM = 4 << 20, IMAGE_PHYS = 2 << 20, IMAGE_LEN = 2 << 20, FAKE_SYMBOLS = 1500, FAKE_ORC = 1200,
    /* Offsets in the image. */
    FAKE_BANNER = 0x80000, FAKE_PHYS_BASE = 0x80100, FAKE_BOOT_PARAMS = 0x81000, FAKE_TABLES = 0x90000,
    FAKE_ORC_IP = 0x180000, FAKE_LINKED = 0x1000000,
};
#define FAKE_SLIDE UINT64_C(0x12400000)
#define IMAGE_LINEAR (UINT64_C(0xffffffff80000000) + FAKE_LINKED + FAKE_SLIDE)

struct fake_layout {
    const char *banner;
    bool new_order;   /* offsets behind the token index */
    bool seqs;        /* kallsyms_seqs_of_names */
    bool percpu;      /* CONFIG_KALLSYMS_ABSOLUTE_PERCPU */
    bool all;         /* CONFIG_KALLSYMS_ALL: symbols of data, too */
    bool linear;      /* the image is mapped */
};

static const struct fake_layout fake_layouts[] = {
    {"Linux version 4.19.0-test", .percpu = true, .all = true, .linear = true},
    {"Linux version 5.10.0-test", .percpu = true, .all = true},
    {"Linux version 6.1.0-test", .seqs = true, .percpu = true, .all = true, .linear = true},
    {"Linux version 6.1.0-test", .seqs = true, .percpu = true, .all = true},
    {"Linux version 6.6.0-test", .new_order = true, .seqs = true, .percpu = true, .all = true, .linear = true},
    {"Linux version 6.16.0-test", .new_order = true, .seqs = true, .all = true},
    {"Linux version 6.1.0-test", .percpu = true, .linear = true},
};
enum { FAKE_LAYOUTS = sizeof(fake_layouts) / sizeof(fake_layouts[0]) };

struct fake_symbol { uint64_t addr; char name[200]; /* the type first */ };

struct fake_kernel {
    const struct fake_layout *layout;
    uint8_t *ram;
    struct fake_symbol symbol[FAKE_SYMBOLS];
    unsigned count;
    uint64_t tables_end; /* offset in the image */
};

static uint8_t *fake_image(struct fake_kernel *k) { return k->ram + IMAGE_PHYS; }

/* Reads end where RAM or the image end. */
static size_t fake_read_phys(void *arg, uint64_t at, void *buf, size_t len)
{
    struct fake_kernel *k = arg;
    size_t n = at < FAKE_RAM ? MIN(len, FAKE_RAM - at) : 0;
    memcpy(buf, k->ram + (n ? at : 0), n);
    return n;
}

static size_t fake_read(void *arg, uint64_t at, void *buf, size_t len)
{
    struct fake_kernel *k = arg;
    if (!k->layout->linear || at < IMAGE_LINEAR || at >= IMAGE_LINEAR + IMAGE_LEN)
        return 0;
    return fake_read_phys(k, IMAGE_PHYS + (at - IMAGE_LINEAR), buf, MIN(len, IMAGE_LINEAR + IMAGE_LEN - at));
}

static struct ksyms_reader fake_reader(struct fake_kernel *k)
{
    return (struct ksyms_reader){k, fake_read, fake_read_phys, FAKE_RAM};
}

static void fake_symbol(struct fake_kernel *k, uint64_t addr, const char *name)
{
    struct fake_symbol *s = &k->symbol[k->count++];
    s->addr = addr;
    snprintf(s->name, sizeof(s->name), "%s", name);
}

/* Two at one address, names of one letter and of more than 127 tokens, and one name twice. */
static void fake_symbols(struct fake_kernel *k)
{
    if (k->layout->percpu) {
        fake_symbol(k, 0, "A__per_cpu_start");
        fake_symbol(k, 0x1000, "Acpu_tss_rw");
    }
    fake_symbol(k, IMAGE_LINEAR, "T_text");
    fake_symbol(k, IMAGE_LINEAR, "t_stext_alias");
    char name[200];
    unsigned functions = FAKE_SYMBOLS - 20;
    for (unsigned i = 0; i < functions; i++) {
        snprintf(name, sizeof(name), i % 3 ? "tdo_%u.cold" : "Tvfs_%u", i);
        if (i == 7)
            strcpy(name, "tx");
        if (i == 9 || i == 11)
            strcpy(name, "tsame");
        if (i == 500 && k->layout->seqs) /* such names came with 6.1 */
            memset(name + 1, 'L', 180), name[181] = 0;
        fake_symbol(k, IMAGE_LINEAR + 0x100 + 0x40 * i, name);
    }
    if (k->layout->all) {
        fake_symbol(k, IMAGE_LINEAR + FAKE_BANNER, "Rlinux_banner");
        fake_symbol(k, IMAGE_LINEAR + FAKE_PHYS_BASE, "Dphys_base");
        fake_symbol(k, IMAGE_LINEAR + FAKE_BOOT_PARAMS, "Bboot_params");
        fake_symbol(k, IMAGE_LINEAR + FAKE_ORC_IP, "D__start_orc_unwind_ip");
        fake_symbol(k, IMAGE_LINEAR + FAKE_ORC_IP + 4 * FAKE_ORC, "D__stop_orc_unwind_ip");
        fake_symbol(k, IMAGE_LINEAR + FAKE_ORC_IP + 4 * FAKE_ORC, "D__start_orc_unwind");
    }
    fake_symbol(k, IMAGE_LINEAR + IMAGE_LEN - 0x1000, "T_etext");
    if (k->layout->all)
        fake_symbol(k, IMAGE_LINEAR + IMAGE_LEN, "B_end");
}

/* Characters are tokens of themselves; the other numbers are "do_" and unlikely pairs. */
static void fake_token(unsigned i, char out[4])
{
    if (i == 1)
        snprintf(out, 4, "do_");
    else if (i > ' ' && i < 0x7f)
        snprintf(out, 4, "%c", (char)i);
    else
        snprintf(out, 4, "%c%c", (char)('A' + i % 26), (char)('A' + i / 26));
}

static uint64_t fake_align(uint64_t at) { return (at + 7) & ~UINT64_C(7); }

static uint64_t fake_offsets(struct fake_kernel *k, uint64_t at)
{
    at = fake_align(at);
    for (unsigned i = 0; i < k->count; i++, at += 4) {
        uint64_t addr = k->symbol[i].addr;
        uint64_t value = addr - IMAGE_LINEAR;
        if (k->layout->percpu)
            value = addr < IMAGE_LINEAR ? addr : IMAGE_LINEAR - 1 - addr;
        put_le32(fake_image(k) + at, (uint32_t)value);
    }
    at = fake_align(at);
    put_le64(fake_image(k) + at, IMAGE_LINEAR);
    return at + 8;
}

static uint64_t fake_seqs(struct fake_kernel *k, uint64_t at)
{
    at = fake_align(at);
    for (unsigned i = 0; i < k->count; i++, at += 3) {
        unsigned seq = (i * 37) % k->count;
        fake_image(k)[at] = (uint8_t)(seq >> 16), fake_image(k)[at + 1] = (uint8_t)(seq >> 8);
        fake_image(k)[at + 2] = (uint8_t)seq;
    }
    return at;
}

static uint64_t fake_names(struct fake_kernel *k, uint64_t at)
{
    uint8_t *image = fake_image(k);
    uint32_t markers[FAKE_SYMBOLS / 256 + 1];
    at = fake_align(at);
    put_le32(image + at, k->count);
    uint64_t names = at += 8;
    for (unsigned i = 0; i < k->count; i++) {
        if (i % 256 == 0)
            markers[i / 256] = (uint32_t)(at - names);
        uint8_t tokens[200];
        unsigned n = 0;
        for (const char *p = k->symbol[i].name; *p; n++) {
            bool pair = !strncmp(p, "do_", 3);
            tokens[n] = pair ? 1 : (uint8_t)*p;
            p += pair ? 3 : 1;
        }
        if (n >= 128)
            image[at++] = (uint8_t)(n | 0x80), image[at++] = (uint8_t)(n >> 7);
        else
            image[at++] = (uint8_t)n;
        memcpy(image + at, tokens, n);
        at += n;
    }
    at = fake_align(at);
    for (unsigned i = 0; i < (k->count + 255) / 256; i++, at += 4)
        put_le32(image + at, markers[i]);
    return at;
}

static uint64_t fake_tokens(struct fake_kernel *k, uint64_t at)
{
    uint16_t index[256];
    uint64_t start = at = fake_align(at);
    for (unsigned i = 0; i < 256; i++) {
        char token[4];
        fake_token(i, token);
        index[i] = (uint16_t)(at - start);
        memcpy(fake_image(k) + at, token, strlen(token) + 1);
        at += strlen(token) + 1;
    }
    at = fake_align(at);
    memcpy(fake_image(k) + at, index, sizeof(index));
    return at + sizeof(index);
}

/* Ranges of 0x40 bytes from IMAGE_LINEAR on: RSP + 8, then RSP + 16 with RBP saved, then the end of the stack. */
static void fake_orc(struct fake_kernel *k)
{
    for (unsigned i = 0; i < FAKE_ORC; i++) {
        uint8_t *ip = fake_image(k) + FAKE_ORC_IP + 4 * i, *entry = fake_image(k) + FAKE_ORC_IP + 4 * FAKE_ORC + 6 * i;
        put_le32(ip, 0x40 * i - (FAKE_ORC_IP + 4 * i));
        put_le16(entry, (uint16_t)(8 + 8 * (i % 3)));
        put_le16(entry + 2, i % 3 == 1 ? (uint16_t)-16 : 0);
        put_le16(entry + 4, i % 3 == 2 ? 0x400 : i % 3 == 1 ? 0x15 : 0x05);
    }
}

static void fake_kernel_init(struct fake_kernel *k, const struct fake_layout *layout)
{
    *k = (struct fake_kernel){.layout = layout, .ram = calloc(1, FAKE_RAM)};
    if (!k->ram)
        abort();
    fake_symbols(k);
    uint8_t *image = fake_image(k);
    snprintf((char *)image + FAKE_BANNER, 64, "%s\n", layout->banner);
    put_le64(image + FAKE_PHYS_BASE, IMAGE_PHYS - FAKE_LINKED - FAKE_SLIDE);
    memcpy(image + FAKE_BOOT_PARAMS + 0x202, "HdrS", 4);
    put_le64(image + FAKE_BOOT_PARAMS + 0x258, FAKE_LINKED);
    uint64_t at = FAKE_TABLES;
    if (!layout->new_order)
        at = fake_offsets(k, at);
    at = fake_names(k, at);
    if (layout->seqs && !layout->new_order)
        at = fake_seqs(k, at);
    at = fake_tokens(k, at);
    if (layout->new_order)
        at = fake_offsets(k, at);
    if (layout->new_order && layout->seqs)
        at = fake_seqs(k, at);
    k->tables_end = at;
    fake_orc(k);
}

static void fake_kernel_deinit(struct fake_kernel *k) { free(k->ram); }

#endif
