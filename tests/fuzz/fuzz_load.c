/* tests/fuzz/fuzz_load.c: libFuzzer over machine_boot() with every kind of image. A boot either succeeds or returns a
 * one-line ERR_INPUT; the sanitizers watch the rest.
 *
 * Input: byte 0: RAM size (1:0), firmware instead of a kernel (2), initrd present (3); bytes 1-2: length of the initrd,
 * taken from the end; then the kernel or firmware. tests/fuzz/make_load_corpus.py writes the seeds. */
#include <stdlib.h>

#include "core/base/check.h"
#include "core/machine.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum { FIRMWARE = 4, INITRD = 8, HEAD = 3 };

static struct err *fixed_start(void *nd, struct nondet_start *out)
{
    (void)nd;
    *out = (struct nondet_start){.wall_ns = 1};
    return NULL;
}

static void no_output(void *nd, enum nondet_stream stream, uint8_t channel, const uint8_t *data, size_t len)
{
    (void)nd, (void)stream, (void)channel, (void)data, (void)len;
}

static const struct nondet_ops nd_ops = {.start = fixed_start, .output = no_output};

/* A heap block of exactly this length, so that reading one byte too far is seen. */
static uint8_t *exact_copy(const uint8_t *data, size_t len)
{
    uint8_t *p = malloc(len ? len : 1);
    CHECK(p, "out of memory");
    memcpy(p, data, len);
    return p;
}

static void boot(uint64_t ram_len, const struct boot_image *img)
{
    struct machine_config cfg = {.ram_len = ram_len, .rate_q32 = UINT64_C(1) << 32};
    struct machine *m;
    struct err *e = machine_create(&cfg, align_up(img->firmware_len, PAGE_SIZE), (struct nondet){.ops = &nd_ops}, &m);
    CHECK(!e, "%s", err_message(e));
    e = machine_boot(m, img);
    CHECK(!e || (err_code(e) == ERR_INPUT && !strchr(err_message(e), '\n')), "%s", err_message(e));
    CHECK(e || m->vcpu.s.r[R_RIP] < GIB(4), "entry beyond what the loaders map");
    err_destroy(e);
    machine_destroy(m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const uint64_t ram_lens[4] = {MIB(1), MIB(16), MIB(64), GIB(5)};
    if (len < HEAD)
        return 0;
    size_t rest = len - HEAD, initrd_len = data[0] & INITRD ? MIN((size_t)get_le16(data + 1), rest) : 0;
    size_t image_len = rest - initrd_len;
    uint8_t *image = exact_copy(data + HEAD, image_len), *initrd = exact_copy(data + HEAD + image_len, initrd_len);
    struct boot_image img = {.cmdline = "console=ttyS0 exit=3"};
    if (data[0] & FIRMWARE)
        img.firmware = image, img.firmware_len = image_len;
    else
        img.kernel = image, img.kernel_len = image_len;
    if (data[0] & INITRD)
        img.initrd = initrd, img.initrd_len = initrd_len;
    boot(ram_lens[data[0] & 3], &img);
    free(image);
    free(initrd);
    return 0;
}
