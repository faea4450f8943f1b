#!/usr/bin/env python3
"""The sessions of samples/: scripts that record, look for a cause in gdb, and check what was found."""
import os
import re
import shutil
import subprocess
import sys

import hwtest
from hwtest import PROGRAM, Skip, check

SAMPLES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../samples")


def session(sample, *needed):
    """session.sh of a sample, with its files in our directory; what it printed."""
    for program in ("gdb", *needed):
        if not shutil.which(program):
            raise Skip(f"{program} is not installed")
    result = subprocess.run([os.path.join(SAMPLES, sample, "session.sh"), PROGRAM], capture_output=True, text=True,
                            env={**os.environ, "HW_OUT_DIR": hwtest.work}, timeout=600, check=False, errors="replace")
    check(result.returncode == 0, f"{sample}: status {result.returncode}\n{result.stdout}\n{result.stderr}")
    return result.stdout


def test_heisenbug():
    out = session("heisenbug", "make")
    check(re.search(r"tick (\d+): timer_interrupt\(\) .*\ntick \d+: journal_append\(\), called by main\(\)", out), out)


def test_failing_boot():  # labels: linux slow
    out = session("failing-boot")
    check(re.search(r"tick \d+: root_dev_setup\(\) .*(\ntick \d+: .*){3}the panic is what follows from it", out), out)


hwtest.main(sys.modules[__name__])
