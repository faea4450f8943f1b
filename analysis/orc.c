/* analysis/orc.c: reads and decodes ORC tables. */
#include "analysis/orc.h"

#include <stdlib.h>

#include "core/base/cleanup.h"

/* ---- entries ---- */

/* Register numbers of ORC (orc_types.h: the same in all versions) and of DWARF (System V ABI, AMD64, figure 3.36). */
static const struct { uint8_t base, dwarf; } cfa_bases[16] = {
    [2] = {ORC_REGISTER, 1},      /* DX */
    [3] = {ORC_REGISTER, 5},      /* DI */
    [4] = {ORC_REGISTER, 6},      /* BP */
    [5] = {ORC_REGISTER, 7},      /* SP */
    [6] = {ORC_REGISTER, 10},     /* R10 */
    [7] = {ORC_REGISTER, 13},     /* R13 */
    [8] = {ORC_AT_REGISTER, 6},   /* BP_INDIRECT */
    [9] = {ORC_AT_SP_PLUS, 7},    /* SP_INDIRECT */
};
static const uint8_t rbp_bases[16] = {[1] = ORC_CFA /* PREV_SP */, [4] = ORC_REGISTER /* BP */};
enum { REG_UNDEFINED = 0, REG_PREV_SP = 1, REG_DX = 2, REG_DI = 3, REG_R10 = 6, REG_R13 = 7, REG_SP_INDIRECT = 9 };

/* How the third word is laid out above its two register numbers, by kernel version. */
struct format {
    unsigned since; /* major << 8 | minor */
    uint16_t type_mask, end_bit;
    uint8_t kinds[8];
    bool load_then_add; /* SP_INDIRECT: add the offset after the load, not before */
};
#define V(major, minor) ((major) << 8 | (minor))
static const struct format formats[] = {
    {V(6, 4), 0x700, 0, {ORC_UNKNOWN, ORC_END, ORC_CALL, ORC_REGS, ORC_REGS_PARTIAL}, true},
    {V(6, 3), 0x300, 0x800, {ORC_CALL, ORC_REGS, ORC_REGS_PARTIAL, ORC_UNKNOWN}, true}, /* bit 10: signal */
    {V(5, 12), 0x300, 0x400, {ORC_CALL, ORC_REGS, ORC_REGS_PARTIAL, ORC_UNKNOWN}, true},
    {0, 0x300, 0x400, {ORC_CALL, ORC_REGS, ORC_REGS_PARTIAL, ORC_UNKNOWN}, false},
};

static const struct format *format_of(unsigned version)
{
    const struct format *f = formats;
    while (f->since > version)
        f++;
    return f;
}

static struct orc_rule decode(const struct format *f, uint64_t ip, const uint8_t *p)
{
    struct orc_rule r = {.ip = ip};
    uint16_t word = get_le16(p + 4);
    unsigned sp_reg = word & 15, bp_reg = word >> 4 & 15;
    r.kind = f->kinds[(word & f->type_mask) >> 8];
    if (word & f->end_bit)
        r.kind = ORC_END;
    else if (sp_reg == REG_UNDEFINED && r.kind != ORC_END)
        r.kind = ORC_UNKNOWN;
    if (r.kind == ORC_UNKNOWN || r.kind == ORC_END)
        return r;
    r.cfa = (struct orc_place){cfa_bases[sp_reg].base, cfa_bases[sp_reg].dwarf, (int16_t)get_le16(p)};
    r.rbp = (struct orc_place){rbp_bases[bp_reg], 6, (int16_t)get_le16(p + 2)};
    if (!r.cfa.base || (bp_reg && !r.rbp.base))
        return (struct orc_rule){.ip = ip}; /* no register that any version knows */
    if (sp_reg == REG_DX || sp_reg == REG_DI || sp_reg == REG_R10 || sp_reg == REG_R13)
        r.cfa.offset = 0; /* the kernel's unwinder takes these as they are */
    if (sp_reg == REG_SP_INDIRECT && !f->load_then_add)
        r.cfa.base = ORC_AT_REGISTER;
    return r;
}

/* ---- tables ---- */

static uint64_t ip_at(uint64_t table, const uint8_t *ips, size_t i)
{
    return table + 4 * i + (uint64_t)(int64_t)(int32_t)get_le32(ips + 4 * i);
}

