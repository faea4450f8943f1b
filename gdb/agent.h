/* gdb/agent.h: agent expressions: the bytecode in which gdb sends the conditions of breakpoints (gdb manual, appendix
 * "The GDB Agent Expression Mechanism"). A stack machine of 64-bit values.
 *
 * Evaluation is bounded: AGENT_STEPS instructions, AGENT_STACK values, no access outside the code. It only reads. What
 * needs floating point, trace buffers, trace variables or printing has no meaning in a condition and fails by name. */
#ifndef HW_GDB_AGENT_H
#define HW_GDB_AGENT_H

#include "core/base/base.h"

enum { AGENT_STEPS = 20000, AGENT_STACK = 128, AGENT_CODE_MAX = 0x10000 /* bytes */ };

struct agent_reader {
    /* Little-endian value of a register by gdb's number, zero-extended. False: there is none. */
    bool (*reg)(void *arg, unsigned number, uint64_t *value_out);
    /* All len bytes (8 at most), or false. */
    bool (*memory)(void *arg, uint64_t addr, void *buf, size_t len);
};

/* The top of the stack at `end`. False: *why_out says what is wrong with it, a phrase. */
must_check bool agent_eval(const uint8_t *code, size_t len, const struct agent_reader *reader, void *arg,
                           uint64_t *value_out, const char **why_out);

#endif
