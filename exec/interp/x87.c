/* exec/interp/x87.c: x87 instructions. Arithmetic, loads, stores and compares run on the host, on an FXSAVE image of
 * the guest's x87 state; what loads, stores or resets the environment is emulated by the rule in exec/x86/fpu.h.
 *
 * Everything happens on the image first. Memory is written, if at all, before the image becomes the guest's state, so a
 * store that faults leaves nothing behind. A store that an unmasked exception suppresses does not touch memory, and
 * does not fault. */
#include "core/irq.h"
#include "exec/interp/vec.h"
#include "exec/x86/host_thunk.h"
#include "exec/x86/lower.h"

enum { FERR_LINE = 13, ST_BYTES = 10 };

/* ---- helpers of fpu.h ---- */

/* Tag of one 80-bit register that is not empty: 0 valid, 1 zero, 2 special (NaN, infinity, denormal, unsupported). */
static unsigned st_tag(const uint8_t *st)
{
    uint64_t mantissa = get_le64(st);
    unsigned exponent = get_le16(st + 8) & 0x7fff;
    if (exponent == 0)
        return mantissa ? 2 : 1;
    return exponent == 0x7fff || !(mantissa >> 63) ? 2 : 0;
}

uint16_t x87_full_tags(const struct x87 *x)
{
    unsigned full = 0;
    for (unsigned reg = 0; reg < 8; reg++) {
        unsigned tag = x->ftw >> reg & 1 ? st_tag(x->st[(reg - x87_top(x)) & 7]) : 3;
        full |= tag << 2 * reg;
    }
    return (uint16_t)full;
}

uint8_t x87_abridged_tags(uint16_t full)
{
    unsigned abridged = 0;
    for (unsigned reg = 0; reg < 8; reg++)
        abridged |= (unsigned)((full >> 2 * reg & 3) != 3) << reg;
    return (uint8_t)abridged;
}

static void set_ferr(struct vcpu *v, bool level)
{
    vcpu_publish_ticks(v);
    irq_set(v->machine, FERR_LINE, level);
}

void x87_raise_pending(struct vcpu *v)
{
    if (v->s.cr0 & CR0_NE)
        vcpu_raise(v, VEC_MF);
    set_ferr(v, true);
}

/* FERR# follows FSW.ES; it rises late, at the next waiting instruction. */
static void ferr_cleared(struct vcpu *v)
{
    if (!(v->s.cr0 & CR0_NE))
        set_ferr(v, false);
}

static ALWAYS_INLINE void need_x87(struct vcpu *v)
{
    if (unlikely(v->s.cr0 & (CR0_EM | CR0_TS)))
        fpu_check_x87(v);
}

/* ---- arithmetic, on the host ---- */

enum x87_mem { X87_REG, X87_LOAD, X87_STORE };

/* Unmasked exceptions still pending, with ES and B. CR0.NE = 0 lets an instruction run in spite of them (as with IGNNE#
 * asserted); the host must not see them, or its own #MF would come. No instruction that runs there clears flags. */
static uint16_t still_pending(const struct x87 *x)
{
    return x->fsw & FSW_ES ? x->fsw & (FSW_ES | FSW_B | (FSW_EXC & ~x->fcw)) : 0;
}

static void image_load(struct x87_image *f, const struct x87 *x)
{
    memcpy(f->st, x->st, sizeof(f->st));
    f->fcw = x->fcw;
    f->fsw = (uint16_t)(x->fsw & ~still_pending(x));
    f->ftw = x->ftw;
    f->reserved = 0;
    f->fop = 0;
    f->fip = f->fdp = 0;
    f->mxcsr = MXCSR_INIT;
}

/* The last 6 bytes of a register's slot are zero in the guest's state, and FXSAVE leaves or makes them so. */
static void image_commit(const struct x87_image *f, struct x87 *x)
{
    memcpy(x->st, f->st, sizeof(x->st));
    x->fsw = (uint16_t)(f->fsw | still_pending(x));
    x->ftw = f->ftw;
}

static void x87_run(struct vcpu *v, const struct insn *in, struct x87_image *f, void *mem)
{
    const struct thunk *t = in->aux;
    if (unlikely(t->key.bits != in->imm))
        t = thunk_find(cpu_of(v)->host_fp, (union thunk_key){.bits = in->imm});
    image_load(f, &v->s.x87);
    t->code(f, mem, NULL, NULL, &v->s);
}

