#!/usr/bin/env python3
"""Speed of the engine over a kernel boot, what recording costs, and how large recordings are.

usage: interp.py PROGRAM WORK_DIR [PAIRS]        the result goes to docs/performance.md too

Each pair boots Debian's cloud kernel once under `run` and once under `record`, in alternating order, so that what the
host does meanwhile hits both alike. Boots differ by a few ticks with the host clock; so time is compared per tick.
"""
import json
import os
import re
import statistics
import subprocess
import sys
import time

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
GUESTS = os.environ.get("HW_GUEST_DIR") or os.path.join(ROOT, "build", "guests")
DOCUMENT = os.path.join(ROOT, "docs", "performance.md")


def guest(program, command, workload, *options):
    """Ticks, processor seconds and wall seconds of one guest."""
    args = [program, command, *options, "--memory", "512M", "--console", "none",
            "--initrd", os.path.join(GUESTS, "initrd.cpio"), "--append", f"console=ttyS0 hw.workload={workload}",
            os.path.join(GUESTS, "vmlinuz")]
    before = os.times()
    started = time.monotonic()
    done = subprocess.run(args, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    wall = time.monotonic() - started
    after = os.times()
    match = re.search(r"after (\d+) ticks", done.stderr)
    if done.returncode or not match:
        sys.exit(f"{' '.join(args)}: status {done.returncode}\n{done.stderr}")
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return int(match.group(1)), cpu, wall


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
            ticks, cpu, wall = guest(program, command, "boot", *options)
            cost[command] = cpu / ticks
            print(f"pair {pair + 1}: {command:6} {ticks} ticks, {cpu:.2f} s of processor, {wall:.2f} s", flush=True)
        rates.append(1e-6 / cost["run"])
        ratios.append(cost["record"] / cost["run"] - 1)
    return rates, ratios


def sizes(program, work):
    """Log bytes of the full workload and its ticks; log bytes a second of an idle guest."""
    recording = os.path.join(work, "size.hwr")
    ticks, _, _ = guest(program, "record", "full", "-o", recording)
    full = log_bytes(program, recording)
    print(f"full workload: {ticks} ticks, {full} bytes of log", flush=True)
    idle = []
    for seconds in (5, 25):
        guest(program, "record", f"idle idle={seconds}", "-o", recording)
        idle.append(log_bytes(program, recording))
    return ticks, full, (idle[1] - idle[0]) / 20


def cpu_model():
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        return next((line.split(":")[1].strip() for line in f if line.startswith("model name")), "unknown CPU")


def spread(values, form):
    return f"{form.format(statistics.median(values))} | {form.format(min(values))} | {form.format(max(values))}"


def main():
    program, work = os.path.abspath(sys.argv[1]), sys.argv[2]
    pairs = int(sys.argv[3]) if len(sys.argv) > 3 else 15
    os.makedirs(work, exist_ok=True)
    subprocess.run([os.path.join(ROOT, "samples/linux/fetch.sh"), GUESTS], check=True, stdout=subprocess.DEVNULL)
    rates, ratios = boot_pairs(program, work, pairs)
    ticks, full, idle = sizes(program, work)
    text = f"""# Performance

The last result of `./setup.sh bench`, which writes this page. Host: {cpu_model()}, {os.cpu_count()} CPUs.
Guest: Debian's cloud kernel, 512 MiB, busybox. Speed and cost are processor time per tick in {pairs} interleaved pairs.

| figure | median | min | max | goal |
|---|---|---|---|---|
| reference interpreter over a kernel boot, million ticks a second | {spread(rates, "{:.0f}")} | 60 or more |
| recording against running, processor time a tick | {spread([100 * r for r in ratios], "{:+.1f} %")} | at most +5 % |

| recording, less the kernel and initramfs in it | | goal |
|---|---|---|
| boot and full workload, {ticks} ticks | {full} bytes | at most 196608 |
| idle guest | {idle:.0f} bytes a second | at most 1024 |

A recording of the full workload is repeated twenty times, disturbed in various ways, by `./setup.sh soak`: [soak.md](soak.md).
"""
    print(text, end="")
    with open(DOCUMENT, "w", encoding="utf-8") as f:
        f.write(text)


main()
