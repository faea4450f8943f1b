/* tests/insn/compare.c: two results side by side. */
#include <stdarg.h>
#include <stdio.h>

#include "tests/insn/insn_test.h"

static const char *const gpr_names[16] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                          "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
static const char *const seg_names[6] = {"es", "cs", "ss", "ds", "fs", "gs"};
static const struct {
    uint32_t mask;
    const char *name;
} flag_names[] = {
    {FL_CF, "CF"}, {FL_PF, "PF"}, {FL_AF, "AF"},     {FL_ZF, "ZF"}, {FL_SF, "SF"}, {FL_TF, "TF"}, {FL_IF, "IF"},
    {FL_DF, "DF"}, {FL_OF, "OF"}, {FL_IOPL, "IOPL"}, {FL_NT, "NT"}, {FL_RF, "RF"}, {FL_AC, "AC"}, {FL_ID, "ID"},
};
enum { FLAGS_COMPARED = FL_ARITH | FL_TF | FL_IF | FL_DF | FL_IOPL | FL_NT | FL_RF | FL_VM | FL_AC | FL_ID };

const char *vector_name(int vector)
{
    static const char *const names[32] = {"#DE", "#DB", "NMI", "#BP", "#OF", "#BR", "#UD", "#NM", "#DF", "9",
                                          "#TS", "#NP", "#SS", "#GP", "#PF", "15",  "#MF", "#AC", "#MC", "#XM"};
    if (vector >= VECTOR_BAD_FRAME)
        return vector == VECTOR_BAD_FRAME ? "bad frame" : "ran wrong ticks";
    return vector < 0 ? "retired" : vector < 20 ? names[vector] : "?";
}

static bool pushes_flags(ZydisMnemonic m)
{
    return m == ZYDIS_MNEMONIC_PUSHF || m == ZYDIS_MNEMONIC_PUSHFD || m == ZYDIS_MNEMONIC_PUSHFQ;
}

static bool loads_flags(ZydisMnemonic m)
{
    return m == ZYDIS_MNEMONIC_POPF || m == ZYDIS_MNEMONIC_POPFD || m == ZYDIS_MNEMONIC_POPFQ ||
           m == ZYDIS_MNEMONIC_IRET || m == ZYDIS_MNEMONIC_IRETD || m == ZYDIS_MNEMONIC_IRETQ;
}

/* Returning to user mode clears null selectors whose RPL is not 0, and a native result has been through that. */
static void settle_null_selectors(struct insn_state *s)
{
    static const uint8_t data_segs[] = {S_ES, S_DS, S_FS, S_GS};
    for (unsigned i = 0; i < 4; i++)
        if (s->sel[data_segs[i]] < 4)
            s->sel[data_segs[i]] = 0;
}

/* Whether the host's kernel maps an address of its half, or the page below it, is its own affair. */
static void settle_kernel_half(struct insn_state *s)
{
    if (s->vector == 14 && s->cr2 >= UINT64_C(0x7ffffffff000))
        s->error |= 1;
}

void engine_settle(struct insn_state *s)
{
    settle_null_selectors(s);
    settle_kernel_half(s);
}

void native_settle(const struct test_case *tc, struct insn_state *s, uint8_t *data)
{
    settle_null_selectors(s);
    settle_kernel_half(s);
    bool retired = s->vector < 0;
    if (!retired || !loads_flags(tc->zi.mnemonic))
        s->rflags &= ~(uint64_t)FL_TF;
    if ((retired && !loads_flags(tc->zi.mnemonic)) || s->vector == 1 || s->vector == 3 || s->vector == 4)
        s->rflags &= ~(uint64_t)FL_RF; /* a trap between two iterations of a REP has it, SDM vol. 3, 18.3.1.1 */
    uint64_t at = s->r[R_RSP] + 1 - DATA_BASE;
    if (retired && pushes_flags(tc->zi.mnemonic) && at < DATA_LEN)
        data[at] &= 0xff ^ FL_TF >> 8;
}

