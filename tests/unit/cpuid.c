/* tests/unit/cpuid.c: what guests rely on in the CPU model's CPUID, and the parser of --cpu. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/cpu.h"
#include "core/vcpu.h"
#include "core/vclock.h"

static struct vcpu v;

static struct cpuid_result leaf(uint32_t features, uint32_t n, uint32_t sub)
{
    return cpu_cpuid(&v.s, features, n, sub);
}

static int setup(void **state)
{
    (void)state;
    vcpu_reset(&v);
    return 0;
}

/* The x86-64 psABI micro-architecture level 3. */
static void is_x86_64_v3(void **state)
{
    (void)state;
    const uint32_t ecx1 = 1u << 0 | 1u << 9 | 1u << 12 | 1u << 13 | 1u << 19 | 1u << 20 | 1u << 22 | 1u << 23 | 1u << 26 |
                          1u << 28 | 1u << 29;
    const uint32_t ebx7 = 1u << 3 | 1u << 5 | 1u << 8;
    assert_int_equal(leaf(0, 1, 0).ecx & ecx1, ecx1);
    assert_int_equal(leaf(0, 7, 0).ebx & ebx7, ebx7);
    assert_int_equal(leaf(0, 0x80000001, 0).ecx & 0x21, 0x21);
}

static void has_nothing_unrecordable(void **state)
{
    (void)state;
    const uint32_t features[] = {0, CPU_SHA, CPU_MITIGATED, CPU_SHA | CPU_MITIGATED};
    for (size_t i = 0; i < ARRAY_LEN(features); i++) {
        assert_int_equal(leaf(features[i], 1, 0).ecx & (1u << 30 | 1u << 3 | 1u << 5), 0);  /* RDRAND MONITOR VMX */
        assert_int_equal(leaf(features[i], 7, 0).ebx & (1u << 4 | 1u << 11 | 1u << 14 | 1u << 16 | 1u << 18), 0); /* HLE RTM
                                                                                                  MPX AVX512F RDSEED */
        assert_int_equal(leaf(features[i], 0xd, 1).eax & 8, 0);                            /* XSAVES */
        assert_int_equal(!!(leaf(features[i], 7, 0).ebx & 1u << 29), !!(features[i] & CPU_SHA));
        assert_int_equal(!!(leaf(features[i], 7, 0).edx & 1u << 29), !(features[i] & CPU_MITIGATED));
    }
}

static void reports_state(void **state)
{
    (void)state;
    assert_int_equal(leaf(0, 1, 0).ecx & 1u << 27, 0);
    v.s.cr4 |= CR4_OSXSAVE;
    assert_int_not_equal(leaf(0, 1, 0).ecx & 1u << 27, 0);
    assert_int_equal(leaf(0, 0xd, 0).ebx, 576);
    v.s.xcr0 = 7;
    assert_int_equal(leaf(0, 0xd, 0).ebx, 832);
    assert_int_equal(leaf(0, 0xd, 0).ecx, 832);
    assert_int_not_equal(leaf(0, 1, 0).edx & 1u << 9, 0);
    v.s.apic_base &= ~(uint64_t)0x800;
    assert_int_equal(leaf(0, 1, 0).edx & 1u << 9, 0);
    assert_int_equal(leaf(0, 0x80000001, 0).edx & 1u << 11, 0);
    v.s.efer = EFER_LMA;
    v.s.seg[S_CS].attr |= SEG_L;
    assert_int_not_equal(leaf(0, 0x80000001, 0).edx & 1u << 11, 0);
}

static void clocks_agree(void **state)
{
    (void)state;
    struct cpuid_result r = leaf(0, 0x15, 0);
    assert_int_equal((uint64_t)r.ecx * r.ebx / r.eax, VCLOCK_TSC_HZ);
    assert_int_equal(leaf(0, 0x16, 0).eax * UINT64_C(1000000), VCLOCK_TSC_HZ);
}

static void leaves_out_of_range(void **state)
{
    (void)state;
    struct cpuid_result highest = leaf(0, leaf(0, 0, 0).eax, 0);
    const uint32_t beyond[] = {0x17, 0x1000, 0x3fffffff, 0x80000009, 0xc0000000, 0xffffffff};
    for (size_t i = 0; i < ARRAY_LEN(beyond); i++) {
        struct cpuid_result r = leaf(0, beyond[i], 0);
        assert_memory_equal(&r, &highest, sizeof(r));
    }
    assert_int_equal(leaf(0, 0x80000008, 0).eax & 0xff, VCPU_MAXPHYADDR);
}

static void vendor_and_brand(void **state)
{
    (void)state;
    char brand[49] = "";
    for (uint32_t i = 0; i < 3; i++) {
        struct cpuid_result r = leaf(0, 0x80000002 + i, 0);
        memcpy(brand + 16 * i, &r, sizeof(r));
    }
    assert_string_equal(brand, "Hyperwind virtual CPU");
    struct cpuid_result r = leaf(0, 0, 0);
    char vendor[13] = "";
    memcpy(vendor, &r.ebx, 4);
    memcpy(vendor + 4, &r.edx, 4);
    memcpy(vendor + 8, &r.ecx, 4);
    assert_string_equal(vendor, "GenuineIntel");
}

static void options(void **state)
{
    (void)state;
    uint32_t f = 99;
    assert_null(cpu_parse_features("", &f));
    assert_int_equal(f, 0);
    assert_null(cpu_parse_features("+sha,+mitigations,-sha", &f));
    assert_int_equal(f, CPU_MITIGATED);
    const char *const bad[] = {"sha", "+", "+shaa", ",", "+sha,,+sha", "+sha -sha"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct err *e = cpu_parse_features(bad[i], &f);
        assert_non_null(e);
        assert_int_equal(err_code(e), ERR_USAGE);
        err_destroy(e);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(is_x86_64_v3, setup),        cmocka_unit_test_setup(has_nothing_unrecordable, setup),
        cmocka_unit_test_setup(reports_state, setup),       cmocka_unit_test_setup(clocks_agree, setup),
        cmocka_unit_test_setup(leaves_out_of_range, setup), cmocka_unit_test_setup(vendor_and_brand, setup),
        cmocka_unit_test_setup(options, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
