/* exec/engine.h: the one contract of every engine.
 *
 *   Run this vCPU until tick N, or until something outside the engine must happen; say why you stopped; the
 *   architectural state (struct vcpu_state, memory, device state, vcpu.ticks) is then exact.
 *
 * Engines may be exchanged at any stop, in the middle of a run, a recording or a replay, and the guest cannot tell.
 * An engine never returns an error: whatever a guest does has an architectural answer. */
#ifndef HW_ENGINE_H
#define HW_ENGINE_H

#include "core/base/err.h"

struct machine;
struct engine;

/* What may be chosen about an engine. Nothing of it changes what a guest sees: most exist to prove just that. 0: the
 * engine's own choice. */
struct engine_options {
    uint64_t cache;  /* bytes of translated code kept, 64 KiB .. 1 GiB */
    uint64_t block;  /* most instructions of a block, 1 .. 64 */
    uint64_t nochain; /* 1: blocks do not jump to each other */
    uint64_t flush;  /* forget all translated code about every so many calls from it */
    uint64_t exact;  /* 1: a stop inside a block is reached by a shorter block, not by the interpreter */
    uint64_t tlb;    /* at most so many pages in the soft TLB, 2 .. 256, which all engines of the machine share */
    uint64_t wrong;  /* for tests of a search for mistakes: bit 0 of RAX flips after the instruction at this tick */
    uint64_t switch_ticks; /* mixed: change engines after 1 .. so many ticks; spelt switch=N */
    uint64_t seed;   /* mixed: of the random choice */
};

enum engine_stop {
    STOP_TICKS,    /* vcpu.ticks == until */
    STOP_HALT,     /* the vCPU is halted and nothing is deliverable */
    STOP_DEADLINE, /* a timer deadline moved (clock.deadline_moved): compute `until` anew */
    STOP_REQUEST,  /* machine.request is set */
    STOP_KICK,     /* engine_kick() */
};

/* What an engine did, for those who want to know how fast it is and why. Nothing depends on it. */
struct engine_stat { const char *name; double value; };
enum { ENGINE_STATS_MAX = 32 };

struct engine_ops {
    const char *name;
    const char *summary;
    struct err *(*create)(struct machine *m, const struct engine_options *o, struct engine **out);
    void (*destroy)(struct engine *e);
    enum engine_stop (*run)(struct engine *e, uint64_t until);
    void (*measure)(struct engine *e, uint64_t (*host_ns)(void));                /* of engine_measure(); may be NULL */
    size_t (*stats)(const struct engine *e, struct engine_stat *out, size_t max); /* its own rows; may be NULL */
};

struct engine {
    const struct engine_ops *ops;
    struct machine *machine;
};

/* The engines built in, NULL-terminated; the first is the default. */
extern const struct engine_ops *const engines[];
/* `spec`: NAME[:OPTION=N,...] with the members of struct engine_options; N may end in K or M. NULL: the default engine.
 * Call exec_attach() before. Errors: ERR_USAGE, ERR_HOST. */
must_check struct err *engine_create(const char *spec, struct machine *m, struct engine **out);
must_check struct err *engine_check(const char *spec); /* the ERR_USAGE of engine_create() alone */

/* Before it runs: measure what takes time to measure, too, by this clock of the host. Guests see nothing of it. */
void engine_measure(struct engine *e, uint64_t (*host_ns)(void));
/* Returns how many; rows that need engine_measure() only after that. */
size_t engine_stats(const struct engine *e, struct engine_stat out[ENGINE_STATS_MAX]);

/* Engines of one machine share the soft TLB; exec_attach() creates it. Call once per machine before creating engines. */
must_check struct err *exec_attach(struct machine *m);
void exec_detach(struct machine *m);

/* Ask a running engine to stop soon. Async-signal-safe and thread-safe. */
void engine_kick(struct machine *m);

/* What this host's CPU lets guests see of itself (undefined flags, approximations, x87 transcendentals), as named
 * facts: a recording stores them, and replay refuses a host where one differs. */
struct exec_host_fact { const char *name; uint64_t value; };
enum { EXEC_HOST_FACTS_MAX = 64 };
size_t exec_host_facts(struct exec_host_fact out[EXEC_HOST_FACTS_MAX]); /* how many; the same on every call */

/* What the vCPU would execute at its RIP; an event that is due comes before it. Leaves no trace in the guest. Where
 * there is no instruction, `text` says why. */
struct exec_insn { unsigned len; uint8_t bytes[15]; char text[96]; };
void exec_disassemble(struct machine *m, struct exec_insn *out);

/* State was changed from outside (checkpoint restored, debugger, loader): drop everything derived from it. */
void exec_state_changed(struct machine *m);
/* The same when registers were replaced, and memory was written through mem_write() alone: what is known of memory stays. */
void exec_registers_changed(struct machine *m);

/* Where a linear address lies, by the current page tables; accessed bits are not set. False: not mapped. */
bool exec_translate(struct machine *m, gva_t linear, gpa_t *out);

#endif
