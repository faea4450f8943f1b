/* gdb/target.h: a timeline as the target of a gdb stub: gdbs_ops over replay/timeline.h. */
#ifndef HW_GDB_TARGET_H
#define HW_GDB_TARGET_H

#include "gdb/stub.h"
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
    /* May be NULL: how far the kernel was loaded from its ELF file's addresses (KASLR); false: not known. */
    bool (*slide)(void *arg, uint64_t *out);
    void *slide_arg;

    struct gdb_link **links;     /* breakpoints that are inserted */
    size_t link_count, link_room;
    struct gdb_mark *marks;
    size_t mark_count;
    char *armed;                 /* monitor command that the next resumption executes instead; NULL: none */
    uint64_t called_at[GDB_CALLS]; /* where the last moves began before which registers were written */
    unsigned calls;              /* how many there were */
    bool written, put_back;      /* since the guest moved: registers were written; gdb believes put_back_to */
    uint64_t put_back_to;
    bool dead;                   /* the live guest has ended */
};

extern const struct gdbs_ops gdb_target_ops;

void gdb_target_deinit(struct gdb_target *target);

/* Do what gdb asked for; out says why it stands. *status_out (of docs/exit-codes.md) is set when a live guest has
 * ended. What fails is told to the user as text, and the target then stands where it is. */
void gdb_target_move(struct gdb_target *target, const struct gdbs_resume *r, struct gdbs_stop *out, int *status_out);

#endif
