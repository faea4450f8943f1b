/* exec/x86/xsave.c: FXSAVE, FXRSTOR and the XSAVE family, emulated by value (SDM vol. 1 chapter 13 and 10.5).
 *
 * XINUSE is computed: a component is in use when it differs from its initial state. Hosts track it by history, which would
 * leak into guests. XSAVEOPT never uses the modified optimisation. FCS and FDS are deprecated: stored as 0.
 *
 * Memory is translated in full before the first byte is written, and only bytes that the manual says are written
 * change, which is what the pieces of a span are for. */
#include "exec/x86/access.h"
#include "exec/x86/fpu.h"
#include "exec/x86/sys.h"

enum { X87 = 1, SSE = 2, AVX = 4 };
enum { /* the XSAVE area, SDM vol. 1, 13.4 */
    OFF_MXCSR = 24, OFF_ST = 32, OFF_XMM = 160, FXSAVE_LEN = 512,
    OFF_XSTATE_BV = 512, OFF_XCOMP_BV = 520, OFF_AVX = 576, AVX_LEN = 256,
    ST_LEN = 128,
};
#define XCOMP_COMPACT bit(63)

static unsigned vector_regs(struct vcpu *v) { return cpu_of(v)->mode == MODE_LONG64 ? 16 : 8; }

/* Bytes [off, off + len) of a translated range. */
static struct span piece(const struct span *sp, uint32_t off, uint32_t len)
{
    struct span out = {.len = len};
    unsigned n = 0;
    for (unsigned i = 0; i < 2 && len; i++) {
        struct span_part p = sp->part[i];
        if (off >= p.len) {
            off -= p.len;
            continue;
        }
        p.host = p.host ? p.host + off : NULL;
        p.gpa += off;
        p.lin += off;
        p.len = MIN(p.len - off, len);
        off = 0;
        len -= p.len;
        out.part[n++] = p;
    }
    return out;
}

static void write_piece(struct vcpu *v, const struct span *sp, uint32_t off, const void *buf, uint32_t len)
{
    struct span p = piece(sp, off, len);
    span_write(v, &p, buf);
}

/* ---- components, from state to memory ---- */

static void save_x87(struct vcpu *v, const struct span *sp, bool wide)
{
    const struct x87 *x = &v->s.x87;
    uint8_t head[24] = {0};
    put_le16(head, x->fcw);
    put_le16(head + 2, x->fsw);
    head[4] = x->ftw;
    put_le16(head + 6, x->fop);
    put_le64(head + 8, wide ? x->fip : (uint32_t)x->fip);
    put_le64(head + 16, wide ? x->fdp : (uint32_t)x->fdp);
    write_piece(v, sp, 0, head, sizeof(head));
    write_piece(v, sp, OFF_ST, x->st, ST_LEN);
}

static void save_mxcsr(struct vcpu *v, const struct span *sp)
{
    uint8_t image[8];
    put_le32(image, v->s.mxcsr);
    put_le32(image + 4, MXCSR_VALID);
    write_piece(v, sp, OFF_MXCSR, image, sizeof(image));
}

/* Lower or upper halves of the vector registers. */
static void save_vector(struct vcpu *v, const struct span *sp, uint32_t off, unsigned half)
{
    uint8_t image[16 * 16];
    unsigned n = vector_regs(v);
    for (unsigned i = 0; i < n; i++)
        memcpy(image + 16 * i, v->s.ymm[i] + half, 16);
    write_piece(v, sp, off, image, 16 * n);
}

/* ---- and back ---- */

static void load_x87(struct vcpu *v, const uint8_t *image, bool wide)
{
    struct x87 *x = &v->s.x87;
    x->ftw = image[4];
    x->fop = get_le16(image + 6) & FOP_MASK;
    x->fip = wide ? get_le64(image + 8) : get_le32(image + 8);
    x->fdp = wide ? get_le64(image + 16) : get_le32(image + 16);
    for (unsigned i = 0; i < 8; i++)
        memcpy(x->st[i], image + OFF_ST + 16 * i, 10);
    x87_load_control(x, get_le16(image), get_le16(image + 2));
}

static void init_x87(struct vcpu *v)
{
    v->s.x87 = (struct x87){.fcw = FCW_INIT};
}

/* image NULL: initialise. */
static void load_vector(struct vcpu *v, const uint8_t *image, unsigned half)
{
    for (unsigned i = 0; i < vector_regs(v); i++) {
        if (image)
            memcpy(v->s.ymm[i] + half, image + 16 * i, 16);
        else
            memset(v->s.ymm[i] + half, 0, 16);
    }
}

