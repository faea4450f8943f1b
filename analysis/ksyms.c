/* analysis/ksyms.c: a kernel's symbols: the tables, then what only symbols lead to. */
#include "analysis/ksyms.h"

#include <stdio.h>
#include <stdlib.h>

#include "analysis/btf.h"
#include "analysis/ksyms_private.h"

/* ---- lookup ---- */

static const char *name_of(const struct ksyms *ks, size_t i) { return ks->table.pool + ks->table.name[i] + 1; }

size_t ksyms_count(const struct ksyms *ks) { return ks->table.count; }

/* The first with an address above. */
static size_t upper(const struct ksyms *ks, uint64_t addr)
{
    size_t low = 0, high = ks->table.count;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (ks->table.addr[mid] > addr)
            high = mid;
        else
            low = mid + 1;
    }
    return low;
}

struct ksym ksyms_at(const struct ksyms *ks, size_t i)
{
    const struct kallsyms *t = &ks->table;
    size_t next = i + 1;
    if (next < t->count && t->addr[next] == t->addr[i])
        next = upper(ks, t->addr[i]);
    return (struct ksym){.addr = t->addr[i], .size = next < t->count ? t->addr[next] - t->addr[i] : 0,
                         .name = name_of(ks, i), .type = t->pool[t->name[i]]};
}

