/* tests/unit/logfmt_checkpoints.c: checkpoints in a recording. A thread of the writer's own writes them; what the
 * recording has already is referred to; whatever is read in place of them does no harm. Numbers in parentheses are
 * the rules in logfmt/writer.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/base/hash.h"
#include "logfmt/frame.h"
#include "logfmt/words.h"
#include "tests/unit/logfmt_util.h"

/* ---- What is recorded ---- */

enum { CP_COUNT = 3, CP_PAGES = 900, CP_EVENTS = 40, FIRST_PAGES = 60, SAME = 13, PACKED_BELOW = 900 };
/* Pages with the same key have the same content. */
enum { ZERO = 0, FIRST_KEY = 1000, SAME_KEY = 2000, OWN_KEY = 10000 };

static unsigned key_of(unsigned i, uint32_t page)
{
    if (page % 7 == 0)
        return ZERO;
    if (page % 11 == 0)
        return FIRST_KEY + page / 11 % FIRST_PAGES;
    return page % 5 ? OWN_KEY * i + page : SAME_KEY + page / 5 % SAME;
}

/* Always in the same buffer: what the writer is shown is gone at the next page. Keys of pages from PACKED_BELOW on
 * have contents that do not shrink. */
static const uint8_t *content_of(unsigned key)
{
    static uint64_t content[LOG_CHECKPOINT_PAGE / 8];
    uint64_t random = key * UINT64_C(1000003);
    bool shrinks = key % OWN_KEY < PACKED_BELOW;
    for (size_t i = 0; i < ARRAY_LEN(content); i++)
        content[i] = shrinks && i % 3 ? random : (random = random * 6364136223846793005 + 1442695040888963407);
    return key == ZERO ? NULL : (const uint8_t *)content;
}

static const uint8_t *cp_content(void *arg, uint32_t page)
{
    return content_of(key_of(*(const unsigned *)arg, page));
}

static struct err *cp_write(struct log_writer *w, unsigned i)
{
    static uint32_t page[CP_PAGES];
    char state[32];
    bool written;
    snprintf(state, sizeof(state), "state %u", i);
    for (uint32_t k = 0; k < CP_PAGES; k++)
        page[k] = 2 * k + i;
    struct log_checkpoint_source c = {.state = (uint8_t *)state, .state_len = sizeof(state), .page = page,
                                      .pages = CP_PAGES, .content = cp_content, .arg = &i};
    struct err *e = log_writer_checkpoint(w, (uint64_t)i * CP_EVENTS * SAMPLE_PERIOD, &c, &written);
    assert_true(e || written);
    memset(page, 0xff, sizeof(page));
    return e;
}

/* Events before, between and after, that are added while the thread is at work. */
static struct err *cp_record(struct log_writer *w)
{
    uint64_t random = 1;
    struct err *e = NULL;
    for (uint32_t n = 0; n < FIRST_PAGES && !e; n++)
        e = log_writer_first_page(w, 3 * n, content_of(FIRST_KEY + n));
    for (unsigned i = 0; i <= CP_COUNT && !e; i++) {
        e = i ? cp_write(w, i) : NULL;
        if (!e)
            e = sample_digests(w, &random, i * CP_EVENTS + 1, (i + 1) * CP_EVENTS);
    }
    return e ? e : log_writer_finish(w, (CP_COUNT + 1) * CP_EVENTS * SAMPLE_PERIOD);
}

/* ---- What is read ---- */

struct place { uint64_t at; uint16_t slot; };

static void check_stored(struct log_reader *r, const struct log_checkpoint_page *p, unsigned key, struct place *places)
{
    const uint8_t *data;
    size_t pages;
    struct place *known = &places[key];
    assert_int_equal(p->kind, LOG_PAGE_STORED);
    if (known->at) { /* the same content is stored once */
        assert_int_equal(p->at, known->at);
        assert_int_equal(p->slot, known->slot);
    }
    *known = (struct place){p->at, p->slot};
    succeeds(log_reader_checkpoint_content(r, p->at, &data, &pages));
    assert_true(p->slot < pages);
    assert_memory_equal(data + (size_t)p->slot * LOG_CHECKPOINT_PAGE, content_of(key), LOG_CHECKPOINT_PAGE);
}

