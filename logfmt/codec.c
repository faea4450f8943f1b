/* logfmt/codec.c: see codec.h. */
#include "logfmt/codec.h"

#include "core/base/check.h"

static uint64_t body_u64(const struct log_event *ev, unsigned offset)
{
    return get_le64((const uint8_t *)event_body_const(ev) + offset);
}

/* What F_CLOCK expects: the kind's previous event, extrapolated with its rate. Wraps, the same on both sides. */
static uint64_t predicted_ns(const struct field_desc *f, const struct history *prev, uint64_t ticks)
{
    uint64_t rate_q32 = body_u64(&prev->event, f->rate);
    return body_u64(&prev->event, f->offset) + (uint64_t)((unsigned __int128)(ticks - prev->ticks) * rate_q32 >> 32);
}

/* ---- Encoding ---- */

void encoder_init(struct encoder *e, uint64_t period)
{
    *e = (struct encoder){.period = period};
}

void encoder_deinit(struct encoder *e)
{
    buf_deinit(&e->order);
    for (size_t k = 0; k < EVENT_KINDS; k++)
        for (size_t c = 0; c < COLUMNS_MAX; c++)
            buf_deinit(&e->kinds[k].columns[c]);
}

/* Distance from the kind's previous event: in grid points when `ticks` is one, in ticks otherwise. Periodic digests
 * thus repeat one value, whatever comes between them. */
static uint64_t ticks_code(uint64_t period, uint64_t prev, uint64_t ticks)
{
    if (period && ticks % period == 0 && ticks > prev)
        return (ticks / period - prev / period) << 1 | 1;
    return (ticks - prev) << 1;
}

static bool put_bytes(struct buf *col, const struct field_desc *f, const struct log_bytes *b)
{
    CHECK(b->len <= f->count, "%s has %u bytes", f->name, b->len);
    return buf_put_varint(col, b->len) && buf_put(col, b->data, b->len);
}

static bool put_field(struct buf *col, const struct field_desc *f, const struct history *prev, uint64_t ticks,
                      const struct log_event *ev)
{
    const uint8_t *p = (const uint8_t *)event_body_const(ev) + f->offset;
    switch (f->kind) {
    case FK_U8:
    case FK_ENUM: return buf_put(col, p, 1);
    case FK_U16: return buf_put(col, p, 2);
    case FK_U64: return buf_put(col, p, 8);
    case FK_FIXED: return buf_put(col, p, f->count);
    case FK_U16S: return buf_put(col, p, f->count * sizeof(uint16_t));
    case FK_VAR: return buf_put_varint(col, get_le64(p));
    case FK_DELTA: return buf_put_varint(col, zigzag(get_le64(p) - body_u64(&prev->event, f->offset)));
    case FK_CLOCK: return buf_put_varint(col, zigzag(get_le64(p) - predicted_ns(f, prev, ticks)));
    case FK_BYTES:
    case FK_TEXT: return put_bytes(col, f, (const struct log_bytes *)p);
    }
    return false;
}

static size_t kind_row(enum log_event_id id)
{
    size_t row = 0;
    while (row < EVENT_KINDS && event_table(row)->id != id)
        row++;
    CHECK(row < EVENT_KINDS, "event id %d is no row of events.def", (int)id);
    return row;
}

static size_t kind_len(const struct kind_encoder *k)
{
    size_t len = 0;
    for (size_t c = 0; c < COLUMNS_MAX; c++)
        len += k->columns[c].len;
    return len;
}

bool encoder_add(struct encoder *e, uint64_t ticks, const struct log_event *ev)
{
    size_t row = kind_row(ev->id);
    struct kind_encoder *k = &e->kinds[row];
    size_t len_before = kind_len(k);
    if (e->events == 0)
        e->first_ticks = ticks;
    if (k->events == 0)
        k->prev = (struct history){.ticks = e->first_ticks};

    uint8_t order = (uint8_t)row;
    if (!buf_put(&e->order, &order, 1) ||
        !buf_put_varint(&k->columns[COLUMN_TICKS], ticks_code(e->period, k->prev.ticks, ticks)))
        return false;
    const struct field_desc *fields = event_table(row)->fields();
    for (size_t i = 0; fields[i].name; i++)
        if (!put_field(&k->columns[1 + i], &fields[i], &k->prev, ticks, ev))
            return false;
    k->prev = (struct history){ticks, *ev};
    k->events++;
    e->events++;
    e->len += 1 + kind_len(k) - len_before;
    return true;
}

