#!/usr/bin/env python3
"""A recording made by one build replays in another: the release build records, the build under test replays.

HW_RELEASE_PROGRAM names the release build; without it there is nothing to compare and the tests are skipped."""
import os
import sys

import hwtest
from hwtest import Skip, check_replay, linux, path, run, small_guest


def recorded_by_release(guest, *options):
    release = os.environ.get("HW_RELEASE_PROGRAM")
    if not release or not os.path.exists(release):
        raise Skip("HW_RELEASE_PROGRAM names no program")
    if os.path.realpath(release) == os.path.realpath(hwtest.PROGRAM):
        raise Skip("this is the release build itself")
    tested, hwtest.PROGRAM = hwtest.PROGRAM, release
    try:
        return run("record", "-o", path("a.hwr"), *options, *guest, name="record")
    finally:
        hwtest.PROGRAM = tested


def test_small_guest():
    check_replay(path("a.hwr"), recorded_by_release(small_guest("rounds=200")).expect(3))


def test_linux_boot():  # labels: slow linux sanitize
    """A boot and the short workload."""
    check_replay(path("a.hwr"), recorded_by_release(linux("short")).expect(0))


hwtest.main(sys.modules[__name__])
