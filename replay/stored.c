/* replay/stored.c: see stored.h. */
#include "replay/stored.h"

#include <stdlib.h>

/* The state: these as 64-bit numbers, then machine_save(). mark.seq is the position's own. */
#define MARK_FIELDS(X)                                                                                                   \
    X(chain) X(output_bytes) X(memory_digest) X(console_bytes) X(good.seq) X(good.ticks) X(good_memory.seq) X(good_memory.ticks) \
    X(rep_begun)
enum {
#define X(field) +8
    MARK_LEN = 0 MARK_FIELDS(X)
#undef X
};

struct stored_writer {
    struct machine *m;
    struct log_writer *w;
    struct dirty_set dirty;
    uint8_t *state;
    size_t state_len;
};

static void encode(const struct machine *m, const struct replayer_mark *mark, uint8_t *out)
{
#define X(field) put_le64(out, mark->field); out += 8;
    MARK_FIELDS(X)
#undef X
    machine_save(m, out);
}

struct err *stored_decode(struct machine *m, const struct log_checkpoint *from, struct replayer_mark *mark, uint8_t *image,
                          bool *good)
{
    const uint8_t *in = from->state;
    *good = from->state_len == MARK_LEN + machine_image_len(m) && get_le64(in + MARK_LEN) == from->pos.ticks;
    if (!*good)
        return NULL;
    *mark = (struct replayer_mark){.seq = from->pos.seq};
#define X(field) mark->field = get_le64(in); in += 8;
    MARK_FIELDS(X)
#undef X
    *good = mark->good.ticks <= from->pos.ticks && mark->good_memory.ticks <= from->pos.ticks;
    if (!*good)
        return NULL;
    memcpy(image, in, machine_image_len(m));
    return machine_image_check(m, image, good);
}

static int by_number(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static const uint8_t *content(void *arg, uint32_t page)
{
    const struct stored_writer *s = arg;
    const uint8_t *p = mem_page_host(&s->m->mem, page);
    return page_is_zero(p) ? NULL : p;
}

struct err *stored_writer_take(struct stored_writer *s, const struct replayer_mark *mark)
{
    bool written;
    mem_dirty_collect(&s->m->mem);
    encode(s->m, mark, s->state);
    qsort(s->dirty.page, s->dirty.count, sizeof(*s->dirty.page), by_number);
    struct log_checkpoint_source c = {.state = s->state, .state_len = s->state_len, .page = s->dirty.page,
                                      .pages = s->dirty.count, .content = content, .arg = s};
    while (c.pages && c.page[c.pages - 1] >= s->m->mem.ram_pages) /* ROM: the image is part of the recording */
        c.pages--;
    struct err *e = log_writer_checkpoint(s->w, s->m->vcpu.ticks, &c, &written);
    if (!e && written)
        dirty_set_clear(&s->dirty); /* otherwise the next one has these too */
    return e;
}

struct err *stored_writer_create(struct machine *m, struct log_writer *w, struct stored_writer **out)
{
    struct stored_writer *s = calloc(1, sizeof(*s));
    if (!s)
        return err_new(ERR_HOST, "out of memory for checkpoints");
    s->m = m;
    s->w = w;
    s->state_len = MARK_LEN + machine_image_len(m);
    s->state = malloc(s->state_len);
    struct err *e = s->state ? dirty_set_add(&m->mem, &s->dirty) : err_new(ERR_HOST, "out of memory for checkpoints");
    if (e) {
        stored_writer_destroy(s);
        return e;
    }
    *out = s;
    return NULL;
}

/* What a replay has at tick 0 need not be stored: a boot loader and the guest's own move much of it around. */
struct err *stored_writer_begin(struct stored_writer *s)
{
    struct err *e = NULL;
    mem_dirty_collect(&s->m->mem);
    for (uint32_t i = 0; i < s->dirty.count && !e; i++) {
        uint32_t page = s->dirty.page[i];
        const uint8_t *data = page < s->m->mem.ram_pages ? content(s, page) : NULL;
        e = data ? log_writer_first_page(s->w, page, data) : NULL;
    }
    dirty_set_clear(&s->dirty);
    return e;
}

void stored_writer_destroy(struct stored_writer *s)
{
    if (!s)
        return;
    dirty_set_remove(&s->m->mem, &s->dirty);
    free(s->state);
    free(s);
}
