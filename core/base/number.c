/* core/base/number.c: see number.h. */
#include "core/base/number.h"

#include <errno.h>
#include <stdlib.h>

bool number_parse(const char *text, uint64_t *out)
{
    static const struct { char letter; uint64_t factor; } units[] = {
        {'\0', 1}, {'k', 1000}, {'M', 1000000}, {'G', 1000000000},
    };
    char *rest;
    errno = 0;
    if (*text < '0' || *text > '9')
        return false;
    *out = strtoull(text, &rest, text[0] == '0' && (text[1] | 0x20) == 'x' ? 16 : 10);
    for (size_t i = 0; i < ARRAY_LEN(units); i++)
        if (*rest == units[i].letter && (!*rest || !rest[1]))
            return !errno && !__builtin_mul_overflow(*out, units[i].factor, out);
    return false;
}
