/* gdb/symbols.h: the names of a Linux guest, from its own memory (analysis/ksyms.h), for gdb. */
#ifndef HW_GDB_SYMBOLS_H
#define HW_GDB_SYMBOLS_H

#include "analysis/ksyms.h"
#include "replay/timeline.h"

/* Of the kernel that was seen last. All zero: none so far. */
struct gdb_symbols {
    struct ksyms *ks;
    /* Made when they are asked for; NULL: not yet. */
    struct gdb_symbols_file { uint8_t *data; size_t len; } names, types;
};

/* A look at the guest as it stands. *found: its kernel is there, and what was known before is replaced; otherwise that
 * stays. `hard`: look through all of memory even when nothing tells that a kernel runs. Errors: ERR_HOST. */
must_check struct err *gdb_symbols_look(struct gdb_symbols *s, struct timeline *t, bool hard, bool *found);
/* The files that gdb reads, of a kernel that is known: ksyms_elf() and ksyms_types_elf(). Borrowed until the next look. */
must_check struct err *gdb_symbols_names(struct gdb_symbols *s, const uint8_t **data_out, size_t *len_out);
must_check struct err *gdb_symbols_types(struct gdb_symbols *s, const uint8_t **data_out, size_t *len_out);
/* Nothing is known any more. */
void gdb_symbols_forget(struct gdb_symbols *s);

#endif
