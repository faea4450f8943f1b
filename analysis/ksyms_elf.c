/* analysis/ksyms_elf.c: symbols and unwind rules as an ELF file, written with libelf. */
#include <errno.h>
#include <fcntl.h>
#include <libelf.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "analysis/btf.h"
#include "analysis/frame.h"
#include "analysis/ksyms_private.h"
#include "core/base/cleanup.h"

/* The parts of the image that a running kernel has symbols for, by the names of their ends (vmlinux.lds.S). A part
 * whose ends are no symbols, or that reaches into the one before, is left out; what lies in none is an absolute
 * symbol. */
static const struct part {
    const char *name, *begin, *end;
    uint64_t flags;
} parts[] = {
    {".text", "_text", "_etext", SHF_ALLOC | SHF_EXECINSTR},
    {".rodata", "__start_rodata", "__end_rodata", SHF_ALLOC},
    {".data", "_sdata", "_edata", SHF_ALLOC | SHF_WRITE},
    {".init.text", "_sinittext", "_einittext", SHF_ALLOC | SHF_EXECINSTR},
    {".bss", "__bss_start", "__bss_stop", SHF_ALLOC | SHF_WRITE},
};
enum { PARTS = ARRAY_LEN(parts), NAMES_MAX = 128 };

struct section {
    uint64_t addr, end; /* both 0: not there */
    size_t index;
};

struct output {
    const struct ksyms *ks;
    Elf *elf;
    char names[NAMES_MAX]; /* .shstrtab */
    size_t names_len;
    struct section section[PARTS];
    size_t sections; /* so far, the null section included */
    Elf64_Sym *sym;
    size_t sym_count, locals;
    char *strtab;
    struct frame_bytes frame;
    struct btf_dwarf types;
};

static struct err *elf_failed(void)
{
    return err_new(ERR_HOST, "writing symbols: %s", elf_errmsg(-1));
}

static uint64_t addr_of(const struct ksyms *ks, const char *name)
{
    struct ksym s;
    return ksyms_by_name(ks, name, &s) ? s.addr : 0;
}

/* ---- sections ---- */

/* One more section; `bytes` (borrowed, may be NULL) become its contents. NULL: libelf failed. */
static Elf64_Shdr *add_section(struct output *o, const char *name, uint32_t type, void *bytes, size_t len,
                               Elf_Type kind, size_t align)
{
    Elf_Scn *scn = elf_newscn(o->elf);
    Elf64_Shdr *sh = scn ? elf64_getshdr(scn) : NULL;
    Elf_Data *data = sh ? elf_newdata(scn) : NULL;
    if (!data)
        return NULL;
    sh->sh_name = (uint32_t)o->names_len;
    sh->sh_type = type;
    sh->sh_addralign = align;
    memcpy(o->names + o->names_len, name, strlen(name) + 1);
    o->names_len += strlen(name) + 1;
    o->sections++;
    *data = (Elf_Data){.d_buf = bytes, .d_size = len, .d_type = kind, .d_align = align, .d_version = EV_CURRENT};
    return sh;
}

static struct err *add_parts(struct output *o)
{
    uint64_t end = 0;
    for (size_t i = 0; i < PARTS; i++) {
        struct section s = {addr_of(o->ks, parts[i].begin), addr_of(o->ks, parts[i].end), o->sections};
        if (s.addr < end || s.addr >= s.end || !s.addr)
            continue;
        Elf64_Shdr *sh = add_section(o, parts[i].name, SHT_NOBITS, NULL, s.end - s.addr, ELF_T_BYTE, 1);
        if (!sh)
            return elf_failed();
        sh->sh_flags = parts[i].flags;
        sh->sh_addr = s.addr;
        o->section[i] = s;
        end = s.end;
    }
    return NULL;
}

static const struct section *section_of(const struct output *o, uint64_t addr)
{
    for (size_t i = 0; i < PARTS; i++)
        if (addr >= o->section[i].addr && addr < o->section[i].end)
            return &o->section[i];
    return NULL;
}

/* ---- symbols ---- */

static unsigned binding(char type)
{
    if (type == 'w' || type == 'W' || type == 'v' || type == 'V')
        return STB_WEAK;
    return type >= 'a' ? STB_LOCAL : STB_GLOBAL;
}

static Elf64_Sym symbol(const struct output *o, size_t i)
{
    struct ksym s = ksyms_at(o->ks, i);
    const struct section *in = section_of(o, s.addr);
    bool code = strchr("tTwW", s.type) && in;
    if (in && s.size > in->end - s.addr)
        s.size = in->end - s.addr;
    return (Elf64_Sym){
        .st_name = o->ks->table.name[i] + 1, /* the pool is the string table: a type letter lies before each name */
        .st_info = ELF64_ST_INFO(binding(s.type), code ? STT_FUNC : in ? STT_OBJECT : STT_NOTYPE),
        .st_shndx = (uint16_t)(in ? in->index : SHN_ABS),
        .st_value = s.addr,
        .st_size = in ? s.size : 0,
    };
}

