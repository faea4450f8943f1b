#!/usr/bin/env python3
"""Moving in a recording: timeline.c seeks, steps back, runs from hit to hit at random, and compares with a run that only went
forwards. With any spacing of checkpoints and any memory for them, with checkpoints in the recording, and on bent engines.

HW_TIMELINE_TRIALS=N: so many trials over the Linux boot (1000)."""
import fcntl
import os
import re
import shlex
import shutil
import struct
import subprocess
import sys

import hwtest
from hwtest import (PROGRAM, RANGE, USAGE, Running, Typist, check, check_replay, events, info, linux, path, record, rng,
                    run, small_guest, some_mixed)

TIMELINE = os.path.join(os.path.dirname(PROGRAM), "tests", "timeline")
DAMAGED = os.path.join(os.path.dirname(PROGRAM), "tests", "damaged")
FORGED = os.path.join(os.path.dirname(PROGRAM), "tests", "forged")
HEADER_LEN_AT, FRAME_HEADER_LEN, EVENTS = 12, 40, 3 # docs/recording-format.md
TRIALS = int(os.environ.get("HW_TIMELINE_TRIALS", 1000))
MIB = 1 << 20


def trials(recording, count, runs, spacing, memory, engine=None, texts=0):
    """Returns the bytes that checkpoints took in the end."""
    arguments = [TIMELINE, recording, str(count), str(runs), str(texts), str(rng.randrange(1 << 30)), str(spacing), str(memory)]
    done = subprocess.run([*arguments, *([engine] if engine else [])], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, timeout=900, check=False)
    print(done.stdout.strip())
    check(done.returncode == 0, f"status {done.returncode}: {' '.join(done.args)}\n{done.stdout}")
    return int(re.search(r"(\d+) KiB", done.stdout)[1]) << 10


def typed_recording():
    """The small guest, with input at many positions."""
    running = Running(["record", "-o", path("a.hwr"), *small_guest("rounds=1000000000")], name="record")
    Typist(running, [bytes([rng.randrange(32, 112)]) for _ in range(30)] + [b"q"], 0.03).join()
    return running.finish().expect(3)


def test_small():
    """32-bit code, with typed input; checkpoints so dense that REP strings and faults lie between two of them."""
    typed_recording()
    ticks = info(path("a.hwr"))["ticks"]
    trials(path("a.hwr"), 100, 30, 1 << 20, 64 * MIB)
    trials(path("a.hwr"), 20, 4, ticks, 64 * MIB)
    trials(path("a.hwr"), 60, 10, rng.randrange(30000, 3000000), 3 * MIB)
    trials(path("a.hwr"), 100, 5, 1 << 20, 5 * MIB)
    trials(path("a.hwr"), 10, 2, 1 << 22, 64 * MIB, "interp")
    trials(path("a.hwr"), 10, 2, 1 << 22, 64 * MIB, some_mixed(1000))


def test_every_tick():
    """A checkpoint at every tick of a short stretch."""
    record(path("a.hwr"), small_guest("rounds=1"), "--limit-ticks", "3000").expect(0)
    trials(path("a.hwr"), 200, 40, 1, 64 * MIB)


# Firmware, 16-bit: interrupts of the PIT at 1000 Hz wake a CPU that does nothing else.
HALTING = {
    0xfff0: "e9 0d e0",                                                  # the reset vector: jump to e000
    0xe000: "31 c0 8e d8 8e d0 bc 00 70"                                 # DS = SS = 0
            "c7 06 20 00 00 e1 c7 06 22 00 00 f0"                        # vector 8: f000:e100
            "b0 11 e6 20 b0 08 e6 21 b0 04 e6 21 b0 01 e6 21 b0 fe e6 21"
            "b0 34 e6 43 b0 a9 e6 40 b0 04 e6 40"
            "fb f4 40 a3 00 05 eb f9",                                   # sti; hlt; count; again
    0xe100: "50 b0 20 e6 20 58 cf",
}


def test_halted():
    """Waits and wakes at one position: a seek that is interrupted there stands before them."""
    firmware = bytearray(1 << 16)
    for at, code in HALTING.items():
        code = bytes.fromhex(code)
        firmware[at:at + len(code)] = code
    with open(path("firmware"), "wb") as f:
        f.write(firmware)
    record(path("a.hwr"), ["--memory", "2M", "--firmware", path("firmware")], "--clock", "virtual", "--limit-ticks",
           "30000").expect(0)
    trials(path("a.hwr"), 2000, 40, 1000, 64 * MIB)


