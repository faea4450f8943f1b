/* gdb/stub.h: gdb's remote protocol for a machine, as a library without I/O: bytes in, bytes out.
 *
 * It knows no machine: registers are a table of the caller's, everything else a table of operations. It has no globals
 * and no threads; any number may exist. One struct gdbs serves one connection, from its first byte to its end:
 *
 *     struct gdbs *g = gdbs_new(&arch, &ops, target, &options);
 *     for (;;) {
 *         send(gdbs_output(g, &len)); gdbs_output_done(g, sent);
 *         switch (gdbs_wants(g, &resume)) {
 *         case GDBS_WANT_BYTES:  receive; gdbs_feed(g, bytes, n); break;
 *         case GDBS_WANT_RESUME: move the target as `resume` says, meanwhile feed what arrives and look at
 *                                gdbs_interrupt_wanted(); then gdbs_report_stop(g, &stop); break;
 *         case GDBS_WANT_DETACH: case GDBS_WANT_KILL: case GDBS_WANT_CLOSE: send the last output; gdbs_destroy(g);
 *         }
 *     }
 *
 * The peer is not trusted: whatever it sends, replies are bounded, nothing is executed that ops do not offer, and
 * memory that runs out ends in GDBS_WANT_CLOSE.
 *
 * The protocol: gdb manual, appendix "GDB Remote Serial Protocol"; packets of reverse execution, "Packets" (bc, bs). */
#ifndef HW_GDB_STUB_H
#define HW_GDB_STUB_H

#include "core/base/base.h"

struct gdbs;

/* ---- what the machine looks like ---- */

/* A register as the target description has it. Its number is its place among the registers of all features. */
struct gdbs_reg {
    const char *name;
    uint16_t bits;     /* a multiple of 8, GDBS_REG_MAX bytes at most; transferred little-endian */
    const char *type;  /* gdb's or one of the feature's; NULL: "int" */
    const char *group; /* of `info registers`; NULL: gdb decides */
    uint16_t kind;     /* kind, at: the caller's own, how it finds the value */
    uint32_t at;
};
enum { GDBS_REG_MAX = 64 };

struct gdbs_feature {
    const char *name;  /* "org.gnu.gdb.i386.core" */
    const char *types; /* XML; NULL: none */
    const struct gdbs_reg *regs;
    size_t count;
};

struct gdbs_arch {
    const char *name; /* gdb's: "i386:x86-64" */
    const struct gdbs_feature *features;
    size_t count;
    unsigned pc;               /* number of the program counter */
    const uint8_t *expedited;  /* numbers of registers that every stop reply carries */
    size_t expedited_count;
};

/* ---- what it can do ---- */

enum { GDBS_WHY = 128 }; /* bytes of a reason that an operation gives, '\0' included; one line */

enum gdbs_break_type { GDBS_SOFTWARE, GDBS_HARDWARE, GDBS_WATCH, GDBS_READ_WATCH, GDBS_ACCESS_WATCH };

/* A breakpoint or watchpoint; the stub's, valid until ops->remove() returns. */
struct gdbs_break {
    enum gdbs_break_type type;
    uint64_t addr, len;  /* len: bytes, 1 at least; of the first two types nothing but gdb's word for the instruction */
    bool physical;       /* a watchpoint on a physical address */
    bool conditional;    /* it counts as hit when gdbs_condition() says so; may change while it is inserted */
    uintptr_t handle;    /* the target's own, set by ops->insert() */
};

enum gdbs_space { GDBS_LINEAR, GDBS_PHYSICAL };

enum { GDBS_FILES = 2 }; /* that ops->files may have at most */

/* Operations; those marked (optional) may be NULL. Threads are numbered from 0. */
struct gdbs_ops {
    unsigned (*threads)(void *target);                                              /* (optional): 1 */
    void (*thread_text)(void *target, unsigned thread, char *buf, size_t len);      /* (optional) a line about it */

    /* The value, bits / 8 bytes; false: not available. */
    bool (*read_reg)(void *target, unsigned thread, const struct gdbs_reg *r, uint8_t *out);
    /* All of them or none. False: refused, `why` says why. */
    bool (*write_regs)(void *target, unsigned thread, const struct gdbs_reg *const *regs, const uint8_t *const *values,
                       size_t count, char why[GDBS_WHY]);
    /* Bytes up to the first that cannot be read; returns how many. */
    size_t (*read_memory)(void *target, enum gdbs_space space, uint64_t addr, void *buf, size_t len);
    /* False: refused, or it cannot be written to the end. */
    bool (*write_memory)(void *target, enum gdbs_space space, uint64_t addr, const void *data, size_t len,
                         char why[GDBS_WHY]);

