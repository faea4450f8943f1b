#!/usr/bin/env python3
"""Random programs of many instructions do the same on every engine, tick by tick.

Programs are random_program.py's: loops, branches, calls, accesses across pages, strings, code that changes, mappings that
change; at CPL 0 and 3, with faults and a timer's interrupts (random.c). lockstep.c compares. HW_SEED repeats a run; a failure
names the program's own seed, which HW_PROGRAM=SEED,BITS repeats alone, and the first instruction that differs.
HW_RANDOM_SECONDS=N goes on for N seconds."""
import os
import random
import subprocess
import sys
import time

from hwtest import Failure, PROGRAM, VIRTUAL, check, main, path, record, rng, run, some_mixed
from random_image import assembled

BUILD = os.path.dirname(PROGRAM)
LOCKSTEP = os.path.join(BUILD, "tests", "lockstep")
SECONDS = float(os.environ.get("HW_RANDOM_SECONDS", 20))
MEMORY = ("--memory", "32M")


def some_engines():
    """The translator as it is, and bent in some ways: other ones each time."""
    bent = ["dbt:exact=1", f"dbt:block={rng.randrange(1, 9)}", "dbt:nochain=1", f"dbt:flush={rng.randrange(20, 500)}",
            "dbt:cache=64K", f"dbt:tlb={rng.randrange(2, 20)}", f"interp:tlb={rng.randrange(2, 20)}",
            some_mixed(rng.choice((3, 50, 1000, 20000))), f"{some_mixed(300)},tlb={rng.randrange(2, 10)}"]
    return ["dbt", *rng.sample(bent, 4)]


def compare(image, stops, engines):
    """Whether there is no difference, None for a program without an end, and what lockstep says."""
    done = subprocess.run([LOCKSTEP, image, str(stops), *engines], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          timeout=300, check=False, text=True, errors="replace")
    if done.returncode == 3:
        return None, done.stdout.strip()
    check(done.returncode in (0, 1), f"status {done.returncode}: {' '.join(done.args)}\n{done.stdout}")
    return done.returncode == 0, done.stdout.strip()


def bisected(image, said):
    """The first instruction at which the engine that lockstep names is wrong, where a run without its stops is wrong too."""
    engine = next((word for word in said.split() if word.partition(":")[0] in ("dbt", "interp", "mixed")), "dbt")
    record(path("a.hwr"), [*MEMORY, image], *VIRTUAL, "--engine", "interp")
    return run("bisect", path("a.hwr"), "--engine", engine, name="bisect").err


def one_program(seed, bits):
    """Whether it could be compared: chance makes an endless one now and then."""
    image, stops, engines = assembled(seed, bits), rng.randrange(1 << 32), some_engines()
    same, said = compare(image, stops, engines)
    check(same is not False, f"HW_PROGRAM={seed},{bits}: {LOCKSTEP} {image} {stops} {' '.join(engines)}\n{said}\n"
                f"{'' if same is not False else bisected(image, said)}")
    return same is not None


def test_programs():
    """As many as fit into the time."""
    chosen, end, count, endless = os.environ.get("HW_PROGRAM"), time.monotonic() + SECONDS, 0, 0
    while time.monotonic() < end:
        seed, bits = map(int, chosen.split(",")) if chosen else (rng.randrange(1 << 32), rng.choice((64, 64, 32)))
        compared = one_program(seed, bits)
        count += compared
        endless += not compared
    check(endless <= 1 + count // 10, f"{endless} of {count + endless} programs do not end")
    print(f"{count} programs, no difference; {endless} without an end")


def test_mistake_is_found():
    """An engine that is wrong once, by one bit of RAX, is noticed, if the guest looks at it again: at one of some ticks."""
    image, always = assembled(1, 64), random.Random(1)
    for _ in range(40):
        at = always.randrange(500_000, 800_000)
        same, said = compare(image, 1, [f"dbt:wrong={at}"])
        if not same:
            check(f"FAILED: dbt:wrong={at} differs" in said, said)
            return
    raise Failure("no mistake was noticed")


main(sys.modules[__name__])
