/* gdb/wire.h: between bytes and packets (gdb manual, "Overview" and "Notification Packets" of the remote protocol).
 *
 * In: `$data#cs` with `}` escapes, 0x03 between packets, acknowledgements. Whatever comes, the reader finds the next
 * packet again: everything up to a `$` is skipped, and a `$` inside a packet begins a new one (an unescaped one never
 * belongs to a packet). Out: escapes and run lengths. */
#ifndef HW_GDB_WIRE_H
#define HW_GDB_WIRE_H

#include "gdb/text.h"

enum { WIRE_MAX = 0x100000 }; /* bytes of a packet, framing included: the PacketSize that is offered */

enum wire_event {
    WIRE_NONE,      /* more bytes are needed */
    WIRE_PACKET,    /* data is a packet, escapes undone */
    WIRE_BAD,       /* a packet with a wrong checksum or broken escape */
    WIRE_TOO_LONG,  /* a packet that was longer than WIRE_MAX: skipped */
    WIRE_BREAK,     /* 0x03 */
    WIRE_ACK, WIRE_NAK,
};

struct wire_reader {
    enum { WIRE_IN_BETWEEN, WIRE_IN_DATA, WIRE_IN_SUM1, WIRE_IN_SUM2 } state;
    struct text data;   /* the packet so far, escapes undone */
    size_t len;         /* bytes of it on the wire */
    uint8_t sum;        /* of them */
    uint8_t want;       /* first digit of the checksum */
    bool escaped, bad;
};

void wire_reader_deinit(struct wire_reader *f); /* zeroed: fine, and how one begins */

/* One byte in. `check`: checksums count (not in no-ack mode). After WIRE_PACKET, data stays until the next byte. */
enum wire_event wire_feed(struct wire_reader *f, uint8_t byte, bool check);

/* A whole packet with this content, appended to `out`. */
void wire_write(struct text *out, const uint8_t *data, size_t len);

#endif
