/* tests/analysis/kernel_image.c: what ksyms finds in a real kernel, for others to judge.
 *
 *   kernel_image KERNEL INITRD OUT_DIR CMDLINE TICK[:FUNCTION]...
 *
 * Boots the kernel and stops soon after each TICK, once in the kernel (in this function) and once, if it comes to it
 * within PATIENCE ticks, in user mode. At each stop it looks for symbols; a line on standard output says what was
 * found in which time. Then the guest runs to its end. OUT_DIR gets, of the first stop with symbols, symbols.elf and
 * symbols.txt (in the form of /proc/kallsyms); for each stop in the kernel TICK.core: an ELF core file of all that
 * is mapped in the kernel's half of the address space, with the registers, whose pieces share one copy of the RAM;
 * and console: what the guest said. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "analysis/ksyms.h"
#include "exec/x86/mmu.h"
#include "replay/file.h"
#include "replay/session.h"
#include "replay/vm.h"
#include "tests/replay/cut_off.h"

#include <elf.h> /* after exec/x86: it defines PF_W as a macro */

enum { RAM_LEN = 512 << 20, PATIENCE = 50000000, NAMED_PATIENCE = 10 * PATIENCE, STEP_MAX = 2000, SMALL_STEP_MAX = 50 };

static _Noreturn void die(struct err *e)
{
    fprintf(stderr, "kernel_image: %s\n", err_message(e));
    exit(2);
}

static void check(struct err *e)
{
    if (e)
        die(e);
}

/* ---- the guest's memory ---- */

static size_t read_linear(void *arg, uint64_t linear, void *buf, size_t len)
{
    struct machine *m = arg;
    for (size_t done = 0; done < len;) {
        size_t n = MIN(len - done, PAGE_SIZE - ((linear + done) & PAGE_MASK));
        gpa_t at;
        if (!mmu_debug_translate(&m->vcpu, gva(linear + done), &at) || mem_page(&m->mem, at) == MEM_NO_PAGE)
            return done;
        mem_read(&m->mem, at, (uint8_t *)buf + done, n);
        done += n;
    }
    return len;
}

static size_t read_phys(void *arg, uint64_t phys, void *buf, size_t len)
{
    struct machine *m = arg;
    return mem_read(&m->mem, gpa(phys), buf, len);
}

static size_t read_nothing(void *arg, uint64_t linear, void *buf, size_t len)
{
    (void)arg, (void)linear, (void)buf, (void)len;
    return 0;
}

static uint64_t host_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

/* ---- core files ---- */

/* struct elf_prstatus of Linux on x86-64, as far as gdb reads it. */
struct prstatus {
    uint8_t signal[32];
    uint32_t pid;
    uint8_t times[76];
    uint64_t reg[27]; /* R15 ... SS, FS and GS base, DS, ES, FS, GS */
    uint8_t fp_valid[8];
};
_Static_assert(sizeof(struct prstatus) == 336 && offsetof(struct prstatus, reg) == 112, "as the ABI has it");

struct pieces { Elf64_Phdr *ph; size_t count, room; };

/* A mapping; with the one before if they go on in both kinds of address. */
static void add_piece(struct pieces *p, uint64_t linear, uint64_t phys, uint64_t len)
{
    Elf64_Phdr *last = p->count ? &p->ph[p->count - 1] : NULL;
    if (phys + len > RAM_LEN)
        return;
    if (last && last->p_vaddr + last->p_memsz == linear && last->p_paddr + last->p_memsz == phys) {
        last->p_memsz += len;
        return;
    }
    if (p->count == p->room) {
        p->room = p->room ? 2 * p->room : 1024;
        p->ph = realloc(p->ph, p->room * sizeof(*p->ph));
        if (!p->ph)
            exit(2);
    }
    p->ph[p->count++] = (Elf64_Phdr){.p_type = PT_LOAD, .p_flags = PF_R | PF_W | PF_X, .p_vaddr = linear,
                                     .p_paddr = phys, .p_memsz = len, .p_align = PAGE_SIZE};
}

