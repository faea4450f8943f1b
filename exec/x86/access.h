/* exec/x86/access.h: data accesses of instructions: segment check, TLB hit inline, slow path out of line.
 * All of them may leave the instruction (vcpu_raise); see the rule in cpu.h.
 *
 *   uint32_t x = ld32(v, seg, ea);            load
 *   st32(v, seg, ea, x);                      store
 *   uint32_t *p = rmw(v, seg, ea, 4);         read-modify-write: checked as a write before anything is read;
 *   *p += 1; rmw_end(v);                      p may point to a bounce buffer, which rmw_end() commits
 *   const void *p = rd(v, seg, ea, len);      a readable copy or the memory itself, len <= 64
 *   void *p = wr(v, seg, ea, len); …; wr_end(v);   write-only: contents before are undefined, len <= 64
 *   push/pop: see stack_*()
 */
#ifndef HW_X86_ACCESS_H
#define HW_X86_ACCESS_H

#include "exec/x86/mmu.h"

/* Raises #GP/#SS for an access outside the segment or against its type. Only for segments that are not flat. */
void seg_check(struct vcpu *v, unsigned seg, uint64_t ea, uint32_t size, bool write);

static inline uint64_t lin_addr(struct vcpu *v, unsigned seg, uint64_t ea, uint32_t size, bool write)
{
    struct cpu *c = cpu_of(v);
    if (unlikely(!c->flat[seg]))
        seg_check(v, seg, ea, size, write);
    return (ea + c->seg_base[seg]) & c->lin_mask;
}

static inline struct tlb_entry *dtlb_slot(const struct vcpu *v, uint64_t lin)
{
    return &cpu_of((struct vcpu *)v)->dtlb[lin >> PAGE_SHIFT & (TLB_SIZE - 1)];
}

#define ACCESS_LD(bits)                                                                                \
    static inline uint##bits##_t ld##bits(struct vcpu *v, unsigned seg, uint64_t ea)                   \
    {                                                                                                  \
        uint64_t lin = lin_addr(v, seg, ea, bits / 8, false);                                          \
        const struct tlb_entry *e = dtlb_slot(v, lin);                                                 \
        uint##bits##_t x;                                                                              \
        if (unlikely((e->tag_r ^ lin) > PAGE_SIZE - bits / 8))                                         \
            return (uint##bits##_t)mmu_slow_load(v, lin, bits / 8, seg);                               \
        memcpy(&x, tlb_host(e, lin), sizeof(x));                             \
        return x;                                                                                      \
    }
#define ACCESS_ST(bits)                                                                                \
    static inline void st##bits(struct vcpu *v, unsigned seg, uint64_t ea, uint##bits##_t x)           \
    {                                                                                                  \
        uint64_t lin = lin_addr(v, seg, ea, bits / 8, true);                                           \
        const struct tlb_entry *e = dtlb_slot(v, lin);                                                 \
        if (unlikely((e->tag_w ^ lin) > PAGE_SIZE - bits / 8)) {                                       \
            mmu_slow_store(v, lin, bits / 8, x, seg);                                                  \
            return;                                                                                    \
        }                                                                                              \
        memcpy(tlb_host(e, lin), &x, sizeof(x));                                   \
    }
ACCESS_LD(8) ACCESS_LD(16) ACCESS_LD(32) ACCESS_LD(64)
ACCESS_ST(8) ACCESS_ST(16) ACCESS_ST(32) ACCESS_ST(64)
#undef ACCESS_LD
#undef ACCESS_ST

void *access_slow(struct vcpu *v, uint64_t lin, uint32_t len, enum mmu_access acc, unsigned seg);
void access_commit(struct vcpu *v);

static inline void *rmw(struct vcpu *v, unsigned seg, uint64_t ea, uint32_t len)
{
    uint64_t lin = lin_addr(v, seg, ea, len, true);
    const struct tlb_entry *e = dtlb_slot(v, lin);
    if (unlikely((e->tag_w ^ lin) > PAGE_SIZE - len))
        return access_slow(v, lin, len, ACC_RMW, seg);
    return tlb_host(e, lin);
}
static inline void rmw_end(struct vcpu *v)
{
    if (unlikely(cpu_of(v)->bounce.active))
        access_commit(v);
}
static inline const void *rd(struct vcpu *v, unsigned seg, uint64_t ea, uint32_t len)
{
    uint64_t lin = lin_addr(v, seg, ea, len, false);
    const struct tlb_entry *e = dtlb_slot(v, lin);
    if (unlikely((e->tag_r ^ lin) > PAGE_SIZE - len))
        return access_slow(v, lin, len, ACC_READ, seg);
    return tlb_host(e, lin);
}
static inline void *wr(struct vcpu *v, unsigned seg, uint64_t ea, uint32_t len)
{
    uint64_t lin = lin_addr(v, seg, ea, len, true);
    const struct tlb_entry *e = dtlb_slot(v, lin);
    if (unlikely((e->tag_w ^ lin) > PAGE_SIZE - len))
        return access_slow(v, lin, len, ACC_WRITE, seg);
    return tlb_host(e, lin);
}
static inline void wr_end(struct vcpu *v) { rmw_end(v); }

/* ---- the stack: SS, with the width of its address from SS.B (always 64 in 64-bit mode) ---- */
static inline uint64_t stack_mask(const struct vcpu *v) { return cpu_of((struct vcpu *)v)->stack_mask; }
static inline void stack_set_rsp(struct vcpu *v, uint64_t rsp) /* low bits by stack width, 32 bit zero-extends */
{
    uint64_t m = stack_mask(v);
    v->s.r[R_RSP] = m == 0xffff ? (v->s.r[R_RSP] & ~m) | (rsp & m) : rsp & m;
}
/* Store `size` (2, 4, 8) bytes below RSP, then move RSP. */
static inline void stack_push(struct vcpu *v, unsigned size, uint64_t x)
{
    uint64_t sp = (v->s.r[R_RSP] - size) & stack_mask(v);
    if (likely(size == 8))
        st64(v, S_SS, sp, x);
    else if (size == 4)
        st32(v, S_SS, sp, (uint32_t)x);
    else
        st16(v, S_SS, sp, (uint16_t)x);
    stack_set_rsp(v, sp);
}
/* Read `size` bytes at RSP + off without moving it. */
static inline uint64_t stack_peek(struct vcpu *v, unsigned size, uint64_t off)
{
    uint64_t sp = (v->s.r[R_RSP] + off) & stack_mask(v);
    if (likely(size == 8))
        return ld64(v, S_SS, sp);
    return size == 4 ? ld32(v, S_SS, sp) : ld16(v, S_SS, sp);
}

#endif
