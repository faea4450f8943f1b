/* logfmt/frame.h: the layout of a recording below its events: file header, frame headers, content entries, index,
 * footer, and their checksums. Internal to logfmt/; docs/recording-format.md describes the same bytes. */
#ifndef HW_LOGFMT_FRAME_H
#define HW_LOGFMT_FRAME_H

#include "logfmt/bytes.h"
#include "logfmt/log.h"

/* Keys and roles are words of a-z, 0-9 and ".-_": they appear in messages. Values may be any text in one line, for the
 * same reason: a recording that somebody mailed must not be able to send escape sequences to a terminal. */
bool name_good(const char *name);
bool line_good(const char *text);

/* ---- File header ---- */

/* The first byte is no text, the rest shows a transfer that changed line ends, as PNG's does. */
#define LOG_MAGIC "\x89HWR\r\n\x1a\n"
enum {
    MAGIC_LEN = 8,
    HEADER_PREFIX_LEN = 24, /* magic, versions, length, checksum: the same in every version of the format */
    HEADER_FIXED_LEN = 40,  /* with the fields of this version; the facts follow */
};

must_check struct err *header_encode(const struct log_header *h, struct buf *out);

/* What the prefix says. Errors: ERR_CORRUPT for what is no recording at all. */
must_check struct err *header_prefix_decode(const uint8_t prefix[HEADER_PREFIX_LEN], uint32_t *len_out);

struct header_storage { /* a decoded header with the memory its strings are in */
    struct log_header h;
    struct log_fact *facts;
    char *strings;
};
/* The whole header. Errors: ERR_CORRUPT, ERR_UNSUPPORTED (needs a newer reader), ERR_HOST. */
must_check struct err *header_decode(const uint8_t *data, size_t len, struct header_storage *out);
void header_storage_deinit(struct header_storage *s);

/* The header's checksum seeds every other checksum of the file, so that no frame of another recording fits in. */
uint64_t header_salt(const uint8_t *header);

/* Compare checksums. A fuzzer cannot guess them, so that in its builds all are equal. */
bool sums_equal(uint64_t a, uint64_t b);

/* ---- Frames ---- */

enum frame_type {
    FRAME_CONTENT = 1,    /* a piece of a blob; ticks: its offset in the blob */
    FRAME_BLOB = 2,       /* names a blob and says where its pieces are */
    FRAME_EVENTS = 3,
    FRAME_INDEX = 4,
    FRAME_FOOTER = 5,
    FRAME_CHECKPOINT = 6, /* a part of a checkpoint; always skippable */
    FRAME_DISK = 7,       /* reserved: blocks of a disk image */
};

enum {
    FRAME_SKIPPABLE = 1, /* who does not know the type may pass over it */
    FRAME_ZSTD = 2,      /* the payload is one zstd frame; otherwise it is stored as it is */

    FRAME_HEADER_LEN = 40,
    FOOTER_LEN = 24, /* payload of the footer, never compressed: it is found from the end of the file */
    BLOB_ENTRY_FIXED_LEN = 36,
};

enum checkpoint_part {
    CHECKPOINT_PAGES = 1, /* contents of pages */
    CHECKPOINT_STATE = 3, /* varints: page frames before this one, pages, the list of them; then the state */
    CHECKPOINT_WORDS = 4, /* contents of pages: two bytes with their number, then what words_pack() makes of them */
};
enum { WORDS_HEAD_LEN = 2 };

/* An entry of that list is a varint with the page's number, less that of the one before, and where its content is. */
enum checkpoint_page {
    CHECKPOINT_PAGE_STORED, /* the next in the page frames of this checkpoint */
    CHECKPOINT_PAGE_ZERO,   /* nowhere: all zero */
    CHECKPOINT_PAGE_KNOWN,  /* a varint follows: a content in the frames of this checkpoint or of one before */
    CHECKPOINT_PAGE_FIRST,  /* a varint follows: a page as it was at tick 0 */
};
enum { CHECKPOINT_PAGE_BITS = 2 };
static inline uint64_t page_entry(uint32_t step, enum checkpoint_page kind)
{
    return (uint64_t)step << CHECKPOINT_PAGE_BITS | kind;
}

/* References go on where the one before of the same kind ended: what follows each other there mostly does so here as
 * well. */
struct page_places { uint64_t next[CHECKPOINT_PAGE_FIRST + 1]; };
static inline uint64_t page_place_encode(struct page_places *p, enum checkpoint_page kind, uint64_t number)
{
    uint64_t v = zigzag(number - p->next[kind]);
    p->next[kind] = number + 1;
    return v;
}
static inline uint64_t page_place_decode(struct page_places *p, enum checkpoint_page kind, uint64_t v)
{
    uint64_t number = p->next[kind] + unzigzag(v);
    p->next[kind] = number + 1;
    return number;
}

struct frame {
    uint8_t type, flags;
    uint16_t events;     /* FRAME_EVENTS: their number; FRAME_CHECKPOINT: enum checkpoint_part; 0 otherwise */
    uint32_t raw_len;    /* payload, unpacked */
    uint32_t stored_len; /* payload in the file */
    struct log_pos first;
    uint64_t payload_sum;
};

void frame_header_encode(const struct frame *f, uint64_t salt, uint8_t out[FRAME_HEADER_LEN]);
/* NULL when good, otherwise what is wrong with it. */
const char *frame_header_decode(const uint8_t in[FRAME_HEADER_LEN], uint64_t salt, struct frame *out);
bool frame_payload_good(const struct frame *f, uint64_t salt, const uint8_t *payload);

/* ---- Payloads with a fixed layout ---- */

struct blob_entry {
    struct log_blob blob;
    uint64_t pieces_offset; /* of the first piece's frame */
    uint32_t pieces;
    char role[LOG_BLOB_ROLE_MAX + 1];
};
bool blob_entry_encode(const struct blob_entry *b, struct buf *out);
/* out->blob.role is left to the caller, because the entry may move. */
bool blob_entry_decode(const uint8_t *payload, size_t len, struct blob_entry *out);

/* One event frame. */
struct index_entry {
    uint64_t offset;
    struct log_pos first;
};
/* Entries are coded as differences to `prev`, zeroes before the first one of a frame. */
bool index_entry_encode(const struct index_entry *e, const struct index_entry *prev, struct buf *out);
bool index_entry_decode(struct cursor *c, const struct index_entry *prev, struct index_entry *out);

struct footer {
    uint64_t index_offset; /* of the first index frame; that of the footer when there is none */
    uint64_t event_frames;
    uint64_t frames;       /* of all types, without the footer */
};
void footer_encode(const struct footer *f, uint8_t out[FOOTER_LEN]);
void footer_decode(const uint8_t in[FOOTER_LEN], struct footer *out);

#endif