/* `places` by key. */
static void cp_check(struct log_reader *r, size_t number, struct place *places)
{
    struct log_checkpoint cp;
    unsigned i = (unsigned)number + 1;
    succeeds(log_reader_checkpoint(r, number, &cp));
    assert_int_equal(cp.pos.seq, i * CP_EVENTS);
    assert_int_equal(cp.pos.ticks, i * CP_EVENTS * SAMPLE_PERIOD);
    assert_int_equal(cp.state[6], '0' + i);
    assert_int_equal(cp.pages, CP_PAGES);
    struct log_checkpoint_page page[CP_PAGES]; /* reading contents takes its place */
    memcpy(page, cp.page, sizeof(page));
    for (size_t k = 0; k < CP_PAGES; k++) {
        unsigned key = key_of(i, page[k].page);
        assert_int_equal(page[k].page, 2 * k + i);
        if (key == ZERO) {
            assert_int_equal(page[k].kind, LOG_PAGE_ZERO);
        } else if (key < SAME_KEY) {
            assert_int_equal(page[k].kind, LOG_PAGE_FIRST);
            assert_int_equal(page[k].at, 3 * (key - FIRST_KEY));
        } else {
            check_stored(r, &page[k], key, places);
        }
    }
}

static void test_checkpoints(void **state)
{
    (void)state;
    struct memory_file f = {0};
    struct log_sink sink = memory_sink(&f);
    struct log_writer *w;
    size_t count;
    struct place *places = calloc(OWN_KEY * (CP_COUNT + 1), sizeof(*places));
    succeeds(log_writer_create_sink(&sink, "memory", &sample_header, &w));
    succeeds(cp_record(w));
    log_writer_destroy(w);
    struct log_reader *r = reader_of(&f);
    assert_int_equal(log_reader_summary(r).state, LOG_CLOSED);
    assert_int_equal(log_reader_summary(r).last.seq, (CP_COUNT + 1) * CP_EVENTS);
    succeeds(log_reader_find_checkpoints(r, &count));
    assert_int_equal(count, CP_COUNT);
    for (size_t i = 0; i < count; i++)
        cp_check(r, i, places);
    log_reader_close(r);
    free(places);
    free(f.data);
}

/* Whichever write fails, whoever calls next is told, nothing follows (5), and what there is can be read. */
static void test_write_fails(void **state)
{
    (void)state;
    for (uint64_t n = 2;; n++) {
        struct memory_file f = {.fail_at = n, .fail_errno = EIO, .short_by = 10};
        struct log_sink sink = memory_sink(&f);
        struct log_writer *w;
        succeeds(log_writer_create_sink(&sink, "memory", &sample_header, &w));
        struct err *e = cp_record(w);
        log_writer_destroy(w);
        if (e) {
            assert_int_equal(err_code(e), ERR_HOST);
            assert_int_equal(f.writes, n + 1); /* the rest of the one that was short */
        } else {
            assert_true(f.writes < n);
        }
        struct log_reader *r = reader_of(&f);
        struct contents c = contents_read(r);
        succeeds(c.error);
        assert_int_equal(log_reader_summary(r).state, e ? LOG_TRUNCATED : LOG_CLOSED);
        assert_int_equal(c.events % CP_EVENTS, 0);
        free(c.text);
        log_reader_close(r);
        free(f.data);
        err_destroy(e);
        if (f.writes < n)
            break;
    }
}

/* ---- What is stored how ---- */

static struct memory_file record_one(const struct log_checkpoint_source *c, bool *written)
{
    struct memory_file f = {0};
    struct log_sink sink = memory_sink(&f);
    struct log_writer *w;
    uint64_t random = 1;
    succeeds(log_writer_create_sink(&sink, "memory", &sample_header, &w));
    succeeds(sample_digests(w, &random, 1, 1));
    succeeds(log_writer_checkpoint(w, SAMPLE_PERIOD, c, written));
    succeeds(log_writer_finish(w, SAMPLE_PERIOD));
    log_writer_destroy(w);
    return f;
}

/* Contents of kinds that are packed in different ways: a kernel's data, text, and what does not shrink. */
enum kind { DATA, TEXT, NOISE, KINDS };
static const uint8_t *content_of_kind(void *arg, uint32_t page)
{
    const enum kind kind = *(const enum kind *)arg;
    static uint8_t content[LOG_CHECKPOINT_PAGE];
    static const char *const words[] = {"what ", "hardly ", "shrinks ", "is ", "stored "};
    uint64_t random = page + 1;
    for (size_t i = 0, n; i < sizeof(content); i += n) {
        uint64_t r = sample_random(&random);
        const char *word = words[r % ARRAY_LEN(words)];
        uint64_t pointer = r & 1 ? UINT64_C(0xffff888000000000) + (r >> 44) : 0;
        n = MIN(kind == TEXT ? strlen(word) : sizeof(r), sizeof(content) - i);
        memcpy(content + i, kind == TEXT ? (const void *)word : kind == DATA ? &pointer : &r, n);
    }
    return content;
}

