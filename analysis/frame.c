/* analysis/frame.c: writes call frame information. One entry (FDE) spans as many rules of one kind as lie together,
 * up to RULES_MAX: whoever wants one address reads its entry from the begin. */
#include "analysis/frame.h"

#include <stdlib.h>

enum { RULES_MAX = 64 };

enum { /* DWARF 5, 7.24 and 7.7.1 */
    CFA_ADVANCE_LOC = 0x40,
    CFA_ADVANCE_LOC1 = 0x02, CFA_ADVANCE_LOC2 = 0x03, CFA_ADVANCE_LOC4 = 0x04,
    CFA_UNDEFINED = 0x07, CFA_SAME_VALUE = 0x08, CFA_DEF_CFA = 0x0c, CFA_DEF_CFA_EXPRESSION = 0x0f,
    CFA_EXPRESSION = 0x10, CFA_OFFSET_EXTENDED_SF = 0x11,
    OP_DEREF = 0x06, OP_CONSTS = 0x11, OP_PLUS = 0x22, OP_BREG0 = 0x70,
    CIE_ID = -1, CIE_VERSION = 3, DATA_ALIGN = -8,
};
enum { RBP = 6, RSP = 7, RIP = 16, RFLAGS = 49 }; /* DWARF numbers of registers: System V ABI, AMD64, figure 3.36 */

/* struct pt_regs (arch/x86/include/asm/ptrace.h): which register lies in each of its words. */
enum { NONE = 0xff, PT_REGS_IRET = 16 };
static const uint8_t pt_regs[] = {15, 14, 13, 12, RBP, 3, 11, 10, 9, 8, 0, 2, 1, 4, 5, NONE /* orig_ax */,
                                  RIP, 51 /* CS */, RFLAGS, RSP, 52 /* SS */};

/* ---- bytes ---- */

struct writer {
    uint8_t *data;
    size_t len, room;
    bool failed;
};

static void put_bytes(struct writer *w, const void *p, size_t len)
{
    if (w->room - w->len < len) {
        size_t room = MAX(w->room * 2, (size_t)1 << 20);
        uint8_t *data = w->failed ? NULL : realloc(w->data, room);
        w->failed = !data;
        if (w->failed)
            return;
        w->data = data, w->room = room;
    }
    memcpy(w->data + w->len, p, len);
    w->len += len;
}

static void put8(struct writer *w, unsigned v) { put_bytes(w, &(uint8_t){(uint8_t)v}, 1); }
static void put16(struct writer *w, uint16_t v) { put_bytes(w, &v, sizeof(v)); }
static void put32(struct writer *w, uint32_t v) { put_bytes(w, &v, sizeof(v)); }
static void put64(struct writer *w, uint64_t v) { put_bytes(w, &v, sizeof(v)); }

static void put_uleb(struct writer *w, uint64_t v)
{
    for (; v >= 0x80; v >>= 7)
        put8(w, (v & 0x7f) | 0x80);
    put8(w, (unsigned)v);
}

static void put_sleb(struct writer *w, int64_t v)
{
    for (; v < -64 || v >= 64; v >>= 7)
        put8(w, (v & 0x7f) | 0x80);
    put8(w, v & 0x7f);
}

/* A length word, then what is written until entry_end(), padded to a multiple of 8 with DW_CFA_nop, which is 0. */
static size_t entry_begin(struct writer *w)
{
    size_t at = w->len;
    put32(w, 0);
    return at;
}

static void entry_end(struct writer *w, size_t at)
{
    while ((w->len - at) % 8 && !w->failed)
        put8(w, 0);
    if (!w->failed)
        put_le32(w->data + at, (uint32_t)(w->len - at - 4));
}

/* ---- rules ---- */

