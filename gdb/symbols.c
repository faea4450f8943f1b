/* gdb/symbols.c: see symbols.h. */
#include "gdb/symbols.h"

#include <stdlib.h>

#include "core/base/err.h"

static size_t read_linear(void *arg, uint64_t linear, void *buf, size_t len)
{
    return timeline_read(arg, TS_LINEAR, linear, buf, len);
}

static size_t read_physical(void *arg, uint64_t physical, void *buf, size_t len)
{
    return timeline_read(arg, TS_PHYSICAL, physical, buf, len);
}

/* Before a 64-bit kernel executes, or has told the CPU of code, in the upper half of the address space, it has not begun to
 * run where it will stay. Looking through all of memory for it would take long, and find it packed, or not yet moved. */
static bool seems_to_run(const struct vcpu_state *s)
{
    return (s->efer & EFER_LMA) && (s->r[R_RIP] | s->idtr.base | s->lstar) >> 63;
}

struct err *gdb_symbols_look(struct gdb_symbols *s, struct timeline *t, bool hard, bool *found)
{
    const uint64_t hole = GIB(3), above = GIB(4); /* RAM goes on there (core/mem.h) */
    uint64_t ram = timeline_ram_len(t);
    struct ksyms_reader reader = {.arg = t, .read = read_linear, .read_phys = read_physical,
                                  .phys_len = ram > hole ? ram - hole + above : ram};
    struct ksyms *ks;
    *found = false;
    if (!hard && !seems_to_run(timeline_vcpu(t)))
        return NULL;
    struct err *e = ksyms_find(&reader, &ks);
    if (e && err_code(e) == ERR_UNSUPPORTED) {
        err_destroy(e);
        return NULL;
    }
    if (e)
        return e;
    gdb_symbols_forget(s);
    s->ks = ks;
    *found = true;
    return NULL;
}

static struct err *offer(const struct gdb_symbols *s, struct gdb_symbols_file *f,
                         struct err *(*make)(const struct ksyms *, uint8_t **, size_t *), const uint8_t **data_out,
                         size_t *len_out)
{
    struct err *e = f->data ? NULL : make(s->ks, &f->data, &f->len);
    *data_out = f->data;
    *len_out = f->len;
    return e;
}

struct err *gdb_symbols_names(struct gdb_symbols *s, const uint8_t **data_out, size_t *len_out)
{
    return offer(s, &s->names, ksyms_elf, data_out, len_out);
}

struct err *gdb_symbols_types(struct gdb_symbols *s, const uint8_t **data_out, size_t *len_out)
{
    return offer(s, &s->types, ksyms_types_elf, data_out, len_out);
}

void gdb_symbols_forget(struct gdb_symbols *s)
{
    ksyms_destroy(s->ks);
    free(s->names.data);
    free(s->types.data);
    *s = (struct gdb_symbols){0};
}
