/* gdb/stub_file.c: host I/O packets, for the target's own files: the program that runs, so that gdb loads its symbols by
 * itself (gdb manual, "Host I/O Packets"). Nothing of the host's file system can be reached. */
#include "gdb/stub_impl.h"

/* gdb's numbers of errors (gdb manual, "Errno Values"), and of file modes. */
enum { FILE_NOENT = 2, FILE_BADF = 9, FILE_INVAL = 22, FILE_ROFS = 30 };
enum { MODE_REGULAR_READ = 0100444, OPEN_ACCESS = 3 };
enum { FD_FIRST = 1 }; /* the descriptor of the first file */

static void result(struct gdbs *g, uint64_t value)
{
    text_printf(&g->reply, "F%" PRIx64, value);
}

static void failure(struct gdbs *g, unsigned number)
{
    text_printf(&g->reply, "F-1,%x", number);
}

static bool is_open(const struct gdbs *g, uint64_t index)
{
    return index < GDBS_FILES && g->opened[index];
}

static void packet_set_fs(struct gdbs *g, struct cursor *c)
{
    (void)c;
    result(g, 0);
}

static void packet_open(struct gdbs *g, struct cursor *c)
{
    char path[1024];
    const uint8_t *data;
    uint64_t flags, mode;
    unsigned index = 0;
    size_t file_len, len = cursor_bytes(c, (uint8_t *)path, sizeof(path) - 1);
    path[len] = '\0';
    const char *const *files = g->ops->files;
    if (!cursor_is(c, ',') || !cursor_hex_to(c, &flags, ',') || !cursor_hex(c, &mode)) {
        failure(g, FILE_INVAL);
        return;
    }
    while (files && index < GDBS_FILES && files[index] && strcmp(path, files[index]) != 0)
        index++;
    if (!files || index == GDBS_FILES || !files[index] || !g->ops->file(g->target, index, &data, &file_len)) {
        failure(g, FILE_NOENT);
    } else if (flags & OPEN_ACCESS) {
        failure(g, FILE_ROFS);
    } else {
        g->opened[index]++;
        result(g, FD_FIRST + index);
    }
}

/* The descriptor that begins each of the others' arguments; false: the reply is made. */
static bool opened(struct gdbs *g, struct cursor *c, uint64_t *index, const uint8_t **data, size_t *len)
{
    if (cursor_hex(c, index) && is_open(g, *index -= FD_FIRST) && g->ops->file(g->target, (unsigned)*index, data, len))
        return true;
    failure(g, FILE_BADF);
    return false;
}

static void packet_pread(struct gdbs *g, struct cursor *c)
{
    const uint8_t *data;
    size_t len;
    uint64_t index, count, offset;
    if (!opened(g, c, &index, &data, &len))
        return;
    if (!cursor_is(c, ',') || !cursor_hex_to(c, &count, ',') || !cursor_hex(c, &offset)) {
        failure(g, FILE_INVAL);
        return;
    }
    size_t from = (size_t)MIN(offset, len), n = (size_t)MIN(count, len - from);
    n = MIN(n, (size_t)WIRE_MAX / 2 - 32);
    result(g, n);
    text_char(&g->reply, ';');
    text_add(&g->reply, data + from, n);
}

static void put_be(uint8_t *p, uint64_t v, size_t n)
{
    while (n--) {
        p[n] = (uint8_t)v;
        v >>= 8;
    }
}

/* struct stat as the protocol has it: big-endian, no padding. What a file in memory has not is 0. */
static void packet_fstat(struct gdbs *g, struct cursor *c)
{
    enum { MODE = 8, LINKS = 12, SIZE = 28, BLOCK = 36, BLOCKS = 44, LEN = 64 };
    const uint8_t *data;
    size_t len;
    uint64_t index;
    uint8_t st[LEN] = {0};
    if (!opened(g, c, &index, &data, &len))
        return;
    put_be(st + MODE, MODE_REGULAR_READ, 4);
    put_be(st + LINKS, 1, 4);
    put_be(st + SIZE, len, 8);
    put_be(st + BLOCK, 4096, 8);
    put_be(st + BLOCKS, (len + 511) / 512, 8);
    result(g, LEN);
    text_char(&g->reply, ';');
    text_add(&g->reply, st, LEN);
}

static void packet_close(struct gdbs *g, struct cursor *c)
{
    const uint8_t *data;
    size_t len;
    uint64_t index;
    if (!opened(g, c, &index, &data, &len))
        return;
    g->opened[index]--;
    result(g, 0);
}

static void packet_readlink(struct gdbs *g, struct cursor *c)
{
    (void)c;
    failure(g, FILE_INVAL); /* no file is a link */
}

const struct stub_packet stub_file_packets[] = {
    {"vFile:setfs", packet_set_fs},
    {"vFile:open", packet_open},
    {"vFile:pread", packet_pread},
    {"vFile:fstat", packet_fstat},
    {"vFile:close", packet_close},
    {"vFile:readlink", packet_readlink},
    {NULL, NULL},
};
