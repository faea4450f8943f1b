/* core/snap.c: the canonical image of a state struct: its fields, in row order, without padding. */
#include "core/snap.h"

#include "core/base/hash.h"

static const uint8_t *field_at(const struct snap_field *f, const void *state)
{
    return (const uint8_t *)state + f->offset;
}

size_t snap_len(const struct snap_field *fields)
{
    size_t len = 0;
    for (const struct snap_field *f = fields; f->name; f++)
        len += f->len;
    return len;
}

void snap_save(const struct snap_field *fields, const void *state, uint8_t *out)
{
    for (const struct snap_field *f = fields; f->name; f++) {
        memcpy(out, field_at(f, state), f->len);
        out += f->len;
    }
}

void snap_load(const struct snap_field *fields, void *state, const uint8_t *in)
{
    for (const struct snap_field *f = fields; f->name; f++) {
        memcpy((uint8_t *)state + f->offset, in, f->len);
        in += f->len;
    }
}

uint64_t snap_digest(const struct snap_field *fields, const void *state, uint64_t seed)
{
    /* Chained by field, so that no image has to be built. */
    for (const struct snap_field *f = fields; f->name; f++)
        seed = hash64(field_at(f, state), f->len, seed);
    return seed;
}

const struct snap_field *snap_compare(const struct snap_field *fields, const void *a, const void *b)
{
    for (const struct snap_field *f = fields; f->name; f++)
        if (memcmp(field_at(f, a), field_at(f, b), f->len) != 0)
            return f;
    return NULL;
}