/* Run a store. An unmasked exception may have suppressed it; that shows when the same store leaves two different
 * buffers different. */
static bool x87_run_store(struct vcpu *v, const struct insn *in, struct x87_image *f, uint8_t *buf)
{
    uint8_t other[ST_BYTES];
    memset(buf, 0, ST_BYTES);
    x87_run(v, in, f, buf);
    if (likely(!(f->fsw & FSW_ES)))
        return true;
    memset(other, 0xff, sizeof(other));
    x87_run(v, in, f, other);
    return memcmp(buf, other, in->opsize) == 0;
}

/* Rules (1) to (3). */
static void x87_set_pointers(struct vcpu *v, const struct insn *in, enum x87_mem mem, uint64_t ea)
{
    struct x87 *x = &v->s.x87;
    x->fip = insn_rip(v, in);
    if (likely(!(x->fsw & FSW_ES)))
        return;
    x->fop = (uint16_t)(in->rm << 8 | in->reg);
    if (mem != X87_REG)
        x->fdp = ea;
}

static ALWAYS_INLINE void x87_exec(struct vcpu *v, const struct insn *in, enum x87_mem mem)
{
    struct x87_image f;
    uint8_t buf[ST_BYTES];
    uint64_t ea = mem == X87_REG ? 0 : insn_ea(v, in);
    need_x87(v);
    x87_check_pending(v);
    if (mem == X87_STORE) {
        if (x87_run_store(v, in, &f, buf)) {
            memcpy(wr(v, in->seg, ea, in->opsize), buf, in->opsize);
            wr_end(v);
        }
    } else {
        x87_run(v, in, &f, mem == X87_LOAD ? (void *)(uintptr_t)rd(v, in->seg, ea, in->opsize) : NULL);
    }
    image_commit(&f, &v->s.x87);
    x87_set_pointers(v, in, mem, ea);
}
static void x87_reg(struct vcpu *v, const struct insn *in) { x87_exec(v, in, X87_REG); }
static void x87_load(struct vcpu *v, const struct insn *in) { x87_exec(v, in, X87_LOAD); }
static void x87_store(struct vcpu *v, const struct insn *in) { x87_exec(v, in, X87_STORE); }

static bool uses_eflags(const struct lower *lo)
{
    for (unsigned i = 0; i < lo->zi->operand_count; i++)
        if (lower_reg_class(lo, i) == ZYDIS_REGCLASS_FLAGS)
            return true;
    return false;
}

/* In struct insn: reg is ModRM, rm the low bits of the opcode, as FOP wants them. */
bool lower_x87(struct lower *lo)
{
    const ZydisDecodedInstruction *zi = lo->zi;
    uint8_t modrm = lo->bytes[zi->raw.modrm.offset];
    union thunk_key k = {.bits = 0};
    enum x87_mem mem = X87_REG;
    k.kind = THUNK_X87;
    k.opcode = zi->opcode;
    k.flags = uses_eflags(lo);
    if (zi->raw.modrm.mod == 3) {
        k.imm = modrm;
    } else {
        k.ext = zi->raw.modrm.reg;
        k.slots = thunk_slot(1, SLOT_MEM, FIELD_RM, false);
        vec_lower_mem(lo, false);
        for (unsigned i = 0; i < zi->operand_count; i++)
            if (lower_is_mem(lo, i))
                mem = lo->op[i].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE ? X87_STORE : X87_LOAD;
    }
    lo->out->reg = modrm;
    lo->out->rm = zi->opcode & 7;
    lo->out->imm = k.bits;
    lo->out->aux = thunk_find(cpu_of(lo->v)->host_fp, k);
    return lower_to(lo, mem == X87_REG ? x87_reg : mem == X87_LOAD ? x87_load : x87_store);
}

/* ---- control instructions ---- */

/* FLDENV and FNSTENV images come in four layouts: 16 or 32 bit, protected or real mode (SDM vol. 1, figures 8-9 to
 * 8-12). FCS and FDS are deprecated, so the real-mode "linear address" is the offset. */
enum { ENV16_LEN = 14, ENV32_LEN = 28, REGS_LEN = 8 * ST_BYTES };

