/* tests/bench/workloads.c: see workloads.h. Compiled with -fno-tree-vectorize: what is packed is written so. */
#include "workloads.h"

static inline uint64_t next_random(uint64_t *x)
{
    *x ^= *x << 13;
    *x ^= *x >> 7;
    *x ^= *x << 17;
    return *x;
}

enum { SEED = 88172645463325252 };

/* ---- integer loops ---- */

typedef uint32_t u32x4 __attribute__((vector_size(16)));

static const uint32_t sha_k[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

/* SHA-256's compression (FIPS 180-4, 6.2.2) of 16 words of type T into h: T is one lane or four side by side. */
#define ROTATE(x, n) ((x) >> (n) | (x) << (32 - (n)))
#define SHA_COMPRESS(T, h, w)                                                                                          \
    do {                                                                                                               \
        T a_ = (h)[0], b_ = (h)[1], c_ = (h)[2], d_ = (h)[3], e_ = (h)[4], f_ = (h)[5], g_ = (h)[6], h_ = (h)[7];      \
        for (unsigned i_ = 0; i_ < 64; i_++) {                                                                         \
            if (i_ >= 16) {                                                                                            \
                T x_ = (w)[(i_ + 1) & 15], y_ = (w)[(i_ + 14) & 15];                                                   \
                (w)[i_ & 15] += (ROTATE(x_, 7) ^ ROTATE(x_, 18) ^ x_ >> 3) + (w)[(i_ + 9) & 15] +                      \
                                (ROTATE(y_, 17) ^ ROTATE(y_, 19) ^ y_ >> 10);                                          \
            }                                                                                                          \
            T s_ = h_ + (ROTATE(e_, 6) ^ ROTATE(e_, 11) ^ ROTATE(e_, 25)) + ((e_ & f_) ^ (~e_ & g_)) + sha_k[i_] +     \
                   (w)[i_ & 15];                                                                                       \
            T t_ = (ROTATE(a_, 2) ^ ROTATE(a_, 13) ^ ROTATE(a_, 22)) + ((a_ & b_) ^ (a_ & c_) ^ (b_ & c_));            \
            h_ = g_, g_ = f_, f_ = e_, e_ = d_ + s_, d_ = c_, c_ = b_, b_ = a_, a_ = s_ + t_;                          \
        }                                                                                                              \
        (h)[0] += a_, (h)[1] += b_, (h)[2] += c_, (h)[3] += d_;                                                        \
        (h)[4] += e_, (h)[5] += f_, (h)[6] += g_, (h)[7] += h_;                                                        \
    } while (0)

static uint64_t run_sha(uint64_t n, uint8_t *arena)
{
    uint32_t h[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    uint32_t *w = (uint32_t *)(void *)arena;
    while (n--)
        SHA_COMPRESS(uint32_t, h, w);
    return h[0] ^ h[7];
}

static void quicksort(uint32_t *lo, uint32_t *hi) /* both inclusive */
{
    while (lo < hi) {
        uint32_t pivot = lo[(hi - lo) / 2], *l = lo, *r = hi;
        do {
            while (*l < pivot)
                l++;
            while (*r > pivot)
                r--;
            if (l <= r) {
                uint32_t t = *l;
                *l++ = *r;
                *r-- = t;
            }
        } while (l <= r);
        quicksort(lo, r);
        lo = l;
    }
}

/* 256 numbers an iteration. */
static uint64_t run_sort(uint64_t n, uint8_t *arena)
{
    uint32_t *x = (uint32_t *)(void *)arena;
    uint64_t seed = SEED, sum = 0;
    while (n--) {
        for (unsigned i = 0; i < 256; i++)
            x[i] = (uint32_t)next_random(&seed);
        quicksort(x, x + 255);
        sum += x[0] ^ x[128];
    }
    return sum;
}

struct node { uint64_t key; struct node *child[2]; };

/* A lookup in a tree of 4096 an iteration, half of them in vain. */
static uint64_t run_tree(uint64_t n, uint8_t *arena)
{
    struct node *node = (struct node *)(void *)arena;
    uint64_t seed = SEED, found = 0;
    for (unsigned i = 0; i < 4096; i++) {
        uint64_t key = next_random(&seed) & 8191;
        node[i].key = key;
        struct node **at = &node[0].child[key > node[0].key];
        while (i && *at)
            at = &(*at)->child[key > (*at)->key];
        if (i)
            *at = &node[i];
    }
    while (n--) {
        uint64_t key = next_random(&seed) & 8191;
        const struct node *at = node;
        while (at && at->key != key)
            at = at->child[key > at->key];
        found += at != NULL;
    }
    return found;
}

static uint64_t run_alu(uint64_t n, uint8_t *arena)
{
    (void)arena;
    uint64_t x = SEED;
    while (n--)
        next_random(&x);
    return x;
}

static inline uint64_t random_updates(uint64_t n, uint8_t *arena, uint64_t len)
{
    uint64_t seed = SEED, *at = (uint64_t *)(void *)arena;
    while (n--) {
        uint64_t x = next_random(&seed);
        at = (uint64_t *)(void *)(arena + (x & (len - 8)));
        *at += x;
    }
    return *at;
}

static uint64_t run_mem(uint64_t n, uint8_t *arena)
{
    return random_updates(n, arena, 256 << 10);
}

/* ---- calls and indirect jumps ---- */

static __attribute__((noinline)) uint64_t fib(uint64_t n)
{
    /* The compiler must not turn the recursion into a loop. */
    __asm__ volatile("" : "+r"(n));
    return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

static uint64_t run_fib(uint64_t n, uint8_t *arena)
{
    (void)arena;
    uint64_t sum = 0;
    while (n--)
        sum += fib(12);
    return sum;
}

/* A threaded interpreter: 64 instructions an iteration, each ending in an indirect jump of its own. */
static uint64_t run_dispatch(uint64_t n, uint8_t *arena)
{
    static const void *const table[] = {&&op_add, &&op_xor,  &&op_rotate, &&op_sub,
                                        &&op_not, &&op_swap, &&op_mul,    &&op_end};
    uint64_t a = 1, b = 2, seed = SEED;
    for (unsigned i = 0; i < 64; i++)
        arena[i] = (uint8_t)(next_random(&seed) % 7);
    arena[64] = 7;
    const uint8_t *pc = arena;
#define NEXT goto *table[*pc++]
    if (!n)
        return a;
    NEXT;
op_add:
    a += b;
    NEXT;
op_xor:
    b ^= a;
    NEXT;
op_rotate:
    a = a << 7 | a >> 57;
    NEXT;
op_sub:
    b -= a;
    NEXT;
op_not:
    a = ~a;
    NEXT;
op_swap:
    seed = a, a = b, b = seed;
    NEXT;
op_mul:
    a *= 0x9e3779b97f4a7c15;
    NEXT;
op_end:
    pc = arena;
    if (--n)
        NEXT;
#undef NEXT
    return a ^ b;
}

/* ---- large footprint ---- */

static uint64_t run_rand64(uint64_t n, uint8_t *arena)
{
    for (uint64_t i = 0; i < ARENA_LEN; i += 4096)
        arena[i] = 1;
    return random_updates(n, arena, ARENA_LEN);
}

/* ---- scalar floating point ---- */

/* c = a * b of order 16 an iteration. */
static uint64_t run_matmul(uint64_t n, uint8_t *arena)
{
    double *a = (double *)(void *)arena, *b = a + 256, *c = b + 256;
    for (int i = 0; i < 256; i++)
        a[i] = 1.0 + i / 16.0, b[i] = 1.0 / (i + 1), c[i] = 0;
    while (n--) {
        for (int i = 0; i < 16; i++)
            for (int j = 0; j < 16; j++) {
                double sum = 0;
                for (int k = 0; k < 16; k++)
                    sum += a[16 * i + k] * b[16 * k + j];
                c[16 * i + j] = c[16 * i + j] * 0.5 + sum;
            }
        a[n & 255] += 1.0;
    }
    return *(uint64_t *)(void *)&c[17];
}

/* A polynomial of degree 15 and a division an iteration. */
static uint64_t run_x87(uint64_t n, uint8_t *arena)
{
    long double *k = (long double *)(void *)arena, x = 0.5L;
    for (int i = 0; i < 16; i++)
        k[i] = 1.0L / (i + 3);
    while (n--) {
        long double y = 0;
        for (int i = 0; i < 16; i++)
            y = y * x + k[i];
        x = y / (x + 2.0L);
    }
    union { long double f; uint64_t bits[2]; } u = {.f = x};
    return u.bits[0];
}

/* ---- packed ---- */

typedef float f32x4 __attribute__((vector_size(16)));
typedef float f32x8 __attribute__((vector_size(32)));
typedef long long i64x2 __attribute__((vector_size(16)));

/* 4 KiB an iteration. */
#define PACKED_FLOAT(T, n, arena)                                                                                      \
    do {                                                                                                               \
        T *x_ = (T *)(void *)(arena), *y_ = x_ + 2048 / sizeof(T);                                                     \
        float *f_ = (float *)(void *)(arena);                                                                          \
        for (int i_ = 0; i_ < 1024; i_++)                                                                              \
            f_[i_] = 1.0f / (float)(i_ + 1);                                                                           \
        while ((n)--)                                                                                                  \
            for (unsigned i_ = 0; i_ < 2048 / sizeof(T); i_++)                                                         \
                y_[i_] = y_[i_] * 0.75f + x_[i_];                                                                      \
    } while (0)

static uint64_t run_sse_float(uint64_t n, uint8_t *arena)
{
    PACKED_FLOAT(f32x4, n, arena);
    return *(uint64_t *)(void *)(arena + 2048);
}

static __attribute__((target("avx"))) uint64_t run_avx_float(uint64_t n, uint8_t *arena)
{
    PACKED_FLOAT(f32x8, n, arena);
    return *(uint64_t *)(void *)(arena + 2048);
}

static uint64_t run_sse_int(uint64_t n, uint8_t *arena)
{
    u32x4 *x = (u32x4 *)(void *)arena;
    uint64_t seed = SEED;
    for (int i = 0; i < 512; i++)
        ((uint64_t *)(void *)arena)[i] = next_random(&seed);
    while (n--)
        for (int i = 0; i < 128; i++)
            x[i] = ((x[i] << 5 ^ x[i + 128]) + x[i + 128]) ^ x[i] >> 3;
    return *(uint64_t *)(void *)arena;
}

/* Four blocks at once, ten rounds. */
static __attribute__((target("aes"))) uint64_t run_aes(uint64_t n, uint8_t *arena)
{
    i64x2 *key = (i64x2 *)(void *)arena, s[4] = {{1, 2}, {3, 4}, {5, 6}, {7, 8}};
    uint64_t seed = SEED;
    for (int i = 0; i < 22; i++)
        ((uint64_t *)(void *)arena)[i] = next_random(&seed);
    while (n--) {
        for (int b = 0; b < 4; b++)
            s[b] ^= key[0];
        for (int r = 1; r < 10; r++)
            for (int b = 0; b < 4; b++)
                s[b] = __builtin_ia32_aesenc128(s[b], key[r]);
        for (int b = 0; b < 4; b++)
            s[b] = __builtin_ia32_aesenclast128(s[b], key[10]);
    }
    i64x2 all = s[0] ^ s[1] ^ s[2] ^ s[3];
    return (uint64_t)(all[0] ^ all[1]);
}

/* SHA-256 of four messages side by side. */
static uint64_t run_sha_packed(uint64_t n, uint8_t *arena)
{
    u32x4 h[8] = {{1, 2, 3, 4}, {5, 6, 7, 8}}, *w = (u32x4 *)(void *)arena;
    while (n--)
        SHA_COMPRESS(u32x4, h, w);
    u32x4 all = h[0] ^ h[7];
    return all[0] ^ (uint64_t)all[1] << 32 ^ all[2] ^ (uint64_t)all[3] << 32;
}

/* ---- strings ---- */

/* 4 KiB an iteration. */
static uint64_t run_movsb(uint64_t n, uint8_t *arena)
{
    for (unsigned i = 0; i < 4096; i++)
        arena[i] = (uint8_t)(i * 7);
    while (n--) {
        const uint8_t *from = arena;
        uint8_t *to = arena + 4096;
        uint64_t count = 4096;
        __asm__ volatile("rep movsb" : "+S"(from), "+D"(to), "+c"(count) : : "memory");
    }
    return *(uint64_t *)(void *)(arena + 4096);
}

static uint64_t run_stosq(uint64_t n, uint8_t *arena)
{
    while (n--) {
        uint8_t *to = arena;
        uint64_t count = 512;
        __asm__ volatile("rep stosq" : "+D"(to), "+c"(count) : "a"(n) : "memory");
    }
    return *(uint64_t *)(void *)arena;
}

const struct workload workloads[] = {
    {"sha", run_sha, false},
    {"sort", run_sort, false},
    {"tree", run_tree, false},
    {"alu", run_alu, false},
    {"mem", run_mem, false},
    {"fib", run_fib, false},
    {"dispatch", run_dispatch, false},
    {"rand64", run_rand64, true},
    {"matmul", run_matmul, false},
    {"x87", run_x87, false},
    {"sse_float", run_sse_float, false},
    {"sse_int", run_sse_int, false},
    {"avx_float", run_avx_float, false},
    {"aes", run_aes, false},
    {"sha_packed", run_sha_packed, false},
    {"movsb", run_movsb, false},
    {"stosq", run_stosq, false},
    {NULL, NULL, false},
};
