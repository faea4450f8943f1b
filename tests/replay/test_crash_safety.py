#!/usr/bin/env python3
"""A recorder that is killed, or whose disk is full, leaves a file that opens and replays up to the last frame."""
import os
import shutil
import signal
import subprocess
import sys
import time

import hwtest
from hwtest import HOST, OK, Running, Skip, check, info, limit_file_size, path, record, rng, run, small_guest

ENDLESS = "rounds=1000000000"


def check_partial(recording, name="replay"):
    """info says the recording was not closed; replay goes to its last position, says so, and verifies all of it."""
    facts = info(recording)
    check(facts["state"] == "not closed", f"state {facts['state']}")
    replayed = run("replay", recording, name=name).expect(OK)
    check(replayed.verified_ticks() >= facts["ticks"], f"verified {replayed.verified_ticks()} of {facts['ticks']}")
    check("not closed" in replayed.err, f"the replay does not say that the recording is cut short:\n{replayed.err}")
    return facts


def test_killed():
    """SIGKILL at random moments."""
    for attempt in range(6):
        recording = path(f"{attempt}.hwr")
        running = Running(["record", "-o", recording, *small_guest(ENDLESS)], name=f"record{attempt}")
        running.wait_for(b"started")
        time.sleep(rng.uniform(0, 3))
        running.kill()
        console = running.finish().expect(-signal.SIGKILL).out
        check_partial(recording, name=f"replay{attempt}")
        with open(path(f"replay{attempt}.console"), "rb") as f:
            replayed = f.read()
        common = min(len(replayed), len(console))
        check(replayed[:common] == console[:common], "the consoles differ")


def test_killed_at_once():
    """Killed while it writes header and kernel: the file is empty, or corrupt and called so, or has no events."""
    for attempt in range(10):
        recording = path(f"{attempt}.hwr")
        running = Running(["record", "-o", recording, *small_guest(ENDLESS)], name="record")
        time.sleep(rng.uniform(0, 0.1))
        running.kill()
        running.finish()
        if os.path.exists(recording):
            run("info", recording, name="info").expect(OK, hwtest.CORRUPT)
            run("replay", recording, name="replay").expect(OK, hwtest.CORRUPT)


def test_flushed_every_second():
    """A busy and an input-less recording both grow at least once a second, so a kill loses a second at most."""
    recording = path("a.hwr")
    running = Running(["record", "-o", recording, *small_guest(ENDLESS)], name="record")
    running.wait_for(b"started")
    last_len, last_growth, longest = os.path.getsize(recording), time.monotonic(), 0.0
    end = time.monotonic() + 6
    while time.monotonic() < end:
        time.sleep(0.02)
        if os.path.getsize(recording) != last_len:
            last_len, last_growth = os.path.getsize(recording), time.monotonic()
        longest = max(longest, time.monotonic() - last_growth)
    running.kill()
    running.finish()
    check(longest < 1.5, f"nothing was written for {longest:.2f} s")


def test_terminated():
    """SIGTERM and SIGINT close the recording in good order."""
    for number in (signal.SIGTERM, signal.SIGINT):
        recording = path(f"{number}.hwr")
        running = Running(["record", "-o", recording, *small_guest(ENDLESS)], name="record")
        running.wait_for(b"started")
        time.sleep(rng.uniform(0, 1))
        running.kill(number)
        recorded = running.finish(60).expect(OK)
        check(info(recording)["state"] == "closed", "not closed")
        hwtest.check_replay(recording, recorded)


def test_terminated_twice():
    """As timeout(1) does it: the second signal comes at once, and means no more than the first."""
    for number in (signal.SIGTERM, signal.SIGINT):
        recording = path(f"{number}.hwr")
        running = Running(["record", "-o", recording, *small_guest(ENDLESS)], name="record")
        running.wait_for(b"started")
        running.kill(number)
        running.kill(number)
        running.finish(60).expect(OK)
        check(info(recording)["state"] == "closed", "not closed")


def test_file_in_use():
    """A file that is being written is not written by a second one; one that is being read goes on being what it was."""
    recording = path("a.hwr")
    running = Running(["record", "-o", recording, *small_guest(ENDLESS)], name="first")
    running.wait_for(b"started")
    refused = record(recording, small_guest(ENDLESS), "--limit-ticks", "1000")
    refused.expect(HOST)
    check("written by somebody else" in refused.err, refused.err)
    running.kill(signal.SIGTERM)
    recorded = running.finish(60).expect(OK)
    hwtest.check_replay(recording, recorded)
    os.chmod(recording, 0o640)
    os.symlink("a.hwr", path("link.hwr"))
    with open(recording, "rb") as reader:
        whole = reader.read()
        record(path("link.hwr"), small_guest(ENDLESS), "--limit-ticks", "1000000").expect(OK)
        reader.seek(0)
        check(reader.read() == whole, "whoever reads it sees another recording")
    check(os.path.islink(path("link.hwr")) and os.stat(recording).st_mode & 0o777 == 0o640, "another file, or its rights")
    check(info(recording)["ticks"] == 1000000, "the new recording is not there")


def bulky_guest():
    """A guest whose recording has some megabytes of content, and the length of a recording's beginning.

    The program needs a megabyte of file for itself (code that it generates), which a limit must leave room for."""
    with open(path("module"), "wb") as f:
        f.write(rng.randbytes(3 << 20))
    guest = ["--initrd", path("module"), *small_guest(ENDLESS)]
    record(path("short.hwr"), guest, "--limit-ticks", "1000000").expect(OK)
    return guest, os.path.getsize(path("short.hwr"))


def check_full(result, recording):
    result.expect(HOST)
    check(len(result.lines()) == 1 and recording in result.err, f"not one line that names the file:\n{result.err}")
    check_partial(recording)


def test_file_size_limit():
    """The file may not grow: the recording stops with an error and what there is stays usable."""
    guest, start = bulky_guest()
    for extra in (100, 1000, 5000):
        recording = path(f"{extra}.hwr")
        result = record(recording, guest, preexec_fn=limit_file_size(start + extra), restore_signals=False, timeout=120)
        check_full(result, recording)


def test_full_disk():
    """The same on a file system without space."""
    small = path("small")
    os.mkdir(small)
    guest, start = bulky_guest()
    size = (start + 8191) // 4096 * 4096
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", small], capture_output=True,
                             check=False)
    if mounted.returncode:
        raise Skip("cannot mount a tmpfs here")
    try:
        recording = os.path.join(small, "a.hwr")
        result = record(recording, guest, timeout=120)
        shutil.copy(recording, path("a.hwr"))
        result.err = result.err.replace(recording, path("a.hwr"))
        check_full(result, path("a.hwr"))
    finally:
        subprocess.run(["umount", small], check=True)


def test_device_full():
    """Not even the header fits."""
    if not os.path.exists("/dev/full"):
        raise Skip("no /dev/full")
    result = record("/dev/full", small_guest("rounds=10")).expect(HOST)
    check(len(result.err.splitlines()) == 1, f"not one line:\n{result.err}")


hwtest.main(sys.modules[__name__])
