#!/usr/bin/env python3
"""samples/heisenbug: it fails now and then, and its recording always, on every engine."""
import os
import re
import shutil
import subprocess
import sys

import hwtest
from hwtest import PROGRAM, Skip, check, run

SAMPLE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../samples/heisenbug")
FAILED = 3


def script(name, needed):
    """A script of the sample, with its files in our directory; what it printed."""
    for program in needed:
        if not shutil.which(program):
            raise Skip(f"{program} is not installed")
    result = subprocess.run([os.path.join(SAMPLE, name), PROGRAM], capture_output=True, text=True, check=False,
                            env={**os.environ, "HW_OUT_DIR": hwtest.work}, timeout=600)
    check(result.returncode == 0, f"{name}: status {result.returncode}\n{result.stdout}\n{result.stderr}")
    return result.stdout


def test_fails_for_ever():
    """The script records until it fails. The failure is in each replay, at the same word."""
    out = script("run.sh", ["make"])
    messages = re.findall(r"ASSERTION FAILED: journal\.entry\[\d+\]\.word\[\d\] is damaged", out)
    check(len(messages) == 2 and messages[0] == messages[1], out)
    for engine in ("dbt", "interp"):
        replayed = run("replay", "--engine", engine, hwtest.path("heisenbug.hwr"), name=engine).expect(FAILED)
        check(messages[0].encode() in replayed.out, f"{engine}: {replayed.out}")
        replayed.verified_ticks()


def test_guilty_write_is_found():
    """The session in gdb; the script itself checks what was found."""
    out = script("session.sh", ["make", "gdb"])
    check(re.search(r"tick (\d+): timer_interrupt\(\) .*\ntick \d+: journal_append\(\), called by main\(\)", out), out)


hwtest.main(sys.modules[__name__])
