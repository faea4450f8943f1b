/* analysis/kallsyms.h: the tables of CONFIG_KALLSYMS, found and decoded. Private.
 *
 * scripts/kallsyms.c of Linux writes, each table at a multiple of 8:
 *
 *   num_syms      u32
 *   names         for each symbol a length (7 bits, or 14 in two bytes since 6.1) and so many token numbers
 *   markers       u32: where in names symbol 0, 256, 512, ... begins
 *   token_table   256 strings, each ended by a zero; the expansion of a name begins with its type
 *   token_index   u16: where in token_table each begins
 *   offsets       s32 for each symbol, ascending by address: see value_of()
 *   relative_base u64
 *   seqs_of_names 3 bytes for each symbol, since 6.2; long-term releases of 6.1 got it, too
 *
 * in this order since 6.4; before that offsets and relative_base come first, and seqs_of_names follows markers. Letters
 * and digits, which names are full of, are tokens of themselves, so "0\0" "1\0" ... "9\0" finds the token table. From
 * there each table leads to the next, and each must agree with the others. */
#ifndef HW_KALLSYMS_H
#define HW_KALLSYMS_H

#include "analysis/kimage.h"

enum { KALLSYMS_MAX = 1 << 21, KALLSYMS_NAME_MAX = 1024 };

struct kallsyms {
    size_t count;
    uint64_t *addr;  /* ascending */
    uint32_t *name;  /* where in `pool`: the type, then the name */
    char *pool;
    size_t pool_len;
    uint64_t at;     /* of the token table, in the space it was found in */
};

/* ERR_HOST; nothing found is no error: then out->count is 0. */
must_check struct err *kallsyms_find(const struct space *s, struct kallsyms *out);
void kallsyms_deinit(struct kallsyms *k);

#endif