static unsigned kind_columns(size_t row)
{
    unsigned n = 1;
    for (const struct field_desc *f = event_table(row)->fields(); f->name; f++)
        n++;
    return n;
}

/* The directory, and the index that each row of the table has in it. */
static bool put_directory(const struct encoder *e, struct buf *out, uint8_t index_of_row[EVENT_KINDS])
{
    uint8_t used = 0;
    for (size_t row = 0; row < EVENT_KINDS; row++)
        if (e->kinds[row].events)
            index_of_row[row] = used++;
    bool ok = buf_put_varint(out, used);
    for (size_t row = 0; row < EVENT_KINDS; row++) {
        const struct kind_encoder *k = &e->kinds[row];
        if (!k->events)
            continue;
        unsigned columns = kind_columns(row);
        ok = ok && buf_put_varint(out, event_table(row)->id) && buf_put_varint(out, 0) && buf_put_varint(out, columns);
        for (unsigned c = 0; c < columns; c++)
            ok = ok && buf_put_varint(out, k->columns[c].len);
    }
    return ok;
}

bool encoder_take(struct encoder *e, struct buf *out)
{
    uint8_t index_of_row[EVENT_KINDS] = {0};
    bool ok = put_directory(e, out, index_of_row);
    for (size_t i = 0; i < e->order.len; i++)
        e->order.data[i] = index_of_row[e->order.data[i]];
    ok = ok && buf_put(out, e->order.data, e->order.len);
    for (size_t row = 0; row < EVENT_KINDS; row++) {
        struct kind_encoder *k = &e->kinds[row];
        for (size_t c = 0; c < COLUMNS_MAX; c++) {
            ok = ok && buf_put(out, k->columns[c].data, k->columns[c].len);
            k->columns[c].len = 0;
        }
        k->events = 0;
    }
    e->order.len = 0;
    e->events = 0;
    e->len = 0;
    return ok;
}

/* ---- Decoding ---- */

/* One kind's directory entry. Lengths of columns that this version does not use are summed up in `*unused`. */
static bool begin_kind(struct cursor *c, struct kind_decoder *k, uint64_t lens[KIND_COLUMNS_MAX], unsigned *columns_out)
{
    uint64_t id = cursor_varint(c);
    k->desc = event_find(id);
    k->skippable = cursor_varint(c) & KIND_SKIPPABLE;
    uint64_t columns = cursor_varint(c);
    if (c->bad || columns < 1 || columns > KIND_COLUMNS_MAX)
        return false;
    for (uint64_t i = 0; i < columns; i++)
        lens[i] = cursor_varint(c);
    unsigned known = 1;
    for (const struct field_desc *f = k->desc ? k->desc->fields() : NULL; f && f->name; f++)
        known++;
    *columns_out = (unsigned)columns;
    k->columns = MIN(known, (unsigned)columns);
    return !c->bad;
}

/* Cut the columns out of the payload. They lie in directory order after the order column. */
static bool take_columns(struct cursor *c, struct kind_decoder *k, const uint64_t *lens, unsigned columns)
{
    for (unsigned i = 0; i < columns; i++) {
        const uint8_t *p = cursor_take(c, lens[i]);
        if (p && i < k->columns)
            k->column[i] = (struct cursor){p, p + lens[i], false};
    }
    return !c->bad;
}

bool decoder_begin(struct decoder *d, uint64_t period, const uint8_t *payload, size_t len, uint32_t events,
                   struct log_pos first)
{
    struct cursor c = {payload, payload + len, false};
    uint64_t lens[FRAME_KINDS_MAX][KIND_COLUMNS_MAX];
    unsigned columns[FRAME_KINDS_MAX];
    uint64_t kinds = cursor_varint(&c);
    d->period = period;
    d->next = first;
    d->kind_count = 0;
    if (c.bad || kinds > FRAME_KINDS_MAX)
        return false;
    for (uint64_t i = 0; i < kinds; i++) {
        struct kind_decoder *k = &d->kinds[i];
        k->prev = (struct history){.ticks = first.ticks};
        if (!begin_kind(&c, k, lens[i], &columns[i]))
            return false;
    }
    const uint8_t *order = cursor_take(&c, events);
    if (!order)
        return false;
    d->order = (struct cursor){order, order + events, false};
    for (uint64_t i = 0; i < kinds; i++)
        if (!take_columns(&c, &d->kinds[i], lens[i], columns[i]))
            return false;
    d->kind_count = (unsigned)kinds;
    return cursor_left(&c) == 0;
}

