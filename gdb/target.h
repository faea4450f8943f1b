/* gdb/target.h: a timeline as the target of a gdb stub: gdbs_ops over replay/timeline.h. */
#ifndef HW_GDB_TARGET_H
#define HW_GDB_TARGET_H

#include "gdb/stub.h"
#include "gdb/symbols.h"
#include "gdb/text.h"
#include "replay/timeline.h"

enum { GDB_CALLS = 8 }; /* functions called from within functions called */

struct gdb_mark { char *name; uint64_t ticks; };

/* One for the life of the timeline; connections come and go. */
struct gdb_target {
    struct timeline *t;          /* borrowed */
    struct gdbs *g;              /* who is connected; NULL: nobody */
    const struct gdbs_arch *arch;
    /* Asked in long operations: true abandons them. */
    bool (*interrupted)(void *arg);
    void *interrupted_arg;
    struct gdb_symbols symbols;  /* of the guest's kernel, as far as anybody has asked */

    struct gdb_link **links;     /* breakpoints that are inserted */
    size_t link_count, link_room;
    struct gdb_mark *marks;
    size_t mark_count;
    struct gdb_catch *catches;   /* of catch.h; NULL: none */
    unsigned catch_ids;          /* given so far */
    uint64_t progress_ms;        /* between two lines of progress; 0: none are wanted */
    char *armed;                 /* monitor command that the next resumption executes instead; NULL: none */
    uint64_t called_at[GDB_CALLS]; /* where the last moves began before which registers were written */
    unsigned calls;              /* how many there were */
    bool written, put_back;      /* since the guest moved: registers were written; gdb believes put_back_to */
    uint64_t put_back_to;
    bool dead;                   /* the live guest has ended */
};

enum { GDB_PROGRESS_MS = 2000 }; /* what progress_ms is for whoever connects */

extern const struct gdbs_ops gdb_target_ops;

void gdb_target_deinit(struct gdb_target *target);

/* Where a move has got to, as text for the user; `from`, `at` and `to` as timeline_options.interrupted has them. */
void gdb_target_progress(struct gdb_target *target, uint64_t from, uint64_t at, uint64_t to);

/* Do what gdb asked for; out says why it stands. *status_out (of docs/exit-codes.md) is set when a live guest has
 * ended. What fails is told to the user as text, and the target then stands where it is. */
void gdb_target_move(struct gdb_target *target, const struct gdbs_resume *r, struct gdbs_stop *out, int *status_out);

#endif
