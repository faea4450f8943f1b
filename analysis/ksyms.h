/* analysis/ksyms.h: the symbols of a running Linux kernel, from its own memory.
 *
 * A kernel built with CONFIG_KALLSYMS carries its symbol table for oopses and /proc/kallsyms. This module finds that
 * table in guest memory without being told where anything is, decodes it, and writes it as an ELF file that gdb
 * loads: functions by name, and a .debug_frame made of the kernel's ORC tables, so that backtraces work without
 * frame pointers. Addresses are those of the running kernel, KASLR included. The symbols of loaded modules are not
 * in that table.
 *
 *   struct ksyms_reader rd = {.arg = m, .read = my_read, .read_phys = my_read_phys, .phys_len = GIB(1)};
 *   struct ksyms *ks;
 *   struct err *e = ksyms_find(&rd, &ks);
 *   if (!e)
 *       e = ksyms_write_elf(ks, "vmlinux.syms");
 *   ksyms_destroy(ks);
 *
 * Guest memory is hostile: every number read from it is checked before use, work and memory are bounded by
 * constants, and what is not a table that is right to the last byte is not a table. Kernels: 4.6 and later, x86-64. */
#ifndef HW_KSYMS_H
#define HW_KSYMS_H

#include "core/base/base.h"
#include "core/base/err.h"

/* How to read guest memory. Both return the number of bytes read from the start of the range: fewer than `len` when
 * something after them is not there. No side effects in the guest. */
struct ksyms_reader {
    void *arg;
    size_t (*read)(void *arg, uint64_t linear, void *buf, size_t len); /* through the current page tables */
    size_t (*read_phys)(void *arg, uint64_t phys, void *buf, size_t len);
    uint64_t phys_len; /* no RAM lies at or above this guest-physical address; holes below are fine */
};

struct ksyms; /* opaque; immutable, needs no reader any more */

struct ksym {
    uint64_t addr;
    uint64_t size;    /* up to the next symbol of a higher address; 0: not known (the last one) */
    const char *name; /* lives as long as the ksyms */
    char type;        /* as nm prints it: T and t text, D d B b data, R r read-only, W w weak, A a absolute (per-CPU) */
};

/* Look for a kernel and decode its symbols. The kernel should be past its decompression, in whatever mode the CPU is.
 * ERR_UNSUPPORTED: there is none, or none with CONFIG_KALLSYMS. ERR_HOST: out of memory. */
must_check struct err *ksyms_find(const struct ksyms_reader *rd, struct ksyms **out);
void ksyms_destroy(struct ksyms *ks); /* NULL is fine */

/* By ascending address; `i` < ksyms_count(). */
size_t ksyms_count(const struct ksyms *ks);
struct ksym ksyms_at(const struct ksyms *ks, size_t i);

/* Names are not unique: of several the one with the lowest address. */
bool ksyms_by_name(const struct ksyms *ks, const char *name, struct ksym *out);
/* The symbol that `addr` lies in; of several at one address the first global one. False: below all or beyond the
 * last. */
bool ksyms_by_addr(const struct ksyms *ks, uint64_t addr, struct ksym *out);

/* "Linux version 6.1.0-...", one line without its end; "" when it was not found. Printable characters only. */
const char *ksyms_banner(const struct ksyms *ks);
/* How far KASLR moved the kernel from where it was linked, bytes. False: unknown. */
bool ksyms_slide(const struct ksyms *ks, uint64_t *out);
/* ORC entries that ksyms_write_elf() turns into unwind rules; 0: the kernel has none, or they were not found. */
size_t ksyms_unwind_count(const struct ksyms *ks);

/* An ELF64 executable for gdb's `symbol-file`: no code, a symbol table, a .debug_frame; some 8 MiB. *out: malloc'ed.
 * Errors: ERR_HOST. */
must_check struct err *ksyms_elf(const struct ksyms *ks, uint8_t **out, size_t *len_out);
/* The types of a kernel that has them (CONFIG_DEBUG_INFO_BTF), as an ELF file for gdb's `add-symbol-file`: no symbols; some
 * 10 MiB. As above; also ERR_UNSUPPORTED: it has none. */
must_check struct err *ksyms_types_elf(const struct ksyms *ks, uint8_t **out, size_t *len_out);
/* The first into a file; one that is there is replaced. Errors: ERR_HOST. */
must_check struct err *ksyms_write_elf(const struct ksyms *ks, const char *path);

#endif