/* Four-level tables, SDM vol. 3, 4.5. Of the top one only the kernel's half. */
static void add_table(struct pieces *p, const struct machine *m, uint64_t table, unsigned level, uint64_t linear)
{
    for (uint64_t i = level == 4 ? 256 : 0; i < 512; i++) {
        uint64_t entry = 0, span = UINT64_C(1) << (12 + 9 * (level - 1)), at = linear + i * span;
        mem_read(&m->mem, gpa(table + 8 * i), &entry, sizeof(entry));
        if (!(entry & 1))
            continue;
        uint64_t to = entry & UINT64_C(0xffffffffff000);
        if (level == 1 || (level < 4 && entry & 0x80))
            add_piece(p, at, align_down(to, span), span);
        else
            add_table(p, m, to, level - 1, at);
    }
}

static void write_all(FILE *f, const void *p, size_t len)
{
    if (fwrite(p, 1, len, f) != len) {
        perror("kernel_image: core file");
        exit(2);
    }
}

static void write_core(const struct machine *m, const char *path)
{
    const struct vcpu_state *s = &m->vcpu.s;
    struct prstatus st = {.pid = 1};
    const uint64_t regs[] = {s->r[R_R15], s->r[R_R14], s->r[R_R13], s->r[R_R12], s->r[R_RBP], s->r[R_RBX], s->r[R_R11],
                             s->r[R_R10], s->r[R_R9], s->r[R_R8], s->r[R_RAX], s->r[R_RCX], s->r[R_RDX], s->r[R_RSI],
                             s->r[R_RDI], UINT64_MAX, s->r[R_RIP], s->seg[S_CS].sel, vcpu_rflags(s), s->r[R_RSP],
                             s->seg[S_SS].sel, s->seg[S_FS].base, s->seg[S_GS].base, s->seg[S_DS].sel,
                             s->seg[S_ES].sel, s->seg[S_FS].sel, s->seg[S_GS].sel};
    memcpy(st.reg, regs, sizeof(st.reg));
    struct pieces p = {0};
    add_table(&p, m, s->cr3 & ~UINT64_C(0xfff), 4, UINT64_C(0xffff000000000000));
    if (p.count > 60000) {
        fprintf(stderr, "kernel_image: %zu mappings\n", p.count);
        exit(2);
    }
    struct __attribute__((packed)) {
        Elf64_Nhdr h;
        char name[8];
        struct prstatus st;
    } note = {{5, sizeof(st), NT_PRSTATUS}, "CORE", st};
    Elf64_Phdr note_ph = {.p_type = PT_NOTE, .p_offset = sizeof(Elf64_Ehdr) + (p.count + 1) * sizeof(Elf64_Phdr),
                          .p_filesz = sizeof(note), .p_align = 4};
    uint64_t ram = align_up(note_ph.p_offset + sizeof(note), PAGE_SIZE);
    Elf64_Ehdr eh = {.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
                     .e_type = ET_CORE, .e_machine = EM_X86_64, .e_version = EV_CURRENT, .e_phoff = sizeof(eh),
                     .e_ehsize = sizeof(eh), .e_phentsize = sizeof(Elf64_Phdr), .e_phnum = (uint16_t)(p.count + 1)};
    FILE *f = fopen(path, "wb");
    if (!f)
        die(err_errno(ERR_HOST, errno, "%s", path));
    write_all(f, &eh, sizeof(eh));
    write_all(f, &note_ph, sizeof(note_ph));
    for (size_t i = 0; i < p.count; i++) {
        p.ph[i].p_offset = ram + p.ph[i].p_paddr;
        p.ph[i].p_filesz = p.ph[i].p_memsz;
        write_all(f, &p.ph[i], sizeof(p.ph[i]));
    }
    write_all(f, &note, sizeof(note));
    static const uint8_t zeros[PAGE_SIZE];
    for (uint64_t at = 0; at < RAM_LEN; at += PAGE_SIZE) {
        const uint8_t *page = m->mem.host + at;
        if (memcmp(page, zeros, PAGE_SIZE) == 0)
            continue; /* a hole in the file */
        fseeko(f, (off_t)(ram + at), SEEK_SET);
        write_all(f, page, PAGE_SIZE);
    }
    fseeko(f, (off_t)(ram + RAM_LEN - 1), SEEK_SET);
    write_all(f, "", 1);
    fclose(f);
    free(p.ph);
}

