/* core/load/place.c: who gets which guest memory while a kernel is loaded. See load.h. */
#include "core/base/check.h"
#include "core/load/load.h"

static const struct claim *find_overlap(const struct load *ld, uint64_t start, uint64_t end)
{
    for (unsigned i = 0; i < ld->claim_count; i++)
        if (start < ld->claims[i].end && ld->claims[i].start < end)
            return &ld->claims[i];
    return NULL;
}

static bool is_usable(const struct load *ld, uint64_t start, uint64_t len)
{
    for (unsigned i = 0; i < ld->map.count; i++) {
        const struct e820_entry *e = &ld->map.e[i];
        if (e->type == E820_RAM && start >= e->addr && range_in(start - e->addr, len, e->len))
            return true;
    }
    return false;
}

static void remember(struct load *ld, uint64_t start, uint64_t len, const char *what)
{
    CHECK(ld->claim_count < CLAIMS_MAX, "more claims than a loader may make");
    ld->claims[ld->claim_count++] = (struct claim){start, start + len, what};
}

struct err *load_claim(struct load *ld, uint64_t start, uint64_t len, const char *what)
{
    if (!len)
        return NULL;
    if (!is_usable(ld, start, len))
        return err_new(ERR_INPUT,
                       "%s needs %" PRIu64 " bytes at 0x%" PRIx64
                       ", which is not all usable RAM of a guest with %" PRIu64
                       " MiB; give it more memory (--memory) or link the kernel elsewhere",
                       what, len, start, ld->m->mem.ram_len >> 20);
    const struct claim *other = find_overlap(ld, start, start + len);
    if (other)
        return err_new(ERR_INPUT, "%s (%" PRIu64 " bytes at 0x%" PRIx64 ") overlaps %s; the file is damaged", what, len,
                       start, other->what);
    remember(ld, start, len, what);
    return NULL;
}

/* Each step moves past the claim that is in the way, so the loops end after at most CLAIMS_MAX steps a range. */
static bool place_highest(const struct load *ld, uint64_t lo, uint64_t hi, uint64_t len, uint64_t align, uint64_t *out)
{
    while (hi > lo && range_in(lo, len, hi)) {
        uint64_t at = align_down(hi - len, align);
        if (at < lo)
            return false;
        const struct claim *other = find_overlap(ld, at, at + len);
        if (!other) {
            *out = at;
            return true;
        }
        hi = other->start;
    }
    return false;
}

static bool place_lowest(const struct load *ld, uint64_t lo, uint64_t hi, uint64_t len, uint64_t align, uint64_t *out)
{
    for (;;) {
        if (lo > UINT64_MAX - (align - 1))
            return false;
        uint64_t at = align_up(lo, align);
        if (!range_in(at, len, hi))
            return false;
        const struct claim *other = find_overlap(ld, at, at + len);
        if (!other) {
            *out = at;
            return true;
        }
        lo = other->end;
    }
}

bool load_find(const struct load *ld, struct load_want want, uint64_t *out)
{
    bool highest = want.end == LOAD_HIGHEST;
    for (unsigned i = 0; i < ld->map.count; i++) {
        const struct e820_entry *e = &ld->map.e[highest ? ld->map.count - 1 - i : i];
        uint64_t lo = MAX(e->addr, want.min), hi = MIN(e->addr + e->len, want.limit);
        if (e->type != E820_RAM || lo >= hi)
            continue;
        if ((highest ? place_highest : place_lowest)(ld, lo, hi, want.len, want.align, out))
            return true;
    }
    return false;
}

struct err *load_place(struct load *ld, struct load_want want, const char *what, uint64_t *out)
{
    if (!load_find(ld, want, out))
        return err_new(ERR_INPUT,
                       "%s (%" PRIu64 " bytes) does not fit into the free RAM between 0x%" PRIx64 " and 0x%" PRIx64
                       "; the guest has %" PRIu64 " MiB, give it more memory (--memory)",
                       what, want.len, want.min, want.limit, ld->m->mem.ram_len >> 20);
    remember(ld, *out, want.len, what);
    return NULL;
}

struct err *load_place_info(struct load *ld, uint64_t len, uint64_t align, const char *what, uint64_t *out)
{
    struct load_want want = {.len = len, .align = align, .min = PAGE_SIZE, .limit = INFO_LIMIT, .end = LOAD_HIGHEST};
    return load_place(ld, want, what, out);
}

void load_put(struct load *ld, uint64_t addr, const void *data, size_t len)
{
    size_t done = mem_load(&ld->m->mem, gpa(addr), data, len);
    CHECK(done == len, "loading %zu bytes at 0x%" PRIx64 " left RAM", len, addr);
}

struct err *load_cmdline(struct load *ld)
{
    size_t len = strlen(ld->img->cmdline) + 1;
    struct err *e = load_place_info(ld, len, 16, "the command line", &ld->cmdline_addr);
    if (e)
        return e;
    load_put(ld, ld->cmdline_addr, ld->img->cmdline, len);
    return NULL;
}

struct err *load_initrd(struct load *ld, struct load_want want)
{
    if (!ld->img->initrd)
        return NULL;
    want.len = ld->img->initrd_len;
    want.align = PAGE_SIZE;
    struct err *e = load_place(ld, want, "the initrd", &ld->initrd_addr);
    if (e)
        return e;
    load_put(ld, ld->initrd_addr, ld->img->initrd, ld->img->initrd_len);
    return NULL;
}
