/* replay/checkpoint.h: states of one machine at positions of its history, to which it can be brought back.
 *
 * A checkpoint is registers and devices (machine_save()), where the replay stood in its recording, and the pages that
 * changed since the checkpoint before it. The first one, at tick 0, has every page that is not zero, so that the
 * content of any page at any checkpoint is its newest version that is not younger.
 *
 * The store watches which pages the machine writes (struct dirty_set). It must therefore be created before the first
 * mem_dirty_collect() of the machine, and see every restore: nobody else may bring the machine to another position. */
#ifndef HW_CHECKPOINT_H
#define HW_CHECKPOINT_H

#include "core/machine.h"
#include "replay/replayer.h"

struct checkpoints;

/* `memory`: bytes that pages and images may take together, with the reserve that is kept for them. Beyond it pages are
 * packed; when that is not enough, checkpoints are given up: first those that were made in passing for a return to some
 * place, longest unused first; then every other one of those at regular distances. The one at tick 0 stays. */
must_check struct err *checkpoints_create(struct machine *m, uint64_t memory, struct checkpoints **out);
void checkpoints_destroy(struct checkpoints *c); /* NULL is fine */

enum checkpoint_kind {
    CHECKPOINT_REGULAR, /* at a multiple of checkpoints_spacing() */
    CHECKPOINT_NEAR,    /* close to where somebody is looking */
    CHECKPOINT_STORED,  /* in the recording: its pages are read when they are wanted, and dropped when memory is short */
};

/* The machine as it stands, between two ticks and before any input there. Nothing happens when there is one at these ticks
 * or memory is short. Errors (ERR_HOST) for the one at tick 0 only. */
must_check struct err *checkpoints_take(struct checkpoints *c, enum checkpoint_kind kind, const struct replayer_mark *mark);

/* Those that the recording behind `lr` has: `lr` is borrowed for the life of the store, and nobody else reads from it. After
 * the one at tick 0 was taken, before any other. One that is damaged, of another version of the machine, or in a state that no
 * machine can be in ends the list. */
must_check struct err *checkpoints_import(struct checkpoints *c, struct log_reader *lr);

/* The ticks of the last checkpoint at or before `ticks`; there is one at 0 once it was taken. */
uint64_t checkpoints_before(const struct checkpoints *c, uint64_t ticks);
/* Of those the last where no more than so many bytes had been printed. */
uint64_t checkpoints_before_output(const struct checkpoints *c, uint64_t ticks, uint64_t bytes);

/* Bring the machine to the checkpoint at exactly `ticks`; when that needs a stored one that is damaged, to the last before, and
 * a line on standard error says so. The caller brings the replayer to *mark. Errors: ERR_HOST; nothing has changed then. */
must_check struct err *checkpoints_restore(struct checkpoints *c, uint64_t ticks, struct replayer_mark *mark);

/* The distance of regular checkpoints, in ticks: as set, or a multiple of it when memory was short. */
void checkpoints_set_spacing(struct checkpoints *c, uint64_t ticks);
uint64_t checkpoints_spacing(const struct checkpoints *c);

struct checkpoints_stats { uint64_t count, bytes, restores, pages_restored; };
struct checkpoints_stats checkpoints_stats(const struct checkpoints *c);

#endif