static struct err *read_tables(const struct kimage *k, const struct orc_where *w, size_t count, struct orc *out)
{
    AUTO_FREE uint8_t *ips = malloc(4 * count), *entries = malloc(ORC_ENTRY_LEN * count);
    out->rule = malloc(count * sizeof(*out->rule));
    if (!ips || !entries || !out->rule)
        return err_new(ERR_HOST, "no memory for %zu unwind entries", count);
    kimage_read(k, w->ip, ips, 4 * count);
    kimage_read(k, w->entries, entries, ORC_ENTRY_LEN * count);
    const struct format *f = format_of(w->version);
    uint64_t last = w->image;
    for (size_t i = 0; i < count; i++) {
        uint64_t ip = ip_at(w->ip, ips, i);
        if (ip < last || ip > w->image_end)
            return NULL; /* not sorted: a kernel that sorts at boot, before it did */
        last = ip;
        out->rule[i] = decode(f, ip, entries + ORC_ENTRY_LEN * i);
    }
    out->count = count;
    return NULL;
}

/* Could these be entries? In all versions the upper bits are unused, and a register is one that orc_types.h names. */
static bool plausible_entries(const struct window *w, uint64_t at, size_t count)
{
    if (!window_has(w, at, ORC_ENTRY_LEN * (uint64_t)count))
        return false;
    for (size_t i = 0; i < count; i++) {
        uint16_t word = get_le16(w->bytes + at + ORC_ENTRY_LEN * i + 4);
        unsigned sp_reg = word & 15, bp_reg = word >> 4 & 15;
        if (word >> 12 || (sp_reg > REG_PREV_SP && !cfa_bases[sp_reg].base) || (bp_reg && !rbp_bases[bp_reg]))
            return false;
    }
    return true;
}

/* How many words from `at` on lead to ascending places in the image. A word of zero leads to itself. */
static size_t count_ips(const struct window *w, const struct orc_where *where, uint64_t at)
{
    size_t n = 0;
    for (uint64_t last = where->image, ip; window_has(w, at, 4); at += 4, n++, last = ip) {
        ip = ip_at(where->image + at, w->bytes + at, 0);
        if (ip < last || ip >= where->image_end || get_le32(w->bytes + at) == 0)
            break;
    }
    return n;
}

/* Without CONFIG_KALLSYMS_ALL the tables have no symbols. The first one is like nothing else: words that lead to
 * ascending places in the kernel, by the hundred thousand. The second follows it
 * (include/asm-generic/vmlinux.lds.h), and its first words may look like more of the first. */
static struct err *search_tables(const struct kimage *k, struct orc_where *where, size_t *count_out)
{
    enum { FEW = 1000, RUN_ON = 4 };
    struct window w;
    struct err *e = window_open(&k->space, where->image - k->delta, where->image_end - where->image, &w);
    *count_out = 0;
    for (uint64_t at = 0, n; !e && at < w.len && !*count_out; at += 4 * MAX(n, (uint64_t)1)) {
        n = count_ips(&w, where, at);
        for (size_t less = 0; less <= RUN_ON && n >= FEW + less && n <= ORC_COUNT_MAX; less++) {
            if (!plausible_entries(&w, at + 4 * (n - less), n - less))
                continue;
            *count_out = n - less;
            where->ip = where->image + at;
            where->entries = where->ip + 4 * (n - less);
            break;
        }
    }
    window_close(&w);
    return e;
}

struct err *orc_read(const struct kimage *k, const struct orc_where *where, struct orc *out)
{
    *out = (struct orc){0};
    struct orc_where w = *where;
    size_t count = 0;
    struct err *e = NULL;
    if (w.ip && w.ip_end > w.ip && (w.ip_end - w.ip) / 4 <= ORC_COUNT_MAX && w.entries)
        count = (w.ip_end - w.ip) / 4;
    else if (w.image_end > w.image && w.image_end - w.image <= MIB(256))
        e = search_tables(k, &w, &count);
    if (!e && count)
        e = read_tables(k, &w, count, out);
    if (e || !out->count)
        orc_deinit(out);
    return e;
}

void orc_deinit(struct orc *o)
{
    free(o->rule);
    *o = (struct orc){0};
}
