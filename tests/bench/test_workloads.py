#!/usr/bin/env python3
"""Every workload of the benchmark gives the same checksum under Linux on this CPU and as a guest of every engine, and
the engines count the same ticks and leave the same memory.

usage: test_workloads.py PROGRAM"""
import os
import subprocess
import sys

import common
import dbt

ENGINES = ["interp", "dbt", "dbt:block=1,nochain=1"]


def guest(program, engine, image, test, n):
    """The line that the guest printed, and how it ended."""
    done = common.run([program, "run", "--engine", engine, "--clock", "virtual", "--memory", "128M",
                       "--append", f"{test} {n}", image], timeout=100).expect(dbt.DEBUG_EXIT_0)
    return done.out.strip(), done.err.strip()


def check(program, bench, test, n):
    """What is wrong, as lines."""
    image = os.path.join(bench, "guest.bin")
    results = {engine: guest(program, engine, image, test, n) for engine in ENGINES}
    wrong = [f"{test} {n}: {engine} says {result}, {ENGINES[0]} {results[ENGINES[0]]}"
             for engine, result in results.items() if result != results[ENGINES[0]]]
    if test not in dbt.KERNEL_ONLY:
        native = common.run([os.path.join(bench, "bench_native"), test, str(n)]).expect(0).out.strip()
        if native != results[ENGINES[0]][0]:
            wrong.append(f"{test} {n}: natively {native}, as a guest {results[ENGINES[0]][0]}")
    return wrong


def main():
    program = os.path.abspath(sys.argv[1])
    bench = os.path.join(os.path.dirname(program), "bench")
    tests = [test for _, _, tests in [*dbt.CLASSES, dbt.OTHER] for test in tests]
    usage = subprocess.run([os.path.join(bench, "bench_native")], capture_output=True, text=True, check=False).stderr
    names = usage.split("NAME is one of ")[1].split()
    wrong = [f"{name} is in no class of dbt.py, or in no table of workloads"
             for name in set(names) ^ (set(tests) - dbt.KERNEL_ONLY)]
    for test in tests:
        for n in (0, 1, 150):
            wrong += check(program, bench, test, n)
    print("\n".join(wrong))
    print(f"{len(tests)} workloads: {len(wrong)} problems")
    sys.exit(1 if wrong or not tests else 0)


main()
