/* exec/mixed.h: an engine that is both others in turn, for tests. */
#ifndef HW_MIXED_H
#define HW_MIXED_H

#include "exec/engine.h"

extern const struct engine_ops engine_mixed;

#endif
