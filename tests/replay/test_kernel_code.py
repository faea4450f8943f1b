#!/usr/bin/env python3
"""Code that Linux writes and patches while it runs: the BPF JIT's, static keys, ftrace, kprobes.

The guest's program is tests/guest/linux/; it says itself what is wrong, and prints results of BPF programs that the
host's kernel must agree with."""
import os
import re
import shutil
import subprocess
import sys

import hwtest
from hwtest import Skip, check, linux, path, record, record_both, replay_on, rng, run, some_mixed

PROGRAM = "kernel_code"
# What each part prints when all went well, and at least how many lines of it.
PARTS = {rb"filter \d+, ": 100, rb"seccomp \d+, ": 10, rb"ebpf \d+, ": 50, rb"ebpf: the map holds": 1, rb"ebpf: \d+ tail calls": 1,
         rb"static keys: ": 1, rb"ftrace: ": 2, rb"kprobes: \d+ of \d+ became jumps": 1, rb"kprobes: hits": 1,
         rb"kernel_code: end": 1}


def program():
    return os.path.join(os.environ["HW_SMALL_GUEST_DIR"], "linux", PROGRAM)


def guest():
    """Arguments that boot Debian's kernel with the program as process 1: one more archive behind the initramfs."""
    if not os.path.exists(program()):
        raise Skip("a sanitizer build has no program for the guest")
    *options, kernel = linux("none", "quiet", f"rdinit=/{PROGRAM}")
    initrd = options.index("--initrd") + 1
    os.makedirs(path("root"))
    shutil.copy(program(), path("root"))
    archive = subprocess.run(["cpio", "--quiet", "-o", "-H", "newc", "-R", "0:0"], input=PROGRAM.encode(), cwd=path("root"),
                             check=True, capture_output=True).stdout
    with open(options[initrd], "rb") as f, open(path("initrd"), "wb") as out:
        out.write(f.read() + archive)
    options[initrd] = path("initrd")
    return [*options, kernel]


def check_console(console):
    failed = re.search(rb"[^\n]*FAILED[^\n]*", console)
    check(not failed, f"the guest printed: {failed and failed.group(0)}")
    for part, count in PARTS.items():
        found = len(re.findall(rb"^" + part, console, re.M))
        check(found >= count, f"{found} lines of {part}, see {hwtest.work}")


def classic(console):
    return re.findall(rb"^((?:filter|seccomp) \d+, [^\r\n]*)", console, re.M)


def test_results():  # labels: slow linux
    """Everything the guest patched took effect, and the host's kernel finds the same results of classic filters."""
    recorded = run("run", *guest()).expect(0)
    check_console(recorded.out)
    host = subprocess.run([program()], capture_output=True, check=False, timeout=60)
    if host.returncode or b"FAILED" in host.stdout:
        raise Skip(f"this machine does not let a program attach filters: {host.stdout[-300:]!r}")
    ours, theirs = classic(recorded.out), classic(host.stdout)
    check(len(theirs) > 100, f"only {len(theirs)} lines of the host")
    for line in zip(ours, theirs):
        check(line[0] == line[1], f"guest {line[0]}, host {line[1]}")
    check(len(ours) == len(theirs), f"{len(ours)} lines of the guest, {len(theirs)} of the host")


def test_engines():  # labels: slow linux
    """Both engines record the same; what one recorded the others replay, however they translate and flush."""
    recorded = record_both(guest(), 0)
    check_console(recorded.out)
    replay_on("dbt.hwr", recorded, "interp")
    replay_on("interp.hwr", recorded, "dbt", "dbt:nochain=1", "dbt:block=1", f"dbt:flush={rng.randrange(10000, 100000)}",
              some_mixed(10000))


def test_host_clock():  # labels: slow linux
    """With the host's clock the kernel patches at other places every time."""
    recorded = record(path("a.hwr"), guest(), "--engine", "dbt").expect(0)
    check_console(recorded.out)
    replay_on("a.hwr", recorded, "interp", "dbt:tlb=4")


hwtest.main(sys.modules[__name__])