static void put_saved(struct writer *w, unsigned reg, int offset) /* at CFA + offset */
{
    if (offset % DATA_ALIGN == 0) {
        put8(w, CFA_OFFSET_EXTENDED_SF), put_uleb(w, reg), put_sleb(w, offset / DATA_ALIGN);
        return;
    }
    struct writer x = {0}; /* the CFA is on the expression's stack */
    put8(&x, OP_CONSTS), put_sleb(&x, offset), put8(&x, OP_PLUS);
    put8(w, CFA_EXPRESSION), put_uleb(w, reg), put_uleb(w, x.len), put_bytes(w, x.data, x.len);
    w->failed |= x.failed;
    free(x.data);
}

static void put_expression_head(struct writer *w, int op, unsigned reg)
{
    put8(w, (unsigned)op);
    if (op == CFA_EXPRESSION)
        put_uleb(w, reg);
}

static size_t sleb_len(int64_t v)
{
    size_t n = 1;
    for (; v < -64 || v >= 64; v >>= 7)
        n++;
    return n;
}

static void put_cfa(struct writer *w, const struct orc_place *p)
{
    switch (p->base) {
    case ORC_REGISTER:
        if (p->offset >= 0)
            put8(w, CFA_DEF_CFA), put_uleb(w, p->reg), put_uleb(w, (uint64_t)p->offset);
        else
            put8(w, CFA_DEF_CFA_EXPRESSION), put_uleb(w, 1 + sleb_len(p->offset)), put8(w, OP_BREG0 + p->reg),
                put_sleb(w, p->offset);
        break;
    case ORC_AT_REGISTER:
        put8(w, CFA_DEF_CFA_EXPRESSION), put_uleb(w, 2 + sleb_len(p->offset));
        put8(w, OP_BREG0 + p->reg), put_sleb(w, p->offset), put8(w, OP_DEREF);
        break;
    case ORC_AT_SP_PLUS:
        put8(w, CFA_DEF_CFA_EXPRESSION), put_uleb(w, 5 + sleb_len(p->offset));
        put8(w, OP_BREG0 + RSP), put_sleb(w, 0), put8(w, OP_DEREF);
        put8(w, OP_CONSTS), put_sleb(w, p->offset), put8(w, OP_PLUS);
        break;
    default:
        break;
    }
}

static void put_rbp(struct writer *w, const struct orc_place *p)
{
    if (p->base == ORC_CFA) {
        put_saved(w, RBP, p->offset);
    } else if (p->base == ORC_REGISTER) {
        put_expression_head(w, CFA_EXPRESSION, RBP);
        put_uleb(w, 1 + sleb_len(p->offset)), put8(w, OP_BREG0 + RBP), put_sleb(w, p->offset);
    } else {
        put8(w, CFA_SAME_VALUE), put_uleb(w, RBP);
    }
}

static void put_advance(struct writer *w, uint64_t by)
{
    if (by < 64)
        put8(w, CFA_ADVANCE_LOC | (unsigned)by);
    else if (by <= UINT8_MAX)
        put8(w, CFA_ADVANCE_LOC1), put8(w, (unsigned)by);
    else if (by <= UINT16_MAX)
        put8(w, CFA_ADVANCE_LOC2), put16(w, (uint16_t)by);
    else
        put8(w, CFA_ADVANCE_LOC4), put32(w, (uint32_t)by);
}

/* ---- what entries of one kind share (CIE) ---- */

static void put_call_start(struct writer *w)
{
    put_saved(w, RIP, -8);
    for (unsigned reg = 0; reg < RIP; reg++)
        if (reg != RBP && reg != RSP)
            put8(w, CFA_UNDEFINED), put_uleb(w, reg);
}

static void put_regs(struct writer *w, size_t first)
{
    for (size_t i = first; i < ARRAY_LEN(pt_regs); i++)
        if (pt_regs[i] != NONE)
            put_saved(w, pt_regs[i], (int)(8 * (i - first)));
}

static void put_regs_start(struct writer *w) { put_regs(w, 0); }

