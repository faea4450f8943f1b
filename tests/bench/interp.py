#!/usr/bin/env python3
"""Speed of the engine over a kernel boot, and what recording costs.

usage: interp.py PROGRAM WORK_DIR [PAIRS]        the result goes to docs/speed.md too

Each pair boots Debian's cloud kernel once under `run` and once under `record`, in alternating order, so that what the
host does meanwhile hits both alike. Boots differ by a few ticks with the host clock; so time is compared per tick.
"""
import os
import re
import statistics
import subprocess
import sys
import time

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
GUESTS = os.environ.get("HW_GUEST_DIR") or os.path.join(ROOT, "build", "guests")
DOCUMENT = os.path.join(ROOT, "docs", "speed.md")


def boot(program, work, command):
    """Ticks and processor seconds of one boot."""
    options = ["-o", os.path.join(work, "bench.hwr")] if command == "record" else []
    args = [program, command, *options, "--memory", "512M", "--console", "none",
            "--initrd", os.path.join(GUESTS, "initrd.cpio"), "--append", "console=ttyS0 hw.workload=boot",
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


def cpu_model():
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        return next((line.split(":")[1].strip() for line in f if line.startswith("model name")), "unknown CPU")


def main():
    program, work = os.path.abspath(sys.argv[1]), sys.argv[2]
    pairs = int(sys.argv[3]) if len(sys.argv) > 3 else 7
    os.makedirs(work, exist_ok=True)
    subprocess.run([os.path.join(ROOT, "samples/linux/fetch.sh"), GUESTS], check=True, stdout=subprocess.DEVNULL)
    rates, ratios = [], []
    for pair in range(pairs):
        cost = {}
        for command in ("run", "record") if pair % 2 else ("record", "run"):
            ticks, cpu, wall = boot(program, work, command)
            cost[command] = cpu / ticks
            print(f"pair {pair + 1}: {command:6} {ticks} ticks, {cpu:.2f} s of processor, {wall:.2f} s", flush=True)
        rates.append(1e-6 / cost["run"])
        ratios.append(cost["record"] / cost["run"] - 1)
    text = (f"interpreter: {statistics.median(rates):.1f} million ticks a second over a kernel boot "
            f"(median of {pairs}; {min(rates):.1f} to {max(rates):.1f})\n"
            f"recording:   {100 * statistics.median(ratios):+.1f} % of processor time a tick over running "
            f"(median of {pairs} interleaved pairs; {100 * min(ratios):+.1f} to {100 * max(ratios):+.1f})\n")
    print(text, end="")
    with open(DOCUMENT, "w", encoding="utf-8") as f:
        f.write(f"# Speed\n\nThe last result of `./setup.sh bench` ({cpu_model()}):\n\n    "
                + text.replace("\n", "\n    ").rstrip() + "\n")


main()
