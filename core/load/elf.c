/* core/load/elf.c: see elf.h. Reference: System V ABI, chapters 4 and 5 (object files, program loading); the note
 * format in "Note Section". */
#include <elf.h>

#include "core/load/elf.h"

bool elf_probe(const uint8_t *file, size_t len) { return len >= EI_NIDENT && !memcmp(file, ELFMAG, SELFMAG); }

/* One shape for both classes: the fields of the headers that matter. */
struct header {
    uint64_t entry, phoff;
    unsigned type, machine, phentsize, phnum;
};
struct phdr {
    uint32_t type;
    uint64_t align;
    struct elf_segment seg;
};

#define HEADER_FROM(h)                                                                                                 \
    (struct header) { (h).e_entry, (h).e_phoff, (h).e_type, (h).e_machine, (h).e_phentsize, (h).e_phnum }
#define PHDR_FROM(p)                                                                                                   \
    (struct phdr)                                                                                                      \
    {                                                                                                                  \
        (p).p_type, (p).p_align, { (p).p_offset, (p).p_filesz, (p).p_vaddr, (p).p_paddr, (p).p_memsz }                 \
    }

static struct err *damaged(const char *what)
{
    return err_new(ERR_INPUT, "kernel: the ELF file is truncated or damaged: %s", what);
}

static struct err *read_header(const uint8_t *file, size_t len, bool is64, struct header *out)
{
    if (len < (is64 ? sizeof(Elf64_Ehdr) : sizeof(Elf32_Ehdr)))
        return damaged("it ends in its header");
    if (is64) {
        Elf64_Ehdr h;
        memcpy(&h, file, sizeof(h));
        *out = HEADER_FROM(h);
    } else {
        Elf32_Ehdr h;
        memcpy(&h, file, sizeof(h));
        *out = HEADER_FROM(h);
    }
    if (out->machine != EM_386 && out->machine != EM_X86_64)
        return err_new(ERR_INPUT, "kernel: the ELF file is for another processor (e_machine %u); use an x86 kernel",
                       out->machine);
    if (out->type != ET_EXEC && out->type != ET_DYN)
        return err_new(ERR_INPUT, "kernel: the ELF file is no executable (e_type %u); link it first", out->type);
    if (out->phentsize < (is64 ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr)))
        return damaged("its program headers are too small");
    if (!range_in(out->phoff, (uint64_t)out->phentsize * out->phnum, len))
        return damaged("its program headers lie beyond the end of the file");
    return NULL;
}

static struct phdr read_phdr(const uint8_t *at, bool is64)
{
    if (is64) {
        Elf64_Phdr p;
        memcpy(&p, at, sizeof(p));
        return PHDR_FROM(p);
    }
    Elf32_Phdr p;
    memcpy(&p, at, sizeof(p));
    return PHDR_FROM(p);
}

static struct err *add_segment(struct elf *elf, const struct phdr *p, size_t len)
{
    bool is_load = p->type == PT_LOAD && p->seg.mem_len, is_note = p->type == PT_NOTE;
    if (!is_load && !is_note)
        return NULL;
    if (!range_in(p->seg.off, p->seg.file_len, len))
        return damaged("a segment lies beyond the end of the file");
    if (is_load && p->seg.file_len > p->seg.mem_len)
        return damaged("a segment is longer in the file than in memory");
    if (elf->load_count == SEGMENTS_MAX || elf->note_count == SEGMENTS_MAX)
        return err_new(ERR_INPUT, "kernel: the ELF file has more than %d segments", SEGMENTS_MAX);
    if (is_load) {
        elf->load[elf->load_count++] = p->seg;
    } else {
        elf->note_align[elf->note_count] = p->align == 8 ? 8 : 4;
        elf->note[elf->note_count++] = p->seg;
    }
    return NULL;
}

struct err *elf_parse(const uint8_t *file, size_t len, struct elf *out)
{
    unsigned class = file[EI_CLASS];
    if (file[EI_DATA] != ELFDATA2LSB || (class != ELFCLASS32 && class != ELFCLASS64))
        return err_new(ERR_INPUT, "kernel: the ELF file is for another processor; use an x86 kernel");
    struct header h = {0};
    bool is64 = class == ELFCLASS64;
    struct err *e = read_header(file, len, is64, &h);
    *out = (struct elf){0};
    for (unsigned i = 0; !e && i < h.phnum; i++) {
        struct phdr p = read_phdr(file + h.phoff + (uint64_t)i * h.phentsize, is64);
        e = add_segment(out, &p, len);
    }
    if (e)
        return e;
    if (!out->load_count)
        return err_new(ERR_INPUT, "kernel: the ELF file has no loadable segment");
    out->entry = h.entry;
    return NULL;
}

/* Notes follow one another, name and descriptor each padded to `align`. A damaged chain ends the search. */
static bool find_in(const uint8_t *at, uint64_t left, uint64_t align, const char *owner, uint32_t type,
                    uint64_t *desc_out)
{
    Elf64_Nhdr n; /* the same in both classes */
    size_t owner_len = strlen(owner) + 1;
    while (left >= sizeof(n)) {
        memcpy(&n, at, sizeof(n));
        uint64_t desc = align_up(sizeof(n) + (uint64_t)n.n_namesz, align);
        if (!range_in(desc, n.n_descsz, left))
            return false;
        bool is_it = n.n_type == type && n.n_namesz == owner_len && !memcmp(at + sizeof(n), owner, owner_len);
        if (is_it && (n.n_descsz == 4 || n.n_descsz == 8)) {
            *desc_out = n.n_descsz == 4 ? get_le32(at + desc) : get_le64(at + desc);
            return true;
        }
        uint64_t next = MIN(align_up(desc + n.n_descsz, align), left);
        at += next;
        left -= next;
    }
    return false;
}

bool elf_find_note(const uint8_t *file, const struct elf *elf, const char *owner, uint32_t type, uint64_t *desc_out)
{
    for (unsigned i = 0; i < elf->note_count; i++)
        if (find_in(file + elf->note[i].off, elf->note[i].file_len, elf->note_align[i], owner, type, desc_out))
            return true;
    return false;
}

struct err *elf_load(struct load *ld, const struct elf *elf, uint64_t *end_out)
{
    *end_out = 0;
    ld->kernel_addr = UINT64_MAX;
    for (unsigned i = 0; i < elf->load_count; i++) {
        const struct elf_segment *s = &elf->load[i];
        struct err *e = load_claim(ld, s->paddr, s->mem_len, "a segment of the kernel");
        if (e)
            return e;
        load_put(ld, s->paddr, ld->img->kernel + s->off, s->file_len);
        *end_out = MAX(*end_out, s->paddr + s->mem_len);
        ld->kernel_addr = MIN(ld->kernel_addr, s->paddr);
    }
    return NULL;
}

uint64_t elf_entry_phys(const struct elf *elf)
{
    for (unsigned i = 0; i < elf->load_count; i++) {
        const struct elf_segment *s = &elf->load[i];
        if (elf->entry >= s->vaddr && elf->entry - s->vaddr < s->mem_len)
            return s->paddr + (elf->entry - s->vaddr);
    }
    return elf->entry;
}