static void env_save32(const struct x87 *x, bool protected_mode, uint8_t *p)
{
    put_le32(p, 0xffff0000 | x->fcw);
    put_le32(p + 4, 0xffff0000 | x->fsw);
    put_le32(p + 8, 0xffff0000 | x87_full_tags(x));
    if (protected_mode) {
        put_le32(p + 12, (uint32_t)x->fip);
        put_le32(p + 16, (uint32_t)x->fop << 16);
        put_le32(p + 20, (uint32_t)x->fdp);
        put_le32(p + 24, 0xffff0000);
    } else {
        put_le32(p + 12, 0xffff0000 | (x->fip & 0xffff));
        put_le32(p + 16, (uint32_t)(x->fip >> 16 & 0xffff) << 12 | x->fop);
        put_le32(p + 20, 0xffff0000 | (x->fdp & 0xffff));
        put_le32(p + 24, (uint32_t)(x->fdp >> 16 & 0xffff) << 12);
    }
}

static void env_save16(const struct x87 *x, bool protected_mode, uint8_t *p)
{
    put_le16(p, x->fcw);
    put_le16(p + 2, x->fsw);
    put_le16(p + 4, x87_full_tags(x));
    put_le16(p + 6, (uint16_t)x->fip);
    put_le16(p + 8, protected_mode ? 0 : (uint16_t)((x->fip >> 16 & 15) << 12 | x->fop));
    put_le16(p + 10, (uint16_t)x->fdp);
    put_le16(p + 12, protected_mode ? 0 : (uint16_t)((x->fdp >> 16 & 15) << 12));
}

static void env_load_pointers(struct x87 *x, bool protected_mode, bool wide, const uint8_t *p)
{
    if (wide && protected_mode) {
        x->fip = get_le32(p + 12);
        x->fop = get_le16(p + 18) & FOP_MASK;
        x->fdp = get_le32(p + 20);
    } else if (wide) {
        x->fip = get_le16(p + 12) | (get_le32(p + 16) >> 12 & 0xffff) << 16;
        x->fop = get_le16(p + 16) & FOP_MASK;
        x->fdp = get_le16(p + 20) | (get_le32(p + 24) >> 12 & 0xffff) << 16;
    } else {
        unsigned high_ip = protected_mode ? 0 : get_le16(p + 8), high_dp = protected_mode ? 0 : get_le16(p + 12);
        x->fip = get_le16(p + 6) | (high_ip >> 12) << 16;
        x->fop = high_ip & FOP_MASK;
        x->fdp = get_le16(p + 10) | (high_dp >> 12) << 16;
    }
}

static void env_load(struct x87 *x, bool protected_mode, bool wide, const uint8_t *p)
{
    unsigned step = wide ? 4 : 2;
    uint16_t fsw = get_le16(p + step);
    x87_set_top(x, fsw >> 11 & 7);
    x87_load_control(x, get_le16(p), fsw);
    x->ftw = x87_abridged_tags(get_le16(p + 2 * step));
    env_load_pointers(x, protected_mode, wide, p);
}

static unsigned env_save(struct vcpu *v, bool wide, uint8_t *p)
{
    if (wide)
        env_save32(&v->s.x87, cpu_protected(v), p);
    else
        env_save16(&v->s.x87, cpu_protected(v), p);
    return wide ? ENV32_LEN : ENV16_LEN;
}

/* The whole image is translated before any of it is written: these are the longest accesses there are. Hardware touches
 * the first word and then the last byte, which shows in CR2, and wants the first word aligned. */
static void x87_span(struct vcpu *v, const struct insn *in, uint32_t len, bool write, struct span *sp)
{
    enum mmu_access acc = write ? ACC_WRITE : ACC_READ;
    uint64_t ea = insn_ea(v, in), end = (ea + len - 1) & in->addr_mask;
    uint64_t lin = lin_addr(v, in->seg, ea, len, write), last = lin_addr(v, in->seg, end, 1, write);
    mmu_probe(v, lin, in->x ? 4 : 2, acc, cpu_of(v)->mmu_mode, in->seg);
    mmu_probe(v, last, 1, acc, cpu_of(v)->mmu_mode, in->seg);
    mmu_span(v, lin, len, acc, cpu_of(v)->mmu_mode, in->seg, sp);
}

/* in->x: 32-bit layout. */
static void fnstenv(struct vcpu *v, const struct insn *in)
{
    struct span sp;
    uint8_t env[ENV32_LEN];
    need_x87(v);
    unsigned len = env_save(v, in->x, env);
    x87_span(v, in, len, true, &sp);
    span_write(v, &sp, env);
    v->s.x87.fcw |= FCW_EXC;
    x87_update_es(&v->s.x87);
    ferr_cleared(v);
}

