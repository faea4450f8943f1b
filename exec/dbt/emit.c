/* exec/dbt/emit.c: host machine code. See emit.h. */
#include "exec/dbt/emit.h"

/* Where `len` bytes go, NULL when they do not fit. */
static uint8_t *place(struct emit *e, unsigned len)
{
    uint8_t *p = e->base + e->pos;
    if (unlikely(e->end - e->pos < len)) {
        e->full = true;
        return NULL;
    }
    e->pos += len;
    return p;
}

void emit_u8(struct emit *e, unsigned x)
{
    uint8_t *p = place(e, 1);
    if (p)
        *p = (uint8_t)x;
}

void emit_u32(struct emit *e, uint32_t x)
{
    uint8_t *p = place(e, 4);
    if (p)
        put_le32(p, x);
}

void emit_u64(struct emit *e, uint64_t x)
{
    uint8_t *p = place(e, 8);
    if (p)
        put_le64(p, x);
}

/* ---- one instruction ----
 *
 * Inlined into each short cut, where most of the instruction is constant, this is a third of the work. */

#define ALWAYS_INLINE inline __attribute__((always_inline))

enum { REX = 0x40, REX_W = 8, REX_R = 4, REX_X = 2, REX_B = 1 };

static ALWAYS_INLINE unsigned ext_bits(const struct host_insn *in)
{
    unsigned bits = in->modrm && in->reg & 8 ? REX_R : 0;
    if (!in->is_mem)
        return bits | (in->rm & 8 ? REX_B : 0);
    if (in->mem.base != H_NONE && in->mem.base & 8)
        bits |= REX_B;
    if (in->mem.index != H_NONE && in->mem.index & 8)
        bits |= REX_X;
    return bits;
}

/* Each of these writes at p and returns where to go on. */
static ALWAYS_INLINE uint8_t *prefix_legacy(uint8_t *p, const struct host_insn *in)
{
    if (in->is_mem && in->mem.gs)
        *p++ = 0x65;
    if (in->p66)
        *p++ = 0x66;
    if (in->rep)
        *p++ = in->rep;
    unsigned rex = ext_bits(in) | (in->w ? REX_W : 0);
    if (rex || in->rex8)
        *p++ = (uint8_t)(REX | rex);
    if (in->map)
        *p++ = 0x0f;
    if (in->map > 1)
        *p++ = in->map == 2 ? 0x38 : 0x3a;
    return p;
}

static ALWAYS_INLINE uint8_t *prefix_vex(uint8_t *p, const struct host_insn *in)
{
    if (in->is_mem && in->mem.gs)
        *p++ = 0x65;
    unsigned ext = ext_bits(in), low = (~in->vvvv & 15u) << 3 | (unsigned)in->l << 2 | in->pp;
    if (in->map == 1 && !in->w && !(ext & (REX_X | REX_B))) {
        *p++ = 0xc5;
        *p++ = (uint8_t)((ext & REX_R ? 0 : 0x80) | low);
        return p;
    }
    *p++ = 0xc4;
    *p++ = (uint8_t)((ext & REX_R ? 0 : 0x80) | (ext & REX_X ? 0 : 0x40) | (ext & REX_B ? 0 : 0x20) | in->map);
    *p++ = (uint8_t)((in->w ? 0x80u : 0) | low);
    return p;
}

static ALWAYS_INLINE uint8_t *modrm_mem(uint8_t *p, const struct emit *e, const struct host_insn *in)
{
    const struct host_mem *m = &in->mem;
    unsigned reg = (in->reg & 7u) << 3;
    if (m->rip) { /* relative to the end of the instruction */
        *p++ = (uint8_t)(reg | 5);
        put_le32(p, (uint32_t)(m->disp - (int32_t)(p - e->base + 4 + in->imm_len)));
        return p + 4;
    }
    uint8_t sib = (uint8_t)((unsigned)m->scale << 6 | (m->index == H_NONE ? 4u : m->index & 7u) << 3);
    if (m->base == H_NONE) { /* SIB without a base: disp32 */
        *p++ = (uint8_t)(reg | 4);
        *p++ = sib | 5;
        put_le32(p, (uint32_t)m->disp);
        return p + 4;
    }
    bool need_sib = m->index != H_NONE || (m->base & 7) == H_RSP;
    unsigned mod = m->disp == 0 && (m->base & 7) != H_RBP ? 0 : m->disp == (int8_t)m->disp ? 1 : 2;
    *p++ = (uint8_t)(mod << 6 | reg | (need_sib ? 4u : m->base & 7u));
    if (need_sib)
        *p++ = sib | (m->base & 7u);
    put_le32(p, (uint32_t)m->disp); /* as much of it as counts */
    return p + (mod == 1 ? 1 : mod == 2 ? 4 : 0);
}