bool ksyms_by_name(const struct ksyms *ks, const char *name, struct ksym *out)
{
    size_t low = 0, high = ks->table.count;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (strcmp(name_of(ks, ks->by_name[mid]), name) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    if (low == ks->table.count || strcmp(name_of(ks, ks->by_name[low]), name))
        return false;
    *out = ksyms_at(ks, ks->by_name[low]);
    return true;
}

static bool is_global(char type) { return type >= 'A' && type <= 'Z'; }

bool ksyms_by_addr(const struct ksyms *ks, uint64_t addr, struct ksym *out)
{
    size_t i = upper(ks, addr);
    if (i == 0 || (i == ks->table.count && ks->table.addr[i - 1] != addr))
        return false;
    size_t last = i - 1, first = last;
    while (first > 0 && ks->table.addr[first - 1] == ks->table.addr[last])
        first--;
    size_t pick = first;
    while (pick < last && !is_global(ksyms_at(ks, pick).type))
        pick++;
    *out = ksyms_at(ks, is_global(ksyms_at(ks, pick).type) ? pick : first);
    return true;
}

const char *ksyms_banner(const struct ksyms *ks) { return ks->banner; }

bool ksyms_slide(const struct ksyms *ks, uint64_t *out)
{
    *out = ks->slide;
    return ks->slide_known;
}

size_t ksyms_unwind_count(const struct ksyms *ks) { return ks->orc.count; }

static int compare_names(const void *a, const void *b, void *arg)
{
    const struct ksyms *ks = arg;
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    int c = strcmp(name_of(ks, x), name_of(ks, y));
    return c ? c : (x > y) - (x < y);
}

static struct err *index_names(struct ksyms *ks)
{
    ks->by_name = malloc(ks->table.count * sizeof(*ks->by_name));
    if (!ks->by_name)
        return err_new(ERR_HOST, "no memory for the kernel's symbols");
    for (size_t i = 0; i < ks->table.count; i++)
        ks->by_name[i] = (uint32_t)i;
    qsort_r(ks->by_name, ks->table.count, sizeof(*ks->by_name), compare_names, ks);
    return NULL;
}

static uint64_t addr_of(const struct ksyms *ks, const char *name) /* 0: no such symbol */
{
    struct ksym sym;
    return ksyms_by_name(ks, name, &sym) ? sym.addr : 0;
}

/* ---- where the image is ---- */

/* The kernel keeps in phys_base what its physical address is minus where KERNEL_MAP would put it
 * (arch/x86/kernel/head64.c). The place where it says so is the right one. */
static bool phys_base_agrees(const struct ksyms *ks, const struct space *s, uint64_t delta)
{
    uint64_t at = addr_of(ks, "phys_base"), value = 0;
    if (!at)
        return false;
    space_read(s, at - delta, &value, sizeof(value));
    return value == KERNEL_MAP - delta;
}

/* Without a symbol for it: the token table must be at both addresses. */
static bool mapping_agrees(const struct ksyms *ks, const struct space *s, uint64_t delta)
{
    uint8_t phys[512], linear[sizeof(phys)];
    space_read(s, ks->table.at, phys, sizeof(phys));
    size_t n = s->rd->read(s->rd->arg, ks->table.at + delta, linear, sizeof(linear));
    return n == sizeof(linear) && !memcmp(phys, linear, sizeof(phys));
}

/* From physical addresses to the image's own. The table lies between the kernel's first symbol and its last. */
static bool find_delta(const struct ksyms *ks, const struct space *s, uint64_t *out)
{
    const struct kallsyms *t = &ks->table;
    uint64_t last = t->addr[t->count - 1], first = addr_of(ks, "_text");
    if (!first || first < KERNEL_MAP || last >= KERNEL_MAP + KERNEL_MAP_LEN)
        return false;
    uint64_t lowest = align_down(first, KERNEL_ALIGN) + (t->at & (KERNEL_ALIGN - 1));
    for (unsigned how = 0; how < 2; how++)
        for (uint64_t at = lowest; at <= last; at += KERNEL_ALIGN) {
            *out = at - t->at;
            if (how == 0 ? phys_base_agrees(ks, s, *out) : mapping_agrees(ks, s, *out))
                return true;
        }
    return false;
}

/* ---- what the image says ---- */

static void read_banner(struct ksyms *ks, const struct kimage *k)
{
    static const char start[] = "Linux version ";
    uint64_t at = addr_of(ks, "linux_banner");
    char text[sizeof(ks->banner)] = "";
    if (at)
        kimage_read(k, at, text, sizeof(text) - 1);
    if (strncmp(text, start, strlen(start)) != 0)
        return;
    size_t n = 0;
    while (text[n] >= ' ' && text[n] < 0x7f)
        n++;
    memcpy(ks->banner, text, n);
    ks->banner[n] = 0;
}

static unsigned version_of(const struct ksyms *ks) /* major << 8 | minor */
{
    unsigned major = 0, minor = 0;
    if (sscanf(ks->banner, "Linux version %3u.%3u", &major, &minor) != 2)
        return 0;
    return (major & 0xff) << 8 | (minor & 0xff);
}

/* The boot protocol's pref_address is where the kernel was linked to run (Documentation/arch/x86/boot.rst); the
 * kernel keeps a copy of what the loader gave it. */
static void read_slide(struct ksyms *ks, const struct kimage *k)
{
    enum { HEADER = 0x202, PREF_ADDRESS = 0x258, HDRS = 0x53726448 };
    uint64_t params = addr_of(ks, "boot_params"), text = addr_of(ks, "_text"), pref = 0;
    uint32_t magic = 0;
    if (!params || !text)
        return;
    kimage_read(k, params + HEADER, &magic, sizeof(magic));
    kimage_read(k, params + PREF_ADDRESS, &pref, sizeof(pref));
    if (magic != HDRS || !pref || pref >= KERNEL_MAP_LEN)
        return;
    uint64_t slide = text - KERNEL_MAP - pref;
    ks->slide_known = slide < KERNEL_MAP_LEN && slide % KERNEL_ALIGN == 0;
    ks->slide = ks->slide_known ? slide : 0;
}

static struct err *read_orc(struct ksyms *ks, const struct kimage *k)
{
    /* Code at boot lies behind the data. */
    uint64_t text = addr_of(ks, "_text"), end = MAX(addr_of(ks, "_etext"), addr_of(ks, "_einittext"));
    end = MAX(end, addr_of(ks, "_end"));
    struct orc_where w = {
        .ip = addr_of(ks, "__start_orc_unwind_ip"),
        .ip_end = addr_of(ks, "__stop_orc_unwind_ip"),
        .entries = addr_of(ks, "__start_orc_unwind"),
        .image = text,
        .image_end = end,
        .version = version_of(ks),
    };
    return text && text < end ? orc_read(k, &w, &ks->orc) : NULL;
}

static struct err *read_btf(struct ksyms *ks, const struct kimage *k)
{
    uint64_t start = addr_of(ks, "__start_BTF"), stop = addr_of(ks, "__stop_BTF");
    if (!start || stop <= start || stop - start > BTF_LEN_MAX)
        return NULL;
    ks->btf = malloc(stop - start);
    if (!ks->btf)
        return err_new(ERR_HOST, "no memory for the kernel's types");
    ks->btf_len = stop - start;
    kimage_read(k, start, ks->btf, ks->btf_len);
    return NULL;
}

/* ---- life ---- */

static struct err *find(struct ksyms *ks, const struct ksyms_reader *rd)
{
    struct kimage k = {.space = {.rd = rd}};
    struct err *e = kallsyms_find(&k.space, &ks->table);
    if (!e && !ks->table.count) {
        k.space.physical = true;
        e = kallsyms_find(&k.space, &ks->table);
    }
    if (e)
        return e;
    if (!ks->table.count)
        return err_new(ERR_UNSUPPORTED, "no Linux kernel with a symbol table (CONFIG_KALLSYMS) is in guest memory");
    e = index_names(ks);
    if (e)
        return e;
    if (k.space.physical && !find_delta(ks, &k.space, &k.delta)) {
        if (addr_of(ks, "phys_base"))
            return err_new(ERR_UNSUPPORTED, "the guest's kernel has not begun to run: its addresses may yet change");
        return NULL; /* symbols are all there is to be had */
    }
    read_banner(ks, &k);
    read_slide(ks, &k);
    e = read_orc(ks, &k);
    return e ? e : read_btf(ks, &k);
}

struct err *ksyms_find(const struct ksyms_reader *rd, struct ksyms **out)
{
    struct ksyms *ks = calloc(1, sizeof(*ks));
    struct err *e = ks ? find(ks, rd) : err_new(ERR_HOST, "no memory for the kernel's symbols");
    if (e) {
        ksyms_destroy(ks);
        return e;
    }
    *out = ks;
    return NULL;
}

void ksyms_destroy(struct ksyms *ks)
{
    if (!ks)
        return;
    kallsyms_deinit(&ks->table);
    orc_deinit(&ks->orc);
    free(ks->btf);
    free(ks->by_name);
    free(ks);
}
