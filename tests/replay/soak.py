#!/usr/bin/env python3
"""The soak: the full workload recorded and replayed twenty times, undisturbed, beside busy processes, and typed at; then
the engines compared with each other, the long forms of test_engines.py.

usage: soak.py PROGRAM WORK_DIR        HW_SOAK_COUNT=N for another number; the result goes to docs/soak.md

Hours. A recording that fails stays in WORK_DIR. With HW_SOAK_COUNT=0 only the engines are compared, and their table is
printed instead."""
import os
import subprocess
import sys
import time

import hwtest
from hwtest import (OK, STRESS, VIRTUAL, Load, Running, Typist, check, check_replay, info, linux, path, record, record_both,
                    replay_on, rng, run, some_mixed)

COUNT = int(os.environ.get("HW_SOAK_COUNT", 20))
ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
DOCUMENT = os.path.join(ROOT, "docs", "soak.md")
LOG_LIMIT = 192 * 1024
SHORT_STOPS_TICKS = 300_000_000


def record_disturbed(how, recording):
    """One recording of the full workload; returns its Result."""
    running = Running(["record", "-o", recording, *linux("full")], name="record")
    if how == "busy host":
        with Load():
            return running.finish(7200)
    if how == "typed at":
        words = [bytes(rng.choices(b"abcdefgh 01234", k=rng.randrange(1, 30))) + b"\r" for _ in range(40)]
        Typist(running, words, 6.0)
    return running.finish(7200)


def timed(function, *args, **options):
    started = time.monotonic()
    result = function(*args, **options)
    return result, time.monotonic() - started


def one(how):
    recording = path("a.hwr")
    recorded, record_s = timed(record_disturbed, how, recording)
    recorded.expect(hwtest.OK)
    check(b"full: forked 200 processes" in recorded.out, "the workload did not finish")
    _, replay_s = timed(check_replay, recording, recorded)
    facts = info(recording)
    check(how == "typed at" or facts["log_bytes"] <= LOG_LIMIT, f"{facts['log_bytes']} bytes of log")
    return facts, record_s, replay_s


def host():
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        model = next((line.split(":")[1].strip() for line in f if line.startswith("model name")), "unknown")
    return f"{model}, {os.cpu_count()} CPUs"


class Engines:
    """The comparison of the engines: its steps, and what came of them."""

    def __init__(self):
        self.rows, self.failed = [], 0

    def step(self, what, ticks, function, *args, **options):
        try:
            result, seconds = timed(function, *args, **options)
        except hwtest.Failure as failure:
            self.failed += 1
            self.rows.append((what, ticks, "FAILED"))
            print(f"engines: {what}: FAILED: {failure}; files in {hwtest.work}", flush=True)
            return None
        self.rows.append((what, ticks or result.ended()[1], f"{seconds:.0f}"))
        print(f"engines: {what}: equal, {seconds:.0f} s", flush=True)
        return result

    def full_workload(self):
        recorded = self.step("(a) full workload, recorded by interp and by dbt", 0, record_both, linux("full"), OK)
        if not recorded:
            return
        ticks = recorded.ended()[1]
        for recording, engine, what in (("dbt.hwr", "interp", "(c) dbt's recording"),
                                        ("interp.hwr", "dbt", "(c) interp's recording"),
                                        ("interp.hwr", some_mixed(10000), "(b) the same")):
            self.step(f"{what}, replayed by {engine}", ticks, replay_on, recording, recorded, engine)

    def stress(self):
        """Each option over the whole boot, and stops after a few ticks for as long as that is bearable."""
        recorded = record(path("boot.hwr"), linux("boot"), *VIRTUAL, "--engine", "interp").expect(OK)
        for engine in STRESS:
            self.step(f"(d) boot, replayed by {engine}", recorded.ended()[1], replay_on, "boot.hwr", recorded, engine,
                      timeout=7200)
        for engine in (some_mixed(3), some_mixed(100)):
            self.step(f"(d) its beginning, replayed by {engine}", SHORT_STOPS_TICKS, replay_to, engine, SHORT_STOPS_TICKS)

    def compare(self):
        hwtest.work = os.path.join(hwtest.WORK_ROOT, "engines")
        os.makedirs(hwtest.work, exist_ok=True)
        self.full_workload()
        self.stress()
        if not self.failed:
            for name in os.listdir(hwtest.work):
                os.unlink(path(name))

    def table(self):
        passed = len(self.rows) - self.failed
        lines = ["## Engines", "",
                 "The same workload by the virtual clock on both engines: the same digest at every million ticks,",
                 "the same memory and console at the end. A mixed engine changes from one to the other at random ticks.", "",
                 f"{passed} comparisons without a difference, {self.failed} failed.", "", "| what | ticks | s |", "|---|---|---|"]
        return "\n".join(lines + [f"| {what} | {ticks} | {seconds} |" for what, ticks, seconds in self.rows]) + "\n"


def replay_to(engine, ticks):
    return run("replay", path("boot.hwr"), "--quiet", "--engine", engine, "--to", ticks, timeout=7200).expect(OK)


def document(rows, failed):
    lines = ["# Soak", "", "The last result of `./setup.sh soak`: Debian's cloud kernel boots, runs a shell loop of 200,000",
             "iterations, hashes 64 MiB, forks 200 processes and powers off; recorded, then replayed, every digest and the",
             "console compared. \"Log\" is the recording less kernel and initramfs; the limit is 192 KiB where nobody types.",
             "", f"Host: {host()}. {len(rows)} recordings replayed without a difference, {failed} failed.", "",
             "| # | disturbance | ticks | events | log, bytes | record, s | replay, s |", "|---|---|---|---|---|---|---|"]
    for number, (how, facts, record_s, replay_s) in enumerate(rows, 1):
        lines.append(f"| {number} | {how} | {facts['ticks']} | {facts['events']} | {facts['log_bytes']} | {record_s:.0f} "
                     f"| {replay_s:.0f} |")
    return "\n".join(lines) + "\n"


def main():
    subprocess.run([os.path.join(ROOT, "samples/linux/fetch.sh"), hwtest.GUEST_DIR], check=True)
    rows, failed = [], 0
    for number in range(COUNT):
        how = ("none", "busy host", "typed at")[number % 3]
        hwtest.work = os.path.join(hwtest.WORK_ROOT, str(number))
        os.makedirs(hwtest.work, exist_ok=True)
        try:
            facts, record_s, replay_s = one(how)
        except hwtest.Failure as failure:
            failed += 1
            print(f"{number}: {how}: FAILED: {failure}; files in {hwtest.work}", flush=True)
            continue
        rows.append((how, facts, record_s, replay_s))
        print(f"{number}: {how}: {facts['ticks']} ticks, {facts['log_bytes']} bytes of log", flush=True)
        for name in os.listdir(hwtest.work):
            os.unlink(path(name))
        with open(DOCUMENT, "w", encoding="utf-8") as f:
            f.write(document(rows, failed))
    engines = Engines()
    engines.compare()
    if COUNT:
        with open(DOCUMENT, "w", encoding="utf-8") as f:
            f.write(document(rows, failed) + "\n" + engines.table())
    else:
        print(engines.table())
    print(f"{len(rows)} passed, {failed} failed; engines: {engines.failed} failed")
    sys.exit(1 if failed or engines.failed or len(rows) + failed < COUNT else 0)


hwtest.GUEST_DIR = hwtest.GUEST_DIR or os.path.join(ROOT, "build", "guests")
main()