/* Instructions of several accesses that the host's microcode may have begun when a later one faults: it has stored
 * some, or changed registers that the restarted instruction does not read. The engines have done nothing then
 * (exec/x86/mmu.h, rule 2), and that is what must be seen. */
static const ZydisMnemonic begun[] = {
#define M(name) ZYDIS_MNEMONIC_##name
    M(ENTER),   M(PUSHA),  M(PUSHAD), M(POPA),     M(POPAD),    M(CALL),       M(FSTP),        M(FBSTP),
    M(FNSTENV), M(FNSAVE), M(FXSAVE), M(FXSAVE64), M(MASKMOVQ), M(MASKMOVDQU), M(VMASKMOVDQU), M(MOVSB),
    M(MOVSW),   M(MOVSD),  M(MOVSQ),  M(STOSB),    M(STOSW),    M(STOSD),      M(STOSQ),       M(LODSB),
    M(LODSW),   M(LODSD),  M(LODSQ),  M(CMPSB),    M(CMPSW),    M(CMPSD),      M(CMPSQ),       M(SCASB),
    M(SCASW),   M(SCASD),  M(SCASQ),  M(MOVD),     M(MOVQ),     M(MOVNTQ), /* of an MMX register: TOP and tags */
#undef M
};

void native_undo_begun(const struct test_case *tc, struct insn_state *s, uint8_t *data, const uint8_t *before)
{
    bool listed = false;
    for (size_t i = 0; i < ARRAY_LEN(begun); i++)
        listed |= begun[i] == tc->zi.mnemonic && tc->zi.meta.branch_type != ZYDIS_BRANCH_TYPE_NEAR;
    if (!listed || (s->vector != 12 && s->vector != 13 && s->vector != 14 && s->vector != 17))
        return;
    struct insn_state undone = tc->in;
    undone.vector = s->vector;
    undone.error = s->error;
    undone.cr2 = s->cr2;
    undone.rflags |= FL_RF;
    *s = undone;
    memcpy(data, before, DATA_LEN);
}

struct text {
    char *p;
    size_t left;
    bool any;
};

static void add(struct text *t, const char *fmt, ...) printf_like(2, 3);
static void add(struct text *t, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = snprintf(t->p, t->left, "%s", t->any ? " " : "");
    if (n > 0 && (size_t)n < t->left) {
        t->p += n;
        t->left -= (size_t)n;
    }
    n = vsnprintf(t->p, t->left, fmt, ap);
    if (n > 0 && (size_t)n < t->left) {
        t->p += n;
        t->left -= (size_t)n;
    }
    t->any = true;
    va_end(ap);
}

static void diff_fault(const struct insn_state *a, const struct insn_state *b, struct text *t)
{
    if (a->vector != b->vector)
        add(t, "%s/%s", vector_name(a->vector), vector_name(b->vector));
    else if (a->error != b->error)
        add(t, "%s-error", vector_name(a->vector));
    if (a->cr2 != b->cr2 && a->vector == b->vector)
        add(t, "cr2");
}

static void diff_general(const struct insn_state *a, const struct insn_state *b, struct text *t)
{
    uint64_t f = (a->rflags ^ b->rflags) & FLAGS_COMPARED;
    for (size_t i = 0; i < ARRAY_LEN(flag_names); i++)
        if (f & flag_names[i].mask)
            add(t, "%s", flag_names[i].name);
    if (a->rip != b->rip)
        add(t, "rip");
    for (unsigned i = 0; i < 16; i++)
        if (a->r[i] != b->r[i])
            add(t, "%s", gpr_names[i]);
    for (unsigned i = 0; i < 6; i++)
        if (a->sel[i] != b->sel[i])
            add(t, "%s", seg_names[i]);
    if (a->fs_base != b->fs_base)
        add(t, "fs_base");
    if (a->gs_base != b->gs_base)
        add(t, "gs_base");
}

