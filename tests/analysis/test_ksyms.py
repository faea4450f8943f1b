#!/usr/bin/env python3
"""Symbols and backtraces of Debian's kernel, from its memory alone, judged by the kernel itself and by gdb.

usage: test_ksyms.py KERNEL_IMAGE GUEST_DIR WORK_DIR [TICK[:FUNCTION]...]
"""
import hashlib
import os
import re
import shutil
import subprocess
import sys

# What the guest does: it says what it thinks its symbols are, without those that have come since it was built.
INIT = "mount -t proc proc /proc; grep -v '\\[' /proc/kallsyms | sha256sum; sleep 1; poweroff -f"
# Early boot; threads; an interrupt in kernel code; a page fault, a system call and an interrupt of user mode; an
# interrupt of the idle thread's halt.
STOPS = ["60000000", "200000000", "500000000:update_process_times", "900000000", "1377000000:handle_mm_fault",
         "1380000000:vfs_read", "1390000000:hrtimer_interrupt", "2500000000:tick_irq_enter"]
SYMBOLS_MIN, UNWIND_MIN = 50000, 100000
# Some 40 ms; this is for machines that do much else, and for sanitizers.
FIND_MS_MAX = 3000
SKIPPED = 77
HERE = os.path.dirname(os.path.abspath(__file__))


def fail(text):
    print(f"FAILED: {text}")
    sys.exit(1)


def run(*command):
    result = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    if result.returncode:
        fail(f"{command[0]}: status {result.returncode}\n{result.stdout[-2000:]}\n{result.stderr[-2000:]}")
    return result.stdout


def check_report(report):
    """What was found at each stop. In a stop before the kernel runs nothing may be found but a clear answer."""
    slides, modes = set(), set()
    for line in report.splitlines():
        match = re.match(r"(kernel|user) \d+: symbols=(\d+) unwind=(\d+) slide=(\S+) ms=(\d+) banner=Linux ver", line)
        if match:
            mode, symbols, unwind, slide, ms = match.groups()
            if int(symbols) < SYMBOLS_MIN or int(unwind) < UNWIND_MIN or int(ms) > FIND_MS_MAX:
                fail(line)
            slides.add(slide)
            modes.add(mode)
        elif not re.match(r"written in |kernel \d+: (the guest's kernel has not begun|no Linux kernel)", line):
            fail(f"not understood: {line}")
    if modes != {"kernel", "user"} or len(slides) != 1 or slides & {"0", "unknown:0"}:
        fail(f"found in {modes}, slide {slides}\n{report}")


def check_symbols(work):
    with open(os.path.join(work, "symbols.txt"), "rb") as f:
        ours = hashlib.sha256(f.read()).hexdigest()
    with open(os.path.join(work, "console"), encoding="utf-8", errors="replace") as f:
        theirs = re.search(r"^([0-9a-f]{64})  -", f.read(), re.M)
    if not theirs or theirs.group(1) != ours:
        fail(f"the guest's own symbols are others: {theirs and theirs.group(1)}, ours {ours}")


def gdb(*commands):
    options = [word for command in ("set pagination off", *commands) for word in ("-ex", command)]
    return run("gdb", "-nx", "-q", "-batch", *options)


def check_gdb(work):
    """Names to addresses and back, as a user's commands do."""
    elf = os.path.join(work, "symbols.elf")
    with open(os.path.join(work, "symbols.txt"), encoding="ascii") as f:
        table = [line.split() for line in f]
    named = {name: int(addr, 16) for addr, kind, name in table if kind == "T"}
    out = gdb(f"file {elf}", "info address do_syscall_64", "break *vfs_read", f"info symbol {named['vfs_read'] + 3:#x}",
              "info symbol &linux_banner")
    for wanted in (f"{named['do_syscall_64']:#x}", f"Breakpoint 1 at {named['vfs_read']:#x}",
                   "vfs_read + 3 in section .text", "linux_banner in section .rodata"):
        if wanted not in out:
            fail(f"gdb does not say {wanted!r}:\n{out}")


def check_backtraces(work):
    """Every frame of every core file; over all of them, most calls must be direct ones to the inner frame."""
    totals = {"frames": 0, "direct": 0, "other": 0, "interrupted": 0}
    ends = set()
    elf = os.path.join(work, "symbols.elf")
    for name in sorted(n for n in os.listdir(work) if n.endswith(".core")):
        core = f"core-file {os.path.join(work, name)}"
        out = gdb(f"file {elf}", core, f"source {os.path.join(HERE, 'check_frames.py')}")
        match = re.search(r"^frames=(\d+) direct=(\d+) other=(\d+) interrupted=(\d+) end=(.*)$", out, re.M)
        if not match:
            fail(f"{name}\n{out[-3000:]}{gdb(f'file {elf}', core, 'backtrace 50')[-5000:]}")
        for key, value in zip(totals, match.groups()):
            totals[key] += int(value)
        ends.add(match.group(5))
        print(f"{name}: {match.group(0)}")
    print(totals, ends)
    if totals["frames"] < 40 or totals["direct"] < totals["other"] or totals["interrupted"] < 4 or len(ends) < 3:
        fail("too little was unwound")


def main():
    program, guests, work, *stops = sys.argv[1:]
    if not shutil.which("gdb"):
        print("skipped: gdb is not installed")
        sys.exit(SKIPPED)
    shutil.rmtree(work, ignore_errors=True)
    os.makedirs(work)
    report = run(program, f"{guests}/vmlinuz", f"{guests}/initrd.cpio", work,
                 f'console=ttyS0 rdinit=/bin/sh -- -c "{INIT}"', *(stops or STOPS))
    print(report)
    check_report(report)
    check_symbols(work)
    check_gdb(work)
    check_backtraces(work)
    shutil.rmtree(work)


main()