/* ---- in use? SDM vol. 1, 13.6 ---- */

static bool half_in_use(const struct vcpu *v, unsigned half)
{
    uint8_t any = 0;
    for (unsigned i = 0; i < vector_regs((struct vcpu *)v); i++)
        for (unsigned k = 0; k < 16; k++)
            any |= v->s.ymm[i][half + k];
    return any;
}

static bool x87_in_use(const struct x87 *x)
{
    static const uint8_t zero[8][16];
    return x->fcw != FCW_INIT || x->fsw || x->ftw || x->fop || x->fip || x->fdp || memcmp(x->st, zero, sizeof(zero));
}

uint64_t xsave_in_use(const struct vcpu *v)
{
    return (x87_in_use(&v->s.x87) ? X87 : 0) | (half_in_use(v, 0) ? SSE : 0) | (half_in_use(v, 16) ? AVX : 0);
}

/* What saving treats as in use: a changed MXCSR counts as SSE state. */
static uint64_t save_in_use(const struct vcpu *v)
{
    return xsave_in_use(v) | (v->s.mxcsr != MXCSR_INIT ? SSE : 0);
}

/* ---- FXSAVE, FXRSTOR ---- */

static void fx_translate(struct vcpu *v, const struct insn *in, enum mmu_access acc, struct span *sp)
{
    if (v->s.cr0 & (CR0_EM | CR0_TS))
        vcpu_raise(v, VEC_NM);
    uint64_t ea = insn_ea(v, in), end = (ea + FXSAVE_LEN - 1) & in->addr_mask;
    uint64_t lin = lin_addr(v, in->seg, ea, FXSAVE_LEN, false); /* whether it may be written is asked last */
    mmu_check_canonical(v, lin, in->seg); /* before alignment, in hardware */
    mmu_check_align(v, lin, 4);
    if (lin & 15)
        vcpu_raise_err(v, VEC_GP, 0);
    uint64_t last = lin_addr(v, in->seg, end, 1, acc != ACC_READ);
    mmu_probe(v, last, 1, acc, cpu_of(v)->mmu_mode, in->seg); /* before the first byte, in hardware */
    mmu_span(v, lin, FXSAVE_LEN, acc, cpu_of(v)->mmu_mode, in->seg, sp);
}

void sys_fxsave(struct vcpu *v, const struct insn *in)
{
    struct span sp;
    fx_translate(v, in, ACC_WRITE, &sp);
    save_x87(v, &sp, in->opsize == 8);
    save_mxcsr(v, &sp);
    save_vector(v, &sp, OFF_XMM, 0);
}

void sys_fxrstor(struct vcpu *v, const struct insn *in)
{
    struct span sp;
    uint8_t image[FXSAVE_LEN];
    fx_translate(v, in, ACC_READ, &sp);
    span_read(v, &sp, image);
    uint32_t mxcsr = get_le32(image + OFF_MXCSR);
    if (mxcsr & ~(uint32_t)MXCSR_VALID)
        vcpu_raise_err(v, VEC_GP, 0);
    load_x87(v, image, in->opsize == 8);
    v->s.mxcsr = mxcsr;
    load_vector(v, image + OFF_XMM, 0);
}

/* ---- XSAVE, XSAVEOPT, XSAVEC ---- */

static uint64_t requested(const struct vcpu *v)
{
    return ((uint32_t)v->s.r[R_RAX] | v->s.r[R_RDX] << 32) & v->s.xcr0;
}

static void xsave_check(struct vcpu *v)
{
    if (!(v->s.cr4 & CR4_OSXSAVE))
        vcpu_raise(v, VEC_UD);
    if (v->s.cr0 & CR0_TS)
        vcpu_raise(v, VEC_NM);
}

static void xsave_translate(struct vcpu *v, const struct insn *in, uint32_t len, enum mmu_access acc, struct span *sp)
{
    uint64_t lin = lin_addr(v, in->seg, insn_ea(v, in), len, acc != ACC_READ);
    mmu_check_canonical(v, lin, in->seg);
    if (lin & 63)
        vcpu_raise_err(v, VEC_GP, 0);
    mmu_span(v, lin, len, acc, cpu_of(v)->mmu_mode, in->seg, sp);
}

static void save_components(struct vcpu *v, const struct insn *in, const struct span *sp, uint64_t which, bool mxcsr)
{
    if (which & X87)
        save_x87(v, sp, in->opsize == 8);
    if (mxcsr)
        save_mxcsr(v, sp);
    if (which & SSE)
        save_vector(v, sp, OFF_XMM, 0);
    if (which & AVX)
        save_vector(v, sp, OFF_AVX, 16);
}

