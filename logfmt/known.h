/* logfmt/known.h: contents of pages that a recording need not hold twice. Internal to logfmt/.
 *
 * A table of bounded size from a hash of 100 bits to where the content can be had. Two contents with the same hash
 * are taken for equal, as those of blobs are; the hash is seeded with the file's salt, which a guest does not know.
 * When there are too many, the oldest are forgotten, and stored again when they come again. */
#ifndef HW_LOGFMT_KNOWN_H
#define HW_LOGFMT_KNOWN_H

#include "core/base/base.h"

struct known_entry;
struct known { struct known_entry *entries; }; /* zeroed: nothing is known, and nothing is learnt */

struct known_place {
    bool first;      /* it is a page at tick 0; otherwise one of those that checkpoints have stored in this file */
    uint64_t number; /* of the page; of the content, from 0 */
};

bool known_init(struct known *k); /* false: no memory */
void known_deinit(struct known *k); /* zeroed: fine */

/* The place of this content (LOG_CHECKPOINT_PAGE bytes). When it is not known yet, false, and it is known to be at
 * *place from now on. */
bool known_find_or_add(struct known *k, const uint8_t *content, uint64_t seed, struct known_place *place);

#endif
