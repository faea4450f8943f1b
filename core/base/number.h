/* core/base/number.h: numbers as users write them. */
#ifndef HW_NUMBER_H
#define HW_NUMBER_H

#include "core/base/base.h"

/* Unsigned: decimal, or hexadecimal after 0x; with k, M or G for powers of 1000. False: it is none. */
bool number_parse(const char *text, uint64_t *out);

#endif
