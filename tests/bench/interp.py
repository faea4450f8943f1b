#!/usr/bin/env python3
"""Speed of the reference interpreter over a kernel boot, what recording costs, and how large recordings are.

usage: interp.py PROGRAM WORK_DIR [--pairs N] [--no-document]

Each pair boots Debian's cloud kernel once under `run` and once under `record`, in alternating order, so that what the
host does meanwhile hits both alike. Boots differ by a few ticks with the host clock; so time is compared per tick.
"""
import argparse
import json
import os
import subprocess

import common


def guest(program, command, workload, *options):
    """Ticks and processor seconds of one guest."""
    args = [program, command, *options, "--engine", "interp", "--console", "none",
            *common.linux_guest(f"console=ttyS0 hw.workload={workload}")]
    done = common.run(args).expect(0)
    return done.ticks(), done.cpu


def log_bytes(program, recording):
    info = subprocess.run([program, "info", "--json", recording], check=True, capture_output=True, text=True)
    return json.loads(info.stdout)["log_bytes"]


def boot_pairs(program, work, pairs):
    """Speed under `run` in million ticks a second, and the cost of `record` over it, one figure a pair."""
    rates, ratios = [], []
    for pair in range(pairs):
        cost = {}
        for command in ("run", "record") if pair % 2 else ("record", "run"):
            options = ["-o", os.path.join(work, "bench.hwr")] if command == "record" else []
            ticks, cpu = guest(program, command, "boot", *options)
            cost[command] = cpu / ticks
            print(f"pair {pair + 1}: {command:6} {ticks} ticks, {cpu:.2f} s of processor", flush=True)
        rates.append(1e-6 / cost["run"])
        ratios.append(cost["record"] / cost["run"] - 1)
    return rates, ratios


def sizes(program, work):
    """Log bytes of the full workload and its ticks; log bytes a second of an idle guest."""
    recording = os.path.join(work, "size.hwr")
    ticks, _ = guest(program, "record", "full", "-o", recording)
    full = log_bytes(program, recording)
    print(f"full workload: {ticks} ticks, {full} bytes of log", flush=True)
    idle = []
    for seconds in (5, 25):
        guest(program, "record", f"idle hw.idle={seconds}", "-o", recording)
        idle.append(log_bytes(program, recording))
    return ticks, full, (idle[1] - idle[0]) / 20


def main():
    parser = argparse.ArgumentParser(description="Speed of the reference interpreter, cost and size of recordings.")
    parser.add_argument("program", type=os.path.abspath)
    parser.add_argument("work")
    parser.add_argument("--pairs", type=int, default=15)
    common.add_document_option(parser)
    options = parser.parse_args()
    program, work, pairs = options.program, options.work, options.pairs
    os.makedirs(work, exist_ok=True)
    common.fetch_linux()
    rates, ratios = boot_pairs(program, work, pairs)
    ticks, full, idle = sizes(program, work)
    rate = common.spread(rates, "{:.0f}")
    cost = common.spread([100 * ratio for ratio in ratios], "{:+.1f} %")
    common.publish(options, "The reference interpreter, and recordings", f"""
Host: {common.host()}. Guest: Debian's cloud kernel, 512 MiB, busybox. Speed and cost are processor
time per tick in {pairs} interleaved pairs.

| figure | median | min | max | goal |
|---|---|---|---|---|
| reference interpreter over a kernel boot, million ticks a second | {rate} | 60 or more |
| recording against running, processor time a tick | {cost} | at most +5 % |

| recording, less the kernel and initramfs in it | | goal |
|---|---|---|
| boot and full workload, {ticks} ticks | {full} bytes | at most 196608 |
| idle guest | {idle:.0f} bytes a second | at most 1024 |

A recording of the full workload is repeated twenty times, disturbed in various ways, by `./setup.sh soak`:
[soak.md](soak.md).
""")


main()
