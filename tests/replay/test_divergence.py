#!/usr/bin/env python3
"""A replay that differs is caught and told: last good position, first bad one, and what differs."""
import re
import sys

import hwtest
from hwtest import DIVERGED, check, events, path, record, rng, run, small_guest

BUFFER = 0x101000  # somewhere in the 64 KiB that the guest stirs
ROUND = 200_000  # ticks; more than the guest takes to read all of the buffer
TICKS = 600_000_000


def positions(result):
    """The report's last good and first bad ticks."""
    good = re.search(r"last good position: event \d+, tick (\d+)", result.err)
    bad = re.search(r"first bad position: event \d+, tick (\d+)", result.err)
    check(good and bad, f"no positions in the report\n{result.command()}\n{result.err}")
    return int(good.group(1)), int(bad.group(1))


def make_recording(ticks=TICKS):
    record(path("a.hwr"), small_guest("rounds=100000"), "--limit-ticks", ticks).expect(0)
    return path("a.hwr")


def test_flipped_memory():
    """One bit of memory that the guest does not read again: the next memory digest names the page."""
    recording = make_recording()
    at = rng.randrange(TICKS // 2)
    address = 0x800000 + rng.randrange(0x100000)
    result = run("replay", recording, "--test-flip", f"{address:#x}:{rng.randrange(8)}@{at}").expect(DIVERGED)
    good, bad = positions(result)
    check(good <= at < bad, f"flipped at {at}, reported {good} to {bad}")
    check(re.search(rf"\b0x0*{address >> 12 << 12:x}\b", result.err),
          f"page {address >> 12 << 12:#x} is not named:\n{result.err}")


def test_flipped_memory_in_use():
    """One bit that the guest computes with: registers differ from the first digest after the guest has read it."""
    recording = make_recording()
    at = rng.randrange(TICKS // 2)
    result = run("replay", recording, "--test-flip", f"{BUFFER + 4 * rng.randrange(4096):#x}:0@{at}").expect(DIVERGED)
    good, bad = positions(result)
    check(good < at + ROUND and at < bad, f"flipped at {at}, reported {good} to {bad}")


def test_altered_events():  # labels: slow
    """Any event that arrives altered ends in a report whose first bad position is not before the event."""
    recording = make_recording(8 * TICKS)  # for several anchors, which come every so often by the host's clock
    by_kind = {}
    for event in events(recording):
        by_kind.setdefault(event["event"], []).append(event)
    for kind in ("time_anchor", "digest", "state_digest"):
        for event in rng.sample(by_kind[kind], 2):
            result = run("replay", recording, "--test-alter-event", event["seq"]).expect(DIVERGED)
            bad = positions(result)[1]
            check(bad >= event["ticks"], f"{kind} altered at {event['ticks']}, first bad position {bad}")


def test_status_and_lines():
    """The report begins with one line for people and scripts, and nothing claims that the replay was verified."""
    recording = make_recording()
    result = run("replay", recording, "--test-flip", f"{BUFFER:#x}:1@{TICKS // 3}").expect(DIVERGED)
    check("replay verified" not in result.err, result.err)
    check(result.lines() and "diverge" in result.err.lower(), result.err)


hwtest.main(sys.modules[__name__])