/* Local symbols first, as ELF demands. */
static struct err *add_symbols(struct output *o)
{
    size_t n = o->ks->table.count;
    o->sym = calloc(n + 1, sizeof(*o->sym));
    o->strtab = malloc(o->ks->table.pool_len);
    if (!o->sym || !o->strtab)
        return err_new(ERR_HOST, "no memory for the symbol file");
    memcpy(o->strtab, o->ks->table.pool, o->ks->table.pool_len);
    o->strtab[0] = 0; /* the type of the first name, which nothing refers to; string tables begin so */
    o->sym_count = 1;
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < n; i++) {
            Elf64_Sym s = symbol(o, i);
            if ((ELF64_ST_BIND(s.st_info) == STB_LOCAL) == (pass == 0))
                o->sym[o->sym_count++] = s;
        }
        if (pass == 0)
            o->locals = o->sym_count;
    }
    Elf64_Shdr *sh = add_section(o, ".symtab", SHT_SYMTAB, o->sym, o->sym_count * sizeof(*o->sym), ELF_T_SYM, 8);
    if (!sh)
        return elf_failed();
    sh->sh_entsize = sizeof(*o->sym);
    sh->sh_info = (uint32_t)o->locals;
    sh->sh_link = (uint32_t)o->sections; /* .strtab is next */
    if (!add_section(o, ".strtab", SHT_STRTAB, o->strtab, o->ks->table.pool_len, ELF_T_BYTE, 1))
        return elf_failed();
    return NULL;
}

static struct err *add_frames(struct output *o)
{
    const struct orc *orc = &o->ks->orc;
    if (!orc->count)
        return NULL;
    /* The last entry only ends the one before. */
    struct err *e = frame_encode(orc->rule, orc->count - 1, orc->rule[orc->count - 1].ip, &o->frame);
    if (e)
        return e;
    if (!add_section(o, ".debug_frame", SHT_PROGBITS, o->frame.data, o->frame.len, ELF_T_BYTE, 8))
        return elf_failed();
    return NULL;
}

static struct err *add_types(struct output *o)
{
    struct err *e = o->ks->btf ? btf_to_dwarf(o->ks->btf, o->ks->btf_len, &o->types)
                               : err_new(ERR_UNSUPPORTED, "this kernel has no types in its memory (CONFIG_DEBUG_INFO_BTF)");
    if (e)
        return e;
    struct btf_dwarf *t = &o->types;
    if (!add_section(o, ".debug_info", SHT_PROGBITS, t->info, t->info_len, ELF_T_BYTE, 1) ||
        !add_section(o, ".debug_abbrev", SHT_PROGBITS, t->abbrev, t->abbrev_len, ELF_T_BYTE, 1) ||
        !add_section(o, ".debug_str", SHT_PROGBITS, t->str, t->str_len, ELF_T_BYTE, 1))
        return elf_failed();
    return NULL;
}

/* ---- the files ---- */

typedef struct err *(*fill_fn)(struct output *o);

static struct err *fill_symbols(struct output *o)
{
    struct err *e = add_parts(o);
    if (!e)
        e = add_symbols(o);
    return e ? e : add_frames(o);
}

static struct err *build(struct output *o, fill_fn fill)
{
    Elf64_Ehdr *eh = elf64_newehdr(o->elf);
    if (!eh)
        return elf_failed();
    eh->e_ident[EI_DATA] = ELFDATA2LSB;
    eh->e_type = ET_EXEC;
    eh->e_machine = EM_X86_64;
    eh->e_version = EV_CURRENT;
    o->sections = o->names_len = 1; /* the null section, the empty name */
    struct err *e = fill(o);
    if (e)
        return e;
    eh->e_shstrndx = (uint16_t)o->sections;
    Elf64_Shdr *sh = add_section(o, ".shstrtab", SHT_STRTAB, o->names, sizeof(o->names), ELF_T_BYTE, 1);
    if (!sh || elf_update(o->elf, ELF_C_WRITE) < 0)
        return elf_failed();
    return NULL;
}

static struct err *write_to(const struct ksyms *ks, int fd, fill_fn fill)
{
    struct output o = {.ks = ks};
    struct err *e = NULL;
    if (elf_version(EV_CURRENT) == EV_NONE || !(o.elf = elf_begin(fd, ELF_C_WRITE, NULL)))
        e = elf_failed();
    else
        e = build(&o, fill);
    if (o.elf)
        elf_end(o.elf);
    free(o.sym);
    free(o.strtab);
    free(o.frame.data);
    btf_dwarf_deinit(&o.types);
    return e;
}

struct err *ksyms_write_elf(const struct ksyms *ks, const char *path)
{
    AUTO_CLOSE int fd = open(path, O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0666);
    if (fd < 0)
        return err_errno(ERR_HOST, errno, "%s", path);
    struct err *e = write_to(ks, fd, fill_symbols);
    return e ? err_wrap(e, "%s", path) : NULL;
}

static struct err *in_memory(const struct ksyms *ks, fill_fn fill, uint8_t **out, size_t *len_out)
{
    AUTO_CLOSE int fd = memfd_create("symbols", MFD_CLOEXEC);
    struct stat st;
    if (fd < 0)
        return err_errno(ERR_HOST, errno, "no memory for the kernel's symbols");
    struct err *e = write_to(ks, fd, fill);
    if (e)
        return e;
    AUTO_FREE uint8_t *bytes = fstat(fd, &st) ? NULL : malloc((size_t)st.st_size);
    if (!bytes || pread(fd, bytes, (size_t)st.st_size, 0) != st.st_size)
        return err_new(ERR_HOST, "no memory for the kernel's symbols");
    *out = bytes;
    *len_out = (size_t)st.st_size;
    bytes = NULL; /* it is the caller's now */
    return NULL;
}

struct err *ksyms_elf(const struct ksyms *ks, uint8_t **out, size_t *len_out)
{
    return in_memory(ks, fill_symbols, out, len_out);
}

struct err *ksyms_types_elf(const struct ksyms *ks, uint8_t **out, size_t *len_out)
{
    return in_memory(ks, add_types, out, len_out);
}
