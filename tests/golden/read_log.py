#!/usr/bin/env python3
"""A reader of recordings, written from docs/recording-format.md alone, tables of events included: it proves that the
page is complete. It reads closed recordings whole, checks everything, and stops at the first doubt.

usage: read_log.py BASE...     BASE.hwr must say what BASE.json says
       read_log.py --print FILE
"""
import ctypes
import ctypes.util
import json
import os
import re
import struct
import sys

DOCUMENT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../docs/recording-format.md")
SKIPPED = 77
MASK = (1 << 64) - 1
CONTENT, BLOB, EVENTS, INDEX, FOOTER = range(1, 6)
SKIPPABLE, ZSTD = 1, 2


class Hash128(ctypes.Structure):
    _fields_ = [("low", ctypes.c_uint64), ("high", ctypes.c_uint64)]


def library(name):
    path = ctypes.util.find_library(name)
    if not path:
        print(f"lib{name} is not here: skipped")
        sys.exit(SKIPPED)
    return ctypes.CDLL(path)


xxhash, zstd = library("xxhash"), library("zstd")
xxhash.XXH3_64bits_withSeed.restype = ctypes.c_uint64
xxhash.XXH3_64bits_withSeed.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint64]
xxhash.XXH3_128bits.restype = Hash128
xxhash.XXH3_128bits.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
zstd.ZSTD_decompress.restype = ctypes.c_size_t
zstd.ZSTD_decompress.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t]


def hash64(data, seed):
    return xxhash.XXH3_64bits_withSeed(data, len(data), seed)


def need(condition, what):
    if not condition:
        raise ValueError(what)


def unpack(stored, raw_len):
    out = ctypes.create_string_buffer(raw_len)
    need(zstd.ZSTD_decompress(out, raw_len, stored, len(stored)) == raw_len, "zstd")
    return out.raw


class Cursor:
    def __init__(self, data):
        self.data, self.at = data, 0

    def left(self):
        return len(self.data) - self.at

    def take(self, count):
        need(count <= self.left(), "the payload ends too early")
        self.at += count
        return self.data[self.at - count : self.at]

    def varint(self):
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                need(value <= MASK, "varint")
                return value
            shift += 7

    def zigzag(self):
        value = self.varint()
        return (value >> 1) ^ -(value & 1)


def event_tables():
    """Names by id and fields by name, from the tables of the document."""
    with open(DOCUMENT, encoding="utf-8") as f:
        tables = f.read().split("<!-- events.def: begin -->")[1].split("<!-- events.def: end -->")[0]
    names, fields = {}, {}
    for line in tables.splitlines():
        cells = [c.strip().strip("`") for c in line.strip("|").split("|")]
        if len(cells) == 4 and cells[0].isdigit():
            names[int(cells[0])] = cells[1]
            fields[cells[1]] = []
        elif len(cells) == 5 and cells[1].isdigit():
            need(len(fields[cells[0]]) + 1 == int(cells[1]), "the document's columns are out of order")
            kind, count = re.fullmatch(r"([a-z0-9]+)(?:\[(\d+)\])?", cells[3]).groups()
            fields[cells[0]].append((cells[2], kind, int(count or 1), dict(
                (int(n), text) for n, text in re.findall(r"(\d+) `([a-z-]+)`", cells[4]))))
    return names, fields


NAMES, FIELDS = event_tables()


def read_value(column, kind, count, values, previous, name, elapsed):
    if kind in ("u8", "u16", "u64"):
        width = int(kind[1:]) // 8
        return column.take(width)[::-1].hex()
    if kind == "enum":
        value = column.take(1)[0]
        return values.get(value, value)
    if kind == "var":
        return column.varint()
    if kind == "delta":
        return (previous.get(name, 0) + column.zigzag()) & MASK
    if kind == "clock":
        predicted = previous.get(name, 0) + (elapsed * previous.get("rate_q32", 0) >> 32)
        return (predicted + column.zigzag()) & MASK
    if kind == "fixed":
        return column.take(count).hex()
    if kind == "u16s":
        return [column.take(2)[::-1].hex() for _ in range(count)]
    length = column.varint()
    need(length <= count, f"{name} is too long")
    data = column.take(length)
    return data.decode("latin-1") if kind == "text" else data.hex()


