#!/usr/bin/env python3
"""Files and command lines that are wrong: the documented status, one line on standard error, no crash."""
import os
import re
import struct
import sys

import hwtest
from hwtest import CORRUPT, INPUT, OK, RANGE, UNSUPPORTED, USAGE, check, path, record, rng, run, small_guest

FAILURES = (INPUT, CORRUPT, UNSUPPORTED)


def write(name, data):
    with open(path(name), "wb") as f:
        f.write(data)
    return path(name)


def read(name):
    with open(name, "rb") as f:
        return f.read()


def one_line(result, *statuses):
    result.expect(*statuses)
    lines = result.err.splitlines()
    check(len(lines) == 1 and lines[0].startswith("hyperwind: "),
          f"not one line that begins with 'hyperwind: '\n{result.command()}\n{result.err}")
    check(result.out == b"", f"printed {result.out[:200]!r}")
    return lines[0]


def test_usage():
    guest = small_guest()[-1]
    table = [
        ["fly"],
        ["run"],
        ["run", "--memory", "17", guest],
        ["run", "--memory", "65G", guest],
        ["run", "--memory", "-1", guest],
        ["run", "--memory", "18446744073709551616", guest],
        ["run", "--memory"],
        ["run", "--clock", "wall", guest],
        ["run", "--console", "laser", guest],
        ["run", "--engine", "steam", guest],
        ["run", "--limit-ticks", "many", guest],
        ["run", "--no-such-option", guest],
        ["run", guest, guest],
        ["run", "--firmware", guest, guest],
        ["record", guest],
        ["replay"],
        ["replay", "--to", "then", "a.hwr"],
        ["replay", "--to", "101%", "a.hwr"],
        ["debug", "--at", "e", "a.hwr"],
        ["info"],
        ["dump", "a.hwr", "b.hwr"],
    ]
    for args in table:
        one_line(run(*args), USAGE)
    check(b"record -o FILE" in run("help").expect(OK).out, "help is no help")


def test_no_kernel():
    good = read(small_guest()[-1])
    multiboot = good.index(struct.pack("<I", 0x1badb002))
    table = {
        "missing": None,
        "empty": b"",
        "text": b"#!/bin/sh\necho no kernel\n" * 50,
        "random": rng.randbytes(20000),
        "zeros": bytes(20000),
        "no-header": good[:multiboot] + bytes(4) + good[multiboot + 4:],
        "elf-header-only": good[:52],
        "half": good[:multiboot + 40],
    }
    for name, data in table.items():
        kernel = write(name, data) if data is not None else path("nowhere")
        message = one_line(run("run", kernel, name=name), INPUT)
        check(kernel in message or "kernel" in message, f"{name}: the message does not say what is wrong: {message}")
    one_line(run("run", hwtest.work), INPUT)
    one_line(run("record", "-o", path("a.hwr"), path("nowhere")), INPUT)


def test_bad_initrd():
    guest = small_guest()
    one_line(run("run", "--initrd", path("nowhere"), *guest), INPUT)
    one_line(run("run", "--initrd", hwtest.work, *guest), INPUT)
    one_line(run("run", "--initrd", write("large", bytes(17 << 20)), *guest), INPUT)


