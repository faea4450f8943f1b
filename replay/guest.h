/* replay/guest.h: what `run` and `record` have in common: input files, the console, signals, and a live door. */
#ifndef HW_GUEST_H
#define HW_GUEST_H

#include "replay/console.h"
#include "replay/live.h"
#include "replay/options.h"
#include "replay/vm.h"

struct guest {
    struct vm_spec spec;
    uint8_t *kernel, *initrd, *firmware; /* owned; spec.image borrows them */
    struct console *console;
    struct live *live;
    const struct options *options; /* borrowed */
    uint64_t hash[BOOT_PARTS];     /* of kernel and initrd, to know them again */
    struct err *failed;            /* why they could not be had again */
};

/* `out` stays where it is until guest_close(): the image refers to it. */
must_check struct err *guest_open(const struct options *o, struct guest *out);
/* The same for a guest that exists already: console, signals and door, but no image. */
must_check struct err *guest_open_outside(const struct options *o, bool host_clock, struct guest *out);
void guest_close(struct guest *g);
/* Kernel and initrd are in guest memory, and in the log if there is one: give back the memory they took. */
void guest_image_loaded(struct guest *g);

/* Who runs the guest's session when there is --gdb: gdb/ does, and is above this folder. Returns when the guest has ended, or
 * is to be ended. `stop`: true when a signal asks for the end. */
typedef struct err *(*guest_debug_fn)(const struct options *o, struct session *s, bool recorded, const volatile bool *stop);
void guest_set_debugger(guest_debug_fn fn);

/* Run until the guest, the user or a limit ends it. */
must_check struct err *guest_run(struct guest *g, const struct vm *vm, uint64_t limit_ticks, bool recorded,
                                 enum session_end *end);

#endif
