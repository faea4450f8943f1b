/* exec/interp/string.c: MOVS, STOS, LODS, CMPS, SCAS, single and repeated.
 *
 * One iteration of a repeated instruction is one tick, and there is an instruction boundary after each. A repeated
 * handler does as many as fit before cpu.until and charges all but the last, which is the dispatcher's. To stay exact:
 *  (1) Only the first iteration of a call may take a slow path: fault, reach a device, or write a traced page. Every
 *      further one is done only when TLB and limits show that it cannot; otherwise the call ends at the boundary before
 *      it and the instruction is executed again. So a fault always finds the state of the iterations before it, and a
 *      device sees its own tick.
 *  (2) After an iteration that set vcpu.brk or a pending debug trap the call ends; so it does when the engine is kicked,
 *      for a count may be large.
 *  (3) At a boundary before the last iteration the flags are those from before the instruction (SDM vol. 2, REP).
 *  (4) Where one boundary differs from another, under an interrupt shadow or TF, a call does one iteration. Elsewhere
 *      nobody can tell how many a call did, so TLB contents do not show. */
#include "exec/interp/flags.h"

/* ---- addresses ---- */

static inline uint64_t src_ea(const struct vcpu *v, const struct insn *in) { return v->s.r[R_RSI] & in->addr_mask; }
static inline uint64_t dst_ea(const struct vcpu *v, const struct insn *in) { return v->s.r[R_RDI] & in->addr_mask; }

/* Add to rSI, rDI or rCX within the address size: 32 bits clear the upper half, 16 bits keep it. */
static inline void advance(struct vcpu *v, const struct insn *in, enum gpr reg, uint64_t delta)
{
    uint64_t m = in->addr_mask, sum = (v->s.r[reg] + delta) & m;
    v->s.r[reg] = m == 0xffff ? (v->s.r[reg] & ~m) | sum : sum;
}
static inline uint64_t step(const struct vcpu *v, unsigned size) { return v->s.rflags & FL_DF ? 0 - (uint64_t)size : size; }

/* ---- one iteration: whatever can fault first, then the registers ---- */

#define STRING_ONE(bits)                                                                               \
    static inline void movs_one##bits(struct vcpu *v, const struct insn *in)                           \
    {                                                                                                  \
        st##bits(v, S_ES, dst_ea(v, in), ld##bits(v, in->seg, src_ea(v, in)));                         \
        advance(v, in, R_RSI, step(v, bits / 8));                                                      \
        advance(v, in, R_RDI, step(v, bits / 8));                                                      \
    }                                                                                                  \
    static inline void stos_one##bits(struct vcpu *v, const struct insn *in)                           \
    {                                                                                                  \
        st##bits(v, S_ES, dst_ea(v, in), GET##bits(v, GPR(R_RAX)));                                    \
        advance(v, in, R_RDI, step(v, bits / 8));                                                      \
    }                                                                                                  \
    static inline void lods_one##bits(struct vcpu *v, const struct insn *in)                           \
    {                                                                                                  \
        SET##bits(v, GPR(R_RAX), ld##bits(v, in->seg, src_ea(v, in)));                                 \
        advance(v, in, R_RSI, step(v, bits / 8));                                                      \
    }                                                                                                  \
    static inline void cmps_one##bits(struct vcpu *v, const struct insn *in)                           \
    {                                                                                                  \
        uint##bits##_t b = ld##bits(v, S_ES, dst_ea(v, in)); /* its fault comes first */               \
        uint##bits##_t a = ld##bits(v, in->seg, src_ea(v, in));                                        \
        f_cmp##bits(v, a, b);                                                                          \
        advance(v, in, R_RSI, step(v, bits / 8));                                                      \
        advance(v, in, R_RDI, step(v, bits / 8));                                                      \
    }                                                                                                  \
    static inline void scas_one##bits(struct vcpu *v, const struct insn *in)                           \
    {                                                                                                  \
        uint##bits##_t b = ld##bits(v, S_ES, dst_ea(v, in));                                           \
        f_cmp##bits(v, GET##bits(v, GPR(R_RAX)), b);                                                   \
        advance(v, in, R_RDI, step(v, bits / 8));                                                      \
    }
FOR_SIZES(STRING_ONE)

/* ---- what the next iteration will meet ---- */