/* ---- stops ---- */

/* Page tables that map nothing of the kernel, as user mode's may be, must make no difference. */
static void check_unmapped(struct machine *m, const struct ksyms *want)
{
    struct ksyms_reader rd = {m, read_nothing, read_phys, RAM_LEN};
    struct ksyms *ks;
    check(ksyms_find(&rd, &ks));
    uint64_t slide = 0, want_slide = 0;
    bool same = ksyms_count(ks) == ksyms_count(want) && ksyms_unwind_count(ks) == ksyms_unwind_count(want) &&
                ksyms_slide(ks, &slide) == ksyms_slide(want, &want_slide) && slide == want_slide &&
                !strcmp(ksyms_banner(ks), ksyms_banner(want));
    for (size_t i = 0; same && i < ksyms_count(ks); i++)
        same = ksyms_at(ks, i).addr == ksyms_at(want, i).addr && !strcmp(ksyms_at(ks, i).name, ksyms_at(want, i).name);
    if (!same)
        die(err_new(ERR_HOST, "at tick %" PRIu64 " physical memory tells of another kernel", m->vcpu.ticks));
    ksyms_destroy(ks);
}

static struct ksyms *look(struct machine *m, const char *where)
{
    struct ksyms_reader rd = {m, read_linear, read_phys, RAM_LEN};
    struct ksyms *ks = NULL;
    uint64_t start = host_ns(), slide;
    struct err *e = ksyms_find(&rd, &ks);
    uint64_t ms = (host_ns() - start) / 1000000;
    if (e) {
        printf("%s %" PRIu64 ": %s (%" PRIu64 " ms)\n", where, m->vcpu.ticks, err_message(e), ms);
        err_destroy(e);
        return NULL;
    }
    bool known = ksyms_slide(ks, &slide);
    printf("%s %" PRIu64 ": symbols=%zu unwind=%zu slide=%s%#" PRIx64 " ms=%" PRIu64 " banner=%s\n", where,
           m->vcpu.ticks, ksyms_count(ks), ksyms_unwind_count(ks), known ? "" : "unknown:", slide, ms,
           ksyms_banner(ks));
    check_unmapped(m, ks);
    return ks;
}

static void write_text(const struct ksyms *ks, const char *path)
{
    FILE *f = fopen(path, "wb");
    if (!f)
        die(err_errno(ERR_HOST, errno, "%s", path));
    for (size_t i = 0; i < ksyms_count(ks); i++) {
        struct ksym s = ksyms_at(ks, i);
        fprintf(f, "%016" PRIx64 " %c %s\n", s.addr, s.type, s.name);
    }
    fclose(f);
}

/* What must hold of every symbol, whatever the kernel. */
static void check_lookup(const struct ksyms *ks)
{
    for (size_t i = 0; i < ksyms_count(ks); i++) {
        struct ksym s = ksyms_at(ks, i), named, at;
        bool ok = ksyms_by_name(ks, s.name, &named) && !strcmp(named.name, s.name) && named.addr <= s.addr;
        ok &= ksyms_by_addr(ks, s.addr, &at) && at.addr == s.addr;
        if (s.size)
            ok &= ksyms_by_addr(ks, s.addr + s.size - 1, &at) && at.addr == s.addr;
        if (!ok)
            die(err_new(ERR_HOST, "symbol %zu, %s, is not found again", i, s.name));
    }
}

static void write_symbols(const struct ksyms *ks, const char *dir)
{
    char path[4096];
    snprintf(path, sizeof(path), "%s/symbols.elf", dir);
    uint64_t start = host_ns();
    check(ksyms_write_elf(ks, path));
    printf("written in %" PRIu64 " ms\n", (host_ns() - start) / 1000000);
    snprintf(path, sizeof(path), "%s/symbols.txt", dir);
    write_text(ks, path);
    check_lookup(ks);
}

