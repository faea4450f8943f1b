#!/usr/bin/env python3
"""Seeds for tests/fuzz/fuzz_log.c: small recordings written from docs/recording-format.md alone, stored instead of
packed so that a fuzzer can change them, with zero checksums, which that program does not look at.

usage: make_log_corpus.py DIRECTORY
"""
import os
import struct
import sys

CONTENT, BLOB, EVENTS, INDEX, FOOTER, CHECKPOINT = range(1, 7)


def varint(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7f | 0x80)
        value >>= 7
    return bytes(out) + bytes([value])


def header(facts=(), period=1000, version=1, min_reader=1):
    rest = struct.pack("<BBHIQ", 0, 0, len(facts), 0, period)
    for key, value in facts:
        rest += struct.pack("<HH", len(key), len(value)) + key + value
    return b"\x89HWR\r\n\x1a\n" + struct.pack("<HHIQ", version, min_reader, 24 + len(rest), 0) + rest


def frame(kind, payload, events=0, seq=0, ticks=0, flags=0):
    head = struct.pack("<BBHIIQQQI", kind, flags, events, len(payload), len(payload), seq, ticks, 0, 0)
    return head + payload


def events(kinds, order, seq, ticks):
    """kinds: (id, flags, [columns]) each."""
    payload = varint(len(kinds))
    for number, flags, columns in kinds:
        payload += varint(number) + varint(flags) + varint(len(columns))
        payload += b"".join(varint(len(c)) for c in columns)
    payload += bytes(order) + b"".join(c for _, _, columns in kinds for c in columns)
    return frame(EVENTS, payload, len(order), seq, ticks)


def blob(role, pieces, offset):
    out = b""
    done = 0
    for piece in pieces:
        out += frame(CONTENT, piece, ticks=done)
        done += len(piece)
    return out + frame(BLOB, struct.pack("<QQQQI", done, 0, 0, offset, len(pieces)) + role)


START = (1, 0, [varint(0), varint(1763697600000000000), bytes(range(64))])
ANCHOR = (2, 0, [varint(20) + varint(1980), varint(2000) + varint(0), varint(30 << 32) + varint(3)])
CONSOLE = (3, 0, [varint(3990), varint(0), varint(3) + b"ls\r"])
CONSOLE_SOON = (3, 0, [varint(2), varint(1), varint(3) + b"ps\r"])
DIGEST = (4, 0, [b"\3\3\3", b"abcdef", b"123", b"456", b"789"])
STATE = (5, 0, [b"\0", bytes(8), bytes(8), bytes(8), bytes(64), bytes(64), varint(5) + b"image"])
END = (6, 0, [b"\0", b"\0", b"\1", varint(99999), varint(4711), varint(4) + b"done"])
WAKE = (7, 0, [varint(1984), varint(5000)])
NEWER = (200, 1, [b"\2\2", b"whatever"])

FRAMES = [
    ([START, STATE], [0, 1], 0, 0),
    ([ANCHOR, CONSOLE, DIGEST, WAKE], [0, 2, 3, 0, 2, 1, 2], 2, 10),
    ([CONSOLE_SOON, NEWER], [0, 1, 1], 9, 4000),
    ([END], [0], 12, 4100),
]


PAGES, STATE_PART, WORDS = 1, 3, 4
STORED, ZERO, KNOWN, FIRST = range(4)


def page(step, kind, *place):
    return varint(step * 4 + kind) + b"".join(varint(p) for p in place)


def words():
    """One page: a word, one near it, that again, zeroes."""
    word = 0xffff888000001000
    place = (word >> 16) * 0x9e3779b97f4a7c15 % 2**64 >> 56
    return struct.pack("<HB127xQBHB", 1, 3 | 2 << 2 | 1 << 4, word, place, 0x2000, place)


def checkpoint(part, contents, pages, seq, ticks):
    """Two frames; pages: what page() returns."""
    state = varint(1) + varint(len(pages)) + b"".join(pages) + b"the state"
    return (frame(CHECKPOINT, contents, part, seq, ticks, flags=1) +
            frame(CHECKPOINT, state, STATE_PART, seq, ticks, flags=1))


def recording(closed=True, blobs=True, frames=tuple(FRAMES), skippable=False, checkpoints=False, **kw):
    out = header([(b"machine.ram_len", b"536870912"), (b"created.program", b"")], **kw)
    count = 0
    if blobs:
        start = len(out)
        out += blob(b"kernel", [b"\x7fELF" * 20, b"tail"], start)
        out += frame(BLOB, struct.pack("<QQQQI", 84, 0, 0, start, 2) + b"module")
        out += blob(b"initrd", [], len(out))
        count += 5
    if skippable:
        out += frame(CHECKPOINT, b"a checkpoint", flags=1)
        count += 1
    index = b""
    last = (0, 0, 0)
    for kinds, order, seq, ticks in frames:
        index += b"".join(varint(a - b) for a, b in zip((len(out), seq, ticks), last))
        last = (len(out), seq, ticks)
        out += events(kinds, order, seq, ticks)
        count += 1
        if checkpoints and seq in (2, 9):
            pages = [page(3, STORED), page(1, ZERO), page(1, KNOWN, 0), page(200, FIRST, 18), page(1, FIRST, 0)]
            contents = (PAGES, b"page" * 1024) if seq == 2 else (WORDS, words())
            out += checkpoint(*contents, pages[:5 if seq == 2 else 1], seq + len(order), ticks + 4000)
            count += 2
    if not closed:
        return out
    offset = len(out)
    if index:
        out += frame(INDEX, index)
        count += 1
    seq, ticks = (frames[-1][2] + len(frames[-1][1]), 5000) if frames else (0, 0)
    return out + frame(FOOTER, struct.pack("<QQQ", offset, len(frames), count), seq=seq, ticks=ticks)


def main():
    seeds = {
        "closed": recording(),
        "running": recording(closed=False),
        "no-blobs": recording(blobs=False),
        "no-events": recording(frames=()),
        "no-period": recording(period=0, frames=FRAMES[:1]),
        "one-frame": recording(frames=FRAMES[:1], closed=False, blobs=False),
        "skippable": recording(skippable=True),
        "checkpoints": recording(checkpoints=True),
        "newer": recording(version=9, min_reader=9),
        "cut": recording()[:-30],
        "zero-tail": recording(closed=False) + bytes(100),
    }
    os.makedirs(sys.argv[1], exist_ok=True)
    for name, data in seeds.items():
        with open(os.path.join(sys.argv[1], name), "wb") as f:
            f.write(data)


main()