/* Host address of [ea, ea + len) when the segment allows it and the TLB has it: then it cannot fault. Else NULL. */
static inline uint8_t *peek(struct vcpu *v, unsigned seg, uint64_t ea, uint64_t len, bool write)
{
    struct cpu *c = cpu_of(v);
    if (unlikely(!c->flat[seg])) {
        const struct seg *s = &v->s.seg[seg];
        uint16_t need = SEG_P | SEG_S | SEG_WRITE; /* expand-up, writable data; other types take the slow path */
        if ((s->attr & (need | SEG_CODE | SEG_DOWN | SEG_NULL)) != need || ea > s->limit || s->limit - ea < len - 1)
            return NULL;
    }
    uint64_t lin = (ea + c->seg_base[seg]) & c->lin_mask;
    const struct tlb_entry *e = dtlb_slot(v, lin);
    if (((write ? e->tag_w : e->tag_r) ^ lin) > PAGE_SIZE - len)
        return NULL;
    return tlb_host(e, lin);
}
static inline bool src_ready(struct vcpu *v, const struct insn *in, unsigned size)
{
    return peek(v, in->seg, src_ea(v, in), size, false);
}
static inline bool dst_ready(struct vcpu *v, const struct insn *in, unsigned size, bool write)
{
    return peek(v, S_ES, dst_ea(v, in), size, write);
}

#define ready_movs(v, in, size) (src_ready(v, in, size) && dst_ready(v, in, size, true))
#define ready_stos(v, in, size) dst_ready(v, in, size, true)
#define ready_lods(v, in, size) src_ready(v, in, size)
#define ready_cmps(v, in, size) (src_ready(v, in, size) && dst_ready(v, in, size, false))
#define ready_scas(v, in, size) dst_ready(v, in, size, false)

/* ---- many iterations at once, forwards, within a page ---- */

/* How many elements from `ea` on lie in its page and below the end of the address size, at most n. */
static inline uint64_t run_length(struct vcpu *v, const struct insn *in, unsigned seg, uint64_t ea, unsigned size, uint64_t n)
{
    uint64_t in_page = PAGE_SIZE - ((ea + cpu_of(v)->seg_base[seg]) & PAGE_MASK);
    uint64_t room = MIN(in_page, in->addr_mask - ea) / size; /* one short at the very end: a single iteration does it */
    return MIN(room, n);
}

/* As the iterations would copy: an overlap with the destination ahead of the source repeats what was just written. */
static void copy_forward(uint8_t *dst, const uint8_t *src, uint64_t n, unsigned size)
{
    uint64_t len = n * size;
    if ((uintptr_t)dst - (uintptr_t)src >= len) {
        memmove(dst, src, len);
        return;
    }
    for (uint64_t i = 0; i < len; i += size) {
        uint8_t x[8];
        memcpy(x, src + i, size);
        memcpy(dst + i, x, size);
    }
}

/* Return the number of iterations done; 0: none can be done this way. */
static uint64_t bulk_movs(struct vcpu *v, const struct insn *in, unsigned size, uint64_t n)
{
    if (v->s.rflags & FL_DF)
        return 0;
    uint64_t src = src_ea(v, in), dst = dst_ea(v, in);
    n = run_length(v, in, in->seg, src, size, n);
    n = run_length(v, in, S_ES, dst, size, n);
    if (n == 0)
        return 0;
    const uint8_t *from = peek(v, in->seg, src, n * size, false);
    uint8_t *to = peek(v, S_ES, dst, n * size, true);
    if (!from || !to)
        return 0;
    copy_forward(to, from, n, size);
    advance(v, in, R_RSI, n * size);
    advance(v, in, R_RDI, n * size);
    return n;
}

static uint64_t bulk_stos(struct vcpu *v, const struct insn *in, unsigned size, uint64_t n)
{
    if (v->s.rflags & FL_DF)
        return 0;
    uint64_t dst = dst_ea(v, in);
    n = run_length(v, in, S_ES, dst, size, n);
    uint8_t *to = n ? peek(v, S_ES, dst, n * size, true) : NULL;
    if (!to)
        return 0;
    uint64_t pattern = v->s.r[R_RAX], i = 0;
    if (size < 8)
        pattern = (pattern & (bit(8 * size) - 1)) * (UINT64_MAX / (bit(8 * size) - 1));
    for (; i + 8 <= n * size; i += 8)
        put_le64(to + i, pattern);
    memcpy(to + i, &pattern, n * size - i);
    advance(v, in, R_RDI, n * size);
    return n;
}
#define bulk_lods(v, in, size, n) 0
#define bulk_cmps(v, in, size, n) 0
#define bulk_scas(v, in, size, n) 0