def read_events(payload, count, seq, first_ticks, period):
    cursor = Cursor(payload)
    kinds = []
    for _ in range(cursor.varint()):
        number = cursor.varint()
        cursor.varint()  # flags matter for unknown kinds only
        need(number in NAMES, f"event {number}")
        kinds.append((NAMES[number], [cursor.varint() for _ in range(cursor.varint())]))
    order = cursor.take(count)
    columns = [[Cursor(cursor.take(length)) for length in lengths] for _, lengths in kinds]
    need(cursor.left() == 0, "bytes after the last column")
    previous = [{} for _ in kinds]
    ticks_before = [first_ticks for _ in kinds]
    for kind in order:
        name, column = kinds[kind][0], columns[kind]
        code, prev = column[0].varint(), ticks_before[kind]
        ticks = (prev // period + code // 2) * period if code & 1 else prev + code // 2
        event = {"seq": seq, "ticks": ticks, "event": name}
        for (field, coding, size, values), c in zip(FIELDS[name], column[1:]):
            event[field] = read_value(c, coding, size, values, previous[kind], field, ticks - prev)
        previous[kind], ticks_before[kind] = event, ticks
        seq += 1
        yield event
    need(all(c.left() == 0 for cs in columns for c in cs), "a column is too long")


def read_header(data):
    magic, version, min_reader, length, checksum = struct.unpack_from("<8sHHIQ", data)
    need(magic == b"\x89HWR\r\n\x1a\n", "no recording")
    need(hash64(data[24:length], hash64(data[:16], 0)) == checksum, "header checksum")
    need(min_reader <= 1, "newer format")
    _, _, count, _, period = struct.unpack_from("<BBHIQ", data, 24)
    cursor = Cursor(data[40:length])
    facts = []
    for _ in range(count):
        lengths = struct.unpack("<HH", cursor.take(4))
        facts.append([cursor.take(n).decode() for n in lengths])
    return version, length, checksum, period, facts


def frames(data, offset, salt):
    """(offset, type, number of events, seq, ticks, unpacked payload) of each frame."""
    while offset < len(data):
        head = data[offset : offset + 40]
        kind, flags, events, raw_len, stored_len, seq, ticks, payload_sum, head_sum = struct.unpack("<BBHIIQQQI", head)
        need(hash64(head[:36], salt) & 0xFFFFFFFF == head_sum, f"frame header at {offset}")
        stored = data[offset + 40 : offset + 40 + stored_len]
        need(len(stored) == stored_len and hash64(stored, salt) == payload_sum, f"payload at {offset}")
        if kind <= FOOTER:
            payload = unpack(stored, raw_len) if flags & ZSTD else stored
            need(len(payload) == raw_len, "raw length")
            yield offset, kind, events, seq, ticks, payload
        else:
            need(flags & SKIPPABLE, f"frame type {kind}")
        offset += 40 + stored_len


def read_blob(payload, pieces):
    length, low, high, offset, count = struct.unpack_from("<QQQQI", payload)
    offsets = [o for o in sorted(pieces) if o >= offset][:count]
    content = b"".join(pieces[o] for o in offsets)
    whole = xxhash.XXH3_128bits(content, len(content))
    need(len(content) == length and (whole.low, whole.high) == (low, high), "blob")
    return {"blob": payload[36:].decode(), "len": length, "hash": f"{high:016x}{low:016x}"}


def read_index(payload, index):
    cursor = Cursor(payload)
    entry = (0, 0, 0)
    while cursor.left():
        entry = tuple(a + cursor.varint() for a in entry)
        index.append(entry)


def read_recording(path):
    with open(path, "rb") as f:
        data = f.read()
    version, offset, salt, period, facts = read_header(data)
    blobs, events, index, event_frames, pieces, footer = [], [], [], [], {}, None
    for offset, kind, count, seq, ticks, payload in frames(data, offset, salt):
        need(footer is None, "bytes after the footer")
        if kind == CONTENT:
            pieces[offset] = payload
        elif kind == BLOB:
            blobs.append(read_blob(payload, pieces))
        elif kind == EVENTS:
            need(seq == len(events), "events are missing")
            event_frames.append((offset, seq, ticks))
            events += read_events(payload, count, seq, ticks, period)
            need(events[seq]["ticks"] == ticks, "first position")
        elif kind == INDEX:
            read_index(payload, index)
        else:
            footer = (seq, ticks, struct.unpack("<QQQ", payload))
    need(footer and footer[0] == len(events) and footer[2][1] == len(event_frames), "not closed")
    need(index == event_frames, "the index is wrong")
    yield {"version": version, "final_ticks": footer[1]}
    yield from ({"fact": key, "value": value} for key, value in facts)
    yield from blobs
    yield from events


def same(base):
    with open(base + ".json", encoding="utf-8") as f:
        want = [json.loads(line) for line in f]
    got = list(read_recording(base + ".hwr"))
    for number, (a, b) in enumerate(zip(want, got)):
        if a != b:
            print(f"line {number + 1} should be\n{a}\nand is\n{b}")
            return False
    print(f"{base}.hwr: {len(got)} of {len(want)} lines")
    return len(got) == len(want)


def main():
    if sys.argv[1] == "--print":
        for line in read_recording(sys.argv[2]):
            print(json.dumps(line))
        return 0
    return 0 if all([same(base) for base in sys.argv[1:]]) else 1


sys.exit(main())