def test_linux():  # labels: slow linux
    record(path("a.hwr"), linux("short")).expect(0)
    trials(path("a.hwr"), TRIALS, 40, 1 << 24, 512 * MIB)
    trials(path("a.hwr"), 100, 10, rng.randrange(1000000, 10000000), 256 * MIB)
    trials(path("a.hwr"), 40, 0, 1 << 24, 150 * MIB)
    trials(path("a.hwr"), 20, 5, 1 << 24, 512 * MIB, f"dbt:tlb={rng.randrange(3, 12)}")
    trials(path("a.hwr"), 20, 5, 1 << 24, 512 * MIB, some_mixed(3000))


def test_stored():  # labels: slow linux
    """Checkpoints in the recording, written while it was made, or later."""
    recorded = record(path("a.hwr"), linux("short"), "--checkpoint-every", "150ms").expect(0)
    check_replay(path("a.hwr"), recorded)
    trials(path("a.hwr"), 60, 10, 1 << 40, 512 * MIB)
    trials(path("a.hwr"), 30, 5, 1 << 24, 60 * MIB)
    plain, indexed = path("plain.hwr"), path("indexed.hwr")
    recorded = record(plain, linux("short")).expect(0)
    made = run("index", plain, "-o", indexed, "--checkpoint-ticks", "200000000").expect(0)
    check(" checkpoints, " in made.err, made.err)
    check(events(plain) == events(indexed), "the copy has other events")
    check_replay(indexed, recorded)
    trials(indexed, 60, 10, 1 << 40, 512 * MIB, texts=2)


