/* analysis/kallsyms.c: from a few bytes of the token table to all symbols. */
#include "analysis/kallsyms.h"

#include <stdlib.h>

enum {
    TOKENS = 256,
    INDEX_LEN = TOKENS * 2,
    GROUP = 256,            /* symbols for each marker */
    TOKEN_TABLE_MAX = 8192, /* real ones: about 1 KiB */
    LENGTH_MAX = 0x3fff,
    /* Tables of 500,000 symbols fit. */
    BEFORE = 20 << 20, AFTER = 8 << 20,
    /* A guest may be full of things that look like tables. */
    TRIES_MAX = 4096, WINDOWS_MAX = 16, WALK_MAX = 8 * KALLSYMS_MAX, PROBE_COST = 4 * GROUP,
};

/* Where the tables are: offsets in the window, which begins at a multiple of 8. */
struct tables {
    const struct window *w;
    uint64_t tokens, index;
    uint64_t num_syms, names, markers;
    uint64_t values, base;
    uint32_t count;
    uint32_t walked; /* work done so far, in symbols */
};

static uint64_t align8(uint64_t v) { return align_up(v, 8); }

/* ---- the token table ---- */

static const char digits[] = "0\0001\0002\0003\0004\0005\0006\0007\0008\0009"; /* with the last zero */

/* Follow the strings from token '0' to the last, behind which lies the index; it says where the first is. */
static bool find_tokens(const struct window *w, uint64_t digit0, struct tables *t)
{
    uint64_t at = digit0;
    for (unsigned i = '0'; i < TOKENS; i++) {
        if (at >= w->len || at - digit0 > TOKEN_TABLE_MAX)
            return false;
        const uint8_t *end = memchr(w->bytes + at, 0, w->len - at);
        if (!end)
            return false;
        at = (uint64_t)(end - w->bytes) + 1;
    }
    uint64_t end = at, index = align8(at);
    if (!window_has(w, index, INDEX_LEN))
        return false;
    const uint8_t *p = w->bytes + index;
    uint64_t back = get_le16(p + 2 * '0');
    if (back > digit0 || get_le16(p) != 0)
        return false;
    t->w = w, t->tokens = digit0 - back, t->index = index;
    if (t->tokens % 8 || end - t->tokens > TOKEN_TABLE_MAX)
        return false;
    for (unsigned i = 0; i < TOKENS; i++) { /* each begins right behind a zero, and the last zero is the table's end */
        uint64_t from = t->tokens + get_le16(p + 2 * i);
        uint64_t to = i + 1 < TOKENS ? t->tokens + get_le16(p + 2 * (i + 1)) : end;
        if (from >= to || to > end || memchr(w->bytes + from, 0, to - from) != w->bytes + to - 1)
            return false;
    }
    return true;
}

/* ---- names and markers ---- */

/* The length of the name at *at, which moves behind it. 0: none. */
static uint32_t name_len(const struct window *w, uint64_t *at, uint64_t end)
{
    if (*at >= end)
        return 0;
    uint32_t len = w->bytes[(*at)++];
    if (len & 0x80) {
        if (*at >= end)
            return 0;
        len = (len & 0x7f) | (uint32_t)w->bytes[(*at)++] << 7;
    }
    return len <= LENGTH_MAX && len <= end - *at ? len : 0;
}

/* Do `count` names from `names` meet every marker, and end where the markers begin? */
static bool walk_names(struct tables *t, uint64_t names, uint64_t markers, uint32_t count)
{
    uint64_t at = names;
    for (uint32_t i = 0; i < count; i++) {
        if (i % GROUP == 0 && window_u32(t->w, markers + 4 * (i / GROUP)) != at - names)
            return false;
        uint32_t len = name_len(t->w, &at, markers);
        if (!len || ++t->walked > WALK_MAX)
            return false;
        at += len;
    }
    return align8(at) == markers;
}

/* How many entries from `markers` on could be markers: they begin with 0, and names have sensible lengths. */
static uint32_t count_markers(const struct tables *t, uint64_t markers)
{
    uint32_t n = 0, last = 0;
    for (uint64_t at = markers; at + 4 <= t->tokens; at += 4, n++) {
        uint32_t v = get_le32(t->w->bytes + at);
        if (n == 0 ? v != 0 : v < last + GROUP * 2 || v > last + GROUP * 256)
            break;
        last = v;
    }
    return n;
}

