#!/usr/bin/env python3
"""All engines are one machine: the same ticks, the same digests at every million of them, the same console.

By the virtual clock a guest is a function of its image, so what two engines record must be equal event by event; and what
one recorded any other must replay, whatever options it has. soak.py has the long forms."""
import sys

import hwtest
from hwtest import (GUEST, HALTED, STRESS, VIRTUAL, check, linux, path, record, record_both, replay_on, rng, run,
                    small_guest, some_mixed)

def test_small():
    """A 32-bit guest: both engines record the same, and each replays what the other recorded."""
    recorded = record_both(small_guest("rounds=60"), 3)
    replay_on("interp.hwr", recorded, "dbt")
    replay_on("dbt.hwr", recorded, "interp")


def test_small_ends():
    """However it ends."""
    for end, status in (("reset", 0), ("triple", GUEST), ("halt", HALTED)):
        recorded = record_both(small_guest("rounds=20", f"end={end}"), status)
        replay_on("interp.hwr", recorded, "dbt:exact=1", some_mixed(100))


def test_small_stress():
    recorded = record(path("a.hwr"), small_guest("rounds=60"), *VIRTUAL, "--engine", "interp").expect(3)
    replay_on("a.hwr", recorded, *STRESS, *[some_mixed(switch) for switch in (1, 7, 10000)])


def test_host_clock():
    """With the host's clock a recording is another one every time; who replays it does not matter."""
    for recorder, player in (("interp", "dbt"), ("dbt", "interp"), ("mixed", "dbt")):
        recorded = record(path("a.hwr"), small_guest("rounds=200"), "--engine", recorder).expect(3)
        replay_on("a.hwr", recorded, player)


def test_tick_limit():
    """Stopped at any tick, two engines are in the same state: also in the middle of a block."""
    for _ in range(20):
        limit = ("--limit-ticks", rng.randrange(1, 3000000))
        ends = [run("run", *VIRTUAL, *limit, "--engine", engine, *small_guest(), name="run").expect(0).ended()
                for engine in ("interp", "dbt", "dbt:exact=1", some_mixed(50))]
        check(len(set(ends)) == 1, f"{limit}: {ends}")


def test_statistics():
    """--stats adds lines behind the closing one, and changes nothing else."""
    for engine, rows in (("interp", 8), ("dbt", 18), ("mixed", 18), ("dbt:wrong=5", 18)):
        plain, measured = (run("run", *VIRTUAL, "--engine", engine, *options, *small_guest("rounds=5")).expect(3)
                           for options in ((), ("--stats",)))
        check(measured.ended() == plain.ended() and measured.out == plain.out, f"{engine}: another run")
        lines = [line for line in measured.lines() if line.startswith("hyperwind: statistics: ")]
        check(len(lines) == rows and not any("statistics" in line for line in plain.lines()), f"{engine}: {lines}")
        check(measured.lines()[0] == plain.lines()[0], f"{engine}: {measured.err}")
    recorded = record(path("a.hwr"), small_guest("rounds=5"), "--stats").expect(3)
    check("host instructions per guest instruction: " in recorded.err, recorded.err)
    replayed = run("replay", path("a.hwr"), "--stats").expect(3)
    check("translation, ns per guest instruction: " in replayed.err, replayed.err)


def test_unknown_option():
    """An option that is none, or out of range, is refused; nothing runs."""
    for engine in ("none", "dbt:", "dbt:block", "dbt:block=65", "dbt:cache=1K", "dbt:exact=1,", "dbt:tlb=1",
                   "mixed:switch=0", "interp:x=1"):
        result = run("run", "--engine", engine, *small_guest("rounds=1")).expect(hwtest.USAGE)
        check(result.out == b"", f"{engine}: the guest ran")


def test_linux():  # labels: slow linux
    """Boot and short workload: both engines record the same, and the translator replays what the interpreter recorded."""
    recorded = record_both(linux("short"), 0)
    check(b"short: forked 20 processes" in recorded.out, "the workload did not finish")
    replay_on("interp.hwr", recorded, "dbt")


def test_linux_back():  # labels: slow linux
    """The other way round, and by the host's clock: the beginning of the boot."""
    recorded = record(path("a.hwr"), linux("short"), "--limit-ticks", 300000000, "--engine", "dbt").expect(0)
    replay_on("a.hwr", recorded, "interp")


def test_linux_mixed():  # labels: slow linux
    """A run that changes engines every 1 to 10,000 ticks is the same run."""
    recorded = record(path("a.hwr"), linux("short"), *VIRTUAL, "--engine", "dbt").expect(0)
    replay_on("a.hwr", recorded, some_mixed(10000))
    run("replay", path("a.hwr"), "--engine", some_mixed(100), "--to", 200000000, name="often").expect(0)


def test_linux_stress():  # labels: slow linux
    """Not further into the boot: with 64 KiB for code, Linux proper is translated again and again."""
    recorded = record(path("a.hwr"), linux("short"), *VIRTUAL, "--limit-ticks", 200000000, "--engine", "interp").expect(0)
    replay_on("a.hwr", recorded, *STRESS)


hwtest.main(sys.modules[__name__])
