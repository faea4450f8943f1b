#!/usr/bin/env python3
"""Write the seeds of fuzz_load into tests/fuzz/corpus/load: the smallest valid image of each kind."""
import pathlib
import struct

OUT = pathlib.Path(__file__).parent / "corpus" / "load"
FIRMWARE, INITRD = 4, 8


def seed(name, mode, image, initrd=b""):
    head = struct.pack("<BH", mode | (INITRD if initrd else 0), len(initrd))
    (OUT / name).write_bytes(head + image + initrd)


def bzimage():
    f = bytearray(1024 + 528)
    f[0x1F1] = 1
    struct.pack_into("<I", f, 0x1F4, 528 // 16)
    struct.pack_into("<H", f, 0x1FE, 0xAA55)
    f[0x200:0x202] = b"\xeb\x6a"
    f[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", f, 0x206, 0x20F)
    struct.pack_into("<IIB", f, 0x22C, 0x7FFFFFFF, 0x200000, 1)
    struct.pack_into("<HI", f, 0x236, 3, 2047)
    struct.pack_into("<QI", f, 0x258, 0x1000000, 0x300000)
    return bytes(f)


def phdr(is64, kind, off, addr, size, mem):
    if is64:
        return struct.pack("<IIQQQQQQ", kind, 5, off, addr + 0xFFFFFFFF80000000, addr, size, mem, 4)
    return struct.pack("<IIIIIIII", kind, off, addr + 0xC0000000, addr, size, mem, 5, 4)


def elf(is64, body, note=None):
    """Headers, then `body` loaded at 1 MiB, then the note."""
    ehsize, phsize = (64, 56) if is64 else (52, 32)
    count = 2 if note else 1
    off = ehsize + count * phsize
    entry = 0x100010 + (0xFFFFFFFF80000000 if is64 else 0xC0000000)
    ident = b"\x7fELF" + bytes([2 if is64 else 1, 1, 1]) + bytes(9)
    head = struct.pack("<HHI" + ("QQQ" if is64 else "III") + "IHHHHHH", 2, 62 if is64 else 3, 1, entry, ehsize, 0, 0,
                       ehsize, phsize, count, 0, 0, 0)
    phdrs = phdr(is64, 1, off, 0x100000, len(body), len(body) + 4096)
    if note:
        phdrs += phdr(is64, 4, off + len(body), 0, len(note), len(note))
    return ident + head + phdrs + body + (note or b"")


def multiboot_header(flags, *addresses):
    return struct.pack("<3I", 0x1BADB002, flags, -(0x1BADB002 + flags) & 0xFFFFFFFF) + struct.pack(f"<{len(addresses)}I",
                                                                                               *addresses)


def cpio_member(name, data):
    fields = [0] * 6 + [len(data)] + [0] * 4 + [len(name) + 1, 0]
    member = b"070701" + b"".join(b"%08x" % f for f in fields) + name + b"\0"
    member += bytes(-len(member) % 4) + data
    return member + bytes(-len(member) % 4)


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    cpio = cpio_member(b"init", b"#!/bin/sh\n") + cpio_member(b"TRAILER!!!", b"")
    seed("bzimage", 2, bzimage(), cpio)
    for is64 in (False, True):
        bits = 64 if is64 else 32
        desc = struct.pack("<Q" if is64 else "<I", 0x100010)
        note = struct.pack("<3I", 4, len(desc), 18) + b"Xen\0" + desc
        seed(f"pvh{bits}", 1, elf(is64, bytes(64), note), b"module")
        seed(f"multiboot{bits}", 3, elf(is64, multiboot_header(3) + bytes(64)), b"module")
    flat = multiboot_header(0x10003, 0x110000, 0x110000, 0, 0x120000, 0x110020) + bytes(64)
    seed("multiboot_flat", 1, flat)
    seed("firmware", 1 | FIRMWARE, bytes(64) + b"\xeb\xfe" + bytes(14))


main()
