/* replay/recording.h: a recording that is to be executed again: its reader, and the guest it was made from. */
#ifndef HW_RECORDING_H
#define HW_RECORDING_H

#include "replay/vm.h"

struct recording {
    const char *path; /* borrowed */
    struct log_reader *log;
    struct vm_spec spec; /* engine: NULL */
    uint8_t *kernel, *initrd, *firmware, *cmdline; /* owned; spec.image borrows them */
};

/* Opens, tells on standard error when the file was cut short, checks that this host can execute it (`force`: as
 * vm_spec_from_header()) and loads the image. `out` stays where it is until recording_close(), as the image refers to it.
 * On error nothing is left; the message names the file. */
must_check struct err *recording_open(const char *path, bool force, struct recording *out);
void recording_close(struct recording *r);
/* Says which recording, unless the message begins with that. */
struct err *recording_wrap(struct err *e, const char *path);
/* Kernel and initrd are in the memory of the only guest that will be started from it: give back the memory they took. */
void recording_image_loaded(struct recording *r);

/* The next event that came from outside: what was typed, anchors of time, wakes. *found: false when there is no more. */
must_check struct err *recording_next_input(struct log_reader *lr, struct log_pos *pos, struct log_event *ev, bool *found);

/* What a guest is started from, into the log of another recording. */
must_check struct err *recording_write_image(struct log_writer *w, const struct boot_image *img);
/* The events from where `from` stands up to number `seq`, into another log, which has those before. */
must_check struct err *recording_copy_events(struct log_reader *from, uint64_t seq, struct log_writer *to);

#endif