def test_truncated_linux():  # labels: linux
    """A bzImage cut anywhere, and too little memory for a whole one."""
    arguments = hwtest.linux("boot")
    kernel = arguments.pop()
    whole = read(kernel)
    # Boot protocol: sectors of setup code at 0x1f1, 16-byte units of the rest at 0x1f4. A signature may follow.
    needed = (whole[0x1f1] + 1) * 512 + struct.unpack_from("<I", whole, 0x1f4)[0] * 16
    for length in (1, 511, 512, 600, 0x268, 4096, 20000, needed // 2, needed - 1):
        one_line(run("run", "--limit-ticks", "1000", *arguments, write("cut", whole[:length])), INPUT)
    for memory in ("1M", "4M", "16M", "64M"):
        one_line(run("run", "--memory", memory, "--limit-ticks", "1000", kernel), INPUT)


def damaged_header(data):
    """A recording of a format of the future: both version numbers are the largest."""
    for at in range(8, 16, 2):
        if struct.unpack_from("<H", data, at)[0] == 1:
            yield data[:at] + b"\xff\xff" + data[at + 2:]


def recording():
    record(path("good.hwr"), small_guest("rounds=200")).expect(3)
    return read(path("good.hwr"))


def test_no_recording():
    good = recording()
    table = {
        "empty": (b"", CORRUPT),
        "text": (b"This is a diary, not a recording.\n" * 100, CORRUPT),
        "random": (rng.randbytes(20000), CORRUPT),
        "kernel": (read(small_guest()[-1]), CORRUPT),
        "magic": (good[:8], CORRUPT),
    }
    for command in ("info", "replay", "dump"):
        for name, (data, status) in table.items():
            one_line(run(command, write(name, data), name=name), status)
        one_line(run(command, path("nowhere")), INPUT)
        one_line(run(command, hwtest.work), INPUT, CORRUPT)


def test_newer_format():
    newer = list(damaged_header(recording()))
    check(newer, "no version number in the header")
    for data in newer:
        for command in ("info", "replay", "dump"):
            one_line(run(command, write("newer.hwr", data)), UNSUPPORTED, CORRUPT)


def test_truncated():
    """Cut anywhere: up to the last whole frame it replays; without a whole header it is corrupt."""
    good = recording()
    lengths = sorted({rng.randrange(len(good)) for _ in range(40)} | {len(good) - 1, len(good) - 8})
    for length in lengths:
        cut = write("cut.hwr", good[:length])
        for command in ("info", "replay"):
            result = run(command, cut).expect(OK, 3, CORRUPT)
            lines = len(result.err.splitlines())
            check(result.status != CORRUPT or lines <= 2, f"cut at {length}: {lines} lines\n{result.err}")


def test_flipped_bits():
    """One bit changed anywhere: noticed (6, 8), or harmless, which a replay then proves; never another state."""
    good = recording()
    recorded = run("replay", path("good.hwr")).expect(3)
    noticed = 0
    tries = 150
    for _ in range(tries):
        at = rng.randrange(len(good))
        flipped = write("flipped.hwr", good[:at] + bytes([good[at] ^ 1 << rng.randrange(8)]) + good[at + 1:])
        run("info", flipped).expect(OK, CORRUPT, UNSUPPORTED)
        result = run("replay", flipped, "--quiet").expect(3, OK, CORRUPT, UNSUPPORTED)
        if result.status == 3:
            check(result.ended() == recorded.ended(), f"byte {at}: replayed to another end")
        elif result.status == OK:
            check("not closed" in result.err, f"byte {at}: a shorter replay that does not say so")
        else:
            noticed += 1
    check(noticed > tries // 2, f"only {noticed} of {tries} flipped bits were noticed")


def test_positions():
    recording()
    one_line(run("replay", path("good.hwr"), "--quiet", "--to", "18446744073709551614"), RANGE)
    one_line(run("replay", path("good.hwr"), "--quiet", "--to", "e0"), RANGE)


def test_statuses_documented():
    """docs/exit-codes.md lists what core/base/err.h defines."""
    root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
    with open(os.path.join(root, "core/base/err.h"), encoding="utf-8") as f:
        rows = re.findall(r'X\(ERR_\w+, (\d+), "(.*)"\)', f.read())
    with open(os.path.join(root, "docs/exit-codes.md"), encoding="utf-8") as f:
        document = f.read()
    check(rows, "no rows in err.h")
    for status, text in rows:
        check(f"| {status} | program | {text} |" in document, f"docs/exit-codes.md lacks {status}, {text}")


hwtest.main(sys.modules[__name__])
