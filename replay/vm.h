/* replay/vm.h: a guest ready to run: machine, engine and what they were made from. Shared by all commands. */
#ifndef HW_VM_H
#define HW_VM_H

#include "core/machine.h"
#include "exec/engine.h"
#include "logfmt/log.h"
#include "replay/session.h"

/* What a guest is made of; a recording's header and blobs hold the same. */
struct vm_spec {
    uint64_t ram_len;
    bool host_clock;
    uint32_t cpu_features;
    const char *engine;       /* NULL: the default */
    struct boot_image image;  /* bytes borrowed */
};

struct vm {
    struct machine *machine;
    struct engine *engine;
};

/* Build, attach an engine, load the image. On error nothing is left. `bind` (may be NULL) is called between creation and
 * boot, for doors that need the machine. */
must_check struct err *vm_create(const struct vm_spec *spec, struct nondet door, struct vm *out);
void vm_destroy(struct vm *vm);

/* A recording's header from a spec; strings live in `facts`. */
struct vm_facts { struct log_fact fact[96]; char text[96][32]; char key[96][48]; size_t count; };
void vm_header(const struct vm_spec *spec, struct vm_facts *facts, struct log_header *out);
/* And back: ERR_CORRUPT for facts that are missing or absurd, ERR_UNSUPPORTED for what this host lacks or does
 * differently (`force` lets the latter pass, with a warning). The image is not part of it. */
must_check struct err *vm_spec_from_header(const struct log_header *h, bool force, struct vm_spec *out);

/* --stats: before the guest runs, and when it has ended. */
void vm_measure(const struct vm *vm);
void vm_print_stats(const struct vm *vm);

/* The exit status that says how a guest ended (docs/exit-codes.md). */
int vm_end_status(const struct machine *m, enum session_end end);
/* The same, and the line that tells how a guest ended. */
int vm_report_end(const struct machine *m, enum session_end end, uint64_t memory_digest);

#endif