    /* A breakpoint that is inserted must not show in memory. Removal is asked for late, right before the target moves:
     * gdb removes everything at each stop and inserts the same again. */
    bool (*insert)(void *target, struct gdbs_break *b);
    void (*remove)(void *target, struct gdbs_break *b);

    bool (*restart)(void *target); /* (optional) go to the beginning; false: it could not */
    /* (optional) A command of the user's, its output by gdbs_print(). False: there is no such command. */
    bool (*monitor)(void *target, struct gdbs *g, const char *command);
    /* (optional) ELF files in memory that gdb may read: their paths, ended by NULL; the first is the program that runs. */
    const char *const *files;
    bool (*file)(void *target, unsigned index, const uint8_t **data_out, size_t *len_out); /* false: not there now */
    bool (*interrupted)(void *target); /* (optional) asked in long operations: true abandons them */
};

struct gdbs_options {
    bool reverse; /* bs and bc can be done */
};

/* NULL: no memory. `arch`, `ops` and `target` are borrowed. */
struct gdbs *gdbs_new(const struct gdbs_arch *arch, const struct gdbs_ops *ops, void *target,
                      const struct gdbs_options *o);
/* Removes the breakpoints that are left. NULL is fine. */
void gdbs_destroy(struct gdbs *g);

/* ---- bytes ---- */

/* At any time, from within an operation or while the target moves too; packets then wait. */
void gdbs_feed(struct gdbs *g, const void *bytes, size_t len);
/* What waits to be sent: valid until the next call. */
const uint8_t *gdbs_output(const struct gdbs *g, size_t *len_out);
void gdbs_output_done(struct gdbs *g, size_t len);

/* ---- what to do ---- */

enum gdbs_want {
    GDBS_WANT_BYTES,
    GDBS_WANT_RESUME, /* until gdbs_report_stop() */
    GDBS_WANT_DETACH, /* the client leaves; the machine goes on without it */
    GDBS_WANT_KILL,   /* end the machine */
    GDBS_WANT_CLOSE,  /* out of memory, or a peer that sends without end: drop it */
};

struct gdbs_resume {
    enum { GDBS_CONTINUE, GDBS_STEP, GDBS_STEP_RANGE } how;
    bool back;           /* not with GDBS_STEP_RANGE */
    unsigned thread;     /* that steps */
    uint64_t start, end; /* GDBS_STEP_RANGE: one step at least, then on while start <= pc < end */
};

enum gdbs_want gdbs_wants(const struct gdbs *g, struct gdbs_resume *resume_out);

/* The user asked to stop (^C), while the target moves or an operation of it runs. */
bool gdbs_interrupt_wanted(const struct gdbs *g);

enum gdbs_stop_kind {
    GDBS_STOP_STEP,          /* it did what was asked */
    GDBS_STOP_BREAK,         /* `hit` */
    GDBS_STOP_INTERRUPT,
    GDBS_STOP_SIGNAL,        /* it still stands there; `code`: gdb's number of a signal */
    GDBS_STOP_BEGIN, GDBS_STOP_END, /* of the history */
    GDBS_STOP_EXITED,        /* the machine is gone; `code` */
    GDBS_STOP_SIGNALLED,     /* it is gone by its own fault; `code`: gdb's number of a signal */
};
struct gdbs_stop {
    enum gdbs_stop_kind kind;
    unsigned thread;
    int code;
    const struct gdbs_break *hit;
    uint64_t addr;           /* of the access that hit a watchpoint */
};
void gdbs_report_stop(struct gdbs *g, const struct gdbs_stop *stop);

/* Whether the condition of an inserted breakpoint holds for the target as it stands. One that cannot be evaluated
 * holds, and the user is told. For the target, while it moves. */
bool gdbs_condition(struct gdbs *g, const struct gdbs_break *b);

/* Text for the user: from ops->monitor, or while the target moves. */
void gdbs_print(struct gdbs *g, const char *format, ...) printf_like(2, 3);
void gdbs_print_bytes(struct gdbs *g, const void *data, size_t len);

#endif
