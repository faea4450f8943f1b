/* replay/compare.c: see compare.h. */
#include "replay/compare.h"

/* ---- equal? ---- */

static bool same_registers(const struct vcpu_state *a, const struct vcpu_state *b)
{
    for (const struct vcpu_field *f = vcpu_fields; f->f.name; f++)
        if (memcmp((const uint8_t *)a + f->f.offset, (const uint8_t *)b + f->f.offset, f->f.len))
            return false;
    return true;
}

bool compare_same(const struct compared *a, const struct compared *b)
{
    const struct machine *x = a->machine, *y = b->machine;
    return x->vcpu.ticks == y->vcpu.ticks && x->request == y->request && x->request_value == y->request_value &&
           same_registers(&x->vcpu.s, &y->vcpu.s) && machine_devices_digest(x) == machine_devices_digest(y) &&
           digest_memory(a->digester).total == digest_memory(b->digester).total;
}

/* ---- what differs ---- */

/* As one number: the highest byte first. */
static void print_number(FILE *out, const void *p, size_t len)
{
    fputs("0x", out);
    for (size_t i = len; i-- > 0;)
        fprintf(out, "%02x", ((const uint8_t *)p)[i]);
}

static void print_field(const struct compared *a, const struct compared *b, const char *kind, const char *name,
                        const uint8_t *x, const uint8_t *y, const uint8_t *was, size_t len, FILE *out)
{
    fprintf(out, "  %s %s: ", kind, name);
    if (was) {
        print_number(out, was, len);
        fputs(" before, ", out);
    }
    fprintf(out, "%s ", a->name);
    print_number(out, x, len);
    fprintf(out, ", %s ", b->name);
    print_number(out, y, len);
    fputc('\n', out);
}

/* The elements of one field that differ. `unit`: bytes printed as one number. */
static void print_elements(const struct compared *a, const struct compared *b, const char *kind,
                           const struct snap_field *f, size_t unit, const void *sa, const void *sb, const void *was,
                           FILE *out)
{
    for (size_t at = 0; at < f->len; at += unit) {
        const uint8_t *x = (const uint8_t *)sa + f->offset + at, *y = (const uint8_t *)sb + f->offset + at;
        char name[64];
        if (!memcmp(x, y, unit))
            continue;
        snprintf(name, sizeof(name), unit < f->len ? "%s[%zu]" : "%s", f->name, at / unit);
        print_field(a, b, kind, name, x, y, was ? (const uint8_t *)was + f->offset + at : NULL, unit, out);
    }
}

static void print_registers(const struct compared *a, const struct compared *b, const struct vcpu_state *before,
                            FILE *out)
{
    for (const struct vcpu_field *f = vcpu_fields; f->f.name; f++)
        print_elements(a, b, "register", &f->f, f->group == VG_VECTOR ? f->f.len : f->f.elem, &a->machine->vcpu.s,
                       &b->machine->vcpu.s, before, out);
}

static void print_devices(const struct compared *a, const struct compared *b, FILE *out)
{
    for (unsigned i = 0; i < DEV_COUNT; i++) {
        const struct dev_class *c = machine_dev_class(i);
        if (!c->state)
            continue;
        const void *x = c->state_of(a->machine->dev[i]), *y = c->state_of(b->machine->dev[i]);
        for (const struct snap_field *f = c->state; f->name; f++)
            print_elements(a, b, c->name, f, f->elem, x, y, NULL, out);
    }
}

enum { PAGES_SHOWN = 8 };
struct pages { const struct compared *a, *b; FILE *out; unsigned seen; };

static void print_page(void *arg, uint32_t page)
{
    enum { BYTES = 16 };
    struct pages *p = arg;
    if (p->seen++ >= PAGES_SHOWN)
        return;
    const uint8_t *x = mem_page_host(&p->a->machine->mem, page), *y = mem_page_host(&p->b->machine->mem, page);
    size_t first = 0, count = 0, len;
    for (size_t i = PAGE_SIZE; i-- > 0;)
        if (x[i] != y[i]) {
            first = i;
            count++;
        }
    len = MIN((size_t)BYTES, (size_t)PAGE_SIZE - first);
    while (len > 1 && x[first + len - 1] == y[first + len - 1])
        len--;
    uint64_t at = mem_page_gpa(&p->a->machine->mem, page).v;
    fprintf(p->out, "  memory page 0x%" PRIx64 ": %zu bytes differ, from 0x%" PRIx64 ": ", at, count, at + first);
    for (unsigned side = 0; side < 2; side++) {
        fprintf(p->out, "%s%s", side ? ", " : "", side ? p->b->name : p->a->name);
        for (size_t i = 0; i < len; i++)
            fprintf(p->out, " %02x", (side ? y : x)[first + i]);
    }
    fputc('\n', p->out);
}

void compare_print(const struct compared *a, const struct compared *b, const struct vcpu_state *before, FILE *out)
{
    const struct machine *x = a->machine, *y = b->machine;
    if (x->vcpu.ticks != y->vcpu.ticks)
        fprintf(out, "  ticks: %s %" PRIu64 ", %s %" PRIu64 "\n", a->name, x->vcpu.ticks, b->name, y->vcpu.ticks);
    if (x->request != y->request || x->request_value != y->request_value)
        fprintf(out, "  the guest's request to end: %s %d with %" PRIu32 ", %s %d with %" PRIu32 "\n", a->name,
                (int)x->request, x->request_value, b->name, (int)y->request, y->request_value);
    print_registers(a, b, before, out);
    print_devices(a, b, out);
    struct pages p = {a, b, out, 0};
    if (digest_memory(a->digester).total == digest_memory(b->digester).total)
        return;
    digest_differing(a->digester, b->digester, print_page, &p);
    if (p.seen > PAGES_SHOWN)
        fprintf(out, "  memory: %u pages differ in all\n", p.seen);
}

/* ---- registers ---- */

void compare_print_registers(const struct vcpu_state *s, FILE *out)
{
    enum { A_LINE = 4 };
    unsigned column = 0;
    for (const struct vcpu_field *f = vcpu_fields; f->f.name; f++) {
        uint64_t value;
        bool flags = f->f.offset == offsetof(struct vcpu_state, rflags);
        if (f->group != VG_GENERAL || f->f.len != sizeof(value) || flags)
            continue;
        memcpy(&value, (const uint8_t *)s + f->f.offset, sizeof(value));
        fprintf(out, "%s%-3s %016" PRIx64, column++ % A_LINE ? "  " : "\n    ", f->f.name, value);
    }
    fprintf(out, "  flags %08" PRIx64 "\n    cs %04x  cpl %u", vcpu_rflags(s), s->seg[S_CS].sel, s->cpl);
    fprintf(out, "  cr0 %08" PRIx64 "  cr3 %016" PRIx64 "  cr4 %08" PRIx64 "  efer %04" PRIx64 "\n", s->cr0, s->cr3,
            s->cr4, s->efer);
}
