#!/usr/bin/env python3
"""Seeds for fuzz_btf.c: type information as a kernel has it, of every kind, whole and with mistakes.

usage: make_btf_corpus.py FOLDER
"""
import os
import struct
import sys

NAMES = b"\0int\0char\0list\0next\0low\0high\0size_t\0run\0double\0tag\0"


def name(text):
    return NAMES.index(b"\0" + text + b"\0") + 1 if text else 0


def kind(number, what, size, *rest, parts=0, flag=0):
    return struct.pack("<III", name(what), flag << 31 | number << 24 | parts, size) + struct.pack(f"<{len(rest)}I", *rest)


def btf(*types, names=NAMES):
    body = b"".join(types)
    return struct.pack("<HBBIIIII", 0xeb9f, 1, 0, 24, 0, len(body), len(body), len(names)) + body + names


INT, CHAR = kind(1, b"int", 4, 1 << 24 | 32), kind(1, b"char", 1, 1 << 24 | 8)
ALL = [
    INT, CHAR, kind(2, b"", 4), kind(4, b"list", 16, name(b"next"), 3, 0, name(b"low"), 1, 64, parts=2),
    kind(3, b"", 0, 2, 1, 16), kind(5, b"", 4, name(b"low"), 1, 0, 0, 5, 0, parts=2),
    kind(4, b"", 4, name(b"low"), 1, 3 << 24, name(b"high"), 1, 29 << 24 | 3, parts=2, flag=1),
    kind(6, b"run", 4, name(b"low"), 0xffffffff, name(b"high"), 7, parts=2, flag=1), kind(7, b"high", 0, flag=1),
    kind(8, b"size_t", 1), kind(9, b"", 10), kind(10, b"", 0), kind(11, b"", 3),
    kind(13, b"", 1, name(b"low"), 1, 0, 0, parts=2), kind(12, b"run", 14), kind(14, b"low", 1, 1),
    kind(15, b"tag", 8, 16, 0, 8, parts=1), kind(16, b"double", 8), kind(17, b"tag", 4, 0), kind(18, b"tag", 1),
    kind(2, b"", 20), kind(19, b"", 8, name(b"high"), 1, 2, parts=1),
]


def main():
    seeds = {
        "all": btf(*ALL), "empty": btf(), "no_names": btf(INT, names=b""), "cut": btf(*ALL)[:-40],
        "names_do_not_end": btf(INT, names=NAMES[:-1]), "unknown_kind": btf(INT, kind(25, b"", 0)),
        "tags_in_a_circle": btf(kind(18, b"tag", 2), kind(18, b"tag", 1), kind(2, b"", 1)),
        "refers_to_nothing": btf(kind(2, b"", 77), kind(4, b"list", 8, 0xffffff, 0x7fffffff, 0, parts=1)),
        "parts_beyond": btf(kind(4, b"list", 8, parts=65535)),
    }
    for seed, data in seeds.items():
        with open(os.path.join(sys.argv[1], seed), "wb") as f:
            f.write(data)


main()