static void put_partial_start(struct writer *w)
{
    for (unsigned reg = 0; reg < RIP; reg++) /* nothing has touched them yet */
        if (reg != RSP)
            put8(w, CFA_SAME_VALUE), put_uleb(w, reg);
    put_regs(w, PT_REGS_IRET);
}

static void put_end_start(struct writer *w)
{
    put8(w, CFA_DEF_CFA), put_uleb(w, RSP), put_uleb(w, 8);
    put8(w, CFA_UNDEFINED), put_uleb(w, RIP);
}

static const struct cie {
    const char *augmentation;
    void (*start)(struct writer *w);
} cies[] = {
    [ORC_UNKNOWN] = {"z", put_end_start},
    [ORC_END] = {"z", put_end_start},
    [ORC_CALL] = {"z", put_call_start},
    [ORC_REGS] = {"zS", put_regs_start},
    [ORC_REGS_PARTIAL] = {"zS", put_partial_start},
};

static void put_cie(struct writer *w, const struct cie *c)
{
    size_t at = entry_begin(w);
    put32(w, (uint32_t)CIE_ID);
    put8(w, CIE_VERSION);
    put_bytes(w, c->augmentation, strlen(c->augmentation) + 1);
    put_uleb(w, 1), put_sleb(w, DATA_ALIGN), put_uleb(w, RIP); /* code and data alignment, return address */
    put_uleb(w, 0); /* augmentation data */
    c->start(w);
    entry_end(w, at);
}

/* ---- entries ---- */

static bool same_place(const struct orc_place *a, const struct orc_place *b)
{
    return a->base == b->base && a->reg == b->reg && a->offset == b->offset;
}

/* The state at each rule is told by what differs from the one before. */
static void put_rules(struct writer *w, const struct orc_rule *rules, size_t count)
{
    uint64_t ip = rules[0].ip;
    for (size_t i = 0; i < count; i++) {
        const struct orc_rule *r = &rules[i], *before = i ? r - 1 : NULL;
        if (r->kind == ORC_UNKNOWN || r->kind == ORC_END)
            return;
        bool cfa = !before || !same_place(&r->cfa, &before->cfa);
        /* In pt_regs RBP is where it always is. */
        bool rbp = r->kind == ORC_CALL && (before ? !same_place(&r->rbp, &before->rbp) : r->rbp.base != ORC_NOT_SAVED);
        if (!cfa && !rbp)
            continue;
        if (r->ip != ip)
            put_advance(w, r->ip - ip);
        ip = r->ip;
        if (cfa)
            put_cfa(w, &r->cfa);
        if (rbp)
            put_rbp(w, &r->rbp);
    }
}

static void put_fde(struct writer *w, size_t cie, const struct orc_rule *rules, size_t count, uint64_t end)
{
    size_t at = entry_begin(w);
    put32(w, (uint32_t)cie);
    put64(w, rules[0].ip), put64(w, end - rules[0].ip);
    put_uleb(w, 0); /* augmentation data */
    put_rules(w, rules, count);
    entry_end(w, at);
}

struct err *frame_encode(const struct orc_rule *rules, size_t count, uint64_t end, struct frame_bytes *out)
{
    struct writer w = {0};
    size_t cie[ARRAY_LEN(cies)];
    for (size_t i = 0; i < ARRAY_LEN(cies); i++) {
        cie[i] = w.len;
        put_cie(&w, &cies[i]);
    }
    for (size_t i = 0, n; i < count && !w.failed; i += n) {
        for (n = 1; n < RULES_MAX && i + n < count && rules[i + n].kind == rules[i].kind; n++)
            ;
        uint64_t to = i + n < count ? rules[i + n].ip : end;
        if (to > rules[i].ip)
            put_fde(&w, cie[rules[i].kind], rules + i, n, to);
    }
    if (w.failed || w.len > UINT32_MAX) {
        free(w.data);
        return err_new(ERR_HOST, "no memory for the unwind rules");
    }
    *out = (struct frame_bytes){w.data, w.len};
    return NULL;
}
