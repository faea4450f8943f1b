/* core/base/base.h: the vocabulary every folder shares: guest address types, bit helpers, attributes.
 * No state, no dependency beyond libc. */
#ifndef HW_BASE_H
#define HW_BASE_H

#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define must_check __attribute__((warn_unused_result))
#define printf_like(fmt, args) __attribute__((format(printf, fmt, args)))
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))
#define KIB(n) ((uint64_t)(n) << 10)
#define MIB(n) ((uint64_t)(n) << 20)
#define GIB(n) ((uint64_t)(n) << 30)
#define NS_PER_S UINT64_C(1000000000)

enum { PAGE_SHIFT = 12, PAGE_SIZE = 1 << PAGE_SHIFT, PAGE_MASK = PAGE_SIZE - 1 };

/* A guest-physical and a guest-linear (after segmentation) address. One-member structs, so that
 * they are neither mixed up nor dereferenced. */
typedef struct { uint64_t v; } gpa_t;
typedef struct { uint64_t v; } gva_t;
static inline gpa_t gpa(uint64_t v) { return (gpa_t){v}; }
static inline gva_t gva(uint64_t v) { return (gva_t){v}; }

/* Little-endian access to unaligned bytes. The host is x86-64; memcpy keeps the compiler and UBSan content. */
static inline uint16_t get_le16(const void *p) { uint16_t v; memcpy(&v, p, sizeof(v)); return v; }
static inline uint32_t get_le32(const void *p) { uint32_t v; memcpy(&v, p, sizeof(v)); return v; }
static inline uint64_t get_le64(const void *p) { uint64_t v; memcpy(&v, p, sizeof(v)); return v; }
static inline void put_le16(void *p, uint16_t v) { memcpy(p, &v, sizeof(v)); }
static inline void put_le32(void *p, uint32_t v) { memcpy(p, &v, sizeof(v)); }
static inline void put_le64(void *p, uint64_t v) { memcpy(p, &v, sizeof(v)); }

static inline uint64_t align_up(uint64_t v, uint64_t pow2) { return (v + pow2 - 1) & ~(pow2 - 1); }
static inline uint64_t align_down(uint64_t v, uint64_t pow2) { return v & ~(pow2 - 1); }
static inline uint64_t bits(uint64_t v, unsigned hi, unsigned lo) /* v[hi:lo]; hi - lo < 63 */
{
    return (v >> lo) & ((UINT64_C(1) << (hi - lo + 1)) - 1);
}
static inline uint64_t bit(unsigned n) { return UINT64_C(1) << n; }

#endif
