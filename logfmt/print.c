/* logfmt/print.c: events as text, as JSON, and as the tables of docs/recording-format.md. */
#include "logfmt/table.h"

enum { TEXT_BYTES_MAX = 64 }; /* a text dump gives the length of what is longer; JSON has it all */

static void print_hex(FILE *out, const uint8_t *p, size_t len)
{
    for (size_t i = 0; i < len; i++)
        fprintf(out, "%02x", p[i]);
}

/* A quoted string that is valid JSON whatever the bytes are: byte N is the character U+00NN. */
static void print_string(FILE *out, const uint8_t *p, size_t len)
{
    fputc('"', out);
    for (size_t i = 0; i < len; i++) {
        if (p[i] == '"' || p[i] == '\\')
            fprintf(out, "\\%c", p[i]);
        else if (p[i] == '\n')
            fputs("\\n", out);
        else if (p[i] == '\r')
            fputs("\\r", out);
        else if (p[i] < 0x20 || p[i] >= 0x7f)
            fprintf(out, "\\u%04x", p[i]);
        else
            fputc(p[i], out);
    }
    fputc('"', out);
}

/* Digests print in hexadecimal; in JSON as strings, because few readers keep 64 bits of a number. */
static void print_digest(FILE *out, uint64_t v, int digits, bool json)
{
    fprintf(out, json ? "\"%0*" PRIx64 "\"" : "%0*" PRIx64, digits, v);
}

static void print_bytes(FILE *out, const uint8_t *p, size_t len, bool json)
{
    if (!json && len > TEXT_BYTES_MAX) {
        fprintf(out, "<%zu bytes>", len);
        return;
    }
    if (json)
        fputc('"', out);
    print_hex(out, p, len);
    if (json)
        fputc('"', out);
}

static void print_u16s(FILE *out, const uint16_t *v, size_t count, bool json)
{
    for (size_t i = 0; i < count; i++) {
        fputs(i ? "," : json ? "[" : "", out);
        print_digest(out, v[i], 4, json);
    }
    if (json)
        fputc(']', out);
}

static void print_enum(FILE *out, const struct field_desc *f, unsigned value, bool json)
{
    const char *name = field_enum_name(f, value);
    if (name)
        fprintf(out, json ? "\"%s\"" : "%s", name);
    else
        fprintf(out, "%u", value);
}

static void print_field(FILE *out, const struct field_desc *f, const void *body, bool json)
{
    const void *p = (const uint8_t *)body + f->offset;
    const struct log_bytes *bytes = p;
    switch (f->kind) {
    case FK_U8: print_digest(out, *(const uint8_t *)p, 2, json); break;
    case FK_U16: print_digest(out, *(const uint16_t *)p, 4, json); break;
    case FK_U64: print_digest(out, *(const uint64_t *)p, 16, json); break;
    case FK_VAR:
    case FK_DELTA:
    case FK_CLOCK: fprintf(out, "%" PRIu64, *(const uint64_t *)p); break;
    case FK_ENUM: print_enum(out, f, *(const uint8_t *)p, json); break;
    case FK_FIXED: print_bytes(out, p, f->count, json); break;
    case FK_U16S: print_u16s(out, p, f->count, json); break;
    case FK_BYTES: print_bytes(out, bytes->data, bytes->len, json); break;
    case FK_TEXT: print_string(out, bytes->data, bytes->len); break;
    }
}

void log_event_print(FILE *out, struct log_pos pos, const struct log_event *ev, bool json)
{
    const struct event_desc *d = event_find(ev->id);
    const char *name = log_event_name(ev->id);
    if (json)
        fprintf(out, "{\"seq\": %" PRIu64 ", \"ticks\": %" PRIu64 ", \"event\": \"%s\"", pos.seq, pos.ticks, name);
    else
        fprintf(out, "%" PRIu64 " %" PRIu64 " %s", pos.seq, pos.ticks, name);
    for (const struct field_desc *f = d ? d->fields() : NULL; f && f->name; f++) {
        fprintf(out, json ? ", \"%s\": " : " %s=", f->name);
        print_field(out, f, event_body_const(ev), json);
    }
    fputs(json ? "}\n" : "\n", out);
}

/* How a field's row of the document names its kind. */
static void print_doc_kind(FILE *out, const struct field_desc *f)
{
    static const char *const names[] = {
        [FK_U8] = "u8",     [FK_U16] = "u16",   [FK_U64] = "u64",     [FK_VAR] = "var",   [FK_DELTA] = "delta",
        [FK_CLOCK] = "clock", [FK_ENUM] = "enum", [FK_FIXED] = "fixed", [FK_U16S] = "u16s", [FK_BYTES] = "bytes",
        [FK_TEXT] = "text",
    };
    fputs(names[f->kind], out);
    if (f->count > 1)
        fprintf(out, "[%u]", f->count);
}

static void print_doc_enum(FILE *out, const struct field_desc *f)
{
    const char *name;
    for (unsigned v = 0; (name = field_enum_name(f, v)); v++)
        fprintf(out, "%s %u `%s`", v ? "," : ":", v, name);
}

void log_event_print_doc(FILE *out)
{
    fputs("| id | event | since | written when |\n|---|---|---|---|\n", out);
    for (size_t i = 0; i < EVENT_KINDS; i++) {
        const struct event_desc *d = event_table(i);
        fprintf(out, "| %u | `%s` | %u | %s |\n", d->id, d->name, d->since, d->text);
    }
    fputs("\n| event | column | field | kind | meaning |\n|---|---|---|---|---|\n", out);
    for (size_t i = 0; i < EVENT_KINDS; i++) {
        const struct event_desc *d = event_table(i);
        const struct field_desc *fields = d->fields();
        for (unsigned n = 0; fields[n].name; n++) {
            fprintf(out, "| `%s` | %u | `%s` | ", d->name, n + 1, fields[n].name);
            print_doc_kind(out, &fields[n]);
            fprintf(out, " | %s", fields[n].text);
            if (fields[n].kind == FK_ENUM)
                print_doc_enum(out, &fields[n]);
            fputs(" |\n", out);
        }
    }
}
