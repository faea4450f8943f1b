/* replay/recording.c: see recording.h. */
#include "replay/recording.h"

#include <stdio.h>
#include <stdlib.h>

static struct err *load_blob(struct log_reader *lr, const char *role, uint64_t max, uint8_t **data, size_t *len)
{
    const struct log_blob *b = log_reader_blob_find(lr, role);
    *data = NULL;
    if (!b)
        return NULL;
    *len = (size_t)b->len;
    return log_reader_blob_load(lr, b, max, data);
}

/* boot_image.again: by a reader of its own, as the other one is in the middle of the events. Should it fail, the guest
 * goes another way than recorded, and the digests say so. */
static uint8_t *load_again(void *self, enum boot_part part)
{
    struct recording *r = self;
    struct log_reader *again;
    uint8_t *data = NULL;
    size_t len;
    struct err *e = log_reader_open(r->path, &again);
    if (!e) {
        e = load_blob(again, part == BOOT_KERNEL ? "kernel" : "initrd", r->spec.ram_len, &data, &len);
        log_reader_close(again);
    }
    if (e)
        fprintf(stderr, "hyperwind: the guest reads its image again, which cannot be read: %s\n", err_message(e));
    err_destroy(e);
    return data;
}

static struct err *load_image(struct recording *r)
{
    struct boot_image *img = &r->spec.image;
    size_t cmdline_len;
    struct err *e = load_blob(r->log, "kernel", r->spec.ram_len, &r->kernel, &img->kernel_len);
    if (!e)
        e = load_blob(r->log, "initrd", r->spec.ram_len, &r->initrd, &img->initrd_len);
    if (!e)
        e = load_blob(r->log, "firmware", MIB(16), &r->firmware, &img->firmware_len);
    if (!e)
        e = load_blob(r->log, "cmdline", MIB(1), &r->cmdline, &cmdline_len);
    if (!e && (!r->cmdline || (!r->kernel && !r->firmware)))
        e = err_new(ERR_CORRUPT, "the recording does not contain what the guest was started from");
    img->kernel = r->kernel;
    img->initrd = r->initrd;
    img->firmware = r->firmware;
    img->cmdline = (const char *)r->cmdline;
    img->again = load_again;
    img->again_self = r;
    return e;
}

/* A recording that was cut short is replayed as far as it goes. (Damage is told by the reader, where it is met.) */
static void tell_state(const struct log_reader *lr, const char *path)
{
    struct log_summary s = log_reader_summary(lr);
    if (s.state == LOG_TRUNCATED)
        fprintf(stderr,
                "hyperwind: %s was not closed (its recorder was killed or ran out of space): it is whole up to "
                "tick %" PRIu64 "\n", path, s.last.ticks);
}

struct err *recording_wrap(struct err *e, const char *path)
{
    return !e || !strncmp(err_message(e), path, strlen(path)) ? e : err_wrap(e, "%s", path);
}

struct err *recording_open(const char *path, bool force, struct recording *out)
{
    *out = (struct recording){.path = path};
    struct err *e = log_reader_open(path, &out->log);
    if (e)
        return e;
    tell_state(out->log, path);
    e = vm_spec_from_header(log_reader_header(out->log), force, &out->spec);
    if (!e)
        e = load_image(out);
    if (!e)
        return NULL;
    recording_close(out);
    return recording_wrap(e, path);
}

void recording_image_loaded(struct recording *r)
{
    free(r->kernel);
    free(r->initrd);
    r->kernel = r->initrd = NULL;
    r->spec.image.kernel = r->spec.image.initrd = NULL;
}

void recording_close(struct recording *r)
{
    free(r->kernel);
    free(r->initrd);
    free(r->firmware);
    free(r->cmdline);
    log_reader_close(r->log);
    *r = (struct recording){0};
}

static bool is_input(const struct log_event *ev)
{
    return ev->id == LOG_EV_TIME_ANCHOR || ev->id == LOG_EV_CONSOLE_INPUT || ev->id == LOG_EV_WAKE;
}

struct err *recording_next_input(struct log_reader *lr, struct log_pos *pos, struct log_event *ev, bool *found)
{
    struct err *e;
    do
        e = log_reader_next(lr, pos, ev);
    while (!e && ev->id != LOG_EV_NONE && !is_input(ev));
    *found = !e && ev->id != LOG_EV_NONE;
    return e;
}

struct err *recording_write_image(struct log_writer *w, const struct boot_image *img)
{
    struct err *e = NULL;
    if (img->kernel)
        e = log_writer_blob(w, "kernel", img->kernel, img->kernel_len);
    if (!e && img->initrd)
        e = log_writer_blob(w, "initrd", img->initrd, img->initrd_len);
    if (!e && img->firmware)
        e = log_writer_blob(w, "firmware", img->firmware, img->firmware_len);
    return e ? e : log_writer_blob(w, "cmdline", img->cmdline, strlen(img->cmdline));
}

struct err *recording_copy_events(struct log_reader *from, uint64_t seq, struct log_writer *to)
{
    struct log_pos pos;
    struct log_event ev = {.id = LOG_EV_NONE};
    struct err *e = NULL;
    while (!e && log_writer_next_seq(to) < seq) {
        e = log_reader_next(from, &pos, &ev);
        if (!e && ev.id == LOG_EV_NONE)
            break;
        if (!e)
            e = log_writer_event(to, pos.ticks, &ev);
    }
    return e;
}
