/* core/base/map.h: large zeroed memory that costs nothing until it is touched. */
#ifndef HW_MAP_H
#define HW_MAP_H

#include "core/base/base.h"

/* NULL when there is no address space left. The host may run short later, when pages are touched. */
void *map_zero(size_t len);
void map_free(void *p, size_t len); /* the same len; NULL is fine */

#endif
