/* replay/transcript.c: see transcript.h. */
#include "replay/transcript.h"

#include <stdlib.h>
#include <string.h>

struct line { uint64_t offset, ticks; }; /* offset: since the guest's beginning */

struct transcript_span {
    uint64_t from; /* the offset of its first byte */
    uint8_t *data;
    size_t len, cap;
    struct line *line; /* the first one begins with the span, which may be in its middle */
    size_t lines, line_cap;
};

static void span_deinit(struct transcript_span *s)
{
    free(s->data);
    free(s->line);
}

void transcript_deinit(struct transcript *t)
{
    for (size_t i = 0; i < t->count; i++)
        span_deinit(&t->span[i]);
    free(t->span);
    *t = (struct transcript){0};
}

/* Room for `more` elements of `size` bytes in *p. */
static bool reserve(void **p, size_t *cap, size_t count, size_t more, size_t size)
{
    enum { CAP_MIN = 64 };
    if (count + more <= *cap)
        return true;
    size_t want = MAX(MAX(2 * *cap, count + more), (size_t)CAP_MIN);
    void *grown = reallocarray(*p, want, size);
    if (!grown)
        return false;
    *p = grown;
    *cap = want;
    return true;
}

/* How many spans begin at `offset` or before. */
static size_t begun(const struct transcript *t, uint64_t offset)
{
    size_t lo = 0, hi = t->count;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (t->span[mid].from <= offset)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* The span that a byte at `at` belongs to, as one of its own or as its next; made when there is none. */
static struct transcript_span *span_here(struct transcript *t)
{
    size_t i = begun(t, t->at);
    if (i && t->at - t->span[i - 1].from <= t->span[i - 1].len)
        return &t->span[i - 1];
    if (!reserve((void **)&t->span, &t->cap, t->count, 1, sizeof(*t->span)))
        return NULL;
    memmove(t->span + i + 1, t->span + i, (t->count - i) * sizeof(*t->span));
    t->span[i] = (struct transcript_span){.from = t->at};
    t->count++;
    return &t->span[i];
}

static bool ends_line(const struct transcript_span *s)
{
    return !s->len || s->data[s->len - 1] == '\n';
}

static bool put(struct transcript_span *s, uint64_t ticks, uint8_t byte)
{
    if (!reserve((void **)&s->data, &s->cap, s->len, 1, 1) ||
        !reserve((void **)&s->line, &s->line_cap, s->lines, 1, sizeof(*s->line)))
        return false;
    if (ends_line(s))
        s->line[s->lines++] = (struct line){s->from + s->len, ticks};
    s->data[s->len++] = byte;
    return true;
}

/* `s` has come up to the span behind it. A line that began in `s` goes on there. */
static void join(struct transcript *t, struct transcript_span *s)
{
    size_t i = (size_t)(s - t->span) + 1;
    struct transcript_span *next = s + 1;
    if (i == t->count || next->from != s->from + s->len || !reserve((void **)&s->data, &s->cap, s->len, next->len, 1) ||
        !reserve((void **)&s->line, &s->line_cap, s->lines, next->lines, sizeof(*s->line)))
        return;
    size_t skip = !ends_line(s) && next->lines;
    memcpy(s->line + s->lines, next->line + skip, (next->lines - skip) * sizeof(*s->line));
    s->lines += next->lines - skip;
    memcpy(s->data + s->len, next->data, next->len);
    s->len += next->len;
    span_deinit(next);
    memmove(next, next + 1, (t->count - i - 1) * sizeof(*next));
    t->count--;
}

void transcript_add(struct transcript *t, uint64_t ticks, const uint8_t *data, size_t len)
{
    for (size_t i = 0; i < len; i++, t->at++) {
        struct transcript_span *s = span_here(t);
        if (s && t->at == s->from + s->len && put(s, ticks, data[i])) {
            t->len++;
            join(t, s);
        }
    }
}

/* Without its first `n` bytes; the line that the next one belongs to stays known. */
static void cut_front(struct transcript_span *s, size_t n)
{
    size_t gone = 0;
    s->from += n;
    s->len -= n;
    memmove(s->data, s->data + n, s->len);
    while (gone + 1 < s->lines && s->line[gone + 1].offset <= s->from)
        gone++;
    s->lines -= gone;
    memmove(s->line, s->line + gone, s->lines * sizeof(*s->line));
}

static void cut_back(struct transcript_span *s, size_t len)
{
    s->len = len;
    while (s->lines && s->line[s->lines - 1].offset >= s->from + len)
        s->lines--;
}

void transcript_trim(struct transcript *t, size_t keep)
{
    uint64_t first = t->at - MIN(t->at, keep), end = t->at + MIN(UINT64_MAX - t->at, keep);
    size_t left = 0;
    if (t->len / TRANSCRIPT_SLACK <= keep)
        return;
    t->len = 0;
    for (size_t i = 0; i < t->count; i++) {
        struct transcript_span s = t->span[i];
        if (s.from >= end || s.from + s.len <= first) {
            span_deinit(&s);
            continue;
        }
        if (s.from + s.len > end)
            cut_back(&s, end - s.from);
        if (s.from < first)
            cut_front(&s, first - s.from);
        t->len += s.len;
        t->span[left++] = s;
    }
    t->count = left;
}

/* The span with the byte before `at`; NULL: it is not known. */
static const struct transcript_span *span_before(const struct transcript *t)
{
    size_t i = t->at ? begun(t, t->at - 1) : 0;
    return i && t->at - t->span[i - 1].from <= t->span[i - 1].len ? &t->span[i - 1] : NULL;
}

const uint8_t *transcript_text(const struct transcript *t, size_t *len_out)
{
    const struct transcript_span *s = span_before(t);
    *len_out = s ? (size_t)(t->at - s->from) : 0;
    return s ? s->data : NULL;
}

uint64_t transcript_ticks(const struct transcript *t, size_t offset)
{
    const struct transcript_span *s = span_before(t);
    size_t lo = 0, hi = s ? s->lines : 0; /* the last line that begins at or before offset */
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (s->line[mid].offset <= s->from + offset)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo ? s->line[lo - 1].ticks : 0;
}
