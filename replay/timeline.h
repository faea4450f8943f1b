/* replay/timeline.h: a guest's history as something to move in: seek, step, run forwards and backwards.
 *
 * A timeline is over a recording (it has a past, and an end) or over a live guest (neither). Position N is the state
 * after N ticks, before any input of that position. Moving never changes what happened: a state that is reached by going
 * back is the state that was there, and every digest of the recording is compared on the way.
 *
 * One guest, one thread. Functions that move the guest say in `struct timeline_stop` why it stands where it does; errors
 * are those of the recording (ERR_DIVERGED, ERR_CORRUPT) or the host's, and leave the timeline at a position it names. */
#ifndef HW_TIMELINE_H
#define HW_TIMELINE_H

#include "core/base/base.h"
#include "core/base/err.h"
#include "core/vcpu.h"

struct timeline;
struct session;

struct timeline_options {
    const char *engine;         /* as engine_create(); NULL: the default */
    uint64_t checkpoint_memory; /* bytes that checkpoints may take; 0: TIMELINE_MEMORY */
    uint64_t spacing;           /* ticks between checkpoints made on the way; 0: TIMELINE_SPACING */
    bool force;                 /* as vm_spec_from_header() */
    /* May be NULL. Asked every 20 ms or so while the guest moves: true ends the move with TL_INTERRUPTED. `at` is where
     * it is, `from` and `to` are the ticks this move goes between, for a display of progress. */
    bool (*interrupted)(void *arg, uint64_t from, uint64_t at, uint64_t to);
    void *arg;
};
#define TIMELINE_MEMORY MIB(512)
#define TIMELINE_SPACING (UINT64_C(1) << 24)

/* Over the recording at `path`, at position 0. */
must_check struct err *timeline_open(const char *path, const struct timeline_options *o, struct timeline **out);
/* Over a live guest: the session is borrowed, and run by timeline_run() and timeline_step() alone. `recording`: it is
 * being recorded, so nothing may be written to it. */
must_check struct err *timeline_over(struct session *s, bool recording, const struct timeline_options *o,
                                     struct timeline **out);
void timeline_close(struct timeline *t); /* NULL is fine */

/* ---- where and what ---- */

bool timeline_has_past(const struct timeline *t);
uint64_t timeline_position(const struct timeline *t); /* ticks */
uint64_t timeline_end(const struct timeline *t);      /* of the recording; live: where the guest is */
uint64_t timeline_ns(const struct timeline *t);       /* virtual time here */
const char *timeline_path(const struct timeline *t);  /* of the recording, NULL when live */

enum timeline_why {
    TL_REACHED,     /* the position that was asked for */
    TL_PROBE,       /* a breakpoint or watchpoint, or an event that was waited for */
    TL_BEGIN,       /* the beginning of the recording */
    TL_END,         /* the end of it; live: the guest has ended */
    TL_INTERRUPTED,
};

/* Addresses, and events:
 *   TP_VECTOR   an interrupt, an exception or INT n is delivered, of vector addr or one of the len - 1 that follow
 *   TP_PORT     an instruction accesses I/O port addr or one of the len - 1 that follow
 *   TP_OUTPUT   the console has printed `text`: with its last byte
 *   TP_INPUT    something that was typed reaches the guest */
enum timeline_probe_kind {
    TP_EXECUTE, TP_WRITE, TP_READ, TP_ACCESS, TP_VECTOR, TP_PORT, TP_OUTPUT, TP_INPUT, TP_KINDS
};
struct timeline_probe {
    enum timeline_probe_kind kind;
    bool physical;      /* TP_EXECUTE is always by linear address */
    uint64_t addr, len; /* len: bytes (vectors, ports), 1 at least; of TP_EXECUTE, TP_OUTPUT and TP_INPUT ignored */
    const char *text;   /* of TP_OUTPUT, not empty; borrowed until it is removed */
    /* May be NULL: always. Called when it is hit, with the guest before the instruction (TP_EXECUTE, TP_INPUT) or after the
     * access (others, on the way back too, which then stops before it). False: go on. It may read registers and memory,
     * nothing else. */
    bool (*condition)(void *arg, struct timeline *t);
    void *arg;
};

enum { TIMELINE_HITS_MAX = 8 };
struct timeline_hit {
    unsigned probe; /* the number timeline_probe_add() gave */
    uint64_t addr;  /* of data: the first byte of the access that the probe covers; the vector, the port */
    bool write;     /* of data and ports */
};
struct timeline_stop {
    enum timeline_why why;
    struct timeline_hit hit[TIMELINE_HITS_MAX]; /* TL_PROBE: all that were hit at once, `hits` of them */
    size_t hits;
    char text[96];       /* TL_END: how the guest ended, a phrase such as "power-off" */
    int status;          /* TL_END of a live guest: its exit status as of docs/exit-codes.md */
};
/* Where this probe was hit; NULL: it was not. */
static inline const struct timeline_hit *timeline_hit_of(const struct timeline_stop *stop, unsigned probe)
{
    for (size_t i = 0; i < stop->hits; i++)
        if (stop->hit[i].probe == probe)
            return &stop->hit[i];
    return NULL;
}

