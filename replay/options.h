/* replay/options.h: the command line, as one table: parsing, checks and `help` come from it. */
#ifndef HW_OPTIONS_H
#define HW_OPTIONS_H

#include <stdio.h>

#include "core/base/err.h"

enum { CMD_RUN = 1, CMD_RECORD = 2, CMD_REPLAY = 4, CMD_INFO = 8, CMD_DUMP = 16, CMD_BISECT = 32, CMD_INDEX = 64, CMD_DEBUG = 128 };

struct options {
    const char *file;      /* the positional argument: KERNEL or a recording; NULL when absent */
    const char *initrd, *append, *firmware, *engine, *against, *console, *output, *gdb, *symbols;
    const char *at, *to;   /* positions (position.h); NULL: none */
    char **rest;           /* what stood behind "--", NULL-terminated; NULL: nothing */
    uint64_t memory;       /* bytes */
    uint64_t limit_ticks;  /* UINT64_MAX: none */
    uint64_t checkpoint_ns;   /* 0: none */
    uint64_t checkpoint_ticks; /* 0: the default */
    uint64_t checkpoint_memory; /* bytes; 0: the default */
    uint32_t cpu_features;
    bool host_clock, verify, quiet, force, json, stats, live, gdb_wait, gdb_i386;
    uint64_t flip_gpa, flip_ticks; /* ticks UINT64_MAX: none */
    unsigned flip_bit;
    uint64_t alter_seq;    /* UINT64_MAX: none */
};

/* argv[0] is the command's name. ERR_USAGE names the argument and what was expected. */
must_check struct err *options_parse(unsigned command, int argc, char **argv, struct options *out);

void options_help(unsigned command, FILE *out);

#endif