static bool get_ticks(struct decoder *d, struct kind_decoder *k, uint64_t *out)
{
    uint64_t code = cursor_varint(&k->column[COLUMN_TICKS]), point;
    if (k->column[COLUMN_TICKS].bad)
        return false;
    if (!(code & 1)) {
        if (__builtin_add_overflow(k->prev.ticks, code >> 1, out))
            return false;
    } else if (!d->period || __builtin_add_overflow(k->prev.ticks / d->period, code >> 1, &point) ||
               __builtin_mul_overflow(point, d->period, out)) {
        return false;
    }
    return *out >= d->next.ticks && *out >= k->prev.ticks;
}

static void get_raw(struct cursor *c, void *to, size_t len)
{
    const uint8_t *p = cursor_take(c, len);
    if (p)
        memcpy(to, p, len);
}

static void get_bytes(struct cursor *c, const struct field_desc *f, struct log_bytes *b)
{
    uint64_t len = cursor_varint(c);
    c->bad = c->bad || len > f->count;
    b->data = cursor_take(c, len);
    b->len = b->data ? (uint32_t)len : 0;
}

/* False: malformed. */
static bool get_field(struct cursor *c, const struct field_desc *f, const struct history *prev, uint64_t ticks,
                      struct log_event *ev)
{
    uint8_t *p = (uint8_t *)event_body(ev) + f->offset;
    switch (f->kind) {
    case FK_U8:
    case FK_ENUM: get_raw(c, p, 1); break;
    case FK_U16: get_raw(c, p, 2); break;
    case FK_U64: get_raw(c, p, 8); break;
    case FK_FIXED: get_raw(c, p, f->count); break;
    case FK_U16S: get_raw(c, p, f->count * sizeof(uint16_t)); break;
    case FK_VAR: put_le64(p, cursor_varint(c)); break;
    case FK_DELTA: put_le64(p, body_u64(&prev->event, f->offset) + unzigzag(cursor_varint(c))); break;
    case FK_CLOCK: put_le64(p, predicted_ns(f, prev, ticks) + unzigzag(cursor_varint(c))); break;
    case FK_BYTES:
    case FK_TEXT: get_bytes(c, f, (struct log_bytes *)p); break;
    }
    return !c->bad;
}

/* Every byte of every column in use must have been needed. */
static enum decoded decoder_end(const struct decoder *d)
{
    for (unsigned i = 0; i < d->kind_count; i++)
        for (unsigned c = 0; c < d->kinds[i].columns; c++)
            if (cursor_left(&d->kinds[i].column[c]))
                return DECODED_BAD;
    return DECODED_END;
}

enum decoded decoder_next(struct decoder *d, struct log_pos *pos, struct log_event *ev)
{
    if (cursor_left(&d->order) == 0)
        return decoder_end(d);
    unsigned index = *cursor_take(&d->order, 1);
    if (index >= d->kind_count)
        return DECODED_BAD;
    struct kind_decoder *k = &d->kinds[index];
    uint64_t ticks;
    if (!get_ticks(d, k, &ticks))
        return DECODED_BAD;
    if (!k->desc && !k->skippable)
        return DECODED_UNKNOWN;

    *ev = (struct log_event){.id = k->desc ? (enum log_event_id)k->desc->id : LOG_EV_NONE};
    for (unsigned i = 1; i < k->columns; i++)
        if (!get_field(&k->column[i], &k->desc->fields()[i - 1], &k->prev, ticks, ev))
            return DECODED_BAD;
    k->prev = (struct history){ticks, *ev};
    *pos = (struct log_pos){d->next.seq, ticks};
    d->next = (struct log_pos){d->next.seq + 1, ticks};
    return k->desc ? DECODED_EVENT : DECODED_SKIPPED;
}
