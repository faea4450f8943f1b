/* tests/unit/gdb_rig.h: a machine of four registers and some memory behind a stub, for tests of the protocol.
 * Address 0x1000 on is memory, RIG_MEMORY bytes; 0x1000 + addr is the "physical" address of addr. */
#ifndef HW_TEST_GDB_RIG_H
#define HW_TEST_GDB_RIG_H

#include <stdio.h>
#include <stdlib.h>

#include "core/base/check.h"
#include "gdb/wire.h"
#include "gdb/stub.h"

enum { RIG_BASE = 0x1000, RIG_MEMORY = 0x20000, RIG_PHYSICAL = 0x1000, RIG_REGS = 4, RIG_PC = 1 };

static const struct gdbs_reg rig_core[] = {
    {"a", 64, "int64", NULL, 0, 0}, {"pc", 64, "code_ptr", NULL, 0, 1}, {"w", 128, "uint128", "vector", 0, 2},
};
static const struct gdbs_reg rig_more[] = {{"ro", 32, NULL, "system", 1, 3}};
static const struct gdbs_feature rig_features[] = {
    {"org.rig.core", NULL, rig_core, ARRAY_LEN(rig_core)},
    {"org.rig.more", "<flags id=\"f\" size=\"4\"><field name=\"X\" start=\"0\" end=\"0\"/></flags>", rig_more, 1},
};
static const uint8_t rig_expedited[] = {RIG_PC};
static const struct gdbs_arch rig_arch = {"rig", rig_features, ARRAY_LEN(rig_features), RIG_PC, rig_expedited, 1};

struct rig {
    struct gdbs *g;
    uint8_t reg[RIG_REGS][16];
    uint8_t memory[RIG_MEMORY];
    unsigned threads, inserts, removes, inserted, restarts, monitors;
    bool refuse_write, refuse_insert, interrupted, no_file;
    struct gdbs_break *last;
    struct text sent; /* what the stub sent and nobody looked at yet */
};

static unsigned rig_threads(void *t) { return ((struct rig *)t)->threads; }

static void rig_thread_text(void *t, unsigned thread, char *buf, size_t len)
{
    (void)t;
    snprintf(buf, len, "CPU %u <ok>", thread);
}

static bool rig_read_reg(void *t, unsigned thread, const struct gdbs_reg *r, uint8_t *out)
{
    struct rig *rig = t;
    CHECK(thread < rig->threads, "thread %u", thread);
    memcpy(out, rig->reg[r->at], r->bits / 8);
    return true;
}

static bool rig_write_regs(void *t, unsigned thread, const struct gdbs_reg *const *regs, const uint8_t *const *values,
                           size_t count, char why[GDBS_WHY])
{
    struct rig *rig = t;
    CHECK(thread < rig->threads, "thread %u", thread);
    for (size_t i = 0; i < count; i++)
        if (rig->refuse_write || regs[i]->kind) {
            snprintf(why, GDBS_WHY, "%s is read-only", regs[i]->name);
            return false;
        }
    for (size_t i = 0; i < count; i++)
        memcpy(rig->reg[regs[i]->at], values[i], regs[i]->bits / 8);
    return true;
}

static uint8_t *rig_at(struct rig *rig, enum gdbs_space space, uint64_t addr, size_t *left)
{
    addr -= RIG_BASE + (space == GDBS_PHYSICAL ? RIG_PHYSICAL : 0);
    *left = addr < RIG_MEMORY ? RIG_MEMORY - (size_t)addr : 0;
    return *left ? rig->memory + addr : NULL;
}

static size_t rig_read_memory(void *t, enum gdbs_space space, uint64_t addr, void *buf, size_t len)
{
    size_t left;
    uint8_t *p = rig_at(t, space, addr, &left);
    size_t n = MIN(left, len);
    if (n)
        memcpy(buf, p, n);
    return n;
}

static bool rig_write_memory(void *t, enum gdbs_space space, uint64_t addr, const void *data, size_t len,
                             char why[GDBS_WHY])
{
    struct rig *rig = t;
    size_t left;
    uint8_t *p = rig_at(rig, space, addr, &left);
    if (rig->refuse_write || left < len) {
        snprintf(why, GDBS_WHY, "%s", rig->refuse_write ? "a recording cannot be changed" : "not mapped");
        return false;
    }
    memcpy(p, data, len);
    return true;
}

static bool rig_insert(void *t, struct gdbs_break *b)
{
    struct rig *rig = t;
    if (rig->refuse_insert)
        return false;
    rig->inserts++;
    rig->inserted++;
    rig->last = b;
    return true;
}

static void rig_remove(void *t, struct gdbs_break *b)
{
    struct rig *rig = t;
    rig->removes++;
    rig->inserted--;
    if (rig->last == b)
        rig->last = NULL;
}

static bool rig_restart(void *t)
{
    ((struct rig *)t)->restarts++;
    return true;
}

static bool rig_monitor(void *t, struct gdbs *g, const char *command)
{
    ((struct rig *)t)->monitors++;
    if (strcmp(command, "say") == 0)
        gdbs_print(g, "%s", "hello\n");
    return !strcmp(command, "say") || !strcmp(command, "");
}

static const uint8_t rig_file[] = "\177ELF: not really $#}*";

static const char *const rig_files[] = {"/kernel", "/another", NULL};

static bool rig_open(void *t, unsigned index, const uint8_t **data, size_t *len)
{
    if (index == 1 && ((struct rig *)t)->no_file)
        return false;
    *data = rig_file;
    *len = sizeof(rig_file) - 1;
    return true;
}

static bool rig_interrupted(void *t) { return ((struct rig *)t)->interrupted; }

static const struct gdbs_ops rig_ops = {
    .threads = rig_threads, .thread_text = rig_thread_text, .read_reg = rig_read_reg, .write_regs = rig_write_regs,
    .read_memory = rig_read_memory, .write_memory = rig_write_memory, .insert = rig_insert, .remove = rig_remove,
    .restart = rig_restart, .monitor = rig_monitor, .files = rig_files, .file = rig_open, .interrupted = rig_interrupted,
};

static inline void rig_init(struct rig *rig, bool reverse)
{
    *rig = (struct rig){.threads = 1};
    for (size_t i = 0; i < RIG_MEMORY; i++)
        rig->memory[i] = (uint8_t)(i * 7 + (i >> 8));
    rig->g = gdbs_new(&rig_arch, &rig_ops, rig, &(struct gdbs_options){.reverse = reverse});
    CHECK(rig->g, "out of memory");
}

static inline void rig_deinit(struct rig *rig)
{
    gdbs_destroy(rig->g);
    CHECK(!rig->inserted, "%u breakpoints are left", rig->inserted);
    text_deinit(&rig->sent);
}

/* Moves the stub's output to rig->sent. */
static inline void rig_take(struct rig *rig)
{
    size_t len;
    const uint8_t *p = gdbs_output(rig->g, &len);
    text_add(&rig->sent, p, len);
    gdbs_output_done(rig->g, len);
}

#endif