def test_index_small():
    """A recording is replaced only by a good copy; a damaged checkpoint is done without."""
    recorded = record(path("a.hwr"), small_guest("rounds=2000")).expect(3)
    before = events(path("a.hwr"))
    os.chmod(path("a.hwr"), 0o640)
    os.symlink("a.hwr", path("link.hwr"))
    with open(path("a.hwr.index"), "wb") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        run("index", path("link.hwr")).expect(hwtest.HOST)
    run("index", path("link.hwr"), "--checkpoint-ticks", "10000000").expect(0)
    check(os.path.islink(path("link.hwr")) and os.stat(path("a.hwr")).st_mode & 0o777 == 0o640, "another file, or its rights")
    check(events(path("a.hwr")) == before, "other events")
    check_replay(path("a.hwr"), recorded)
    trials(path("a.hwr"), 30, 5, 1 << 40, 64 * MIB)
    with open(path("a.hwr"), "rb") as f:
        whole = f.read()
    length = info(path("a.hwr"))["content_bytes"]
    for _ in range(5):
        at = rng.randrange(length, len(whole) - 2000)
        with open(path("b.hwr"), "wb") as f:
            f.write(whole[:at] + bytes([whole[at] ^ 1 << rng.randrange(8)]) + whole[at + 1:])
        done = subprocess.run([TIMELINE, path("b.hwr"), "20", "0", "0", "1", str(1 << 40), str(64 * MIB)], timeout=300,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        check(done.returncode == 0 or ("damaged" in done.stdout and "checkpoint" not in done.stdout), f"byte {at}: status {done.returncode}\n{done.stdout}")
    with open(path("c.hwr"), "wb") as f:
        f.write(whole[:len(whole) // 2])
    run("index", path("c.hwr")).expect(hwtest.CORRUPT)
    check(os.path.getsize(path("c.hwr")) == len(whole) // 2 and not os.path.exists(path("c.hwr.index")), "it was changed")


def event_frames(recording, seqs):
    """[(offset, length)] of the payloads of the frames that hold one of these events."""
    (at,), frames = struct.unpack_from("<I", recording, HEADER_LEN_AT), []
    while at < len(recording):
        kind, _, count, _, length, seq = struct.unpack_from("<BBHIIQ", recording, at)
        at += FRAME_HEADER_LEN
        if kind == EVENTS and any(seq <= n < seq + count for n in seqs):
            frames.append((at, length))
        at += length
    return frames


def test_damaged_events():
    """Places behind them are reached through checkpoints, and only so: nobody runs on without what was typed there."""
    typed_recording()
    run("index", path("a.hwr"), "--checkpoint-ticks", "4000000").expect(0)
    with open(path("a.hwr"), "rb") as f:
        whole = f.read()
    typed = [e["seq"] for e in events(path("a.hwr")) if e["event"] == "console_input"]
    frames = event_frames(whole, typed)
    check(len(frames) > 10, f"{len(frames)} frames with input")
    for _ in range(3):
        bad = bytearray(whole)
        for at, length in rng.sample(frames[1:-1], len(frames) // 2):
            bad[at + rng.randrange(length)] ^= 1 << rng.randrange(8)
        with open(path("b.hwr"), "wb") as f:
            f.write(bad)
        arguments = [DAMAGED, path("a.hwr"), path("b.hwr"), str(rng.randrange(1 << 30)), "600"]
        done = subprocess.run(arguments, timeout=300, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        check(done.returncode == 0, f"status {done.returncode}\n{done.stdout}")


def test_forged():
    """Checkpoints that nobody ever took, with checksums that are right: no harm comes of them."""
    record(path("a.hwr"), small_guest("rounds=20")).expect(3)
    run("index", path("a.hwr"), "--checkpoint-ticks", "5000").expect(0)
    believed = 0
    for tried in range(60):
        if tried >= 4 and believed:
            break
        arguments = [FORGED, path("a.hwr"), path("b.hwr"), str(rng.randrange(1 << 30)), "8"]
        done = subprocess.run(arguments, timeout=300, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              errors="replace", check=False)
        check(done.returncode == 0, f"{shlex.join(arguments)}\nstatus {done.returncode}\n{done.stdout}")
        believed += int((re.search(r"(\d+) checkpoints believed", done.stdout) or "00")[1])
    check(believed, "none of these checkpoints is believed: nothing is tried")


def test_texts():
    """What was printed lies across many a checkpoint, of a history that is entered at its end."""
    record(path("a.hwr"), small_guest("rounds=300")).expect(3)
    run("index", path("a.hwr"), "--checkpoint-ticks", "30000").expect(0)
    trials(path("a.hwr"), 1, 0, 1 << 40, 64 * MIB, texts=40)


def test_many_stored():
    """More checkpoints in the recording than there is memory for: some are passed over; in the end nearly all."""
    record(path("a.hwr"), small_guest("rounds=300")).expect(3)
    run("index", path("a.hwr"), "--checkpoint-ticks", "3000").expect(0)
    for memory in (4 * MIB, 32 * MIB):
        taken = trials(path("a.hwr"), 100, 5, 1 << 24, memory)
        check(taken <= memory, f"{taken} bytes are taken, {memory} were given")
    trials(path("a.hwr"), 20, 2, 1 << 24, 256)


def test_live():
    """A replay goes live: other input, another end; recorded, it is a recording like others."""
    typed_recording()
    ticks, to = info(path("a.hwr"))["ticks"], None
    typed = [e for e in events(path("a.hwr")) if e["event"] == "console_input"]
    for i in range(4):
        to = where = rng.randrange(1, ticks)
        if i == 0:  # just before something that was typed
            at = rng.choice(typed)
            to, where = at["ticks"], f"e{at['seq']}"
        running = Running(["replay", path("a.hwr"), "--to", where, "--live", "-o", path("b.hwr")], name="live")
        Typist(running, [b"x", b"y", b"q"], 0.02).join()
        branched = running.finish().expect(3)
        check(f"live from tick {to}\n" in branched.err, f"--to {where}: {branched.err}")
        check_replay(path("b.hwr"), branched)
        old, new = ([e for e in events(path(name)) if e["ticks"] < to] for name in ("a.hwr", "b.hwr"))
        check(old == new, f"--to {to}: what was before it differs")
    shutil.copy(path("a.hwr"), path("c.hwr"))
    run("replay", path("c.hwr"), "--to", to, "--live", "-o", path("c.hwr")).expect(USAGE)
    run("replay", path("c.hwr"), "--live").expect(USAGE)
    run("replay", path("c.hwr"), "--to", ticks, "--live", "--quiet").expect(RANGE)


hwtest.main(sys.modules[__name__])
