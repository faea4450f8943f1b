#!/usr/bin/env python3
"""samples/heisenbug: it fails now and then, and its recording always, on every engine."""
import os
import re
import subprocess
import sys

import hwtest
from hwtest import PROGRAM, Skip, check, run

SAMPLE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../samples/heisenbug")
FAILED = 3


def test_fails_for_ever():
    """The script records until it fails. The failure is in each replay, at the same word."""
    if subprocess.run(["make", "--version"], capture_output=True, check=False).returncode:
        raise Skip("make is not installed")
    result = subprocess.run([os.path.join(SAMPLE, "run.sh"), PROGRAM], capture_output=True, text=True, check=False,
                            env={**os.environ, "HW_OUT_DIR": hwtest.work}, timeout=600)
    check(result.returncode == 0, f"run.sh: status {result.returncode}\n{result.stdout}\n{result.stderr}")
    messages = re.findall(r"ASSERTION FAILED: journal\.entry\[\d+\]\.word\[\d\] is damaged", result.stdout)
    check(len(messages) == 2 and messages[0] == messages[1], result.stdout)
    for engine in ("dbt", "interp"):
        replayed = run("replay", "--engine", engine, hwtest.path("heisenbug.hwr"), name=engine).expect(FAILED)
        check(messages[0].encode() in replayed.out, f"{engine}: {replayed.out}")
        replayed.verified_ticks()


hwtest.main(sys.modules[__name__])
