/* analysis/frame.h: ORC rules as a .debug_frame section (DWARF 5, 6.4; version 3 entries). Private.
 *
 * A frame of ORC_CALL has its return address below the CFA, RBP where ORC says, and no other register, because ORC
 * tells of no other. Frames of pt_regs restore everything and are signal frames (augmentation S): gdb then looks the
 * interrupted RIP up as it is, and lets the stack change. Frames of ORC_END have no return address, which ends a
 * backtrace. Code of ORC_UNKNOWN is treated the same: it is better to stop than to guess. */
#ifndef HW_FRAME_H
#define HW_FRAME_H

#include "analysis/orc.h"

struct frame_bytes {
    uint8_t *data; /* free() */
    size_t len;
};

/* `count` rules, ascending, the last for [rule.ip, end). Errors: ERR_HOST. */
must_check struct err *frame_encode(const struct orc_rule *rules, size_t count, uint64_t end, struct frame_bytes *out);

#endif