/* ---- repetition ---- */

/* With a 32-bit address size in 64-bit mode and a count of 0 the counter is written back without its upper half; so are
 * the address registers of MOVS and STOS, but not of the others. */
static inline uint64_t rep_count(struct vcpu *v, const struct insn *in, bool src, bool dst)
{
    uint64_t count = v->s.r[R_RCX] & in->addr_mask;
    if (count)
        return count;
    advance(v, in, R_RCX, 0);
    if (src)
        advance(v, in, R_RSI, 0);
    if (dst)
        advance(v, in, R_RDI, 0);
    return 0;
}
#define WRITES_BACK_movs true, true
#define WRITES_BACK_stos false, true
#define WRITES_BACK_lods false, false
#define WRITES_BACK_cmps false, false
#define WRITES_BACK_scas false, false

static inline uint64_t rep_budget(struct vcpu *v, uint64_t count)
{
    uint64_t until = cpu_of(v)->until;
    if (v->s.shadow || (v->s.rflags & FL_TF) || until <= v->ticks)
        return 1;
    return MIN(count, until - v->ticks);
}

static inline bool must_stop(struct vcpu *v) { return v->brk || v->s.pending_db || cpu_of(v)->kick; }

static inline void rep_end(struct vcpu *v, const struct insn *in, uint64_t done, bool finished)
{
    v->ticks += done - 1;
    if (!finished)
        vcpu_rep_goes_on(v);
    v->s.r[R_RIP] = finished ? insn_next(v, in) : insn_rip(v, in);
}

/* Whether CMPS or SCAS goes on. */
static inline bool repeat_while(const struct vcpu *v, const struct insn *in)
{
    return cond_Z(v->s.aflags) == !!(in->flags & INSN_REP);
}
#define goes_on_movs(v, in) true
#define goes_on_stos(v, in) true
#define goes_on_lods(v, in) true
#define goes_on_cmps(v, in) repeat_while(v, in)
#define goes_on_scas(v, in) repeat_while(v, in)

#define STRING_FORMS(bits, op)                                                                         \
    static void op##bits(struct vcpu *v, const struct insn *in) { op##_one##bits(v, in); }             \
    static void rep_##op##bits(struct vcpu *v, const struct insn *in)                                  \
    {                                                                                                  \
        uint64_t count = rep_count(v, in, WRITES_BACK_##op), left = rep_budget(v, count), done = 0;    \
        uint16_t flags_before = v->s.aflags;                                                           \
        bool finished = count == 0;                                                                    \
        while (!finished && left && !(done && must_stop(v))) {                                         \
            uint64_t n = bulk_##op(v, in, bits / 8, left);                                             \
            if (n == 0) {                                                                              \
                if (done && !(ready_##op(v, in, bits / 8)))                                            \
                    break;                                                                             \
                op##_one##bits(v, in);                                                                 \
                n = 1;                                                                                 \
            }                                                                                          \
            advance(v, in, R_RCX, 0 - n);                                                              \
            left -= n;                                                                                 \
            done += n;                                                                                 \
            finished = done == count || !goes_on_##op(v, in);                                          \
        }                                                                                              \
        if (!finished)                                                                                 \
            v->s.aflags = flags_before;                                                                \
        rep_end(v, in, MAX(done, 1), finished);                                                        \
    }
#define STRING_ALL(op) FOR_SIZES(STRING_FORMS, op)
STRING_ALL(movs)
STRING_ALL(stos)
STRING_ALL(lods)
STRING_ALL(cmps)
STRING_ALL(scas)

#define STRING_ROWS(code, op)                                                                          \
    [code] = {op##8, rep_##op##8}, [code | 1] = {op##16, rep_##op##16},                                \
    [code | 2] = {op##32, rep_##op##32}, [code | 3] = {op##64, rep_##op##64}

bool lower_string(struct lower *lo)
{
    static const insn_fn fn[][2] = {
        STRING_ROWS(STR_MOVS, movs), STRING_ROWS(STR_STOS, stos), STRING_ROWS(STR_LODS, lods),
        STRING_ROWS(STR_CMPS, cmps), STRING_ROWS(STR_SCAS, scas),
    };
    bool rep = lo->out->flags & (INSN_REP | INSN_REPNE);
    if (rep)
        return lower_ends(lo, fn[lo->arg][1], INSN_ALONE);
    return lower_to(lo, fn[lo->arg][0]);
}