/* With `n` markers: names begin before them by what the last marker says and at most GROUP names more, and the word
 * before is their number. */
static bool find_names(struct tables *t, uint64_t markers, uint32_t n)
{
    uint64_t last = window_u32(t->w, markers + 4 * (uint64_t)(n - 1));
    t->walked += PROBE_COST;
    if (last + 8 > markers || t->walked > WALK_MAX)
        return false;
    uint64_t high = align_down(markers - last, 8), low = high > GROUP * 512 ? high - GROUP * 512 : 8;
    for (uint64_t names = high; names >= low && names >= 8; names -= 8) {
        uint32_t count = window_u32(t->w, names - 8);
        if (count <= (n - 1) * GROUP || count > n * GROUP || count > KALLSYMS_MAX)
            continue;
        if (walk_names(t, names, markers, count)) {
            t->num_syms = names - 8, t->names = names, t->markers = markers, t->count = count;
            return true;
        }
    }
    return false;
}

static bool find_markers(struct tables *t)
{
    enum { RUN_ON = 2 }; /* what follows the markers may look like some more of them */
    for (uint64_t markers = t->tokens; markers >= 16 && t->walked <= WALK_MAX;) {
        markers -= 8;
        uint32_t n = count_markers(t, markers);
        if (n < 2) /* a kernel has more than 256 symbols */
            continue;
        for (uint32_t less = 0; less <= RUN_ON && less + 2 <= n; less++)
            if (find_names(t, markers, n - less))
                return true;
    }
    return false;
}

/* ---- addresses ---- */

/* CONFIG_KALLSYMS_ABSOLUTE_PERCPU (x86-64 with SMP, before 6.15) has per-CPU symbols as they are, and tells the
 * others by their sign: -1 is relative_base. Without it all are unsigned distances from relative_base. */
static uint64_t value_of(int32_t offset, uint64_t base, bool percpu)
{
    if (!percpu)
        return base + (uint32_t)offset;
    return offset >= 0 ? (uint64_t)offset : base - 1 - (uint64_t)(int64_t)offset;
}

/* Right when the addresses ascend, and relative_base is the first of those relative to it, as the format has it. */
static bool check_values(const struct tables *t, bool percpu)
{
    uint64_t base = window_u64(t->w, t->base), last = 0;
    bool base_seen = false;
    if (!window_has(t->w, t->values, 4 * (uint64_t)t->count) || base - KERNEL_MAP >= KERNEL_MAP_LEN)
        return false;
    for (uint32_t i = 0; i < t->count; i++) {
        uint64_t v = value_of((int32_t)window_u32(t->w, t->values + 4 * (uint64_t)i), base, percpu);
        if (v < last || (v >= base && !base_seen && v != base))
            return false;
        base_seen |= v == base;
        last = v;
    }
    return base_seen;
}

static bool find_values(struct tables *t, bool *percpu_out)
{
    uint64_t len = align8(4 * (uint64_t)t->count), after = t->index + INDEX_LEN;
    const struct { uint64_t values, base; } places[] = {
        {t->num_syms - 8 - len, t->num_syms - 8}, /* before 6.4 */
        {after, after + len},                     /* since */
    };
    for (unsigned i = 0; i < 2 * ARRAY_LEN(places); i++) {
        t->values = places[i / 2].values, t->base = places[i / 2].base;
        *percpu_out = i % 2 == 0;
        if (check_values(t, *percpu_out))
            return true;
    }
    return false;
}

/* ---- decoding ---- */

/* The expansion of one name. 0: longer than `room`, or characters that no symbol has. */
static uint32_t expand(const struct tables *t, uint64_t at, uint32_t len, char *out, uint32_t room)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < len; i++) {
        const uint8_t *token = t->w->bytes + t->tokens + get_le16(t->w->bytes + t->index + 2 * t->w->bytes[at + i]);
        for (; *token; token++) {
            if (n + 1 >= room || *token <= ' ' || *token >= 0x7f)
                return 0;
            out[n++] = (char)*token;
        }
    }
    out[n] = 0;
    return n >= 2 ? n + 1 : 0; /* a type and a name */
}