static void fldenv(struct vcpu *v, const struct insn *in)
{
    struct span sp;
    uint8_t env[ENV32_LEN];
    need_x87(v);
    x87_check_pending(v);
    x87_span(v, in, in->x ? ENV32_LEN : ENV16_LEN, false, &sp);
    span_read(v, &sp, env);
    env_load(&v->s.x87, cpu_protected(v), in->x, env);
}

static void fnsave(struct vcpu *v, const struct insn *in)
{
    struct span sp;
    uint8_t image[ENV32_LEN + REGS_LEN];
    need_x87(v);
    unsigned len = env_save(v, in->x, image);
    for (unsigned i = 0; i < 8; i++)
        memcpy(image + len + i * ST_BYTES, v->s.x87.st[i], ST_BYTES);
    x87_span(v, in, len + REGS_LEN, true, &sp);
    span_write(v, &sp, image);
    x87_init(&v->s.x87);
    ferr_cleared(v);
}

static void frstor(struct vcpu *v, const struct insn *in)
{
    struct span sp;
    uint8_t image[ENV32_LEN + REGS_LEN];
    unsigned len = in->x ? ENV32_LEN : ENV16_LEN;
    need_x87(v);
    x87_check_pending(v);
    x87_span(v, in, len + REGS_LEN, false, &sp);
    span_read(v, &sp, image);
    env_load(&v->s.x87, cpu_protected(v), in->x, image);
    for (unsigned i = 0; i < 8; i++)
        memcpy(v->s.x87.st[i], image + len + i * ST_BYTES, ST_BYTES);
}

static void fninit(struct vcpu *v, const struct insn *in)
{
    (void)in;
    need_x87(v);
    x87_init(&v->s.x87);
    ferr_cleared(v);
}

static void fnclex(struct vcpu *v, const struct insn *in)
{
    (void)in;
    need_x87(v);
    v->s.x87.fsw &= (uint16_t)~(FSW_EXC | FSW_SF | FSW_ES | FSW_B);
    ferr_cleared(v);
}

static void fnstsw(struct vcpu *v, const struct insn *in)
{
    need_x87(v);
    if (in->flags & INSN_MEM)
        st16(v, in->seg, insn_ea(v, in), v->s.x87.fsw);
    else
        REG16(v, R_RAX * 8) = v->s.x87.fsw;
}

static void fnstcw(struct vcpu *v, const struct insn *in)
{
    need_x87(v);
    st16(v, in->seg, insn_ea(v, in), v->s.x87.fcw);
}

static void fldcw(struct vcpu *v, const struct insn *in)
{
    need_x87(v);
    x87_check_pending(v);
    x87_load_control(&v->s.x87, ld16(v, in->seg, insn_ea(v, in)), v->s.x87.fsw);
}

/* WAIT looks at MP and TS, not at EM (SDM vol. 3, table 2-2). */
static void fwait(struct vcpu *v, const struct insn *in)
{
    (void)in;
    if ((v->s.cr0 & (CR0_MP | CR0_TS)) == (CR0_MP | CR0_TS))
        vcpu_raise(v, VEC_NM);
    x87_check_pending(v);
}

/* FENI, FDISI, FSETPM. */
static void fnop_control(struct vcpu *v, const struct insn *in)
{
    (void)in;
    need_x87(v);
}

bool lower_x87_control(struct lower *lo)
{
    static const insn_fn handlers[X87_CONTROLS] = {
        [X87_FNINIT] = fninit,   [X87_FNCLEX] = fnclex, [X87_FNSTSW] = fnstsw, [X87_FNSTCW] = fnstcw,
        [X87_FLDCW] = fldcw,     [X87_FNSTENV] = fnstenv, [X87_FLDENV] = fldenv, [X87_FNSAVE] = fnsave,
        [X87_FRSTOR] = frstor,   [X87_FWAIT] = fwait,   [X87_NOP] = fnop_control,
    };
    vec_lower_mem(lo, false);
    lo->out->x = lo->out->opsize == ENV32_LEN || lo->out->opsize == ENV32_LEN + REGS_LEN;
    return lower_to(lo, handlers[lo->arg]);
}