/* With room for any instruction nothing is checked byte by byte: so `end` is INSN_ROOM bytes nearer. */
static ALWAYS_INLINE void encode(struct emit *e, const struct host_insn *in)
{
    enum { INSN_ROOM = 32 };
    if (unlikely(e->end - e->pos < INSN_ROOM)) {
        e->full = true;
        return;
    }
    uint8_t *p = e->base + e->pos;
    p = in->vex ? prefix_vex(p, in) : prefix_legacy(p, in);
    *p++ = (uint8_t)(in->opcode + (in->modrm ? 0u : in->rm & 7u));
    if (in->modrm && in->is_mem)
        p = modrm_mem(p, e, in);
    else if (in->modrm)
        *p++ = (uint8_t)(0xc0 | (in->reg & 7u) << 3 | (in->rm & 7u));
    memcpy(p, in->imm, sizeof(in->imm)); /* as much of it as counts */
    e->pos = (uint32_t)(p + in->imm_len - e->base);
}

void emit_insn(struct emit *e, const struct host_insn *in) { encode(e, in); }

/* ---- short cuts ---- */

static ALWAYS_INLINE struct host_insn op_rr(uint8_t opcode, unsigned reg, unsigned rm, bool w)
{
    return (struct host_insn){.opcode = opcode, .modrm = true, .reg = (uint8_t)reg, .rm = (uint8_t)rm, .w = w};
}

static ALWAYS_INLINE struct host_insn op_rm(uint8_t opcode, unsigned reg, struct host_mem m, bool w)
{
    return (struct host_insn){.opcode = opcode, .modrm = true, .reg = (uint8_t)reg, .is_mem = true, .mem = m, .w = w};
}

static ALWAYS_INLINE void set_imm(struct host_insn *in, uint64_t x, unsigned len)
{
    in->imm_len = (uint8_t)len;
    put_le64(in->imm, x);
}

void emit_mov_rr(struct emit *e, enum host_reg dst, enum host_reg src)
{
    struct host_insn in = op_rr(0x89, src, dst, true);
    encode(e, &in);
}

void emit_mov_rr32(struct emit *e, enum host_reg dst, enum host_reg src)
{
    struct host_insn in = op_rr(0x89, src, dst, false);
    encode(e, &in);
}

void emit_mov_ri(struct emit *e, enum host_reg dst, uint64_t imm)
{
    if (imm == (uint64_t)(int64_t)(int32_t)imm && imm > UINT32_MAX) {
        struct host_insn in = op_rr(0xc7, 0, dst, true);
        set_imm(&in, imm, 4);
        encode(e, &in);
        return;
    }
    bool wide = imm > UINT32_MAX;
    struct host_insn in = {.opcode = 0xb8, .rm = (uint8_t)dst, .w = wide};
    set_imm(&in, imm, wide ? 8 : 4);
    encode(e, &in);
}

void emit_load(struct emit *e, enum host_reg dst, struct host_mem m)
{
    struct host_insn in = op_rm(0x8b, dst, m, true);
    encode(e, &in);
}

void emit_load32(struct emit *e, enum host_reg dst, struct host_mem m)
{
    struct host_insn in = op_rm(0x8b, dst, m, false);
    encode(e, &in);
}

void emit_store(struct emit *e, struct host_mem m, enum host_reg src)
{
    struct host_insn in = op_rm(0x89, src, m, true);
    encode(e, &in);
}

void emit_store16(struct emit *e, struct host_mem m, enum host_reg src)
{
    struct host_insn in = op_rm(0x89, src, m, false);
    in.p66 = true;
    encode(e, &in);
}

