#!/usr/bin/env python3
"""Probes hit where they should on every engine, and no guest notices: random programs (test_random.py) and the
self-checking guests, with breakpoints and watchpoints that probes.c chooses and changes. HW_SEED repeats a run; a failure
names the program's own seed, which HW_PROGRAM=SEED,BITS repeats alone. HW_RANDOM_SECONDS=N goes on for N seconds."""
import os
import subprocess
import sys
import time

from hwtest import PROGRAM, Skip, check, main, rng, some_mixed
from random_image import assembled

BUILD = os.path.dirname(PROGRAM)
PROBES = os.path.join(BUILD, "tests", "probes")
GUESTS = "debug64 exceptions64 paging32 paging64 seg32 seg64 syscall64 task32 vm8632 xsave64".split()
SECONDS = float(os.environ.get("HW_RANDOM_SECONDS", 20))


def some_engines():
    """The engines as they are, and some of them bent: other ones each time."""
    bent = ["dbt:exact=1", f"dbt:block={rng.randrange(1, 9)}", "dbt:nochain=1", f"dbt:flush={rng.randrange(20, 500)}",
            "dbt:cache=64K", f"dbt:tlb={rng.randrange(2, 20)}", f"interp:tlb={rng.randrange(2, 20)}",
            f"{some_mixed(300)},tlb={rng.randrange(2, 10)}"]
    return ["interp", "dbt", some_mixed(rng.choice((3, 50, 1000, 20000))), *rng.sample(bent, 3)]


def one_image(image, what):
    """Whether it could be used: chance makes an endless program now and then."""
    args = [PROBES, image, str(rng.randrange(1 << 32)), *some_engines()]
    done = subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300, check=False, text=True,
                          errors="replace")
    check(done.returncode in (0, 3), f"{what}: {' '.join(args)}\nstatus {done.returncode}\n{done.stdout}")
    return done.returncode == 0


def test_programs():
    """As many as fit into the time."""
    chosen, end, count, endless = os.environ.get("HW_PROGRAM"), time.monotonic() + SECONDS, 0, 0
    while time.monotonic() < end:
        seed, bits = map(int, chosen.split(",")) if chosen else (rng.randrange(1 << 32), rng.choice((64, 64, 32)))
        used = one_image(assembled(seed, bits), f"HW_PROGRAM={seed},{bits}")
        count += used
        endless += not used
    check(count > 0 and endless <= 1 + count, f"{endless} of {count + endless} programs do not end")
    print(f"{count} programs, no difference; {endless} too long")


def test_guests():
    """What random programs do not do: task switches, gates, virtual-8086 mode, debug registers, all kinds of faults."""
    images = [os.path.join(BUILD, "guest", f"{name}.bin") for name in GUESTS]
    if not os.path.exists(images[0]):
        raise Skip("the guests were not built")
    for image in images:
        check(one_image(image, "guest"), f"{image} does not end")


main(sys.modules[__name__])
