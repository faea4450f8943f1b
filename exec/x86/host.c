/* exec/x86/host.c: whether this host's CPU can execute what the CPU model promises: FP, vector, AES and BMI
 * instructions run on it. The one place that executes CPUID. */
#include <cpuid.h>
#include <stdio.h>

#include "core/cpu.h"

enum reg { EAX, EBX, ECX, EDX };

/* Bits of the host's CPUID. feature: needed only with that option; 0: always. */
static const struct need { uint32_t leaf; enum reg reg; uint8_t bit; uint32_t feature; const char *name; } needs[] = {
    {1, ECX, 0, 0, "SSE3"},        {1, ECX, 1, 0, "PCLMULQDQ"},  {1, ECX, 9, 0, "SSSE3"},
    {1, ECX, 12, 0, "FMA"},        {1, ECX, 13, 0, "CMPXCHG16B"}, {1, ECX, 19, 0, "SSE4.1"},
    {1, ECX, 20, 0, "SSE4.2"},     {1, ECX, 22, 0, "MOVBE"},     {1, ECX, 23, 0, "POPCNT"},
    {1, ECX, 25, 0, "AES"},        {1, ECX, 27, 0, "OSXSAVE"},   {1, ECX, 28, 0, "AVX"},
    {1, ECX, 29, 0, "F16C"},       {7, EBX, 3, 0, "BMI1"},       {7, EBX, 5, 0, "AVX2"},
    {7, EBX, 8, 0, "BMI2"},        {7, EBX, 29, CPU_SHA, "SHA"}, {0x80000001, ECX, 5, 0, "LZCNT"},
};

static bool host_has(const struct need *n)
{
    uint32_t r[4] = {0};
    return __get_cpuid_count(n->leaf, 0, &r[EAX], &r[EBX], &r[ECX], &r[EDX]) && (r[n->reg] >> n->bit & 1);
}

/* The host kernel must have enabled SSE and AVX state too. Needs OSXSAVE. */
static bool host_enables_avx(void)
{
    uint32_t lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (lo & 6) == 6;
}

struct err *cpu_check_host(uint32_t features)
{
    char missing[256] = "";
    size_t used = 0;
    for (size_t i = 0; i < ARRAY_LEN(needs); i++) {
        if (needs[i].feature & ~features)
            continue;
        if (!host_has(&needs[i]))
            used += (size_t)snprintf(missing + used, sizeof(missing) - used, " %s", needs[i].name);
    }
    if (used)
        return err_new(ERR_UNSUPPORTED, "this host's CPU lacks what the CPU model needs:%s", missing);
    if (!host_enables_avx())
        return err_new(ERR_UNSUPPORTED, "the host's kernel has not enabled AVX, which the CPU model needs");
    return NULL;
}
