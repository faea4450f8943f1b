/* core/base/hash.h: the hashes of digests and file checksums (XXH3, 64 bit). */
#ifndef HW_HASH_H
#define HW_HASH_H

#include "core/base/base.h"

uint64_t hash64(const void *data, size_t len, uint64_t seed);

#endif
