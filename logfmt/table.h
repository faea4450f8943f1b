/* logfmt/table.h: events.def as data, for the codec, the dumps and the document. Internal to logfmt/. */
#ifndef HW_LOGFMT_TABLE_H
#define HW_LOGFMT_TABLE_H

#include "logfmt/event.h"

enum field_kind { FK_U8, FK_U16, FK_U64, FK_VAR, FK_DELTA, FK_CLOCK, FK_ENUM, FK_FIXED, FK_U16S, FK_BYTES, FK_TEXT };

struct field_desc {
    const char *name; /* NULL ends a table */
    enum field_kind kind;
    uint16_t offset;   /* in the event's own struct */
    uint16_t count;    /* elements of an array, most bytes of FK_BYTES and FK_TEXT, otherwise 1 */
    uint16_t rate;     /* FK_CLOCK: offset of its rate */
    const char *names; /* FK_ENUM: names of the values 0, 1, ..., each followed by NUL; an empty name ends them */
    const char *text;
};

struct event_desc {
    uint8_t id;
    uint16_t since;
    const char *name, *text;
    const struct field_desc *(*fields)(void);
};

enum event_row {
#define EVENT(id, NAME, name, since, text) EVENT_ROW_##NAME,
#include "logfmt/events_nofields.h"
#include "logfmt/events.def"
#include "logfmt/events_undef.h"
    EVENT_KINDS
};
enum { EVENT_FIELDS_MAX = 8 }; /* fields of an event */

const struct event_desc *event_table(size_t row); /* row < EVENT_KINDS */
const struct event_desc *event_find(uint64_t id); /* NULL when this version does not know it */

/* The event's own struct. */
static inline void *event_body(struct log_event *ev) { return &ev->start; }
static inline const void *event_body_const(const struct log_event *ev) { return &ev->start; }

/* The name of an enumeration value, NULL when this version does not know it. */
const char *field_enum_name(const struct field_desc *f, unsigned value);

#endif
