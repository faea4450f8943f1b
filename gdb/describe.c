/* gdb/describe.c: the target description (gdb manual, appendix "Target Descriptions") out of the caller's tables. */
#include <stdlib.h>

#include "gdb/stub_impl.h"

static void one_reg(struct text *t, const struct gdbs_reg *r, size_t number)
{
    text_printf(t, "<reg name=\"%s\" bitsize=\"%u\" type=\"%s\" regnum=\"%zu\"", r->name, r->bits,
                r->type ? r->type : "int", number);
    if (r->group)
        text_printf(t, " group=\"%s\"", r->group);
    text_str(t, "/>\n");
}

static void write_xml(struct gdbs *g)
{
    struct text *t = &g->description;
    size_t number = 0;
    text_printf(t, "<?xml version=\"1.0\"?>\n<!DOCTYPE target SYSTEM \"gdb-target.dtd\">\n<target version=\"1.0\">\n"
                   "<architecture>%s</architecture>\n", g->arch->name);
    for (size_t i = 0; i < g->arch->count; i++) {
        const struct gdbs_feature *f = &g->arch->features[i];
        text_printf(t, "<feature name=\"%s\">\n%s", f->name, f->types ? f->types : "");
        for (size_t j = 0; j < f->count; j++)
            one_reg(t, &f->regs[j], number++);
        text_str(t, "</feature>\n");
    }
    text_str(t, "</target>\n");
}

bool stub_describe(struct gdbs *g)
{
    for (size_t i = 0; i < g->arch->count; i++)
        g->reg_count += g->arch->features[i].count;
    g->regs = calloc(g->reg_count + 1, sizeof(*g->regs));
    if (!g->regs)
        return false;
    size_t number = 0;
    for (size_t i = 0; i < g->arch->count; i++) {
        const struct gdbs_feature *f = &g->arch->features[i];
        for (size_t j = 0; j < f->count; j++) {
            g->regs[number++] = (struct stub_reg){&f->regs[j], (uint32_t)g->g_len};
            g->g_len += f->regs[j].bits / 8;
        }
    }
    write_xml(g);
    return !text_failed(&g->description);
}
