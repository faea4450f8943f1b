/* gdb/stub_impl.h: what the parts of the stub share. Not for others.
 *
 * A connection is IDLE (packets are answered), MOVING (GDBS_WANT_RESUME: what arrives waits in the queue, a 0x03 in it
 * asks to stop), or over. `busy` is set while a packet is answered: feeding from within an operation only queues. */
#ifndef HW_GDB_STUB_IMPL_H
#define HW_GDB_STUB_IMPL_H

#include "gdb/wire.h"
#include "gdb/stub.h"

enum {
    STUB_QUEUE_MAX = 4 * WIRE_MAX, /* bytes that wait while the target moves */
    STUB_OUT_MAX = 4 * WIRE_MAX,   /* bytes that wait to be sent before packets wait, too */
    STUB_LINE_MAX = 4096,           /* a monitor command */
    STUB_ERR_FAULT = 14,            /* of memory, as EFAULT */
};

/* ---- a packet being read ---- */

struct cursor { const uint8_t *p, *end; };

static inline size_t cursor_left(const struct cursor *c) { return (size_t)(c->end - c->p); }
bool cursor_is(struct cursor *c, char want); /* the next character is it, and is skipped */
bool cursor_word(struct cursor *c, const char *word); /* the same for several */
bool cursor_hex(struct cursor *c, uint64_t *out); /* at least one digit, 64 bits at most */
/* cursor_hex, then `next`. */
static inline bool cursor_hex_to(struct cursor *c, uint64_t *out, char next)
{
    return cursor_hex(c, out) && cursor_is(c, next);
}
/* Pairs of digits to bytes, until the packet ends or no digit comes; returns how many, `max` at most. */
size_t cursor_bytes(struct cursor *c, uint8_t *out, size_t max);
/* p1.2, 2, -1, 0: a thread, from 0; `any` (may be NULL) when it names none in particular. */
bool cursor_thread(struct cursor *c, unsigned *thread_out, bool *any);

/* ---- the stub ---- */

struct stub_break {
    struct gdbs_break b;
    bool gone;          /* gdb removed it; the target has not been told */
    struct text code;   /* conditions: each a 32-bit length and as many bytes */
};

struct stub_reg { const struct gdbs_reg *r; uint32_t at; /* in a `g` packet, bytes */ };

struct gdbs {
    const struct gdbs_arch *arch;
    const struct gdbs_ops *ops;
    void *target;
    struct gdbs_options o;

    struct stub_reg *regs;
    size_t reg_count, g_len;
    struct text description; /* target.xml */

    struct wire_reader in;
    struct text queue;      /* events that wait: a byte of enum wire_event, for packets a 32-bit length and the data */
    size_t queue_head;      /* of its first event */
    unsigned breaks;        /* WIRE_BREAKs in it */
    struct text packet;     /* that is being answered */
    struct text reply, out, last; /* last: the last framed reply, for a WIRE_NAK */
    struct text scratch;
    bool busy, no_ack, no_reply, over, overrun;

    bool multiprocess, swbreak, hwbreak; /* what the client understands */
    bool extended;          /* the client may want to start the machine again */
    bool physical;          /* Qqemu.PhyMemMode */
    uint8_t single_step;    /* Qqemu.sstep, kept for the client */
    unsigned thread;        /* Hg */
    unsigned listed;        /* threads that the list in progress has named */
    unsigned opened[GDBS_FILES]; /* how often gdb has each of ops->files open: one descriptor stands for all */

    enum gdbs_want want;
    struct gdbs_resume resume;
    struct gdbs_stop stop;  /* the last one */

    struct stub_break **breaks_set; /* sorted: break_order() */
    size_t break_count, break_room, gone_count;
    bool told_bad_condition;
};

/* One row for each packet; what has no row is answered by an empty packet, as the protocol wants it. */
struct stub_packet {
    const char *name; /* one letter: its arguments follow at once; else ':' ';' or ',' stands between */
    void (*run)(struct gdbs *g, struct cursor *c);
};
extern const struct stub_packet stub_run_packets[], stub_data_packets[], stub_query_packets[], stub_file_packets[];

void stub_ok(struct gdbs *g);
void stub_error(struct gdbs *g, unsigned number);
void stub_refuse(struct gdbs *g, const char *why); /* an error with a text, "E.why" */
void stub_malformed(struct gdbs *g);
/* Part of an object: `l` or `m`, then the bytes. */
void stub_part(struct gdbs *g, const void *data, size_t len, uint64_t offset, uint64_t want);

unsigned stub_threads(const struct gdbs *g);
void stub_thread_id(const struct gdbs *g, struct text *t, unsigned thread);
bool stub_interrupted(const struct gdbs *g);

void stub_stop_reply(struct gdbs *g);
void stub_breaks_settle(struct gdbs *g); /* before the target moves */
void stub_breaks_free(struct gdbs *g);

/* The registers' table and the description; false: no memory. */
bool stub_describe(struct gdbs *g);

enum gdbs_space stub_space(const struct gdbs *g);

#endif