/* To `ticks`, then on until the CPU is at this privilege level and, unless it is NULL, in this function. */
static bool run_until(struct session *s, uint64_t ticks, unsigned cpl, const struct ksym *function)
{
    struct machine *m = s->machine;
    enum session_end end = END_LIMIT;
    uint64_t step = function ? SMALL_STEP_MAX : STEP_MAX, give_up = ticks + (function ? NAMED_PATIENCE : PATIENCE);
    for (; end == END_LIMIT && ticks < give_up; ticks += 1 + below(step)) {
        s->limit_ticks = ticks;
        check(session_run(s, &end));
        bool there = m->vcpu.s.cpl == cpl && (!function || m->vcpu.s.r[R_RIP] - function->addr < function->size);
        if (there && end == END_LIMIT)
            return true;
    }
    return false;
}

/* A guest that nothing comes to from outside, but whose console is kept. */
static void keep_output(void *self, enum nondet_stream stream, uint8_t channel, const uint8_t *data, size_t len)
{
    if (stream == ND_OUT_CONSOLE)
        write_all(self, data, len);
    else
        door_output(self, stream, channel, data, len);
}

static const struct nondet_ops door = {door_start, door_poll, door_horizon, door_idle, keep_output};

static void look_at_stops(struct session *s, const char *dir, char **stops)
{
    struct machine *m = s->machine;
    struct ksyms *first = NULL; /* they stay as they are */
    for (; *stops; stops++) {
        const char *name = strchr(*stops, ':');
        struct ksym function;
        bool named = name && first && ksyms_by_name(first, name + 1, &function);
        if (name && !named)
            die(err_new(ERR_INPUT, "%s: no such function is known so far", *stops));
        if (!run_until(s, MAX(strtoull(*stops, NULL, 0), m->vcpu.ticks + 1), 0, named ? &function : NULL))
            die(err_new(ERR_INPUT, "%s: the guest does not come there", *stops));
        struct ksyms *ks = look(m, "kernel");
        char path[4096];
        snprintf(path, sizeof(path), "%s/%s.core", dir, *stops);
        if (ks)
            write_core(m, path);
        if (ks && !first) {
            write_symbols(ks, dir);
            first = ks;
        } else {
            ksyms_destroy(ks);
        }
        if (first && run_until(s, m->vcpu.ticks + 1, 3, NULL))
            ksyms_destroy(look(m, "user"));
        fflush(stdout);
    }
    ksyms_destroy(first);
}

int main(int argc, char **argv)
{
    if (argc < 6) {
        fprintf(stderr, "usage: kernel_image KERNEL INITRD OUT_DIR CMDLINE TICK[:FUNCTION]...\n");
        return 2;
    }
    struct vm_spec spec = {.ram_len = RAM_LEN, .image = {.cmdline = argv[4]}};
    uint8_t *kernel, *initrd;
    check(file_load("kernel", argv[1], RAM_LEN, &kernel, &spec.image.kernel_len));
    check(file_load("initrd", argv[2], RAM_LEN, &initrd, &spec.image.initrd_len));
    spec.image.kernel = kernel, spec.image.initrd = initrd;
    char path[4096];
    snprintf(path, sizeof(path), "%s/console", argv[3]);
    FILE *console = fopen(path, "wb");
    if (!console)
        die(err_errno(ERR_HOST, errno, "%s", path));
    struct vm vm;
    check(vm_create(&spec, (struct nondet){&door, console}, &vm));
    struct session s = {.machine = vm.machine, .engine = vm.engine, .hook = {.ticks = UINT64_MAX}};
    look_at_stops(&s, argv[3], argv + 5);
    enum session_end end;
    s.limit_ticks = UINT64_MAX;
    check(session_run(&s, &end));
    vm_destroy(&vm);
    fclose(console);
    free(kernel);
    free(initrd);
    return 0;
}
