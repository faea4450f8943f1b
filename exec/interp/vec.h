/* exec/interp/vec.h: what the handlers of vector instructions share.
 *
 * Operands of a vector insn are bytes that index the vCPU state in units of 8 bytes: insn.reg, rm, reg3 and x are
 * operands 0 to 3. insn.opsize is the size of the memory operand in bytes, insn.y a mask of address bits that must be
 * zero. Order of checks, as the hardware has it: #UD and #NM, #MF, memory, #XM. */
#ifndef HW_INTERP_VEC_H
#define HW_INTERP_VEC_H

#include "exec/x86/access.h"
#include "exec/x86/fpu.h"
#include "exec/x86/insn.h"
#include "exec/x86/lower_fp.h"

#define ALWAYS_INLINE inline __attribute__((always_inline))

enum { VEC_UNIT = 8 };
_Static_assert(offsetof(struct vcpu_state, ymm) % VEC_UNIT == 0 &&
                   offsetof(struct vcpu_state, x87.st) % VEC_UNIT == 0 &&
                   (offsetof(struct vcpu_state, ymm) + sizeof(((struct vcpu_state *)0)->ymm)) / VEC_UNIT <= 256,
               "operands fit into a byte");

static inline void *vec_at(struct vcpu *v, uint8_t unit) { return (uint8_t *)&v->s + unit * VEC_UNIT; }

/* The unit of a vector, MMX or general register; 0 (RAX) for anything else. */
uint8_t vec_unit(ZydisRegister reg);

static inline bool vec_is_vex(const struct lower *lo) { return lo->zi->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX; }
static inline bool vec_is_256(const struct lower *lo) { return vec_is_vex(lo) && lo->zi->raw.vex.L; }
/* The memory operand's size and alignment, when there is one. `align`: it must be aligned to its size. */
void vec_lower_mem(struct lower *lo, bool align);

enum vec_need { NEED_SSE, NEED_AVX, NEED_MMX, NEED_MMX_SSE, VEC_NEEDS };

static ALWAYS_INLINE void vec_need(struct vcpu *v, enum vec_need need)
{
    const struct vcpu_state *s = &v->s;
    if (need == NEED_AVX) {
        if (unlikely((s->cr0 & CR0_TS) || !(s->cr4 & CR4_OSXSAVE) || (s->xcr0 & 6) != 6))
            fpu_check_avx(v);
        return;
    }
    if (need == NEED_MMX) {
        if (unlikely(s->cr0 & (CR0_EM | CR0_TS)))
            fpu_check_mmx(v);
    } else if (unlikely((s->cr0 & (CR0_EM | CR0_TS)) || !(s->cr4 & CR4_OSFXSR))) {
        fpu_check_sse(v);
    }
    if (need != NEED_SSE)
        x87_check_pending(v);
}

static inline uint64_t vec_ea(struct vcpu *v, const struct insn *in, unsigned len, bool write)
{
    uint64_t ea = insn_ea(v, in);
    if (in->y && unlikely(lin_addr(v, in->seg, ea, len, write) & in->y))
        vcpu_raise_err(v, VEC_GP, 0);
    return ea;
}
static inline const void *vec_rd(struct vcpu *v, const struct insn *in, unsigned len)
{
    return rd(v, in->seg, vec_ea(v, in, len, false), len);
}
/* For what is exempt from alignment checks: masked moves, gathers, half-precision conversions. */
static inline enum mmu_mode vec_unaligned_mode(struct vcpu *v)
{
    enum mmu_mode mode = cpu_of(v)->mmu_mode;
    return mode == MMU_USER_ALIGN ? MMU_USER : mode;
}
/* Followed by wr_end(). */
static inline void *vec_wr(struct vcpu *v, const struct insn *in, unsigned len)
{
    return wr(v, in->seg, vec_ea(v, in, len, true), len);
}

#endif
