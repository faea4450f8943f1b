/* gdb/regs.h: the registers that gdb sees, and where each is in the vCPU: one table for the description, for reading
 * and for writing.
 *
 * Two descriptions: i386:x86-64, which never changes with the CPU's mode, and i386, for those who debug 32-bit code
 * with a 32-bit ELF file, with which gdb rejects a 64-bit one. The registers of all features but the last are gdb's
 * (gdb manual, "i386 Features"); org.hyperwind.i386.system is ours.
 *
 * The program counter (rip, eip) is a linear address: CS.base + RIP. gdb disassembles, compares with breakpoints and
 * looks up symbols by it, and knows no segments. With a flat CS, hence always in 64-bit mode, it is RIP. */
#ifndef HW_GDB_REGS_H
#define HW_GDB_REGS_H

#include "gdb/stub.h"
#include "replay/timeline.h"

extern const struct gdbs_arch gdb_arch_x86_64, gdb_arch_i386;

/* gdbs_reg.kind; `at` is an offset into struct vcpu_state. */
enum reg_kind {
    REG_U16, REG_U32, REG_U64, /* an integer of this width there, whatever the register's own */
    REG_BYTES,                 /* as many bytes there as the register has */
    REG_PC, REG_FLAGS, REG_TAGS /* the x87 tag word in full */,
    REG_LOW, REG_HIGH,         /* a half of 64 bits there */
    REG_CR8, REG_ICOUNT,       /* of the timeline; read-only */
};

/* The register's value, r->bits / 8 bytes. */
void reg_read(const struct timeline *t, const struct gdbs_reg *r, uint8_t *out);

/* Put a value into *s. False: it is read-only or does not fit; `why`. */
bool reg_write(struct vcpu_state *s, const struct gdbs_reg *r, const uint8_t *value, char why[GDBS_WHY]);

/* The linear address of the next instruction. */
uint64_t reg_pc(const struct vcpu_state *s);

#endif