/* Stops for timeline_run() and timeline_step(). Adding one that was removed a moment ago costs nothing. They never touch
 * guest memory, there may be any number, and they are hit in any address space. Errors: ERR_HOST. */
must_check struct err *timeline_probe_add(struct timeline *t, const struct timeline_probe *p, unsigned *number_out);
void timeline_probe_remove(struct timeline *t, unsigned number);

/* ---- moving ---- */

/* To exactly this position; beyond either end: to that end (TL_BEGIN, TL_END). A live guest cannot: ERR_UNSUPPORTED.
 * Interrupted, it stays where it has got to. Probes do not count. */
must_check struct err *timeline_seek(struct timeline *t, uint64_t ticks, struct timeline_stop *out);

/* `n` ticks ahead, or back when n < 0. Ahead, probes stop it as in timeline_run(), breakpoints after the first tick; back,
 * nothing does but the beginning. */
must_check struct err *timeline_step(struct timeline *t, int64_t n, struct timeline_stop *out);

/* On, or back, until a probe is hit; a breakpoint, or an input, right here does not count. Ahead, a data probe stops after
 * the access, a delivery, port access or output after it; back all stop before, with a write not yet done. A breakpoint and
 * an input stop before either way; a live guest has taken its input then. */
must_check struct err *timeline_run(struct timeline *t, bool back, struct timeline_stop *out);

/* ---- looking ---- */

/* Registers; of a live guest that is not recorded they may be replaced (RIP, segment bases and control registers
 * included). ERR_UNSUPPORTED, with the reason, elsewhere; ERR_RANGE for values the CPU cannot hold. */
const struct vcpu_state *timeline_vcpu(const struct timeline *t);
must_check struct err *timeline_set_vcpu(struct timeline *t, const struct vcpu_state *s);
uint64_t timeline_cr8(const struct timeline *t);

enum timeline_space { TS_LINEAR, TS_PHYSICAL };
/* RAM and ROM only: devices are not touched. Bytes up to the first that is not mapped; returns how many. Linear
 * addresses are those of the current page tables, whatever the privilege; accessed bits are not set. */
size_t timeline_read(const struct timeline *t, enum timeline_space space, uint64_t addr, void *buf, size_t len);
/* As timeline_set_vcpu(). *done: bytes written before the first that is not mapped. */
must_check struct err *timeline_write(struct timeline *t, enum timeline_space space, uint64_t addr, const void *buf,
                                      size_t len, size_t *done);
bool timeline_translate(const struct timeline *t, uint64_t linear, uint64_t *physical_out);
uint64_t timeline_ram_len(const struct timeline *t); /* bytes */

/* A hash of registers, devices and memory here: equal states, equal hashes. */
uint64_t timeline_digest(struct timeline *t);

/* The console's bytes up to this position: borrowed, until the guest moves. All since the beginning, or as far back as is
 * known: when this place was reached through checkpoints in the recording, what was printed in the history that was
 * replayed; of a live guest, since timeline_over(). The last TIMELINE_CONSOLE bytes of that at least. */
enum { TIMELINE_CONSOLE = 4 << 20 };
const uint8_t *timeline_console(const struct timeline *t, size_t *len_out);

/* When the line of the console that holds the byte at `offset` was begun, in ticks; offset < *len_out of above. */
uint64_t timeline_console_ticks(const struct timeline *t, size_t offset);

/* What came from outside (what was typed, anchors of time, wakes): the first event behind `ticks`, or from number `seq` on; its
 * text is a line. *found: false when there is no more. A live guest has none yet: ERR_UNSUPPORTED. */
struct timeline_event { uint64_t seq, ticks; char text[160]; };
must_check struct err *timeline_event_at(struct timeline *t, uint64_t seq, struct timeline_event *out, bool *found);
must_check struct err *timeline_event_after(struct timeline *t, uint64_t ticks, struct timeline_event *out, bool *found);

/* A position as users write it (replay/position.h). Errors: those of position_find() and of reading the recording. */
must_check struct err *timeline_find(struct timeline *t, const char *text, uint64_t *ticks_out);

/* The guest's kernel (bzImage, ELF, Multiboot) as the recording has it; NULL when live. */
const uint8_t *timeline_kernel(const struct timeline *t, size_t *len_out);

struct timeline_stats { uint64_t checkpoints, checkpoint_bytes, restores, ticks_replayed; };
struct timeline_stats timeline_stats(const struct timeline *t);

#endif
