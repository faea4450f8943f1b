/* exec/dbt/stats.c: what was translated, and how long it took.
 *
 * Host instructions are counted by decoding what was emitted: emitters need not count, and only who measures pays. */
#include "exec/dbt/dbt.h"

static uint64_t count_insns(const struct dbt *d, uint32_t pos, uint32_t end)
{
    static const ZydisDecoder decoder = {.machine_mode = ZYDIS_MACHINE_MODE_LONG_64,
                                         .stack_width = ZYDIS_STACK_WIDTH_64};
    ZydisDecodedInstruction zi;
    uint64_t n = 0;
    for (; pos < end; pos += zi.length, n++)
        if (!ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(&decoder, NULL, d->arena.map.rw + pos, end - pos, &zi)))
            break;
    return n;
}

struct block *translate_measured(struct dbt *d, uint64_t va, uint32_t page, const struct key *k, unsigned most,
                                 bool publish)
{
    uint64_t begun = d->host_ns();
    struct block *b = translate(d, va, page, k, most, publish);
    if (!b)
        return NULL;
    struct code_stats *s = &d->stats;
    s->ns += d->host_ns() - begun;
    s->measured_insns += b->count;
    s->host_insns_inline += count_insns(d, b->entry, d->last.stubs);
    s->host_insns += count_insns(d, b->entry, d->last.end) + count_insns(d, d->last.cold, d->cold_pos);
    return b;
}

static double ratio(uint64_t a, uint64_t b)
{
    return b ? (double)a / (double)b : 0;
}

size_t dbt_stats(const struct engine *e, struct engine_stat *out, size_t max)
{
    const struct dbt *d = (const struct dbt *)e;
    const struct code_stats *s = &d->stats;
    const struct engine_stat rows[] = {
        {"blocks translated", (double)s->blocks},
        {"guest instructions translated", (double)s->insns},
        {"bytes of host code per guest instruction", ratio(s->bytes, s->insns)},
        {"instructions not decoded before", (double)decode_cache_misses(d->decoded)},
        {"blocks dropped", (double)s->drops},
        {"flushes of all code", (double)s->flushes},
        /* measured */
        {"host instructions per guest instruction", ratio(s->host_insns_inline, s->measured_insns)},
        {"the same with slow paths and exits", ratio(s->host_insns, s->measured_insns)},
        {"translation, ns per guest instruction", ratio(s->ns, s->measured_insns)},
        {"translation, ms in all", (double)s->ns / 1e6},
    };
    size_t n = MIN(ARRAY_LEN(rows) - (d->host_ns ? 0 : 4), max);
    memcpy(out, rows, n * sizeof(*out));
    return n;
}
