/* core/base/map.h: large zeroed memory that costs nothing until it is touched. */
#ifndef HW_MAP_H
#define HW_MAP_H

#include "core/base/err.h"

/* NULL when there is no address space left. The host may run short later, when pages are touched. */
void *map_zero(size_t len);
void map_free(void *p, size_t len); /* the same len; NULL is fine */
/* The same at an address that is a multiple of 2 MiB, in huge pages where the host has some to spare. */
void *map_zero_huge(size_t len);
void map_clear(void *p, size_t len); /* zero it and give its memory back */

/* Memory for generated code: the same pages mapped twice, writable at rw and executable at rx; no mapping is both. `lead` bytes of
 * plain memory lie right before rx, so that code reaches them relative to RIP. Multiples of 4 KiB. */
struct code_map {
    uint8_t *rw, *rx, *lead;
    size_t len, lead_len;
};
must_check struct err *code_map_init(struct code_map *c, size_t lead_len, size_t len); /* ERR_HOST */
void code_map_deinit(struct code_map *c); /* zeroed: fine */

#endif
