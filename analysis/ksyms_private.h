/* analysis/ksyms_private.h: what a struct ksyms holds, for those who make one and write one. Private. */
#ifndef HW_KSYMS_PRIVATE_H
#define HW_KSYMS_PRIVATE_H

#include "analysis/kallsyms.h"
#include "analysis/ksyms.h"
#include "analysis/orc.h"

struct ksyms {
    struct kallsyms table;
    uint32_t *by_name; /* indices, by name, then ascending */
    struct orc orc;
    char banner[256];
    bool slide_known;
    uint64_t slide;
    uint8_t *btf; /* as it is in memory; NULL: none */
    size_t btf_len;
};

#endif
