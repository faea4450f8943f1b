/* tests/fuzz/fuzz_btf.c: libFuzzer over btf_to_dwarf(): whatever a guest has in place of its types, what becomes of it is
 * DWARF: entries one behind the other to the end of the unit, names within the strings, references to entries. */
#include <stdlib.h>

#include "analysis/btf.h"
#include "core/base/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum { UNIT_HEADER = 11, CODES = 256, ATTRIBUTES = 8 };
struct abbreviation { bool known, children; unsigned count; uint8_t form[ATTRIBUTES]; };

/* All numbers in it are below 128. */
static void read_abbreviations(const struct btf_dwarf *d, struct abbreviation *a)
{
    const uint8_t *p = d->abbrev, *end = p + d->abbrev_len;
    while (p < end && *p) {
        struct abbreviation *now = &a[p[0]];
        CHECK(end - p > 5 && !now->known, "abbreviation %u", p[0]);
        now->known = true;
        now->children = p[2];
        for (p += 3; p[0] || p[1]; p += 2) {
            CHECK(end - p > 4 && now->count < ATTRIBUTES, "abbreviation is cut short");
            now->form[now->count++] = p[1];
        }
        p += 2;
    }
    CHECK(p + 1 == end, "abbreviations do not end");
}

static size_t form_len(unsigned form)
{
    static const uint8_t len[] = {[0x06] = 4, [0x07] = 8, [0x0b] = 1, [0x0e] = 4, [0x13] = 4, [0x19] = 0};
    CHECK(form < sizeof(len), "form %#x", form);
    return len[form];
}

static void check_dwarf(const struct btf_dwarf *d)
{
    struct abbreviation a[CODES] = {0};
    read_abbreviations(d, a);
    CHECK(d->info_len > UNIT_HEADER && get_le32(d->info) == d->info_len - 4, "the unit's length");
    CHECK(d->str_len && !d->str[d->str_len - 1], "strings do not end");
    uint8_t *starts = calloc(1, d->info_len);
    CHECK(starts, "memory");
    for (unsigned pass = 0; pass < 2; pass++) {
        unsigned depth = 0;
        size_t at = UNIT_HEADER;
        do {
            const struct abbreviation *now = &a[d->info[at]];
            starts[at] = d->info[at] != 0;
            if (!d->info[at++]) {
                depth--;
                continue;
            }
            CHECK(now->known, "abbreviation %u is not there", d->info[at - 1]);
            for (unsigned i = 0; i < now->count; i++) {
                size_t n = form_len(now->form[i]);
                CHECK(n <= d->info_len - at, "an entry is cut short");
                CHECK(now->form[i] != 0x0e || get_le32(d->info + at) < d->str_len, "a name outside");
                CHECK(!pass || now->form[i] != 0x13 || (get_le32(d->info + at) < d->info_len && starts[get_le32(d->info + at)]),
                      "a reference to no entry");
                at += n;
            }
            depth += now->children;
        } while (depth && at < d->info_len);
        CHECK(!depth && at == d->info_len, "entries do not end with the unit");
    }
    free(starts);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct btf_dwarf d;
    struct err *e = btf_to_dwarf(data, len, &d);
    CHECK(!e || (err_code(e) == ERR_UNSUPPORTED && !strchr(err_message(e), '\n')), "%s", err_message(e));
    if (!e)
        check_dwarf(&d);
    err_destroy(e);
    btf_dwarf_deinit(&d);
    return 0;
}
