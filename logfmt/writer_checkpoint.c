/* logfmt/writer_checkpoint.c: checkpoints in a recording: the guest waits while its pages are looked at and copied, a
 * thread packs and writes them.
 *
 * Both cost processor time, so a page is stored only when it has to be: content that the recording has already (in a
 * checkpoint, or in the memory that the guest begins with, which every replay has) is referred to; and what hardly
 * shrinks is not packed. */
#include <signal.h>

#include "core/base/check.h"
#include "core/base/map.h"
#include "logfmt/words.h"
#include "logfmt/writer.h"

enum {
    CHECKPOINT_LEVEL = -1,     /* of zstd: they are many bytes, in the middle of a recording */
    SAMPLES = 4,               /* pieces of a frame that tell whether it is worth packing */
    SAMPLE_LEN = 1024,
    SAMPLE_MAX = SAMPLES * SAMPLE_LEN * 2 / 3, /* bytes that they may have when packed */
    PART_LEN = LOG_CHECKPOINT_FRAME_PAGES * LOG_CHECKPOINT_PAGE,
    PART_ROOM = FRAME_HEADER_LEN + PART_LEN,
    SMALL_LEN = PART_LEN / 4,  /* a frame that is shorter takes little time in any case: a long recording has many */
    PARTS = 4,                 /* that wait for the thread; what is more is written before. New memory costs time */
};

void writer_job_deinit(struct checkpoint_job *job)
{
    map_free(job->parts, (size_t)PARTS * PART_ROOM);
    buf_deinit(&job->list);
    buf_deinit(&job->state);
}

static uint8_t *part_at(struct checkpoint_job *job, size_t i)
{
    return job->parts + i * PART_ROOM;
}

void writer_settle(struct log_writer *w)
{
    if (!w->job.running)
        return;
    pthread_join(w->job.thread, NULL);
    w->job.running = false;
}

/* ---- on the thread ---- */

static struct frame frame_of(const struct log_writer *w, enum checkpoint_part part)
{
    return (struct frame){.type = FRAME_CHECKPOINT, .flags = FRAME_SKIPPABLE, .events = (uint16_t)part,
                          .first = w->job.at};
}

/* How a frame's pages are stored. What zstd makes of a kernel's data is smaller, but takes it three times as long as
 * words. What hardly shrinks, such as machine code, takes zstd most of its time, for little. */
enum packing { PACK_NOT, PACK_WORDS, PACK_ZSTD };

/* The first that makes a sample small enough. */
static enum packing choose_packing(struct log_writer *w, const uint8_t *data, size_t len)
{
    uint8_t sample[SAMPLES * SAMPLE_LEN], packed[SAMPLES * SAMPLE_LEN * 2];
    if (len < SMALL_LEN)
        return PACK_ZSTD;
    for (size_t i = 0; i < SAMPLES; i++)
        memcpy(sample + i * SAMPLE_LEN, data + len / SAMPLES * i + len / SAMPLES / 2, SAMPLE_LEN);
    if (words_pack(sample, sizeof(sample), packed) <= SAMPLE_MAX)
        return PACK_WORDS;
    size_t n = ZSTD_compressCCtx(w->zstd, packed, SAMPLE_MAX, sample, sizeof(sample), CHECKPOINT_LEVEL);
    return ZSTD_isError(n) ? PACK_NOT : PACK_ZSTD; /* no room: the one way to fail */
}

static struct err *write_words(struct log_writer *w, const uint8_t *data, size_t len)
{
    struct frame f = frame_of(w, CHECKPOINT_WORDS);
    w->frame.len = 0;
    uint8_t *to = buf_reserve(&w->frame, FRAME_HEADER_LEN + WORDS_HEAD_LEN + words_room(len));
    if (!to)
        return writer_fail_memory(w);
    put_le16(to + FRAME_HEADER_LEN, (uint16_t)(len / LOG_CHECKPOINT_PAGE));
    size_t n = WORDS_HEAD_LEN + words_pack(data, len, to + FRAME_HEADER_LEN + WORDS_HEAD_LEN);
    if (n >= len) /* the sample was not like the rest */
        return writer_frame(w, frame_of(w, CHECKPOINT_PAGES), data, len, CHECKPOINT_LEVEL);
    f.raw_len = f.stored_len = (uint32_t)n;
    return writer_send(w, f, to);
}

