/* tests/unit/vcpu.c: the field table covers struct vcpu_state, the digest sees every field, reset is the SDM's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/cpu.h"
#include "core/vcpu.h"

/* Padding of struct vcpu_state: named pads, r[R_ZERO], padding of struct dtable and struct x87. */
enum { PADS = 1 /* pad0 */ + 4 /* pad1 */ + 4 /* pad2 */ + 8 /* r[R_ZERO] */ + 2 * 4 /* dtable.pad */ + 1 /* x87.pad */ };

static void fields_cover_everything(void **state)
{
    (void)state;
    static uint8_t covered[sizeof(struct vcpu_state)];
    size_t total = 0;
    for (const struct vcpu_field *f = vcpu_fields; f->f.name; f++) {
        assert_true(f->f.offset + f->f.len <= sizeof(covered));
        assert_int_equal(f->f.len % f->f.elem, 0);
        for (size_t i = 0; i < f->f.len; i++)
            assert_int_equal(covered[f->f.offset + i]++, 0);
        total += f->f.len;
    }
    /* What no row covers is padding, and no more of it than is declared (the compiler adds some for alignment). */
    size_t holes = sizeof(covered) - total;
    assert_true(holes >= PADS && holes <= PADS + 3 * 7);
}

static void names_are_unique(void **state)
{
    (void)state;
    for (const struct vcpu_field *a = vcpu_fields; a->f.name; a++)
        for (const struct vcpu_field *b = a + 1; b->f.name; b++)
            assert_string_not_equal(a->f.name, b->f.name);
}

static void digest_sees_every_byte(void **state)
{
    (void)state;
    static struct vcpu_state s;
    uint64_t before[VG_COUNT + 1];
    for (unsigned g = 0; g <= VG_COUNT; g++)
        before[g] = vcpu_digest(&s, (enum vcpu_group)g);
    for (const struct vcpu_field *f = vcpu_fields; f->f.name; f++) {
        for (size_t i = 0; i < f->f.len; i++) {
            uint8_t *p = (uint8_t *)&s + f->f.offset + i;
            *p ^= 0x40;
            for (unsigned g = 0; g <= VG_COUNT; g++) {
                bool same = vcpu_digest(&s, (enum vcpu_group)g) == before[g];
                assert_int_equal(same, g != f->group && g != VG_COUNT);
            }
            *p ^= 0x40;
        }
    }
}

static void digest_ignores_padding(void **state)
{
    (void)state;
    static struct vcpu_state a, b;
    memset(&b, 0xff, sizeof(b));
    for (const struct vcpu_field *f = vcpu_fields; f->f.name; f++)
        memset((uint8_t *)&b + f->f.offset, 0, f->f.len);
    assert_int_equal(vcpu_digest(&a, VG_COUNT), vcpu_digest(&b, VG_COUNT));
}

static void reset_is_power_up(void **state)
{
    (void)state;
    static struct vcpu v;
    memset(&v.s, 0xa5, sizeof(v.s));
    v.ticks = 5;
    vcpu_reset(&v);
    assert_int_equal(v.s.r[R_RIP], 0xfff0);
    assert_int_equal(v.s.seg[S_CS].base, 0xffff0000);
    assert_int_equal(v.s.cr0, 0x60000010);
    assert_int_equal(vcpu_rflags(&v.s), 2);
    assert_int_equal(v.s.mxcsr, 0x1f80);
    assert_int_equal(v.s.r[R_RDX], cpu_cpuid(&v.s, 0, 1, 0).eax);
    assert_int_equal(v.ticks, 0);
}

static void flags_round_trip(void **state)
{
    (void)state;
    static struct vcpu_state s;
    for (uint32_t f = 0; f < 1u << 22; f += 0x11) {
        vcpu_set_rflags(&s, f);
        uint64_t want = (f & (FL_ARITH | FL_TF | FL_IF | FL_DF | FL_IOPL | FL_NT | FL_RF | FL_VM | FL_AC | FL_VIF | FL_VIP |
                              FL_ID)) | 2;
        assert_int_equal(vcpu_rflags(&s), want);
        assert_false(s.rflags & FL_ARITH);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields_cover_everything), cmocka_unit_test(names_are_unique),
        cmocka_unit_test(digest_sees_every_byte),  cmocka_unit_test(digest_ignores_padding),
        cmocka_unit_test(reset_is_power_up),       cmocka_unit_test(flags_round_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