void emit_store_imm(struct emit *e, struct host_mem m, int32_t imm)
{
    struct host_insn in = op_rm(0xc7, 0, m, true);
    set_imm(&in, (uint32_t)imm, 4);
    encode(e, &in);
}

void emit_store_imm32(struct emit *e, struct host_mem m, int32_t imm)
{
    struct host_insn in = op_rm(0xc7, 0, m, false);
    set_imm(&in, (uint32_t)imm, 4);
    encode(e, &in);
}

void emit_store_imm8(struct emit *e, struct host_mem m, uint8_t imm)
{
    struct host_insn in = op_rm(0xc6, 0, m, false);
    set_imm(&in, imm, 1);
    encode(e, &in);
}

void emit_lea(struct emit *e, enum host_reg dst, struct host_mem m)
{
    struct host_insn in = op_rm(0x8d, dst, m, true);
    encode(e, &in);
}

void emit_lea32(struct emit *e, enum host_reg dst, struct host_mem m)
{
    struct host_insn in = op_rm(0x8d, dst, m, false);
    encode(e, &in);
}

static ALWAYS_INLINE void alu_imm(struct emit *e, struct host_insn in, int32_t imm)
{
    bool small = imm == (int8_t)imm;
    in.opcode = small ? 0x83 : 0x81;
    set_imm(&in, (uint32_t)imm, small ? 1 : 4);
    encode(e, &in);
}

void emit_alu_ri(struct emit *e, unsigned ext, enum host_reg dst, int32_t imm, bool wide)
{
    alu_imm(e, op_rr(0, ext, dst, wide), imm);
}

void emit_alu_mi(struct emit *e, unsigned ext, struct host_mem m, int32_t imm, bool wide)
{
    alu_imm(e, op_rm(0, ext, m, wide), imm);
}

void emit_alu_rr(struct emit *e, unsigned ext, enum host_reg dst, enum host_reg src, bool wide)
{
    struct host_insn in = op_rr((uint8_t)(ext << 3 | 1), src, dst, wide);
    encode(e, &in);
}

void emit_alu_rm(struct emit *e, unsigned ext, enum host_reg dst, struct host_mem m)
{
    struct host_insn in = op_rm((uint8_t)(ext << 3 | 3), dst, m, true);
    encode(e, &in);
}

void emit_cmp8_mi(struct emit *e, struct host_mem m, uint8_t imm)
{
    struct host_insn in = op_rm(0x80, 7, m, false);
    set_imm(&in, imm, 1);
    encode(e, &in);
}

void emit_rorx32(struct emit *e, enum host_reg dst, enum host_reg src, unsigned count)
{
    struct host_insn in = op_rr(0xf0, dst, src, false);
    in.vex = true;
    in.pp = 3;
    in.map = 3;
    set_imm(&in, count, 1);
    encode(e, &in);
}

void emit_shr_ri32(struct emit *e, enum host_reg dst, unsigned count)
{
    struct host_insn in = op_rr(0xc1, 5, dst, false);
    set_imm(&in, count, 1);
    encode(e, &in);
}

/* ---- jumps ---- */

uint32_t emit_jcc_fwd(struct emit *e, enum host_cond cc)
{
    emit_u8(e, 0x0f);
    emit_u8(e, 0x80u + cc);
    emit_u32(e, 0);
    return e->pos - 4;
}

uint32_t emit_jmp_fwd(struct emit *e)
{
    emit_u8(e, 0xe9);
    emit_u32(e, 0);
    return e->pos - 4;
}

void emit_jmp(struct emit *e, uint32_t target)
{
    emit_u8(e, 0xe9);
    emit_u32(e, target - (e->pos + 4));
}

void emit_call(struct emit *e, uint32_t target)
{
    emit_u8(e, 0xe8);
    emit_u32(e, target - (e->pos + 4));
}

void emit_jmp_mem(struct emit *e, struct host_mem m)
{
    struct host_insn in = op_rm(0xff, 4, m, false);
    encode(e, &in);
}

void emit_call_mem(struct emit *e, struct host_mem m)
{
    struct host_insn in = op_rm(0xff, 2, m, false);
    encode(e, &in);
}

void emit_patch(struct emit *e, uint32_t rel32_pos, uint32_t target)
{
    if (e->full)
        return;
    put_le32(e->base + rel32_pos, target - (rel32_pos + 4));
}
