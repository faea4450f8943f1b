/* exec/dbt/decode.h: guest instructions as the translator wants them, and a cache of them.
 *
 * Of what the decoder says (struct insn_detail, 1.1 KiB) a translation needs little, and nearly all of that is said by the
 * instruction's *form*: its bytes before the displacement and the immediate, which come last (SDM vol. 2, 2.1). Forms are a
 * prefix code: a CPU knows from each byte of prefixes, opcode, ModRM and SIB whether another one follows. So bytes that begin
 * with those of a known form, in the same CPU mode, are of that form, and only the values behind it must be read. The
 * exceptions are not cached: an immediate that names a register (VEX.is4), and two immediates. Nothing of an entry depends
 * on an address or on the guest's state. tests/unit/dbt_decode.c compares with the decoder. */
#ifndef HW_DBT_DECODE_H
#define HW_DBT_DECODE_H

#include "exec/dbt/emit.h"
#include "exec/x86/insn.h"

struct operand {
    uint8_t type;      /* ZydisOperandType */
    uint8_t encoding;  /* ZydisOperandEncoding */
    uint8_t actions;   /* ZydisOperandActions */
    uint8_t cls;       /* ZydisRegisterClass; of memory: the base's */
    uint8_t reg;       /* its number: of a general register that of the register it is part of; of memory: the base's, R_ZERO,
                          R_RIP */
    uint8_t index;     /* of memory: R_ZERO when there is none, or a vector */
    uint8_t mem_type : 4;  /* ZydisMemoryOperandType */
    uint8_t scale : 2;     /* shift count */
    uint8_t high_byte : 1; /* AH CH DH BH */
    uint16_t size;     /* bits */
};

/* Of struct host_insn, what the guest's encoding says. */
struct encoding {
    bool vex, p66, modrm, w;
    uint8_t rep, pp, l, vvvv, map, opcode;
    uint8_t reg, rm; /* without the bits that extend them */
};

/* All of it 0 but len, seg, and INSN_ENDS where the instruction is none of the CPU model. */
struct decoded {
    bool valid;
    uint8_t len;             /* bytes */
    uint8_t flags;           /* INSN_*, as in struct insn */
    uint8_t seg;             /* likewise: of the memory operand */
    uint16_t mnemonic;       /* ZydisMnemonic */
    uint8_t operand_width, address_width; /* bits */
    uint8_t operands;        /* in op[] */
    int8_t mem;              /* which of them is in memory; -1: none */
    uint8_t imm_len;         /* bytes of all immediates */
    bool relative;           /* the first operand is a relative branch target */
    bool far;                /* a far branch */
    bool whole_avx;          /* VZEROUPPER, VZEROALL: of all vector registers there are */
    uint16_t writes;         /* general registers, hidden ones too, as a mask */
    uint16_t flags_read, flags_written; /* FL_ARITH bits; read: what shows of the old ones in the new ones, too */
    int64_t imm;             /* the first immediate, sign-extended; behind it the bits of the second */
    int64_t disp;            /* of the memory operand, sign-extended */
    const struct insn_info *info; /* its row of the instruction table */
    struct encoding enc;
    struct operand op[ZYDIS_MAX_OPERAND_COUNT_VISIBLE];
};

enum { INSN_BYTES_MAX = 15 };
struct decode_cache;

/* clean_flags: undefined flags of this host depend on nothing that came before. ERR_HOST: no memory. 2 MiB. */
must_check struct err *decode_cache_create(struct vcpu *v, bool clean_flags, struct decode_cache **out);
void decode_cache_destroy(struct decode_cache *dc);

/* The instruction at bytes[0..readable) in the vCPU's mode. False when these bytes are too few to tell. What is none of the
 * CPU model is decoded as one that will fault. */
bool decode_cached(struct decode_cache *dc, const uint8_t *bytes, size_t readable, struct decoded *out);
/* How often the decoder was asked. */
uint64_t decode_cache_misses(const struct decode_cache *dc);

#endif