static struct err *write_part(struct log_writer *w, uint8_t *part, size_t len)
{
    struct frame f = frame_of(w, CHECKPOINT_PAGES);
    const uint8_t *data = part + FRAME_HEADER_LEN;
    switch (choose_packing(w, data, len)) {
    case PACK_WORDS:
        return write_words(w, data, len);
    case PACK_ZSTD:
        return writer_frame(w, f, data, len, CHECKPOINT_LEVEL);
    case PACK_NOT:
        break;
    }
    f.raw_len = f.stored_len = (uint32_t)len;
    return writer_send(w, f, part);
}

static struct err *write_parts(struct log_writer *w)
{
    struct checkpoint_job *job = &w->job;
    struct err *e = NULL;
    size_t used = 0;
    for (size_t left = job->pages * LOG_CHECKPOINT_PAGE; left && !e; left -= MIN(left, (size_t)PART_LEN))
        e = write_part(w, part_at(job, used++), MIN(left, (size_t)PART_LEN));
    job->pages = 0;
    return e;
}

static void *write_job(void *arg)
{
    struct log_writer *w = arg;
    struct err *e = write_parts(w);
    if (!e)
        e = writer_frame(w, frame_of(w, CHECKPOINT_STATE), w->job.state.data, w->job.state.len, CHECKPOINT_LEVEL);
    err_destroy(e); /* rule (5) of writer.c: w->failed has it */
    return NULL;
}

/* On a thread, that takes no signals meant for the program; without one, here. */
static void start_job(struct log_writer *w)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    w->job.running = pthread_create(&w->job.thread, NULL, write_job, w) == 0;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (!w->job.running)
        write_job(w);
}

/* ---- taking ---- */

/* A checkpoint's list of pages while it is made. */
struct listing {
    uint32_t before;              /* the page before, 0 at the beginning */
    struct page_places places;
    uint64_t content;             /* the number that the next content gets */
    size_t spare;                 /* bytes that references may still take, so that the list fits into its frame */
};

static size_t varint_len(uint64_t v)
{
    size_t len = 1;
    while (v >>= 7)
        len++;
    return len;
}

/* Bytes of the list of pages without any references. */
static size_t list_len(const struct log_checkpoint_source *c)
{
    size_t len = 0;
    uint32_t before = 0;
    for (size_t i = 0; i < c->pages; before = c->page[i++])
        len += varint_len(page_entry(c->page[i] - before, CHECKPOINT_PAGE_STORED));
    return len;
}

static bool list_put(struct log_writer *w, struct listing *l, uint32_t page, enum checkpoint_page kind)
{
    uint64_t entry = page_entry(page - l->before, kind);
    l->before = page;
    return buf_put_varint(&w->job.list, entry);
}

/* The content is in the file already: *done when the list could say so. */
static bool list_reference(struct log_writer *w, struct listing *l, uint32_t page, const struct known_place *place,
                           bool *done)
{
    enum checkpoint_page kind = place->first ? CHECKPOINT_PAGE_FIRST : CHECKPOINT_PAGE_KNOWN;
    struct page_places places = l->places;
    uint64_t v = page_place_encode(&places, kind, place->number);
    *done = varint_len(v) <= l->spare;
    if (!*done)
        return true;
    l->spare -= varint_len(v);
    l->places = places;
    return list_put(w, l, page, kind) && buf_put_varint(&w->job.list, v);
}

