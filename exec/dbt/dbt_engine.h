/* exec/dbt/dbt_engine.h: the translating engine: x86-64 to x86-64. */
#ifndef HW_DBT_ENGINE_H
#define HW_DBT_ENGINE_H

#include "exec/engine.h"

extern const struct engine_ops engine_dbt;

#endif
