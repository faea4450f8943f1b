/* analysis/orc.h: the kernel's ORC unwind tables in one form for all kernels. Private.
 *
 * .orc_unwind_ip holds, ascending, an s32 for each range of code: the distance from the word itself to the range's
 * begin. .orc_unwind holds 6 bytes for each: how to find the caller's frame from there on (Linux,
 * Documentation/arch/x86/orc-unwinder.rst; arch/x86/include/asm/orc_types.h). The bits changed with the versions. */
#ifndef HW_ORC_H
#define HW_ORC_H

#include "analysis/kimage.h"

enum { ORC_COUNT_MAX = 1 << 22, ORC_ENTRY_LEN = 6 };

/* What the registers were in the caller, told from what they are. SP stands for the canonical frame address (CFA). */
enum orc_kind {
    ORC_UNKNOWN,      /* nothing is known about this code */
    ORC_END,          /* nobody called: entry from user mode, a thread's first function */
    ORC_CALL,         /* a return address lies below the CFA */
    ORC_REGS,         /* the CFA is the address of a whole struct pt_regs */
    ORC_REGS_PARTIAL, /* the CFA is the address of what the CPU pushed: RIP CS RFLAGS RSP SS */
};

/* Where an address comes from: a register plus an offset, or what lies in memory at such a place (plus an offset). */
enum orc_base { ORC_NOT_SAVED, ORC_CFA, ORC_REGISTER, ORC_AT_REGISTER, ORC_AT_SP_PLUS };

struct orc_place {
    uint8_t base;    /* enum orc_base */
    uint8_t reg;     /* DWARF number of the register */
    int16_t offset;  /* ORC_AT_REGISTER: before the load; ORC_AT_SP_PLUS: after the load from RSP */
};

struct orc_rule {
    uint64_t ip;           /* from here to the next rule's */
    uint8_t kind;          /* enum orc_kind */
    struct orc_place cfa;  /* base ORC_REGISTER and following */
    struct orc_place rbp;  /* where RBP was saved: ORC_NOT_SAVED (it is as it was), ORC_CFA or ORC_REGISTER */
};

struct orc {
    struct orc_rule *rule; /* ascending */
    size_t count;
};

/* Where the tables are said to be, by linear address; zeros: search the image for them. */
struct orc_where {
    uint64_t ip, ip_end, entries; /* __start_orc_unwind_ip, __stop_orc_unwind_ip, __start_orc_unwind */
    uint64_t image, image_end;    /* the code that they are about lies in it, too */
    unsigned version;             /* of the kernel: major << 8 | minor; 0: unknown */
};

/* Tables that are not there, or not right, are no error: then out->count is 0. ERR_HOST: out of memory. */
must_check struct err *orc_read(const struct kimage *k, const struct orc_where *where, struct orc *out);
void orc_deinit(struct orc *o);

#endif
