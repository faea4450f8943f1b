/* replay/reserve.h: blocks of new memory whose pages were touched before somebody waits for them.
 *
 * The first write to a page costs a fault, which clears it, and in a virtual machine often a second one, in its host: up
 * to ten times what copying a page costs. A thread has that behind it for a few blocks when the caller takes one. */
#ifndef HW_RESERVE_H
#define HW_RESERVE_H

#include "core/base/err.h"

struct reserve;

/* Keeps `blocks` of `len` bytes each (a multiple of 4 KiB) in reserve. Where there can be no thread, there is no reserve.
 * Errors: ERR_HOST, no memory. */
must_check struct err *reserve_create(size_t len, size_t blocks, struct reserve **out);
void reserve_destroy(struct reserve *r); /* those in reserve too; NULL is fine */

/* Nothing is kept in reserve from now on: memory is short. */
void reserve_release(struct reserve *r);

/* A block of zeroes, which is the caller's: for map_free(). NULL: no memory. */
uint8_t *reserve_take(struct reserve *r);

#endif
