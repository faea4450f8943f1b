/* replay/stored.h: checkpoints in a recording: written while it is made, or into a copy of it later (`hyperwind index`).
 * What the log calls the state of a checkpoint is made and read here; docs/recording-format.md has the bytes. */
#ifndef HW_STORED_H
#define HW_STORED_H

#include "core/machine.h"
#include "logfmt/log.h"
#include "replay/replayer.h"

struct stored_writer;

/* For checkpoints in what `w` (borrowed) writes. After machine_boot(), before the first mem_dirty_collect(). */
must_check struct err *stored_writer_create(struct machine *m, struct log_writer *w, struct stored_writer **out);
/* At tick 0, when whoever else watches the machine from its beginning has added its dirty_set: what changes from now on
 * goes into the first one. */
must_check struct err *stored_writer_begin(struct stored_writer *s);
void stored_writer_destroy(struct stored_writer *s); /* NULL is fine */
/* A checkpoint of the machine as it stands, between two ticks and before any input there. The log has all events
 * before. */
must_check struct err *stored_writer_take(struct stored_writer *s, const struct replayer_mark *mark);

/* The state of a stored checkpoint, into `image` (machine_image_len() bytes). *good: it is of this machine, and one that the
 * machine can be in. */
must_check struct err *stored_decode(struct machine *m, const struct log_checkpoint *from, struct replayer_mark *mark,
                                     uint8_t *image, bool *good);

#endif
