/* logfmt/frame.c: see frame.h. */
#include "logfmt/frame.h"

#include "core/base/hash.h"

#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
enum { TRUST_CHECKSUMS = 1 };
#else
enum { TRUST_CHECKSUMS = 0 };
#endif

bool sums_equal(uint64_t a, uint64_t b) { return TRUST_CHECKSUMS || a == b; }

bool name_good(const char *name) { return *name && name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789._-")] == 0; }

bool line_good(const char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            return false;
    return true;
}

/* Low 32 bits of XXH3-64 over the header's other bytes. */
enum { FRAME_SUM_OFFSET = FRAME_HEADER_LEN - 4 };

static uint32_t frame_header_sum(const uint8_t *header, uint64_t salt)
{
    return (uint32_t)hash64(header, FRAME_SUM_OFFSET, salt);
}

void frame_header_encode(const struct frame *f, uint64_t salt, uint8_t out[FRAME_HEADER_LEN])
{
    out[0] = f->type;
    out[1] = f->flags;
    put_le16(out + 2, f->events);
    put_le32(out + 4, f->raw_len);
    put_le32(out + 8, f->stored_len);
    put_le64(out + 12, f->first.seq);
    put_le64(out + 20, f->first.ticks);
    put_le64(out + 28, f->payload_sum);
    put_le32(out + FRAME_SUM_OFFSET, frame_header_sum(out, salt));
}

/* Types of a newer version may be longer, when they can be skipped without being read. */
static bool frame_len_good(const struct frame *f)
{
    bool known = f->type >= FRAME_CONTENT && f->type <= FRAME_CHECKPOINT;
    if (known && f->raw_len > LOG_FRAME_RAW_MAX)
        return false;
    return f->flags & FRAME_ZSTD ? f->stored_len < f->raw_len : f->stored_len == f->raw_len;
}

const char *frame_header_decode(const uint8_t in[FRAME_HEADER_LEN], uint64_t salt, struct frame *out)
{
    *out = (struct frame){
        .type = in[0],
        .flags = in[1],
        .events = get_le16(in + 2),
        .raw_len = get_le32(in + 4),
        .stored_len = get_le32(in + 8),
        .first = {get_le64(in + 12), get_le64(in + 20)},
        .payload_sum = get_le64(in + 28),
    };
    if (!sums_equal(get_le32(in + FRAME_SUM_OFFSET), frame_header_sum(in, salt)))
        return "the frame header's checksum is wrong";
    if (!frame_len_good(out))
        return "the frame's lengths contradict each other or the limits";
    if (out->type == FRAME_EVENTS && (out->events == 0 || out->events > LOG_FRAME_EVENTS_MAX))
        return "the number of events is out of range";
    return NULL;
}

bool frame_payload_good(const struct frame *f, uint64_t salt, const uint8_t *payload)
{
    return sums_equal(f->payload_sum, hash64(payload, f->stored_len, salt));
}

/*  offset  bytes
 *       0      8  length of the content
 *       8     16  XXH3-128 of the content, low half first
 *      24      8  file offset of the first piece's frame
 *      32      4  number of pieces
 *      36         the role, up to the end */
bool blob_entry_encode(const struct blob_entry *b, struct buf *out)
{
    uint8_t fixed[BLOB_ENTRY_FIXED_LEN];
    put_le64(fixed, b->blob.len);
    put_le64(fixed + 8, b->blob.hash[0]);
    put_le64(fixed + 16, b->blob.hash[1]);
    put_le64(fixed + 24, b->pieces_offset);
    put_le32(fixed + 32, b->pieces);
    return buf_put(out, fixed, sizeof(fixed)) && buf_put(out, b->role, strlen(b->role));
}

bool blob_entry_decode(const uint8_t *payload, size_t len, struct blob_entry *out)
{
    if (len <= BLOB_ENTRY_FIXED_LEN || len > BLOB_ENTRY_FIXED_LEN + LOG_BLOB_ROLE_MAX)
        return false;
    *out = (struct blob_entry){
        .blob = {.len = get_le64(payload), .hash = {get_le64(payload + 8), get_le64(payload + 16)}},
        .pieces_offset = get_le64(payload + 24),
        .pieces = get_le32(payload + 32),
    };
    memcpy(out->role, payload + BLOB_ENTRY_FIXED_LEN, len - BLOB_ENTRY_FIXED_LEN);
    return strlen(out->role) == len - BLOB_ENTRY_FIXED_LEN && name_good(out->role) && out->blob.len <= LOG_BLOB_LEN_MAX;
}

bool index_entry_encode(const struct index_entry *e, const struct index_entry *prev, struct buf *out)
{
    return buf_put_varint(out, e->offset - prev->offset) && buf_put_varint(out, e->first.seq - prev->first.seq) &&
           buf_put_varint(out, e->first.ticks - prev->first.ticks);
}

bool index_entry_decode(struct cursor *c, const struct index_entry *prev, struct index_entry *out)
{
    uint64_t offset = cursor_varint(c), seq = cursor_varint(c), ticks = cursor_varint(c);
    return !c->bad && !__builtin_add_overflow(prev->offset, offset, &out->offset) &&
           !__builtin_add_overflow(prev->first.seq, seq, &out->first.seq) &&
           !__builtin_add_overflow(prev->first.ticks, ticks, &out->first.ticks);
}

void footer_encode(const struct footer *f, uint8_t out[FOOTER_LEN])
{
    put_le64(out, f->index_offset);
    put_le64(out + 8, f->event_frames);
    put_le64(out + 16, f->frames);
}

void footer_decode(const uint8_t in[FOOTER_LEN], struct footer *out)
{
    *out = (struct footer){get_le64(in), get_le64(in + 8), get_le64(in + 16)};
}

/* ---- File header ----
 *
 *  offset  bytes
 *       0      8  magic
 *       8      2  version
 *      10      2  min_reader
 *      12      4  length of the header, these bytes included
 *      16      8  checksum: XXH3-64 of the bytes from 24 on, seeded with XXH3-64 of bytes 0..15
 *      24      1  clock
 *      25      1  tick unit
 *      26      2  number of facts
 *      28      4  0
 *      32      8  digest period
 *      40         facts: u16 key length, u16 value length, key, value */

uint64_t header_salt(const uint8_t *header) { return get_le64(header + 16); }

static uint64_t header_sum(const uint8_t *header, size_t len)
{
    return hash64(header + HEADER_PREFIX_LEN, len - HEADER_PREFIX_LEN, hash64(header, 16, 0));
}

static bool put_facts(const struct log_header *h, struct buf *out)
{
    bool ok = true;
    for (size_t i = 0; i < h->fact_count; i++) {
        uint8_t lens[4];
        size_t key_len = strlen(h->facts[i].key), value_len = strlen(h->facts[i].value);
        put_le16(lens, (uint16_t)key_len);
        put_le16(lens + 2, (uint16_t)value_len);
        ok = ok && buf_put(out, lens, sizeof(lens)) && buf_put(out, h->facts[i].key, key_len) &&
             buf_put(out, h->facts[i].value, value_len);
    }
    return ok;
}

static struct err *check_facts(const struct log_header *h)
{
    if (h->fact_count > LOG_FACTS_MAX)
        return err_new(ERR_HOST, "a recording's header has room for %d facts, not for %zu", LOG_FACTS_MAX,
                       h->fact_count);
    for (size_t i = 0; i < h->fact_count; i++) {
        const struct log_fact *f = &h->facts[i];
        if (strlen(f->key) > LOG_FACT_KEY_MAX || strlen(f->value) > LOG_FACT_VALUE_MAX)
            return err_new(ERR_HOST, "the fact %.64s is too long for a recording's header", f->key);
        if (!name_good(f->key) || !line_good(f->value))
            return err_new(ERR_HOST, "the fact %s is no line of text", f->key);
    }
    return NULL;
}

struct err *header_encode(const struct log_header *h, struct buf *out)
{
    uint8_t fixed[HEADER_FIXED_LEN] = {0};
    struct err *e = check_facts(h);
    if (e)
        return e;
    memcpy(fixed, LOG_MAGIC, MAGIC_LEN);
    put_le16(fixed + 8, LOG_VERSION);
    put_le16(fixed + 10, LOG_MIN_READER);
    fixed[24] = (uint8_t)h->clock;
    fixed[25] = (uint8_t)h->tick_unit;
    put_le16(fixed + 26, (uint16_t)h->fact_count);
    put_le64(fixed + 32, h->digest_period);
    if (!buf_put(out, fixed, sizeof(fixed)) || !put_facts(h, out))
        return err_new(ERR_HOST, "out of memory");
    if (out->len > LOG_HEADER_MAX)
        return err_new(ERR_HOST, "the facts are too long for a recording's header");
    put_le32(out->data + 12, (uint32_t)out->len);
    put_le64(out->data + 16, header_sum(out->data, out->len));
    return NULL;
}

struct err *header_prefix_decode(const uint8_t prefix[HEADER_PREFIX_LEN], uint32_t *len_out)
{
    *len_out = get_le32(prefix + 12);
    if (memcmp(prefix, LOG_MAGIC, MAGIC_LEN))
        return err_new(ERR_CORRUPT, "this is no recording");
    if (*len_out < HEADER_PREFIX_LEN || *len_out > LOG_HEADER_MAX)
        return err_new(ERR_CORRUPT, "the header is damaged");
    return NULL;
}

/* The string of `len` bytes as a C string in `*strings`, which advances. NULL: too long, or with a NUL in it. */
static const char *take_string(struct cursor *c, uint16_t len, size_t max, char **strings)
{
    const uint8_t *p = len <= max ? cursor_take(c, len) : NULL;
    if (!p || memchr(p, 0, len))
        return NULL;
    char *s = *strings;
    memcpy(s, p, len);
    s[len] = 0;
    *strings += len + 1;
    return s;
}

static bool decode_facts(struct cursor *c, struct header_storage *out)
{
    char *strings = out->strings;
    for (size_t i = 0; i < out->h.fact_count; i++) {
        const uint8_t *lens = cursor_take(c, 4);
        if (!lens || get_le16(lens) == 0)
            return false;
        out->facts[i].key = take_string(c, get_le16(lens), LOG_FACT_KEY_MAX, &strings);
        out->facts[i].value = take_string(c, get_le16(lens + 2), LOG_FACT_VALUE_MAX, &strings);
        if (!out->facts[i].key || !out->facts[i].value || !name_good(out->facts[i].key) ||
            !line_good(out->facts[i].value))
            return false;
    }
    return true;
}

static struct err *decode_fixed(const uint8_t *data, size_t len, struct log_header *h)
{
    h->version = get_le16(data + 8);
    h->min_reader = get_le16(data + 10);
    if (len < HEADER_PREFIX_LEN || !sums_equal(header_salt(data), header_sum(data, len)))
        return err_new(ERR_CORRUPT, "the header is damaged: its checksum is wrong");
    if (h->min_reader > LOG_VERSION)
        return err_new(ERR_UNSUPPORTED, "the recording has format version %u, this program reads up to %d", h->version,
                       LOG_VERSION);
    if (len < HEADER_FIXED_LEN || h->version == 0)
        return err_new(ERR_CORRUPT, "the header is malformed");
    h->clock = data[24];
    h->tick_unit = data[25];
    h->fact_count = get_le16(data + 26);
    h->digest_period = get_le64(data + 32);
    if (h->clock > LOG_CLOCK_VIRTUAL || h->tick_unit > LOG_TICK_STEP || h->fact_count > LOG_FACTS_MAX)
        return err_new(ERR_CORRUPT, "the header is malformed");
    return NULL;
}

struct err *header_decode(const uint8_t *data, size_t len, struct header_storage *out)
{
    *out = (struct header_storage){0};
    struct err *e = decode_fixed(data, len, &out->h);
    if (e)
        return e;
    /* A fact of n bytes of text takes n + 4 in the file and n + 2 in memory. */
    out->facts = calloc(out->h.fact_count + 1, sizeof(*out->facts));
    out->strings = malloc(len);
    out->h.facts = out->facts;
    struct cursor c = {data + HEADER_FIXED_LEN, data + len, false};
    if (!out->facts || !out->strings)
        e = err_new(ERR_HOST, "out of memory");
    else if (!decode_facts(&c, out) || (out->h.version == LOG_VERSION && cursor_left(&c)))
        e = err_new(ERR_CORRUPT, "the header's facts are malformed");
    if (e)
        header_storage_deinit(out);
    return e;
}

void header_storage_deinit(struct header_storage *s)
{
    free(s->facts);
    free(s->strings);
    *s = (struct header_storage){0};
}

const char *log_header_fact(const struct log_header *h, const char *key)
{
    for (size_t i = 0; i < h->fact_count; i++)
        if (!strcmp(h->facts[i].key, key))
            return h->facts[i].value;
    return NULL;
}

bool log_header_fact_u64(const struct log_header *h, const char *key, uint64_t *out)
{
    const char *s = log_header_fact(h, key);
    char *end;
    if (!s || *s < '0' || *s > '9')
        return false;
    *out = strtoull(s, &end, 0);
    return *end == 0;
}
