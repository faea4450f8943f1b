/* logfmt/table.c: expands events.def into field tables. */
#include "logfmt/table.h"

/* Each event's fields live in a function of their own, because only there its struct can be called `self`, so that a
 * field row need not repeat the event's name. */
#define NAME_OF_VALUE(name, value, text) text "\0"
#define EVENT(id, NAME, name, since, text)                                                                             \
    static const struct field_desc *fields_of_##name(void)                                                             \
    {                                                                                                                  \
        typedef struct log_##name self;                                                                                \
        static const struct field_desc fields[] = {
#define ROW_(kind_, f, count_, text_)                                                                                  \
    {.name = #f, .kind = (kind_), .offset = offsetof(self, f), .count = (count_), .text = (text_)},
#define F_U8(f, text) ROW_(FK_U8, f, 1, text)
#define F_U16(f, text) ROW_(FK_U16, f, 1, text)
#define F_U64(f, text) ROW_(FK_U64, f, 1, text)
#define F_VAR(f, text) ROW_(FK_VAR, f, 1, text)
#define F_DELTA(f, text) ROW_(FK_DELTA, f, 1, text)
#define F_CLOCK(f, rate_, text_)                                                                                       \
    {.name = #f,                                                                                                       \
     .kind = FK_CLOCK,                                                                                                 \
     .offset = offsetof(self, f),                                                                                      \
     .count = 1,                                                                                                       \
     .rate = offsetof(self, rate_),                                                                                    \
     .text = (text_)},
#define F_ENUM(f, list, text_)                                                                                         \
    {.name = #f,                                                                                                       \
     .kind = FK_ENUM,                                                                                                  \
     .offset = offsetof(self, f),                                                                                      \
     .count = 1,                                                                                                       \
     .names = list(NAME_OF_VALUE),                                                                                     \
     .text = (text_)},
#define F_FIXED(f, n, text) ROW_(FK_FIXED, f, n, text)
#define F_U16S(f, n, text) ROW_(FK_U16S, f, n, text)
#define F_BYTES(f, max, text) ROW_(FK_BYTES, f, max, text)
#define F_TEXT(f, max, text) ROW_(FK_TEXT, f, max, text)
#define END                                                                                                            \
    { .name = NULL }                                                                                                   \
    }                                                                                                                  \
    ;                                                                                                                  \
    _Static_assert(ARRAY_LEN(fields) - 1 <= EVENT_FIELDS_MAX, "raise EVENT_FIELDS_MAX");                               \
    return fields;                                                                                                     \
    }
#include "logfmt/events.def"
#include "logfmt/events_undef.h"

static const struct event_desc events[] = {
#define EVENT(id_, NAME, name_, since_, text_)                                                                         \
    {.id = (id_), .since = (since_), .name = #name_, .text = (text_), .fields = fields_of_##name_},
#include "logfmt/events_nofields.h"
#include "logfmt/events.def"
#include "logfmt/events_undef.h"
};

const struct event_desc *event_table(size_t row)
{
    return &events[row];
}

const struct event_desc *event_find(uint64_t id)
{
    for (size_t i = 0; i < EVENT_KINDS; i++)
        if (events[i].id == id)
            return &events[i];
    return NULL;
}

const char *field_enum_name(const struct field_desc *f, unsigned value)
{
    const char *s = f->names;
    for (; *s && value; value--)
        s += strlen(s) + 1;
    return *s ? s : NULL;
}

const char *log_event_name(enum log_event_id id)
{
    const struct event_desc *d = event_find(id);
    return d ? d->name : "unknown";
}

const char *log_end_reason_name(unsigned reason)
{
    static const struct field_desc f = {.names = LOG_END_REASONS(NAME_OF_VALUE)};
    const char *s = field_enum_name(&f, reason);
    return s ? s : "unknown";
}