/* How a frame is packed depends on a sample of it. */
static void test_packing(void **state)
{
    (void)state;
    static const struct { size_t least, most; } percent[] = {
        [DATA] = {10, 60}, [TEXT] = {10, 60}, [NOISE] = {100, 101}};
    uint32_t page[2 * LOG_CHECKPOINT_FRAME_PAGES];
    for (uint32_t i = 0; i < ARRAY_LEN(page); i++)
        page[i] = i;
    for (enum kind kind = 0; kind < KINDS; kind++) {
        bool written;
        struct log_checkpoint_source c = {.page = page, .pages = ARRAY_LEN(page), .content = content_of_kind,
                                          .arg = &kind};
        struct memory_file f = record_one(&c, &written);
        assert_true(written);
        assert_in_range(f.len * 100 / (ARRAY_LEN(page) * LOG_CHECKPOINT_PAGE), percent[kind].least, percent[kind].most);
        struct log_reader *r = reader_of(&f);
        struct log_checkpoint cp;
        size_t count, pages;
        const uint8_t *data;
        succeeds(log_reader_find_checkpoints(r, &count));
        for (size_t k = 0; k < ARRAY_LEN(page); k += 7) {
            succeeds(log_reader_checkpoint(r, 0, &cp));
            struct log_checkpoint_page p = cp.page[k];
            succeeds(log_reader_checkpoint_content(r, p.at, &data, &pages));
            assert_int_equal(pages, LOG_CHECKPOINT_FRAME_PAGES);
            assert_memory_equal(data + (size_t)p.slot * LOG_CHECKPOINT_PAGE, content_of_kind(&kind, (uint32_t)k),
                                LOG_CHECKPOINT_PAGE);
        }
        log_reader_close(r);
        free(f.data);
    }
}

static void test_words(void **state)
{
    (void)state;
    enum { WORDS = 64, LEN = WORDS * sizeof(uint64_t), TAGS = WORDS / WORDS_TAGGED };
    static const struct { const char *what; uint64_t from[4]; size_t len; } cases[] = {
        {"zeroes", {0}, TAGS},
        {"small numbers, near zero; then the same", {1, 1, 1, 1}, TAGS + 3 + (WORDS - 1)},
        {"near each other", {UINT64_C(0xffff888012340000), UINT64_C(0xffff88801234ffff)},
         TAGS + 8 + 3 * (WORDS / 2 - 1)},
        {"two that are far away", {UINT64_C(1) << 40, 0, UINT64_C(3) << 50, 0}, TAGS + 2 * 8 + (WORDS / 2 - 2)},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        uint8_t from[LEN], packed[LEN + LEN / 8], back[LEN];
        for (size_t at = 0; at < LEN; at += sizeof(cases[i].from))
            memcpy(from + at, cases[i].from, sizeof(cases[i].from));
        size_t n = words_pack(from, LEN, packed);
        if (n != cases[i].len)
            fail_msg("%s: %zu bytes, not %zu", cases[i].what, n, cases[i].len);
        assert_true(words_unpack(packed, n, back, LEN));
        assert_memory_equal(back, from, LEN);
        for (size_t cut = 0; cut < n; cut++)
            assert_false(words_unpack(packed, cut, back, LEN));
        assert_false(words_unpack(packed, n + 1, back, LEN));
    }
}

static const uint8_t *always_same(void *arg, uint32_t page)
{
    (void)arg;
    (void)page;
    return content_of(SAME_KEY);
}

/* A state frame that is almost too long for the format: references take what is left, and then contents are stored
 * again. */
