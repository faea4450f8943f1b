/* exec/interp/interp.h: the reference engine: an interpreter over a cache of decoded blocks. */
#ifndef HW_INTERP_H
#define HW_INTERP_H

#include "exec/engine.h"

extern const struct engine_ops engine_interp;

#endif
