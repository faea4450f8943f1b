/* core/snap.h: one field table per device, which drives digest, compare, dump and checkpoint.
 *
 * How to add a field: put it into the device's state struct and a SNAP row into its table. A struct that is
 * described by a table holds guest-visible state only, no pointers; the row order is the byte order of the
 * canonical image, so padding never reaches a digest. Rows are append-only once a recording format was released. */
#ifndef HW_SNAP_H
#define HW_SNAP_H

#include "core/base/base.h"

struct snap_field {
    const char *name;
    uint32_t offset;
    uint32_t len;   /* bytes, of the whole field (array included) */
    uint8_t elem;   /* bytes of one element: 1, 2, 4, 8; how a dump prints it */
};

#define SNAP_ELEM_(t) ((uint8_t)(sizeof(t) <= 8 ? sizeof(t) : 1))
#define SNAP(type, field)                                                                              \
    {#field, offsetof(type, field), sizeof(((type *)0)->field), SNAP_ELEM_(((type *)0)->field)}
#define SNAP_ARRAY(type, field)                                                                        \
    {#field, offsetof(type, field), sizeof(((type *)0)->field), SNAP_ELEM_(((type *)0)->field[0])}
#define SNAP_END {NULL, 0, 0, 0}

size_t snap_len(const struct snap_field *fields);                             /* bytes of the canonical image */
void snap_save(const struct snap_field *fields, const void *state, uint8_t *out);   /* snap_len() bytes */
void snap_load(const struct snap_field *fields, void *state, const uint8_t *in);
uint64_t snap_digest(const struct snap_field *fields, const void *state, uint64_t seed);
/* The first field in which two states differ, NULL when equal. */
const struct snap_field *snap_compare(const struct snap_field *fields, const void *a, const void *b);

#endif
