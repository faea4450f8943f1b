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
    STOP_PROBE,    /* exec_probe_hits() says which */
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

/* Probes: where an observer outside the guest wants a run to stop. The guest cannot notice them: nothing is written to
 * its memory or its debug registers, and they count no ticks. Addresses are linear, in any address space, or physical;
 * a PROBE_EXEC is linear. All engines of a machine share the set; exec_state_changed() leaves it alone.
 *   PROBE_EXEC   the run stops before the instruction at `addr`, at the instruction's tick, when it would be executed
 *                there: no event is delivered first, and what else is due at that tick (`until`, a deadline, a request)
 *                was reported before. It is hit by an attempt that faults, fetches and the guest's own breakpoints
 *                included, and again by the next one. An instruction with REP is hit before its first iteration, and
 *                when something else (an event's handler) ran since its last one.
 *   others       the run stops after the instruction (or delivery, or iteration of REP) that accessed one of the bytes
 *                [addr, addr + len), at the tick that follows, before any other reason to stop there: none is lost or
 *                reported twice. What is counted as an access is what the instruction reads or writes, implicit stack
 *                and descriptor-table accesses included; instruction fetches, page walks, loads of the PDPTE registers
 *                and what devices do are not. A write counts whatever it changes: a failed CMPXCHG writes back what it
 *                read (SDM vol. 2), and a masked store counts as one of all bytes from its first element to its last.
 *                What an instruction did before it faulted does not count, for it did not retire; but what a task
 *                switch did before a fault in the new task does.
 * Of other things than addresses, `addr` and `len` are the first and how many:
 *   PROBE_VECTOR    the run stops after the delivery, by an interrupt, an exception or INT n, of one of these vectors:
 *                   before its handler's first instruction. Of nested faults the one that is delivered in the end counts.
 *   PROBE_PORT      the run stops after the instruction, or iteration of REP, that accessed one of these I/O ports.
 *   PROBE_REPORTED  the run stops when somebody says so: exec_probe_report(). */
enum exec_probe_kind {
    PROBE_EXEC, PROBE_WRITE, PROBE_READ, PROBE_ACCESS, PROBE_VECTOR, PROBE_PORT, PROBE_REPORTED
};
struct exec_probe {
    enum exec_probe_kind kind;
    bool physical;
    uint64_t addr, len; /* len: not 0 and not beyond the end of all addresses; of a PROBE_EXEC, and both of a PROBE_REPORTED,
                           without meaning */
};
struct exec_probe_hit {
    size_t probe;   /* its index in the array given to exec_probes_set() */
    uint64_t ticks; /* of the instruction: PROBE_EXEC: where the vCPU stands, others but reported ones: one before */
    uint64_t addr;  /* first covered byte of the access, in the probe's kind of address; the vector or port */
    bool write;     /* it wrote, and may have read too */
};
enum { EXEC_PROBE_HITS_MAX = 8 };

/* Replace the set of probes, of which `p` is copied; between runs. What was set before and is set again costs nothing,
 * and what is gone costs little: engines drop only the code and TLB entries that a new probe covers. What was reported
 * since the last run (exec_probe_report()) is forgotten. Errors, the set is as it was: ERR_USAGE (a probe that cannot be),
 * ERR_HOST. */
must_check struct err *exec_probes_set(struct machine *m, const struct exec_probe *p, size_t n);
/* PROBE_EXEC is not hit at this tick: whoever stands on one goes on by passing vcpu.ticks. It holds until another tick
 * is passed; UINT64_MAX: none. */
void exec_probes_skip(struct machine *m, uint64_t ticks);
/* After STOP_PROBE: what was hit by the last instruction, EXEC_PROBE_HITS_MAX at most. Returns how many. They stay
 * until the next STOP_PROBE. */
size_t exec_probe_hits(const struct machine *m, const struct exec_probe_hit **out);
/* The PROBE_REPORTED with this index is hit now, at the tick that the clock shows: in an instruction (for devices), after
 * which the run stops; or between runs, and then the next one stops at once. */
void exec_probe_report(struct machine *m, size_t probe);
/* Whether the vCPU stands between two iterations of an instruction with REP, as far as engines of this machine executed
 * the former: no part of its state says so. Who restores a checkpoint taken there skips its tick. */
bool exec_rep_begun(const struct machine *m);

/* State was changed from outside (checkpoint restored, debugger, loader): drop everything derived from it. */
void exec_state_changed(struct machine *m);
/* The same when registers were replaced, and memory was written through mem_write() alone: what is known of memory stays. */
void exec_registers_changed(struct machine *m);

/* Where a linear address lies, by the current page tables; accessed bits are not set. False: not mapped. */
bool exec_translate(struct machine *m, gva_t linear, gpa_t *out);

#endif
