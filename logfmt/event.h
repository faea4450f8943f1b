/* logfmt/event.h: what a recording can say. The structs are the rows of events.def. */
#ifndef HW_LOGFMT_EVENT_H
#define HW_LOGFMT_EVENT_H

#include <stdio.h>

#include "core/base/base.h"

/* Where an event takes effect: after `seq` earlier events and `ticks` ticks. Totally ordered. */
struct log_pos {
    uint64_t seq;
    uint64_t ticks;
};

/* Borrowed bytes. From a reader: valid until the next call on that reader. To a writer: copied before it returns. */
struct log_bytes {
    const uint8_t *data;
    uint32_t len;
};

/*  name, value, text in dumps. Values are part of the format. */
#define LOG_END_REASONS(X)                                                                                             \
    X(LOG_END_POWER_OFF, 0, "power-off")                                                                               \
    X(LOG_END_RESET, 1, "reset")                                                                                       \
    X(LOG_END_DEBUG_EXIT, 2, "debug-exit")                                                                             \
    X(LOG_END_CRASH, 3, "guest-crash")                                                                                 \
    X(LOG_END_USER, 4, "stopped-by-user")                                                                              \
    X(LOG_END_TICK_LIMIT, 5, "tick-limit")                                                                             \
    X(LOG_END_ERROR, 6, "recorder-error")                                                                              \
    X(LOG_END_HALTED, 7, "halted-for-ever")

#define LOG_ENUM_VALUE(name, value, text) name = (value),
enum log_end_reason { LOG_END_REASONS(LOG_ENUM_VALUE) };

enum log_event_id {
    LOG_EV_NONE = 0, /* the reader's end of events */
#define EVENT(id, NAME, name, since, text) LOG_EV_##NAME = (id),
#include "logfmt/events_nofields.h"
#include "logfmt/events.def"
#include "logfmt/events_undef.h"
};

/* struct log_start, struct log_time_anchor, ... */
#define EVENT(id, NAME, name, since, text) struct log_##name {
#define F_U8(f, text) uint8_t f;
#define F_U16(f, text) uint16_t f;
#define F_U64(f, text) uint64_t f;
#define F_VAR(f, text) uint64_t f;
#define F_DELTA(f, text) uint64_t f;
#define F_CLOCK(f, rate, text) uint64_t f;
#define F_ENUM(f, names, text) uint8_t f;
#define F_FIXED(f, n, text) uint8_t f[n];
#define F_U16S(f, n, text) uint16_t f[n];
#define F_BYTES(f, max, text) struct log_bytes f;
#define F_TEXT(f, max, text) struct log_bytes f;
#define END };
#include "logfmt/events.def"
#include "logfmt/events_undef.h"

struct log_event {
    enum log_event_id id;
    union { /* .start, .time_anchor, ...: the member named by id */
#define EVENT(id, NAME, name, since, text) struct log_##name name;
#include "logfmt/events_nofields.h"
#include "logfmt/events.def"
#include "logfmt/events_undef.h"
    };
};

const char *log_event_name(enum log_event_id id); /* "time_anchor"; "unknown" for what is no row */
const char *log_end_reason_name(unsigned reason); /* "power-off"; "unknown" */

/* One line, newline included: "seq ticks name field=value ..." or a JSON object. */
void log_event_print(FILE *out, struct log_pos pos, const struct log_event *ev, bool json);

/* The two tables of docs/recording-format.md that come from events.def, in Markdown. */
void log_event_print_doc(FILE *out);

#endif
