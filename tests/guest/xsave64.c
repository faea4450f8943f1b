/* tests/guest/xsave64.c: FXSAVE, FXRSTOR and the XSAVE family: layouts, what is written and what is not, init tracking, checks.
 * SDM vol. 1 chapter 13. XINUSE and so on are functions of values here: hardware tracks some by history. */
#include "rt.h"

enum { X87 = 1, SSE = 2, AVX = 4, LEGACY = 512, HEADER = 576, LEN = 832 };
static uint8_t area[1024] __attribute__((aligned(64))), other[1024] __attribute__((aligned(64)));

static void fill(uint8_t *p, uint8_t with)
{
    for (unsigned i = 0; i < sizeof(area); i++)
        ((volatile uint8_t *)p)[i] = with;
}
static void clear_header(uint8_t *p)
{
    for (unsigned i = 0; i < 64; i++)
        ((volatile uint8_t *)p)[LEGACY + i] = 0;
}
static uint64_t u64(const uint8_t *p) { return *(const volatile uint64_t *)p; }
static uint32_t u32(const uint8_t *p) { return *(const volatile uint32_t *)p; }
static bool all(const uint8_t *p, unsigned from, unsigned to, uint8_t x)
{
    for (unsigned i = from; i < to; i++)
        if (((const volatile uint8_t *)p)[i] != x)
            return false;
    return true;
}
#define XOP(op, p, rfbm) __asm__ volatile(op " (%0)" : : "r"(p), "a"((uint32_t)(rfbm)), "d"(0) : "memory")
#define XTRY(op, p, rfbm) TRY(op " (%%rcx)", "c"(p), "a"((uint32_t)(rfbm)), "d"(0))

static void put64(uint8_t *p, uint64_t x) { *(volatile uint64_t *)p = x; }
static void set_init(void)
{
    fill(other, 0); /* XSTATE_BV = 0: everything is initialised */
    put64(other + 24, 0x1f80);
    XOP("xrstor64", other, 7);
}

static void fxsave(void)
{
    set_init();
    fill(area, 0x55);
    __asm__ volatile("fldpi; fld1; fxsave64 %0" : "=m"(area) : : "memory");
    CHECK((u64(area) & 0xffff) == 0x37f);
    CHECK((u64(area) >> 16 & 0xffff) == 0x3000 && area[4] == 0xc0 && area[5] == 0); /* TOP 6, R6 and R7 in use */
    CHECK(u64(area + 32) == 0x8000000000000000ul && (!on_hyperwind || u64(area + 40) == 0x3fff)); /* ST(0) = 1, six zeros behind it */
    CHECK(u32(area + 24) == 0x1f80 && u32(area + 28) == 0xffff);
    CHECK(all(area, 160, 416, 0) && all(area, 416, 512, 0x55));
    TRY("fxsave (%%rcx)", "c"(area + 8));
    CHECK_TRAP_NOT_QEMU(VEC_GP, 0);
    put64(area + 24, 0xffff00010000ul); /* a reserved bit of MXCSR */
    TRY("fxrstor (%%rcx)", "c"(area));
    CHECK_TRAP_NOT_QEMU(VEC_GP, 0);
    put64(area + 24, 0x1f80);
    put64(area + 160, 0x1122334455667788ul);
    __asm__ volatile("fxrstor64 %0; fxsave64 %1" : : "m"(area), "m"(other) : "memory");
    CHECK(u64(other + 160) == 0x1122334455667788ul);
    WRITE_REG(cr0, READ_REG(cr0) | CR0_TS);
    TRY("fxsave (%%rcx)", "c"(area));
    CHECK_TRAP(VEC_NM, 0);
    XTRY("xsave64", area, 7);
    CHECK_TRAP_NOT_QEMU(VEC_NM, 0);
    __asm__ volatile("clts");
}

