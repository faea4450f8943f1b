/* tests/golden/golden_log.c: recordings of released format versions still read as they did.
 *
 * log-vN.hwr is tests/unit/logfmt_util.h's sample as the version N program wrote it, log-vN.json what it says. They are
 * never written again once version N was released; a new version adds files of its own:
 *     golden_log --write DIR/log-vN
 *     golden_log DIR/log-v1 ...          compares */
#include "tests/unit/logfmt_util.h"

static char *with_suffix(const char *base, const char *suffix)
{
    char *path;
    CHECK(asprintf(&path, "%s%s", base, suffix) >= 0, "out of memory");
    return path;
}

/* Blobs by name, length and hash, then the events. Reading the blobs checks them. */
static struct contents describe(const char *recording)
{
    struct log_reader *r;
    struct contents events, all = {0};
    succeeds(log_reader_open(recording, &r));
    FILE *out = open_memstream(&all.text, &all.len);
    CHECK(out, "out of memory");
    struct log_summary s = log_reader_summary(r);
    CHECK(s.state == LOG_CLOSED, "%s is not closed", recording);
    fprintf(out, "{\"version\": %u, \"final_ticks\": %" PRIu64 "}\n", log_reader_header(r)->version, s.last.ticks);
    for (size_t i = 0; i < log_reader_header(r)->fact_count; i++)
        fprintf(out, "{\"fact\": \"%s\", \"value\": \"%s\"}\n", log_reader_header(r)->facts[i].key,
                log_reader_header(r)->facts[i].value);
    for (size_t i = 0; i < log_reader_blob_count(r); i++) {
        const struct log_blob *b = log_reader_blob(r, i);
        uint8_t *data;
        succeeds(log_reader_blob_load(r, b, 1 << 20, &data));
        free(data);
        fprintf(out, "{\"blob\": \"%s\", \"len\": %" PRIu64 ", \"hash\": \"%016" PRIx64 "%016" PRIx64 "\"}\n", b->role,
                b->len, b->hash[1], b->hash[0]);
    }
    events = contents_read(r);
    succeeds(events.error);
    fputs(events.text, out);
    fclose(out);
    free(events.text);
    log_reader_close(r);
    return all;
}

static void write_golden(const char *base)
{
    char *recording = with_suffix(base, ".hwr"), *json = with_suffix(base, ".json");
    struct log_writer *w;
    succeeds(log_writer_create(recording, &sample_header, &w));
    succeeds(sample_blobs(w));
    succeeds(sample_events(w));
    succeeds(log_writer_finish(w, SAMPLE_FINAL_TICKS));
    log_writer_destroy(w);
    struct contents c = describe(recording);
    FILE *out = fopen(json, "w");
    CHECK(out && fputs(c.text, out) >= 0 && fclose(out) == 0, "cannot write %s", json);
    free(c.text);
    free(recording);
    free(json);
}

static int compare_golden(const char *base)
{
    char *recording = with_suffix(base, ".hwr"), *json = with_suffix(base, ".json");
    struct contents c = describe(recording);
    char *want = calloc(1, c.len + 2); /* one byte more than is right, so that a longer file is noticed */
    FILE *in = fopen(json, "r");
    CHECK(want && in, "cannot read %s", json);
    size_t len = fread(want, 1, c.len + 1, in);
    bool same = len == c.len && !memcmp(want, c.text, len);
    printf("%s: %s\n", recording, same ? "as it should be" : "reads differently");
    if (!same)
        fputs(c.text, stdout);
    fclose(in);
    free(want);
    free(c.text);
    free(recording);
    free(json);
    return same ? 0 : 1;
}

int main(int argc, char **argv)
{
    int failed = argc < 2;
    if (argc == 3 && !strcmp(argv[1], "--write")) {
        write_golden(argv[2]);
        return 0;
    }
    for (int i = 1; i < argc; i++)
        failed += compare_golden(argv[i]);
    return failed ? 1 : 0;
}