static struct err *copy_page(struct log_writer *w, struct listing *l, uint32_t page, const uint8_t *data)
{
    struct checkpoint_job *job = &w->job;
    struct err *e = job->pages == (size_t)PARTS * LOG_CHECKPOINT_FRAME_PAGES ? write_parts(w) : NULL;
    size_t part = job->pages / LOG_CHECKPOINT_FRAME_PAGES, slot = job->pages % LOG_CHECKPOINT_FRAME_PAGES;
    if (e)
        return e;
    memcpy(part_at(job, part) + FRAME_HEADER_LEN + slot * LOG_CHECKPOINT_PAGE, data, LOG_CHECKPOINT_PAGE);
    job->pages++;
    l->content++;
    return list_put(w, l, page, CHECKPOINT_PAGE_STORED) ? NULL : writer_fail_memory(w);
}

static struct err *take_page(struct log_writer *w, struct listing *l, uint32_t page, const uint8_t *data)
{
    struct known_place place = {.number = l->content};
    bool done = false;
    if (!data)
        return list_put(w, l, page, CHECKPOINT_PAGE_ZERO) ? NULL : writer_fail_memory(w);
    if (known_find_or_add(&w->known, data, w->salt, &place) && !list_reference(w, l, page, &place, &done))
        return writer_fail_memory(w);
    return done ? NULL : copy_page(w, l, page, data);
}

/* The list of pages, and the contents that have to be stored. *frames: how many frames these will have taken. */
static struct err *take_pages(struct log_writer *w, const struct log_checkpoint_source *c, size_t spare,
                              uint64_t *frames)
{
    struct listing l = {.content = w->content_slots, .spare = spare};
    struct err *e = NULL;
    w->job.pages = w->job.list.len = 0;
    for (size_t i = 0; i < c->pages && !e; i++)
        e = take_page(w, &l, c->page[i], c->content(c->arg, c->page[i]));
    *frames = (l.content - w->content_slots + LOG_CHECKPOINT_FRAME_PAGES - 1) / LOG_CHECKPOINT_FRAME_PAGES;
    w->content_slots += *frames * LOG_CHECKPOINT_FRAME_PAGES;
    return e;
}

static bool put_state(struct log_writer *w, const struct log_checkpoint_source *c, uint64_t frames)
{
    struct buf *out = &w->job.state;
    out->len = 0;
    return buf_put_varint(out, frames) && buf_put_varint(out, c->pages) &&
           buf_put(out, w->job.list.data, w->job.list.len) && buf_put(out, c->state, c->state_len);
}

/* Memory for pages that wait, and the table of contents: from the first use on. */
static bool make_room(struct log_writer *w)
{
    if (!w->job.parts)
        w->job.parts = map_zero_huge((size_t)PARTS * PART_ROOM);
    return w->job.parts && (w->known.entries || known_init(&w->known));
}

struct err *log_writer_first_page(struct log_writer *w, uint32_t page, const uint8_t *content)
{
    struct known_place place = {.first = true, .number = page};
    struct err *e = writer_check_usable(w);
    if (e)
        return e;
    if (!make_room(w))
        return writer_fail_memory(w);
    known_find_or_add(&w->known, content, w->salt, &place);
    return NULL;
}

struct err *log_writer_checkpoint(struct log_writer *w, uint64_t ticks, const struct log_checkpoint_source *c,
                                  bool *written)
{
    struct err *e = writer_check_usable(w);
    uint64_t frames = 0;
    size_t least = list_len(c) + c->state_len + 2 * VARINT_MAX; /* of the state frame */
    *written = !e && least < LOG_FRAME_RAW_MAX;
    if (e || !*written)
        return e;
    CHECK(ticks >= w->last_ticks, "a checkpoint at %" PRIu64 " after an event at %" PRIu64, ticks, w->last_ticks);
    e = make_room(w) ? log_writer_flush(w) : writer_fail_memory(w);
    w->job.at = (struct log_pos){w->next_seq, ticks};
    if (!e)
        e = take_pages(w, c, LOG_FRAME_RAW_MAX - least, &frames);
    if (e)
        return e;
    if (!put_state(w, c, frames))
        return writer_fail_memory(w);
    start_job(w);
    return NULL;
}