static void xsave(void)
{
    set_init();
    fill(area, 0x55);
    clear_header(area);
    XOP("xsave64", area, 7);
    if (on_hyperwind)
        CHECK(u64(area + LEGACY) == 0); /* nothing is in use */
    CHECK((u64(area) & 0xffff) == 0x37f && all(area, 160, 416, 0) && all(area, HEADER, LEN, 0)); /* but all is written */
    CHECK(all(area, LEN, 1024, 0x55) && all(area, 416, 512, 0x55));
    /* Bits of XSTATE_BV outside RFBM are kept, memory of other components too. */
    fill(area, 0x55);
    clear_header(area);
    put64(area + LEGACY, 5);
    __asm__ volatile("pcmpeqd %%xmm3, %%xmm3" : : );
    XOP("xsave64", area, SSE);
    CHECK(u64(area + LEGACY) == 7);
    CHECK(all(area, 0, 24, 0x55) && all(area, 208, 224, 0xff) && all(area, HEADER, LEN, 0x55));
    CHECK(u32(area + 24) == 0x1f80);
    if (!on_hyperwind)
        return; /* QEMU 7.2 has no XSAVEC, and tracks differently */
    /* XSAVEOPT writes what is in use. */
    fill(area, 0x55);
    clear_header(area);
    XOP("xsaveopt64", area, 7);
    CHECK(u64(area + LEGACY) == SSE && all(area, 0, 24, 0x55) && all(area, 208, 224, 0xff) && all(area, HEADER, LEN, 0x55));
    /* XSAVEC: compacted, XCOMP_BV. */
    fill(area, 0x55);
    XOP("xsavec64", area, 7);
    CHECK(u64(area + LEGACY) == SSE && u64(area + LEGACY + 8) == (7 | 1ul << 63));
    CHECK(all(area, LEGACY + 16, HEADER, 0x55) && all(area, HEADER, LEN, 0x55));
    /* A changed MXCSR counts as SSE state when saving, not in XGETBV(1). */
    set_init();
    uint32_t mxcsr = 0x1fa0, lo;
    __asm__ volatile("ldmxcsr %0" : : "m"(mxcsr));
    XOP("xsavec64", area, 7);
    CHECK(u64(area + LEGACY) == SSE && u32(area + 24) == 0x1fa0);
    __asm__ volatile("xgetbv" : "=a"(lo) : "c"(1) : "edx");
    CHECK(lo == 0);
    __asm__ volatile("vpcmpeqd %%ymm1, %%ymm1, %%ymm1; vpxor %%xmm2, %%xmm2, %%xmm2; xgetbv" : "=a"(lo) : "c"(1) : "edx");
    CHECK(lo == (SSE | AVX));
    __asm__ volatile("vpxor %%ymm1, %%ymm1, %%ymm1; xgetbv" : "=a"(lo) : "c"(1) : "edx"); /* by value */
    CHECK(lo == 0);
    __asm__ volatile("fld1; xgetbv" : "=a"(lo) : "c"(1) : "edx");
    CHECK(lo == X87);
}

static void xrstor(void)
{
    fill(area, 0);
    put64(area, 0x37f);
    put64(area + 24, 0x1f80);
    put64(area + 160, 0x1111);
    put64(area + HEADER, 0x2222);
    put64(area + LEGACY, SSE | AVX);
    XOP("xrstor64", area, 7);
    XOP("xsave64", other, 7);
    CHECK(u64(other + 160) == 0x1111 && u64(other + HEADER) == 0x2222);
    put64(area + LEGACY, 0);
    XOP("xrstor64", area, AVX); /* only that component is initialised */
    XOP("xsave64", other, 7);
    CHECK(u64(other + 160) == 0x1111 && u64(other + HEADER) == 0);
    if (!on_hyperwind) /* QEMU 7.2 checks little */
        return;
    put64(area + LEGACY, 8); /* a component that XCR0 has not */
    XTRY("xrstor64", area, 7);
    CHECK_TRAP(VEC_GP, 0);
    put64(area + LEGACY, 0);
    put64(area + LEGACY + 16, 1); /* reserved */
    XTRY("xrstor64", area, 7);
    CHECK_TRAP(VEC_GP, 0);
    put64(area + LEGACY + 16, 0);
    put64(area + LEGACY + 8, 1); /* XCOMP_BV without bit 63 */
    XTRY("xrstor64", area, 7);
    CHECK_TRAP(VEC_GP, 0);
    put64(area + LEGACY, AVX);
    put64(area + LEGACY + 8, 1ul << 63 | SSE); /* XSTATE_BV must lie within XCOMP_BV */
    XTRY("xrstor64", area, 7);
    CHECK_TRAP(VEC_GP, 0);
    put64(area + LEGACY + 8, 1ul << 63 | 7);
    put64(area + HEADER, 0x3333);
    XOP("xrstor64", area, 7);
    XOP("xsave64", other, 7);
    CHECK(u64(other + HEADER) == 0x3333 && u64(other + 160) == 0);
    put64(area + 24, 0x10000); /* MXCSR is looked at only when it is loaded: the compacted form, SSE absent */
    XTRY("xrstor64", area, 7);
    CHECK_NO_TRAP();
    put64(area + LEGACY, AVX | SSE);
    XTRY("xrstor64", area, 7);
    CHECK_TRAP(VEC_GP, 0);
    XTRY("xrstor64", area + 16, 7);
    CHECK_TRAP(VEC_GP, 0);
    WRITE_REG(cr4, READ_REG(cr4) & ~(unsigned long)CR4_OSXSAVE);
    XTRY("xsave64", area, 7);
    CHECK_TRAP(VEC_UD, 0);
    TRY("vpxor %%ymm1, %%ymm1, %%ymm1");
    CHECK_TRAP(VEC_UD, 0);
    WRITE_REG(cr4, READ_REG(cr4) & ~(unsigned long)CR4_OSFXSR);
    TRY("pxor %%xmm1, %%xmm1");
    CHECK_TRAP(VEC_UD, 0);
    WRITE_REG(cr0, READ_REG(cr0) | CR0_EM);
    TRY("fld1");
    CHECK_TRAP(VEC_NM, 0);
    TRY("pxor %%mm1, %%mm1");
    CHECK_TRAP(VEC_UD, 0);
}

int main(void)
{
    WRITE_REG(cr4, READ_REG(cr4) | CR4_OSXSAVE | CR4_OSFXSR);
    __asm__ volatile("xsetbv" : : "c"(0), "a"(7), "d"(0));
    fxsave();
    xsave();
    xrstor();
    return 0;
}
