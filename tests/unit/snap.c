/* tests/unit/snap.c: field tables: canonical images, digests, comparison. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "core/snap.h"

struct sample {
    uint8_t a; /* padding follows */
    uint64_t b;
    uint16_t c[3];
};

static const struct snap_field fields[] = {
    SNAP(struct sample, a),
    SNAP(struct sample, b),
    SNAP_ARRAY(struct sample, c),
    SNAP_END,
};

static struct sample make(uint8_t fill)
{
    struct sample s;
    memset(&s, fill, sizeof(s)); /* padding too */
    s.a = 1;
    s.b = 0x1122334455667788;
    s.c[0] = s.c[1] = s.c[2] = 7;
    return s;
}

static void images_have_no_padding(void **state)
{
    (void)state;
    struct sample s = make(0);
    uint8_t image[15];
    assert_int_equal(snap_len(fields), sizeof(image));
    snap_save(fields, &s, image);
    assert_int_equal(image[0], 1);
    assert_true(get_le64(image + 1) == s.b);
    assert_int_equal(get_le16(image + 9), 7);
}

static void round_trip_is_exact(void **state)
{
    (void)state;
    struct sample s = make(0), t = make(0xff);
    uint8_t image[15];
    t.b = 0;
    snap_save(fields, &s, image);
    snap_load(fields, &t, image);
    assert_null(snap_compare(fields, &s, &t));
    assert_true(snap_digest(fields, &s, 5) == snap_digest(fields, &t, 5));
}

static void a_difference_is_named(void **state)
{
    (void)state;
    struct sample s = make(0), t = make(0);
    t.c[2] = 8;
    assert_string_equal(snap_compare(fields, &s, &t)->name, "c");
    assert_true(snap_digest(fields, &s, 0) != snap_digest(fields, &t, 0));
    assert_true(snap_digest(fields, &s, 0) != snap_digest(fields, &s, 1));
    assert_int_equal(fields[2].elem, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(images_have_no_padding),
        cmocka_unit_test(round_trip_is_exact),
        cmocka_unit_test(a_difference_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
