/* replay/digest.c: digests of a machine. See digest.h. */
#include "replay/digest.h"

#include <stdlib.h>

#include "core/base/hash.h"
#include "core/base/map.h"

struct digester {
    struct machine *m;
    uint64_t chain;
    struct digest_memory sums;
    uint64_t *page;  /* by RAM page: its current digest */
    struct dirty_set dirty;
    uint32_t *recent; /* pages that the last update looked at */
    size_t recent_count, recent_cap;
};

struct err *digester_create(struct machine *m, struct digester **out)
{
    struct digester *d = calloc(1, sizeof(*d));
    if (!d)
        return err_new(ERR_HOST, "out of memory for digests");
    d->m = m;
    size_t len = (size_t)m->mem.ram_pages * sizeof(*d->page);
    d->page = map_zero(len);
    if (!d->page) {
        free(d);
        return err_new(ERR_HOST, "out of memory for digests");
    }
    struct err *e = dirty_set_add(&m->mem, &d->dirty);
    if (e) {
        digester_destroy(d);
        return e;
    }
    *out = d;
    return NULL;
}

void digester_destroy(struct digester *d)
{
    if (!d)
        return;
    dirty_set_remove(&d->m->mem, &d->dirty);
    map_free(d->page, (size_t)d->m->mem.ram_pages * sizeof(*d->page));
    free(d->recent);
    free(d);
}

static void remember(struct digester *d, uint32_t page)
{
    if (d->recent_count == d->recent_cap) {
        size_t cap = d->recent_cap ? 2 * d->recent_cap : 1024;
        uint32_t *grown = realloc(d->recent, cap * sizeof(*grown));
        if (!grown)
            return; /* a report may then miss a suspect; the digests do not depend on it */
        d->recent = grown;
        d->recent_cap = cap;
    }
    d->recent[d->recent_count++] = page;
}

static void update_page(struct digester *d, uint32_t page)
{
    if (page >= d->m->mem.ram_pages)
        return; /* ROM: the image is part of the recording */
    const uint8_t *p = mem_page_host(&d->m->mem, page);
    uint64_t now = page_is_zero(p) ? 0 : hash64(p, PAGE_SIZE, page);
    uint64_t delta = now - d->page[page];
    d->page[page] = now;
    d->sums.total += delta;
    d->sums.rows[page >> 5 & (DIGEST_SUMS - 1)] += delta;
    d->sums.columns[page & (DIGEST_SUMS - 1)] += delta;
    remember(d, page);
}

struct digest_memory digest_memory(struct digester *d)
{
    d->recent_count = 0;
    mem_dirty_collect(&d->m->mem);
    for (uint32_t i = 0; i < d->dirty.count; i++)
        update_page(d, d->dirty.page[i]);
    dirty_set_clear(&d->dirty);
    return d->sums;
}

static void groups(const struct digester *d, struct digest_regs *out)
{
    const struct vcpu_state *s = &d->m->vcpu.s;
    out->general = vcpu_digest(s, VG_GENERAL);
    out->system = vcpu_digest(s, VG_SYSTEM);
    out->vector = vcpu_digest(s, VG_VECTOR);
}

static void advance(struct digester *d, const struct digest_regs *r, uint64_t memory, uint64_t devices)
{
    uint64_t link[] = {d->chain, d->m->vcpu.ticks, r->general, r->system, r->vector, memory, devices};
    d->chain = hash64(link, sizeof(link), 0);
}

struct digest_regs digest_regs(struct digester *d)
{
    struct digest_regs r;
    groups(d, &r);
    advance(d, &r, 0, 0);
    r.chain = d->chain;
    return r;
}

struct digest_state digest_state(struct digester *d)
{
    struct digest_regs r;
    struct digest_state s = {.memory = digest_memory(d), .devices = machine_devices_digest(d->m)};
    groups(d, &r);
    advance(d, &r, s.memory.total, s.devices);
    s.chain = d->chain;
    return s;
}

uint64_t digest_chain(const struct digester *d)
{
    return d->chain;
}

void digest_set_chain(struct digester *d, uint64_t chain)
{
    d->chain = chain;
}

size_t digest_image_len(void)
{
    size_t len = 0;
    for (const struct vcpu_field *f = vcpu_fields; f->f.name; f++)
        len += f->f.len;
    return len;
}

void digest_image(const struct vcpu_state *s, uint8_t *out)
{
    for (const struct vcpu_field *f = vcpu_fields; f->f.name; f++) {
        memcpy(out, (const uint8_t *)s + f->f.offset, f->f.len);
        out += f->f.len;
    }
}

size_t digest_differing(const struct digester *a, const struct digester *b, void (*fn)(void *arg, uint32_t page),
                        void *arg)
{
    size_t n = 0;
    for (uint32_t page = 0; page < a->m->mem.ram_pages; page++) {
        if (a->page[page] == b->page[page])
            continue;
        fn(arg, page);
        n++;
    }
    return n;
}

size_t digest_suspects(const struct digester *d, const struct digest_memory *other, uint64_t mask,
                       void (*fn)(void *arg, uint32_t page), void *arg)
{
    size_t n = 0;
    for (size_t i = 0; i < d->recent_count; i++) {
        uint32_t page = d->recent[i];
        unsigned row = page >> 5 & (DIGEST_SUMS - 1), column = page & (DIGEST_SUMS - 1);
        if (!((other->rows[row] ^ d->sums.rows[row]) & mask) || !((other->columns[column] ^ d->sums.columns[column]) & mask))
            continue;
        fn(arg, page);
        n++;
    }
    return n;
}
