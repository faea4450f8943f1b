/* core/load/elf.h: what the PVH and Multiboot loaders read from an x86 ELF executable. Parsed here, by hand, rather
 * than by a library: the result decides what a replay sees, so it must not depend on a library's version. */
#ifndef HW_LOAD_ELF_H
#define HW_LOAD_ELF_H

#include "core/load/load.h"

struct elf_segment {
    uint64_t off, file_len;         /* checked to lie in the file */
    uint64_t vaddr, paddr, mem_len; /* mem_len >= file_len; addresses unchecked */
};

struct elf {
    uint64_t entry;
    struct elf_segment load[SEGMENTS_MAX]; /* PT_LOAD with mem_len > 0 */
    unsigned load_count;
    struct elf_segment note[SEGMENTS_MAX]; /* PT_NOTE */
    uint64_t note_align[SEGMENTS_MAX];
    unsigned note_count;
};

bool elf_probe(const uint8_t *file, size_t len); /* an ELF file of any kind */

/* ERR_INPUT for what is no little-endian x86 or x86-64 executable, or damaged. */
must_check struct err *elf_parse(const uint8_t *file, size_t len, struct elf *out);

/* The first note of this owner and type: its descriptor, zero-extended to 64 bits. False when there is none, or when
 * its length is not 4 or 8. */
bool elf_find_note(const uint8_t *file, const struct elf *elf, const char *owner, uint32_t type, uint64_t *desc_out);

/* Claim and copy the loadable segments. `*end_out`: the end of the highest. */
must_check struct err *elf_load(struct load *ld, const struct elf *elf, uint64_t *end_out);

/* Physical address of e_entry, which may be a virtual address of a segment. */
uint64_t elf_entry_phys(const struct elf *elf);

#endif
