/* tests/unit/logfmt_doc.c: the tables of docs/recording-format.md are those of logfmt/events.def.
 *
 * usage: logfmt_doc FILE           compare
 *        logfmt_doc --update FILE  put the tables of events.def into the file */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "logfmt/event.h"

static const char begin_mark[] = "<!-- events.def: begin -->\n", end_mark[] = "<!-- events.def: end -->\n";

static char *read_file(const char *path)
{
    FILE *in = fopen(path, "r");
    long len = in && fseek(in, 0, SEEK_END) == 0 ? ftell(in) : -1;
    char *text = len < 0 ? NULL : calloc(1, (size_t)len + 1);
    if (!text || fseek(in, 0, SEEK_SET) || fread(text, 1, (size_t)len, in) != (size_t)len) {
        perror(path);
        exit(1);
    }
    fclose(in);
    return text;
}

static char *tables(void)
{
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    if (!out)
        exit(1);
    log_event_print_doc(out);
    fclose(out);
    return text;
}

int main(int argc, char **argv)
{
    bool update = argc == 3 && !strcmp(argv[1], "--update");
    if (argc != 2 && !update) {
        fprintf(stderr, "usage: logfmt_doc [--update] FILE\n");
        return 2;
    }
    const char *path = argv[argc - 1];
    char *doc = read_file(path), *want = tables();
    char *begin = strstr(doc, begin_mark), *end = strstr(doc, end_mark);
    if (!begin || !end || end < begin) {
        fprintf(stderr, "%s: the marks around the tables are missing\n", path);
        return 1;
    }
    begin += strlen(begin_mark);
    bool same = (size_t)(end - begin) == strlen(want) && !strncmp(begin, want, strlen(want));
    if (!same && update) {
        FILE *out = fopen(path, "w");
        if (!out || fprintf(out, "%.*s%s%s", (int)(begin - doc), doc, want, end) < 0 || fclose(out)) {
            perror(path);
            return 1;
        }
    } else if (!same) {
        fprintf(stderr, "%s: the tables differ from logfmt/events.def; run `logfmt_doc --update %s`\n", path, path);
    }
    free(doc);
    free(want);
    return same || update ? 0 : 1;
}
