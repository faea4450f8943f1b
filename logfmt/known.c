/* logfmt/known.c: see known.h. */
#include "logfmt/known.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "core/base/map.h"
#include "logfmt/log.h"

/* 64 Ki contents, which is 256 MiB of pages, in 1 MiB. */
enum { SETS = 1 << 14, WAYS = 4, PLACE_BITS = 40 };

struct known_entry {
    uint64_t high;      /* half of the hash */
    uint64_t low_place; /* the other's top bits; below them 2 * number + first, plus one; 0: nothing is here */
};

static size_t table_len(void) { return SETS * WAYS * sizeof(struct known_entry); }

bool known_init(struct known *k)
{
    k->entries = map_zero(table_len());
    return k->entries;
}

void known_deinit(struct known *k)
{
    map_free(k->entries, table_len());
    k->entries = NULL;
}

bool known_find_or_add(struct known *k, const uint8_t *content, uint64_t seed, struct known_place *place)
{
    const uint64_t place_mask = (UINT64_C(1) << PLACE_BITS) - 1;
    if (!k->entries)
        return false;
    XXH128_hash_t hash = XXH3_128bits_withSeed(content, LOG_CHECKPOINT_PAGE, seed);
    struct known_entry *set = k->entries + (hash.low64 & (SETS - 1)) * WAYS;
    for (int i = 0; i < WAYS && set[i].low_place; i++) {
        uint64_t at = (set[i].low_place & place_mask) - 1;
        if (set[i].high == hash.high64 && !((set[i].low_place ^ hash.low64) & ~place_mask)) {
            *place = (struct known_place){at & 1, at >> 1};
            return true;
        }
    }
    memmove(set + 1, set, (WAYS - 1) * sizeof(*set)); /* newest first */
    *set = (struct known_entry){hash.high64, (hash.low64 & ~place_mask) | ((place->number << 1 | place->first) + 1)};
    return false;
}