static void test_no_room_for_references(void **state)
{
    (void)state;
    enum { PAGES = 400, LEAST = 20 }; /* of the frame, without list and state: both lengths have room for any number */
    uint32_t page[PAGES];
    uint8_t *own = calloc(1, LOG_FRAME_RAW_MAX);
    for (uint32_t i = 0; i < PAGES; i++)
        page[i] = i;
    for (int spare = -1; spare <= 2 * PAGES; spare += spare < 3 ? 1 : 399) {
        bool written;
        struct log_checkpoint_source c = {.state = own,
                                          .state_len = (size_t)(LOG_FRAME_RAW_MAX - LEAST - PAGES - 1 - spare),
                                          .page = page, .pages = PAGES, .content = always_same};
        struct memory_file f = record_one(&c, &written);
        assert_int_equal(written, spare >= 0);
        struct log_reader *r = reader_of(&f);
        struct log_checkpoint cp;
        size_t count, slots[LOG_CHECKPOINT_FRAME_PAGES] = {0}, distinct = 0;
        succeeds(log_reader_find_checkpoints(r, &count));
        assert_int_equal(count, written);
        if (written) {
            succeeds(log_reader_checkpoint(r, 0, &cp));
            assert_int_equal(cp.pages, PAGES);
            assert_int_equal(cp.state_len, c.state_len);
            for (size_t i = 0; i < PAGES; i++) {
                assert_int_equal(cp.page[i].kind, LOG_PAGE_STORED);
                distinct += cp.page[i].at != cp.page[0].at || !slots[cp.page[i].slot]++;
            }
            assert_true(distinct == (size_t)MAX(PAGES - 1 - spare, 1)); /* one byte each */
        }
        log_reader_close(r);
        free(f.data);
    }
    free(own);
}

/* ---- Recordings from anybody ---- */

static void add_frame(struct memory_file *f, uint8_t type, uint8_t flags, uint16_t events, const uint8_t *payload,
                      size_t len)
{
    uint64_t salt = header_salt(f->data);
    uint8_t header[FRAME_HEADER_LEN];
    struct frame frame = {.type = type, .flags = flags, .events = events, .raw_len = (uint32_t)len,
                          .stored_len = (uint32_t)len, .first = {type == FRAME_CHECKPOINT, 500},
                          .payload_sum = hash64(payload, len, salt)};
    frame_header_encode(&frame, salt, header);
    memory_append(f, header, sizeof(header));
    memory_append(f, payload, len);
}

/* A recording with one event, a frame of contents, and a state frame. */
static struct memory_file handmade_with(uint16_t part, const uint8_t *contents, size_t contents_len,
                                        uint16_t state_part, const uint8_t *list, size_t len)
{
    const uint8_t wake[] = {1, 7, 0, 2, 1, 1, 0, 0, 3};
    struct memory_file f = {0};
    struct log_sink sink = memory_sink(&f);
    struct log_writer *w;
    succeeds(log_writer_create_sink(&sink, "handmade", &sample_header, &w));
    log_writer_destroy(w);
    add_frame(&f, FRAME_EVENTS, 0, 1, wake, sizeof(wake));
    add_frame(&f, FRAME_CHECKPOINT, FRAME_SKIPPABLE, part, contents, contents_len);
    add_frame(&f, FRAME_CHECKPOINT, FRAME_SKIPPABLE, state_part, list, len);
    return f;
}

/* With two contents and this list. */
static struct memory_file handmade(const uint8_t *list, size_t len, uint16_t state_part)
{
    static const uint8_t contents[2 * LOG_CHECKPOINT_PAGE];
    return handmade_with(CHECKPOINT_PAGES, contents, sizeof(contents), state_part, list, len);
}

#define LIST(...) .list = {__VA_ARGS__}, .len = sizeof((uint8_t[]){__VA_ARGS__})

