/* replay/timeline_impl.h: what the parts of the timeline share. Internal to replay/.
 *     timeline.c         life; moving over a recording
 *     timeline_run.c     running to a probe, forwards and backwards
 *     timeline_event.c   what goes in and out, as probes: input and output of the console
 *     timeline_look.c    registers and memory */
#ifndef HW_TIMELINE_IMPL_H
#define HW_TIMELINE_IMPL_H

#include "replay/checkpoint.h"
#include "replay/recording.h"
#include "replay/timeline.h"
#include "replay/transcript.h"

struct probe_slot { struct timeline_probe probe; bool used; };

struct timeline {
    struct timeline_options o;
    struct machine *m;
    struct session *session; /* &own, or who watches a live guest owns it */

    /* Over a recording. */
    struct recording rec;
    struct vm vm;
    struct replayer *replayer; /* NULL: live */
    struct checkpoints *checkpoints;
    struct log_reader *stored; /* the recording once more, for the checkpoints in it */
    struct session own;
    uint64_t end;              /* ticks; of a live guest its limit, UINT64_MAX without */
    struct transcript console; /* what was replayed, of late or close by, and how much of it here */
    struct log_reader *events; /* the recording once more, for timeline_event_at(); NULL until then */

    bool live_recorded;        /* a live guest that is being recorded */
    struct nondet live_door;   /* its own, behind the one of timeline_event.c */
    bool rep_begun;            /* the checkpoint restored last lies between two iterations of REP */
    bool ended;                /* the session has come to an end of its own, here */
    enum session_end how;      /* then */
    struct err *verdict;       /* of the replayer then; NULL: all is as it was recorded, or it has not ended */

    /* Probes; the index of a slot is its number. */
    struct probe_slot *slot;
    size_t slots;
    struct exec_probe *armed;  /* what the engine has, and the slot of each */
    unsigned *armed_slot;
    size_t armed_count;
    bool probes_changed;       /* since the engine was told */
    bool armed_now;            /* the engine has them; false: it has none */
    uint64_t skip_input;       /* TP_INPUT is not hit at this position */

    struct { uint64_t from, to, asked; } move; /* for `interrupted` */
    uint64_t replayed;         /* ticks executed so far */
};

/* One session_run() to `to` at most, with probes or without. *how: END_LIMIT when it got there. */
must_check struct err *timeline_execute(struct timeline *t, uint64_t to, bool probes, enum session_end *how);
/* Bring the machine to the checkpoint at or before `ticks`. */
must_check struct err *timeline_restore(struct timeline *t, uint64_t ticks);
/* Forwards to `to`, without probes, with regular checkpoints on the way. Interrupted, or at the end, it stops earlier. */
must_check struct err *timeline_advance(struct timeline *t, uint64_t to, enum session_end *how);
/* To exactly `ticks`, on the shortest way; `near`: leave checkpoints right before it, for whoever goes on backwards. */
must_check struct err *timeline_go(struct timeline *t, uint64_t ticks, bool near, enum session_end *how);
/* A checkpoint right here; none where inputs were taken already. */
must_check struct err *timeline_mark(struct timeline *t, enum checkpoint_kind kind);
/* The console's output goes by here: it is kept, and looked at for TP_OUTPUT. */
void timeline_output(struct timeline *t, const uint8_t *data, size_t len);
/* As session.input. */
void timeline_input(void *arg, const struct nondet_event *ev);
/* Have a live guest's output go by here, too; and no longer. */
void timeline_watch_live(struct timeline *t);
void timeline_unwatch_live(struct timeline *t);
/* A TP_OUTPUT was hit just now: is it true? Where it is not known what was printed before, that may be a guess; then it is
 * looked up, which restores a checkpoint and comes back. *how: as timeline_advance(), which may be interrupted. */
must_check struct err *timeline_check_output(struct timeline *t, const struct timeline_probe *p, bool *true_out,
                                             enum session_end *how);
/* What to say after *how. `beyond`: a recording's end was as far as it could go, but not as far as it should. The error
 * is what the replayer said of the end that it came to. */
must_check struct err *timeline_tell(struct timeline *t, enum session_end how, bool beyond, struct timeline_stop *out);

#endif