static void diff_float(const struct insn_state *a, const struct insn_state *b, struct text *t)
{
    static const struct {
        uint8_t off, len;
        const char *name;
    } parts[] = {
        {FX_FCW, 2, "fcw"}, {FX_FSW, 2, "fsw"}, {FX_FTW, 1, "ftw"},     {FX_FOP, 2, "fop"},
        {FX_FIP, 8, "fip"}, {FX_FDP, 8, "fdp"}, {FX_MXCSR, 4, "mxcsr"},
    };
    for (size_t i = 0; i < ARRAY_LEN(parts); i++)
        if (memcmp(a->fx + parts[i].off, b->fx + parts[i].off, parts[i].len) != 0)
            add(t, "%s", parts[i].name);
    for (unsigned i = 0; i < 8; i++)
        if (memcmp(a->fx + FX_ST + 16 * i, b->fx + FX_ST + 16 * i, 10) != 0)
            add(t, "st%u", i);
    for (unsigned i = 0; i < 16; i++)
        if (memcmp(a->fx + FX_XMM + 16 * i, b->fx + FX_XMM + 16 * i, 16) != 0)
            add(t, "xmm%u", i);
        else if (memcmp(a->ymmh[i], b->ymmh[i], 16) != 0)
            add(t, "ymmh%u", i);
}

bool states_differ(const struct insn_state *a, const struct insn_state *b, char text[DIFF_TEXT])
{
    struct text t = {text, DIFF_TEXT, false};
    text[0] = 0;
    diff_fault(a, b, &t);
    diff_general(a, b, &t);
    diff_float(a, b, &t);
    return t.any;
}

static void print_bytes(const uint8_t *p, size_t len)
{
    for (size_t i = len; i-- > 0;)
        printf("%02x", p[i]);
}

void state_print(const char *title, const struct insn_state *s)
{
    printf("%s: %s", title, vector_name(s->vector));
    if (s->vector >= 0 && vector_has_error(s->vector))
        printf(" error %#x", s->error);
    if (s->vector == 14)
        printf(" cr2 %#" PRIx64, s->cr2);
    printf("\n  rip %016" PRIx64 " rflags %08" PRIx64, s->rip, s->rflags);
    for (size_t i = 0; i < ARRAY_LEN(flag_names); i++)
        if (s->rflags & flag_names[i].mask)
            printf(" %s", flag_names[i].name);
    for (unsigned i = 0; i < 16; i++)
        printf("%s%-3s %016" PRIx64, i % 4 ? " " : "\n  ", gpr_names[i], s->r[i]);
    printf("\n ");
    for (unsigned i = 0; i < 6; i++)
        printf(" %s %04x", seg_names[i], s->sel[i]);
    printf(" fs_base %#" PRIx64 " gs_base %#" PRIx64, s->fs_base, s->gs_base);
    printf("\n  fcw %04x fsw %04x ftw %02x fop %03x fip %" PRIx64 " fdp %" PRIx64 " mxcsr %04x\n",
           get_le16(s->fx + FX_FCW), get_le16(s->fx + FX_FSW), s->fx[FX_FTW], get_le16(s->fx + FX_FOP),
           get_le64(s->fx + FX_FIP), get_le64(s->fx + FX_FDP), get_le32(s->fx + FX_MXCSR));
    for (unsigned i = 0; i < 8; i++) {
        printf("%sst%u ", i % 4 ? " " : "  ", i);
        print_bytes(s->fx + FX_ST + 16 * i, 10);
        printf("%s", i % 4 == 3 ? "\n" : "");
    }
    for (unsigned i = 0; i < 16; i++) {
        printf("  ymm%-2u ", i);
        print_bytes(s->ymmh[i], 16);
        printf("'");
        print_bytes(s->fx + FX_XMM + 16 * i, 16);
        printf("%s", i % 2 ? "\n" : "");
    }
}
