/* gdb/monitor_x86.c: registers and physical memory in the text form of QEMU's monitor, which scripts parse. */
#include <stdio.h>
#include <stdlib.h>

#include "gdb/monitor.h"

#define SAY(m, ...) text_printf((m)->out, __VA_ARGS__)

static void say_general(struct monitor *m, const struct vcpu_state *s)
{
    static const struct { const char *name; enum gpr r; } rows[] = {
        {"RAX", R_RAX}, {"RBX", R_RBX}, {"RCX", R_RCX}, {"RDX", R_RDX}, {"RSI", R_RSI}, {"RDI", R_RDI},
        {"RBP", R_RBP}, {"RSP", R_RSP}, {"R8 ", R_R8}, {"R9 ", R_R9}, {"R10", R_R10}, {"R11", R_R11},
        {"R12", R_R12}, {"R13", R_R13}, {"R14", R_R14}, {"R15", R_R15},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        SAY(m, "%s=%016" PRIx64 "%c", rows[i].name, s->r[rows[i].r], i % 4 == 3 ? '\n' : ' ');
}

static void say_flags(struct monitor *m, const struct vcpu_state *s)
{
    static const struct { char letter; uint32_t flag; } rows[] = {
        {'D', FL_DF}, {'O', FL_OF}, {'S', FL_SF}, {'Z', FL_ZF}, {'A', FL_AF}, {'P', FL_PF}, {'C', FL_CF},
    };
    uint64_t flags = vcpu_rflags(s);
    SAY(m, "RIP=%016" PRIx64 " RFL=%08" PRIx64 " [", s->r[R_RIP], flags);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        text_char(m->out, flags & rows[i].flag ? rows[i].letter : '-');
    SAY(m, "] CPL=%u II=%u A20=1 SMM=0 HLT=%u\n", s->cpl, s->shadow != 0, s->activity == VCPU_HALTED);
}

static const char *system_type(uint16_t attr)
{
    static const char *const names[16] = {
        [1] = "TSS16-avl", [2] = "LDT", [3] = "TSS16-busy", [9] = "TSS64-avl", [11] = "TSS64-busy",
    };
    const char *name = names[attr & SEG_TYPE];
    return name ? name : "?";
}

/* As QEMU: the second word of a descriptor without its base, then the meaning. */
static void say_segment(struct monitor *m, const char *name, const struct seg *s)
{
    SAY(m, "%s=%04x %016" PRIx64 " %08x %08x", name, s->sel, s->base, s->limit,
        (uint32_t)(s->attr & 0xf0ff) << 8 | (s->limit & 0xf0000));
    if (s->attr & SEG_NULL || !(s->attr & SEG_P)) {
        text_char(m->out, '\n');
        return;
    }
    SAY(m, " DPL=%u ", seg_dpl(s->attr));
    if (!(s->attr & SEG_S))
        SAY(m, "%s\n", system_type(s->attr));
    else if (s->attr & SEG_CODE)
        SAY(m, "%s [%c%c%c]\n", s->attr & SEG_L ? "CS64" : s->attr & SEG_DB ? "CS32" : "CS16",
            s->attr & SEG_CONFORMING ? 'C' : '-', s->attr & SEG_READ ? 'R' : '-', s->attr & SEG_ACCESSED ? 'A' : '-');
    else
        SAY(m, "%s [%c%c%c]\n", s->attr & SEG_DB ? "DS  " : "DS16", s->attr & SEG_DOWN ? 'E' : '-',
            s->attr & SEG_WRITE ? 'W' : '-', s->attr & SEG_ACCESSED ? 'A' : '-');
}

static void say_system(struct monitor *m, const struct vcpu_state *s)
{
    static const char *const names[S_COUNT] = {"ES ", "CS ", "SS ", "DS ", "FS ", "GS ", "LDT", "TR "};
    for (unsigned i = 0; i < S_COUNT; i++)
        say_segment(m, names[i], &s->seg[i]);
    SAY(m, "GDT=     %016" PRIx64 " %08x\n", s->gdtr.base, s->gdtr.limit);
    SAY(m, "IDT=     %016" PRIx64 " %08x\n", s->idtr.base, s->idtr.limit);
    SAY(m, "CR0=%08" PRIx64 " CR2=%016" PRIx64 " CR3=%016" PRIx64 " CR4=%08" PRIx64 "\n", s->cr0, s->cr2, s->cr3,
        s->cr4);
    SAY(m, "DR0=%016" PRIx64 " DR1=%016" PRIx64 " DR2=%016" PRIx64 " DR3=%016" PRIx64 "\n", s->dr[0], s->dr[1],
        s->dr[2], s->dr[3]);
    SAY(m, "DR6=%016" PRIx64 " DR7=%016" PRIx64 "\nEFER=%016" PRIx64 "\n", s->dr[6], s->dr[7], s->efer);
}

static void say_vector(struct monitor *m, const struct vcpu_state *s)
{
    SAY(m, "FCW=%04x FSW=%04x [ST=%u] FTW=%02x MXCSR=%08x\n", s->x87.fcw, s->x87.fsw, s->x87.fsw >> 11 & 7, s->x87.ftw,
        s->mxcsr);
    for (unsigned i = 0; i < 8; i++)
        SAY(m, "FPR%u=%016" PRIx64 " %04x%c", i, get_le64(s->x87.st[i]), get_le16(s->x87.st[i] + 8),
            i % 2 ? '\n' : ' ');
    for (unsigned i = 0; i < 16; i++)
        SAY(m, "YMM%02u=%016" PRIx64 " %016" PRIx64 " %016" PRIx64 " %016" PRIx64 "\n", i, get_le64(s->ymm[i] + 24),
            get_le64(s->ymm[i] + 16), get_le64(s->ymm[i] + 8), get_le64(s->ymm[i]));
}

void monitor_registers(struct monitor *m)
{
    const struct vcpu_state *s = timeline_vcpu(m->target->t);
    say_general(m, s);
    say_flags(m, s);
    say_system(m, s);
    say_vector(m, s);
}

/* ---- physical memory ---- */

struct format { uint64_t count; char letter; unsigned width; };

static bool parse_format(const char *text, struct format *f)
{
    static const struct { char letter; unsigned width; } widths[] = {{'b', 1}, {'h', 2}, {'w', 4}, {'g', 8}};
    char *end;
    *f = (struct format){1, 'x', 4};
    if (*text++ != '/')
        return false;
    if (*text >= '0' && *text <= '9') {
        f->count = strtoull(text, &end, 10);
        text = end;
    }
    for (; *text; text++) {
        size_t i = 0;
        while (i < ARRAY_LEN(widths) && widths[i].letter != *text)
            i++;
        if (i < ARRAY_LEN(widths))
            f->width = widths[i].width;
        else if (strchr("xdu", *text))
            f->letter = *text;
        else
            return false;
    }
    return true;
}

static void say_value(struct monitor *m, const struct format *f, const uint8_t *bytes)
{
    uint8_t wide[8] = {0};
    memcpy(wide, bytes, f->width);
    uint64_t v = get_le64(wide);
    unsigned shift = 64 - 8 * f->width;
    if (f->letter == 'x')
        SAY(m, " 0x%0*" PRIx64, (int)f->width * 2, v);
    else if (f->letter == 'u')
        SAY(m, " %" PRIu64, v);
    else
        SAY(m, " %" PRId64, (int64_t)(v << shift) >> shift);
}

void monitor_xp(struct monitor *m)
{
    enum { COUNT_MAX = 65536, LINE = 16 };
    struct format f = {1, 'x', 4};
    uint64_t addr;
    if (m->argc == 2 && !parse_format(m->argv[0], &f)) {
        SAY(m, "%s: a format was expected, such as /16xb\n", m->argv[0]);
        return;
    }
    if (!monitor_address(m, m->argc - 1, &addr))
        return;
    for (uint64_t i = 0; i < MIN(f.count, COUNT_MAX); i++, addr += f.width) {
        uint8_t bytes[8];
        if (i % (LINE / f.width) == 0)
            SAY(m, "%s%016" PRIx64 ":", i ? "\n" : "", addr);
        if (timeline_read(m->target->t, TS_PHYSICAL, addr, bytes, f.width) < f.width) {
            SAY(m, " Cannot access memory\n");
            return;
        }
        say_value(m, &f, bytes);
    }
    text_char(m->out, '\n');
}

void monitor_gva2gpa(struct monitor *m)
{
    uint64_t addr, physical;
    if (!monitor_address(m, 0, &addr))
        return;
    if (timeline_translate(m->target->t, addr, &physical))
        SAY(m, "gpa: %#" PRIx64 "\n", physical);
    else
        SAY(m, "Unmapped\n");
}
