/* gdb/frame.h: between bytes and packets (gdb manual, "Overview" and "Notification Packets" of the remote protocol).
 *
 * In: `$data#cs` with `}` escapes, 0x03 between packets, acknowledgements. Whatever comes, the reader finds the next
 * packet again: everything up to a `$` is skipped, and a `$` inside a packet begins a new one (an unescaped one never
 * belongs to a packet). Out: escapes and run lengths. */
#ifndef HW_GDB_FRAME_H
#define HW_GDB_FRAME_H

#include "gdb/text.h"

enum { FRAME_MAX = 0x100000 }; /* bytes of a packet, framing included: the PacketSize that is offered */

enum frame_event {
    FRAME_NONE,      /* more bytes are needed */
    FRAME_PACKET,    /* frame.data is a packet, escapes undone */
    FRAME_BAD,       /* a packet with a wrong checksum or broken escape */
    FRAME_TOO_LONG,  /* a packet that was longer than FRAME_MAX: skipped */
    FRAME_BREAK,     /* 0x03 */
    FRAME_ACK, FRAME_NAK,
};

struct frame_reader {
    enum { FR_BETWEEN, FR_DATA, FR_SUM1, FR_SUM2 } state;
    struct text data;   /* the packet so far, escapes undone */
    size_t len;         /* bytes of it on the wire */
    uint8_t sum;        /* of them */
    uint8_t want;       /* first digit of the checksum */
    bool escaped, bad;
};

void frame_reader_deinit(struct frame_reader *f); /* zeroed: fine, and how one begins */

/* One byte in. `check`: checksums count (not in no-ack mode). After FRAME_PACKET, data stays until the next byte. */
enum frame_event frame_feed(struct frame_reader *f, uint8_t byte, bool check);

/* A whole packet with this content, appended to `out`. */
void frame_write(struct text *out, const uint8_t *data, size_t len);

#endif
