/* replay/cmd_info.c: `hyperwind info`: what a recording is and how big its parts are. */
#include <stdio.h>

#include "logfmt/log.h"
#include "replay/commands.h"
#include "replay/options.h"

static const char *const states[] = {[LOG_CLOSED] = "closed", [LOG_TRUNCATED] = "not closed", [LOG_DAMAGED] = "damaged"};

static void json_string(const char *s)
{
    putchar('"');
    for (; *s; s++) {
        if (*s == '"' || *s == '\\')
            putchar('\\');
        if ((unsigned char)*s < 0x20)
            printf("\\u%04x", (unsigned char)*s);
        else
            putchar(*s);
    }
    putchar('"');
}

/* One name and value, as a line or a JSON member. */
struct printer { bool json; bool first; };

static void begin_member(struct printer *p, const char *name)
{
    if (!p->json) {
        printf("%-24s ", name);
        return;
    }
    printf(p->first ? "{\n  " : ",\n  ");
    p->first = false;
    json_string(name);
    printf(": ");
}

static void text(struct printer *p, const char *name, const char *value)
{
    begin_member(p, name);
    if (p->json)
        json_string(value);
    else
        printf("%s\n", value);
}

static void number(struct printer *p, const char *name, uint64_t value)
{
    begin_member(p, name);
    printf(p->json ? "%" PRIu64 : "%" PRIu64 "\n", value);
}

static struct err *print_end(struct printer *p, struct log_reader *lr, const struct log_summary *s)
{
    struct log_pos pos;
    struct log_event ev = {.id = LOG_EV_NONE};
    if (s->state != LOG_CLOSED || s->last.seq == 0)
        return NULL;
    struct err *e = log_reader_seek(lr, s->last.seq - 1);
    if (!e)
        e = log_reader_next(lr, &pos, &ev);
    if (e || ev.id != LOG_EV_END)
        return e;
    text(p, "end", log_end_reason_name(ev.end.reason));
    number(p, "exit_code", ev.end.code);
    number(p, "virtual_ns", ev.end.virtual_ns);
    number(p, "console_bytes", ev.end.output_bytes);
    return NULL;
}

static struct err *print(struct log_reader *lr, bool json)
{
    struct printer p = {json, true};
    const struct log_header *h = log_reader_header(lr);
    struct log_summary s = log_reader_summary(lr);
    char name[LOG_BLOB_ROLE_MAX + 8];
    text(&p, "state", states[s.state]);
    number(&p, "format_version", h->version);
    number(&p, "ticks", s.last.ticks);
    number(&p, "events", s.last.seq);
    text(&p, "clock", h->clock == LOG_CLOCK_HOST ? "host" : "virtual");
    number(&p, "file_bytes", s.file_len);
    number(&p, "content_bytes", s.blob_bytes);
    number(&p, "log_bytes", s.file_len - s.blob_bytes);
    if (s.state == LOG_DAMAGED)
        number(&p, "damaged_at", s.damage_offset);
    struct err *e = print_end(&p, lr, &s);
    for (size_t i = 0; !e && i < log_reader_blob_count(lr); i++) {
        snprintf(name, sizeof(name), "blob.%s", log_reader_blob(lr, i)->role);
        number(&p, name, log_reader_blob(lr, i)->len);
    }
    for (size_t i = 0; !e && i < h->fact_count; i++)
        text(&p, h->facts[i].key, h->facts[i].value);
    if (json)
        printf("\n}\n");
    return e;
}

struct err *cmd_info(int argc, char **argv, int *status)
{
    struct options o;
    struct log_reader *lr;
    (void)status;
    struct err *e = options_parse(CMD_INFO, argc, argv, &o);
    if (!e)
        e = log_reader_open(o.file, &lr);
    if (e)
        return e;
    e = print(lr, o.json);
    log_reader_close(lr);
    return e;
}