static uint32_t area_len(uint64_t components)
{
    return components & AVX ? OFF_AVX + AVX_LEN : OFF_AVX;
}

/* The standard form keeps the bits of XSTATE_BV that were not asked for. */
static void xsave_standard(struct vcpu *v, const struct insn *in, bool skip_initial)
{
    struct span sp, bv;
    uint8_t image[8];
    xsave_check(v);
    uint64_t rfbm = requested(v), used = save_in_use(v) & rfbm;
    xsave_translate(v, in, area_len(rfbm), ACC_RMW, &sp);
    bv = piece(&sp, OFF_XSTATE_BV, sizeof(image));
    span_read(v, &bv, image);
    put_le64(image, (get_le64(image) & ~rfbm) | used);
    save_components(v, in, &sp, skip_initial ? used : rfbm, rfbm & (SSE | AVX));
    span_write(v, &bv, image);
}

void sys_xsave(struct vcpu *v, const struct insn *in) { xsave_standard(v, in, false); }
void sys_xsaveopt(struct vcpu *v, const struct insn *in) { xsave_standard(v, in, true); }

void sys_xsavec(struct vcpu *v, const struct insn *in)
{
    struct span sp;
    uint8_t image[16];
    xsave_check(v);
    uint64_t rfbm = requested(v), used = save_in_use(v) & rfbm;
    xsave_translate(v, in, area_len(rfbm), ACC_WRITE, &sp);
    put_le64(image, used);
    put_le64(image + 8, rfbm | XCOMP_COMPACT);
    save_components(v, in, &sp, used, used & SSE);
    write_piece(v, &sp, OFF_XSTATE_BV, image, sizeof(image));
}

/* ---- XRSTOR ---- */

struct xheader { uint64_t state, compact; bool is_compact; };

/* SDM vol. 1, 13.8: what the header must not say. */
static struct xheader header_check(struct vcpu *v, const uint8_t *h)
{
    struct xheader x = {.state = get_le64(h), .compact = get_le64(h + 8)};
    uint8_t rest = 0;
    x.is_compact = x.compact & XCOMP_COMPACT;
    for (unsigned i = 16; i < (x.is_compact ? 64 : 24); i++)
        rest |= h[i];
    bool ok = !rest && !(x.state & ~v->s.xcr0);
    if (x.is_compact)
        ok = ok && !(x.compact & ~XCOMP_COMPACT & ~v->s.xcr0) && !(x.state & ~x.compact);
    else
        ok = ok && !x.compact;
    if (!ok)
        vcpu_raise_err(v, VEC_GP, 0);
    return x;
}

/* The value MXCSR gets; the standard form loads it with either vector component, whatever XSTATE_BV says. */
static uint32_t new_mxcsr(struct vcpu *v, const struct xheader *h, uint64_t rfbm, uint32_t stored)
{
    bool load = h->is_compact ? rfbm & h->state & SSE : rfbm & (SSE | AVX);
    if (!load)
        return h->is_compact && (rfbm & SSE) ? (uint32_t)MXCSR_INIT : v->s.mxcsr;
    if (stored & ~(uint32_t)MXCSR_VALID)
        vcpu_raise_err(v, VEC_GP, 0);
    return stored;
}

void sys_xrstor(struct vcpu *v, const struct insn *in)
{
    struct span sp;
    uint8_t image[OFF_AVX + AVX_LEN];
    xsave_check(v);
    uint64_t rfbm = requested(v);
    xsave_translate(v, in, OFF_AVX, ACC_READ, &sp);
    span_read(v, &sp, image);
    struct xheader h = header_check(v, image + OFF_XSTATE_BV);
    uint64_t load = rfbm & h.state;
    if (load & AVX) {
        xsave_translate(v, in, OFF_AVX + AVX_LEN, ACC_READ, &sp);
        struct span high = piece(&sp, OFF_AVX, AVX_LEN);
        span_read(v, &high, image + OFF_AVX);
    }
    uint32_t mxcsr = new_mxcsr(v, &h, rfbm, get_le32(image + OFF_MXCSR));

    v->s.mxcsr = mxcsr;
    if (load & X87)
        load_x87(v, image, in->opsize == 8);
    else if (rfbm & X87)
        init_x87(v);
    if (rfbm & SSE)
        load_vector(v, load & SSE ? image + OFF_XMM : NULL, 0);
    if (rfbm & AVX)
        load_vector(v, load & AVX ? image + OFF_AVX : NULL, 16);
}
