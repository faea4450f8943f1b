/* logfmt/codec.h: a frame's events to bytes and back, column by column. Internal to logfmt/.
 *
 * Values of one kind compress best side by side, so a frame is a directory, the order of its events, and one column
 * per field. See docs/recording-format.md, "Event frames". Nothing is carried from one frame to the next. */
#ifndef HW_LOGFMT_CODEC_H
#define HW_LOGFMT_CODEC_H

#include "logfmt/bytes.h"
#include "logfmt/table.h"

enum {
    COLUMN_TICKS, /* column 0 of every kind; the fields follow in table order */
    COLUMNS_MAX = 1 + EVENT_FIELDS_MAX,
    FRAME_KINDS_MAX = 64,  /* kinds of event in one frame */
    KIND_COLUMNS_MAX = 64, /* columns of one kind, those of a newer version included */
    KIND_SKIPPABLE = 1,    /* directory flag: who does not know the id may ignore its events */
};

/* What deltas refer to: the same kind's previous event in the frame; zeroes and the frame's first ticks before it. */
struct history {
    uint64_t ticks;
    struct log_event event;
};

struct encoder {
    uint64_t period; /* the header's digest period */
    uint64_t first_ticks;
    uint32_t events;
    size_t len;      /* bytes encoded so far, without the directory */
    struct buf order;
    struct kind_encoder {
        uint32_t events;
        struct history prev;
        struct buf columns[COLUMNS_MAX];
    } kinds[EVENT_KINDS];
};

void encoder_init(struct encoder *e, uint64_t period);
void encoder_deinit(struct encoder *e);

/* `ticks` is not less than in the previous call. False: out of memory, the encoder is then good for deinit only. */
bool encoder_add(struct encoder *e, uint64_t ticks, const struct log_event *ev);

/* Append the frame's payload to `out` and start the next frame. False as above. */
bool encoder_take(struct encoder *e, struct buf *out);

enum decoded { DECODED_EVENT, DECODED_SKIPPED, DECODED_END, DECODED_BAD, DECODED_UNKNOWN };

struct decoder {
    uint64_t period;
    struct log_pos next; /* seq of the next event; ticks of the last one */
    struct cursor order;
    unsigned kind_count;
    struct kind_decoder {
        const struct event_desc *desc; /* NULL: a newer version's */
        bool skippable;
        unsigned columns; /* those in use: the ticks, and fields that both this version and the recording know */
        struct history prev;
        struct cursor column[COLUMNS_MAX];
    } kinds[FRAME_KINDS_MAX];
};

/* Start on a payload, which is borrowed. False: it is malformed. */
bool decoder_begin(struct decoder *d, uint64_t period, const uint8_t *payload, size_t len, uint32_t events,
                   struct log_pos first);

/* The next event (DECODED_EVENT; bytes point into the payload), one of a newer version that may be ignored
 * (DECODED_SKIPPED) or not (DECODED_UNKNOWN), the end, or malformed bytes. */
enum decoded decoder_next(struct decoder *d, struct log_pos *pos, struct log_event *ev);

#endif
