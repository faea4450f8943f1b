/* tests/insn/gen.h: what the parts of the generator share. See gen.c. */
#ifndef HW_INSN_GEN_H
#define HW_INSN_GEN_H

#include "tests/insn/insn_test.h"

struct gen {
    struct rng *g;
    const struct form *f;
    struct test_case *tc;
    uint8_t *data;
    uint64_t fixed; /* bit per GPR: its value is what an address needs */
};

static inline unsigned gen_gpr_index(ZydisRegister r)
{
    return (unsigned)ZydisRegisterGetId(ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, r));
}

static inline bool gen_is_gpr(ZydisRegister r)
{
    ZydisRegisterClass c = ZydisRegisterGetClass(r);
    return c >= ZYDIS_REGCLASS_GPR8 && c <= ZYDIS_REGCLASS_GPR64;
}

static inline uint64_t gen_width_mask(unsigned bits_wide)
{
    return bits_wide >= 64 ? UINT64_MAX : (UINT64_C(1) << bits_wide) - 1;
}

static inline uint64_t gen_reg_value(const struct test_case *tc, ZydisRegister r)
{
    if (r == ZYDIS_REGISTER_NONE || !gen_is_gpr(r))
        return 0;
    uint64_t x = tc->in.r[gen_gpr_index(r)];
    return x & gen_width_mask(ZydisRegisterGetWidth(ZYDIS_MACHINE_MODE_LONG_64, r));
}

/* ---- gen_values.c: pools in which the interesting values are frequent ---- */
uint64_t gen_int(struct rng *g);
void gen_f80(struct rng *g, uint8_t out[10]);
/* Fill `len` bytes with elements as an operand has them. */
void gen_elements(struct rng *g, uint8_t *p, size_t len, ZydisElementType type, unsigned bits_each);
/* A selector that the host's GDT and the guest's answer alike. */
uint16_t gen_selector(struct rng *g);

/* ---- gen_bytes.c: encodings ---- */
/* One try; the higher `attempt`, the plainer. */
bool gen_encoding(const struct form_list *list, struct gen *n, unsigned attempt);
void gen_break_rules(struct gen *n);
bool gen_refused(struct gen *n);

/* ---- gen_state.c: registers ---- */
void gen_state(struct gen *n);

/* ---- gen_memory.c: memory operands ---- */
void gen_aim_operands(struct gen *n);
/* Put bytes at a linear address; what lies outside the data pages is dropped. */
void gen_poke(struct gen *n, uint64_t addr, const void *bytes, size_t len);

/* ---- gen_tune.c: what some instructions need to be tested well ---- */
void gen_tune(struct gen *n);

#endif