/* Room for one more name of any length. */
static struct err *pool_grow(struct kallsyms *k, size_t *room)
{
    if (*room - k->pool_len >= KALLSYMS_NAME_MAX)
        return NULL;
    size_t larger = *room ? *room + *room / 2 : 1 << 20;
    char *p = larger <= UINT32_MAX ? realloc(k->pool, larger) : NULL;
    if (!p)
        return err_new(ERR_HOST, "no memory for the kernel's symbols");
    k->pool = p, *room = larger;
    return NULL;
}

/* Leaves k->count 0 when a name is no name. */
static struct err *decode(const struct tables *t, bool percpu, struct kallsyms *k)
{
    k->addr = malloc(t->count * sizeof(*k->addr));
    k->name = malloc(t->count * sizeof(*k->name));
    if (!k->addr || !k->name)
        return err_new(ERR_HOST, "no memory for the kernel's symbols");
    uint64_t at = t->names, base = window_u64(t->w, t->base);
    size_t room = 0;
    for (uint32_t i = 0; i < t->count; i++) {
        struct err *e = pool_grow(k, &room);
        if (e)
            return e;
        uint32_t len = name_len(t->w, &at, t->markers);
        uint32_t n = expand(t, at, len, k->pool + k->pool_len, KALLSYMS_NAME_MAX);
        if (!n)
            return NULL;
        k->addr[i] = value_of((int32_t)window_u32(t->w, t->values + 4 * (uint64_t)i), base, percpu);
        k->name[i] = (uint32_t)k->pool_len;
        k->pool_len += n;
        at += len;
    }
    k->count = t->count;
    return NULL;
}

/* ---- the search ---- */

struct search {
    const struct space *space;
    struct kallsyms *out;
    unsigned tries, windows;
    uint32_t walked;
    struct err *failed;
};

static struct err *open_around(const struct search *s, uint64_t addr, uint64_t before, uint64_t after,
                               struct window *out, uint64_t *at_out)
{
    uint64_t base = align_down(addr - MIN(addr, before), 8);
    *at_out = addr - base;
    return window_open(s->space, base, addr - base + MIN(after, UINT64_MAX - addr), out);
}

static struct err *try_window(struct search *s, uint64_t addr)
{
    struct window w;
    uint64_t before;
    struct err *e = open_around(s, addr, BEFORE, AFTER, &w, &before);
    struct tables t = {.walked = s->walked};
    bool percpu;
    if (!e && find_tokens(&w, before, &t) && find_markers(&t) && find_values(&t, &percpu))
        e = decode(&t, percpu, s->out);
    s->walked = t.walked;
    if (!e && s->out->count)
        s->out->at = w.base + t.tokens;
    else
        kallsyms_deinit(s->out);
    window_close(&w);
    return e;
}

static bool found_digits(void *arg, uint64_t addr)
{
    struct search *s = arg;
    struct window w;
    struct tables t;
    uint64_t before;
    s->failed = open_around(s, addr, TOKEN_TABLE_MAX, 2 * TOKEN_TABLE_MAX, &w, &before);
    if (s->failed)
        return true;
    bool tokens = find_tokens(&w, before, &t);
    window_close(&w);
    if (tokens) {
        s->windows++;
        s->failed = try_window(s, addr);
    }
    return s->failed || s->out->count || ++s->tries >= TRIES_MAX || s->windows >= WINDOWS_MAX;
}

struct err *kallsyms_find(const struct space *space, struct kallsyms *out)
{
    *out = (struct kallsyms){0};
    struct search s = {.space = space, .out = out};
    struct err *e = space_search(space, digits, sizeof(digits), found_digits, &s);
    if (!e)
        return s.failed;
    err_destroy(s.failed);
    return e;
}

void kallsyms_deinit(struct kallsyms *k)
{
    free(k->addr);
    free(k->name);
    free(k->pool);
    *k = (struct kallsyms){0};
}