static void test_lists(void **state)
{
    (void)state;
    enum { STORED = CHECKPOINT_PAGE_STORED, NONE = CHECKPOINT_PAGE_ZERO, KNOWN = CHECKPOINT_PAGE_KNOWN,
           FIRST = CHECKPOINT_PAGE_FIRST };
    const struct { const char *what; bool good; size_t pages; uint8_t list[16]; size_t len; } cases[] = {
        {"one of each", true, 4, LIST(1, 4, 4 | STORED, 4 | NONE, 4 | KNOWN, 2, 4 | FIRST, 18)},
        {"nothing", true, 0, LIST(1, 0)},
        {"a slot that the frame lacks: for whoever reads the frame", true, 1, LIST(1, 1, KNOWN, 0xfe, 3)},
        {"other frames than there are", false, 0, LIST(2, 0)},
        {"behind the contents", false, 0, LIST(1, 1, KNOWN, 0x80, 4)},
        {"before the contents", false, 0, LIST(1, 1, KNOWN, 1)},
        {"the same page twice", false, 0, LIST(1, 2, 4 | NONE, NONE)},
        {"a page of 33 bits", false, 0, LIST(1, 1, 0x80 | NONE, 0x80, 0x80, 0x80, 0x80, 1)},
        {"page 33 bits of tick 0", false, 0, LIST(1, 1, FIRST, 0x80, 0x80, 0x80, 0x80, 0x20)},
        {"it ends in a list", false, 0, LIST(1, 2, 4 | NONE)},
        {"it ends in a reference", false, 0, LIST(1, 1, 4 | KNOWN, 0x80)},
        {"it ends before a reference", false, 0, LIST(1, 1, 4 | FIRST)},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct memory_file f = handmade(cases[i].list, cases[i].len, CHECKPOINT_STATE);
        struct log_reader *r = reader_of(&f);
        struct log_checkpoint cp;
        size_t count;
        succeeds(log_reader_find_checkpoints(r, &count));
        assert_int_equal(count, 1);
        struct err *e = log_reader_checkpoint(r, 0, &cp);
        if (!e != cases[i].good)
            fail_msg("%s: %s", cases[i].what, e ? err_message(e) : "accepted");
        if (e)
            assert_int_equal(err_code(e), ERR_CORRUPT);
        else
            assert_int_equal(cp.pages, cases[i].pages);
        if (cp.pages == 4 && !e) {
            assert_int_equal(cp.page[2].at, cp.page[0].at);
            assert_int_equal(cp.page[2].slot, 1);
            assert_int_equal(cp.page[3].kind, LOG_PAGE_FIRST);
            assert_int_equal(cp.page[3].at, 9);
        }
        err_destroy(e);
        log_reader_close(r);
        free(f.data);
    }
}

/* A frame packed by words that is not what it says. */
static void test_bad_words(void **state)
{
    (void)state;
    enum { TAGS = LOG_CHECKPOINT_PAGE / sizeof(uint64_t) / WORDS_TAGGED, WHOLE = WORDS_HEAD_LEN + TAGS };
    static const struct { const char *what; uint16_t pages; size_t len, good; } cases[] = {
        {"a page of zeroes", 1, WHOLE, 1}, {"no number", 1, 1, 0}, {"no page", 0, WORDS_HEAD_LEN, 0},
        {"it ends in the tags", 1, WHOLE - 1, 0}, {"it does not end", 1, WHOLE + 1, 0},
        {"more pages than a frame has", LOG_CHECKPOINT_FRAME_PAGES + 1,
         WORDS_HEAD_LEN + TAGS * (LOG_CHECKPOINT_FRAME_PAGES + 1), 0},
    };
    const uint8_t list[] = {1, 1, CHECKPOINT_PAGE_STORED};
    uint8_t *contents = calloc(1, WORDS_HEAD_LEN + TAGS * (LOG_CHECKPOINT_FRAME_PAGES + 1));
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        put_le16(contents, cases[i].pages);
        struct memory_file f = handmade_with(CHECKPOINT_WORDS, contents, cases[i].len, CHECKPOINT_STATE, list,
                                             sizeof(list));
        struct log_reader *r = reader_of(&f);
        struct log_checkpoint cp;
        size_t count, pages = 0;
        const uint8_t *data;
        succeeds(log_reader_find_checkpoints(r, &count));
        succeeds(log_reader_checkpoint(r, 0, &cp));
        struct err *e = log_reader_checkpoint_content(r, cp.page[0].at, &data, &pages);
        if (pages != cases[i].good || (e && err_code(e) != ERR_CORRUPT))
            fail_msg("%s: %s", cases[i].what, e ? err_message(e) : "accepted");
        err_destroy(e);
        log_reader_close(r);
        free(f.data);
    }
    free(contents);
}

/* The state frames of earlier versions, whose lists were others. */
static void test_earlier_version(void **state)
{
    (void)state;
    const uint8_t list[] = {1, 1, 2};
    struct memory_file f = handmade(list, sizeof(list), 2);
    struct log_reader *r = reader_of(&f);
    size_t count;
    succeeds(log_reader_find_checkpoints(r, &count));
    assert_int_equal(count, 0);
    log_reader_close(r);
    free(f.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_checkpoints),
        cmocka_unit_test(test_write_fails),
        cmocka_unit_test(test_packing),
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_no_room_for_references),
        cmocka_unit_test(test_lists),
        cmocka_unit_test(test_bad_words),
        cmocka_unit_test(test_earlier_version),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
