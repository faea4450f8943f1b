/* replay/digest.h: digests of a machine, by which a replay proves itself.
 *
 * The memory digest is a sum over RAM pages of hash(page content, page number), all-zero pages counting 0, so that it is
 * a function of the content alone and costs only the pages written since the last time. Two rows of partial sums
 * (page number bits 9:5 and 4:0) let a reader that compares them name the pages that differ. */
#ifndef HW_DIGEST_H
#define HW_DIGEST_H

#include "core/machine.h"

enum { DIGEST_SUMS = 32 };

struct digester; /* borrows the machine */

struct digest_regs { uint64_t chain, general, system, vector; };
struct digest_memory {
    uint64_t total;
    uint64_t rows[DIGEST_SUMS], columns[DIGEST_SUMS];
};
struct digest_state {
    uint64_t chain, devices;
    struct digest_memory memory;
};

must_check struct err *digester_create(struct machine *m, struct digester **out);
void digester_destroy(struct digester *d);

/* Both advance the running chain, so record and replay must call them at the same positions. */
struct digest_regs digest_regs(struct digester *d);
struct digest_state digest_state(struct digester *d);

/* The chain as it stands, and back: part of a position in a recording. */
uint64_t digest_chain(const struct digester *d);
void digest_set_chain(struct digester *d, uint64_t chain);

/* The memory digest now, without touching the chain. */
struct digest_memory digest_memory(struct digester *d);

/* The canonical register image (vcpu_fields order), and its length. */
size_t digest_image_len(void);
void digest_image(const struct vcpu_state *s, uint8_t *out);

/* RAM pages whose digests differ between two machines of the same memory size, each as of its last memory digest. Calls
 * fn for each; returns how many there are. */
size_t digest_differing(const struct digester *a, const struct digester *b, void (*fn)(void *arg, uint32_t page),
                        void *arg);

/* Pages written between the last memory digest and the one before, that a difference to a digest `other` can mean, of
 * whose sums only the low bits in `mask` are known. Calls fn for each; returns how many there are. */
size_t digest_suspects(const struct digester *d, const struct digest_memory *other, uint64_t mask,
                       void (*fn)(void *arg, uint32_t page), void *arg);

#endif
