#!/usr/bin/env python3
"""Recording and replaying the small guest (guest.S): every way to end, input, load, the virtual clock, consoles."""
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import termios
import time

import hwtest
from hwtest import (GUEST, HALTED, VIRTUAL, Load, Running, Typist, check, check_replay, events, info, path, record, rng,
                    run, small_guest)


ENDLESS = "rounds=1000000000"  # until a `q` is typed


def test_exit_statuses():
    """A guest's end has the same status in a run, a recording and a replay."""
    for end, status, reason in (("exit", 3, "debug-exit"), ("reset", 0, "reset"), ("triple", GUEST, "guest-crash"),
                                ("halt", HALTED, "halted-for-ever")):
        guest = small_guest("rounds=20", f"end={end}")
        run("run", *guest, name="live").expect(status)
        recorded = record(path("a.hwr"), guest).expect(status)
        check_replay(path("a.hwr"), recorded)
        check(events(path("a.hwr"))[-1]["reason"] == reason, f"end={end} is not recorded as {reason}")


def test_input():
    """What is typed at random times while the guest computes arrives at the same ticks in the replay."""
    running = Running(["record", "-o", path("a.hwr"), *small_guest(ENDLESS)], name="record")
    words = [bytes(rng.choices(b"abcdefghijklmnop\r", k=rng.randrange(1, 20))) for _ in range(30)]
    typist = Typist(running, [*words, b"q"], 0.2)
    running.wait_for(b"done")
    typist.join()
    recorded = running.finish().expect(3)
    typed = "".join(e["data"] for e in events(path("a.hwr")) if e["event"] == "console_input")
    everything = b"".join(words).decode()
    check(typed.startswith(everything[:20]) and len(typed) > 20, f"typed {everything!r}, recorded {typed!r}")
    check_replay(path("a.hwr"), recorded)


def test_endless_input():
    """A source that never runs dry neither holds the guest at one tick nor fills the log."""
    arguments = [hwtest.PROGRAM, "record", "-o", path("a.hwr"), *small_guest("rounds=200")]
    with open("/dev/zero", "rb") as zeros:
        done = subprocess.run(arguments, stdin=zeros, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                              timeout=120, check=False)
    check(done.returncode == 3, f"status {done.returncode}: {done.stderr}")
    run("replay", path("a.hwr")).expect(3)
    facts = info(path("a.hwr"))
    check(facts["log_bytes"] < 65536, f"{facts['log_bytes']} bytes of log for {facts['ticks']} ticks")


def test_stopped_process():
    """Time in which the recorder was stopped is no measure of the guest's speed: its clock does not race ahead after."""
    running = Running(["record", "-o", path("a.hwr"), *small_guest(ENDLESS)], name="record")
    for pause in (1, 4, 1):
        time.sleep(1)
        running.kill(signal.SIGSTOP)
        time.sleep(pause)
        running.kill(signal.SIGCONT)
    time.sleep(1)
    running.type(b"q")
    running.finish().expect(3)
    rates = [e["rate_q32"] for e in events(path("a.hwr")) if e["event"] == "time_anchor"]
    # From one anchor to the next the estimate grows by a quarter, and a guest that was slowed to half speed may go on.
    leaps = [(a, b) for a, b in zip(rates, rates[1:]) if b > 2.6 * a]
    check(len(rates) > 10 and not leaps, f"{len(rates)} anchors, leaps of the rate: {leaps}")
    run("replay", path("a.hwr")).expect(3)


def test_busy_host():
    """Recorded and replayed with other processes on the machine."""
    with Load():
        recorded = record(path("a.hwr"), small_guest("rounds=20000")).expect(3)
        check_replay(path("a.hwr"), recorded)
    check_replay(path("a.hwr"), recorded, name="quiet")


def test_virtual_clock():
    """Two live runs by the virtual clock are the same run; so is a recording of it."""
    guest = small_guest("rounds=300")
    first, second = (run("run", "--clock", "virtual", *guest, name=n).expect(3) for n in ("first", "second"))
    recorded = record(path("a.hwr"), guest, "--clock", "virtual").expect(3)
    check(first.ended() == second.ended() == recorded.ended(),
          f"{first.ended()} and {second.ended()} and {recorded.ended()}")
    check(first.out == second.out == recorded.out, "the consoles differ")
    check(not [e for e in events(path("a.hwr")) if e["event"] == "time_anchor"], "an anchor by the virtual clock")
    check_replay(path("a.hwr"), recorded)


def test_limit_and_position():
    """--limit-ticks ends a recording there; replay --to stops where it is told, on the same state every time."""
    recorded = record(path("a.hwr"), small_guest("rounds=100000"), "--limit-ticks", "30000000").expect(0)
    check(recorded.ended()[1] == 30000000, f"ended at {recorded.ended()}")
    check_replay(path("a.hwr"), recorded)
    for _ in range(3):
        to = rng.randrange(1, 30000000)
        first, second = (run("replay", path("a.hwr"), "--to", to, name=n).expect(0) for n in ("first", "second"))
        for result in (first, second):
            check(f"replay verified up to tick {to} of 30000000" in result.err, f"--to {to}: {result.err}")
        check(first.out == second.out, f"--to {to}: the consoles differ")
        check(recorded.out.startswith(first.out), "the console is no beginning of the recording's")
    for to, end in (("50%", " up to tick 15000000 of"), ("2M", " up to tick 2000000 of"), ("0x100", " up to tick 256 of"),
                    ("start", " up to tick 0 of"), ("end", ": 30000000 ticks")):
        result = run("replay", path("a.hwr"), "--to", to).expect(0)
        check(f"replay verified{end}" in result.err, f"--to {to}: {result.err}")
    for beyond in (30000001, "1G", "e1", "e99999999"):
        run("replay", path("a.hwr"), "--to", beyond).expect(hwtest.RANGE)


def test_quiet():
    recorded = record(path("a.hwr"), small_guest("rounds=20")).expect(3)
    quiet = run("replay", path("a.hwr"), "--quiet").expect(3)
    check(quiet.out == b"", f"--quiet printed {quiet.out!r}")
    check(quiet.verified_ticks() == recorded.ended()[1], "no verdict")


def test_verify():
    """record --verify replays at once."""
    result = record(path("a.hwr"), small_guest("rounds=50"), "--verify").expect(3)
    check("replay verified" in result.err, f"no verdict: {result.err}")


def test_recording_stands_alone():
    """Kernel and command line travel in the file."""
    guest = small_guest("rounds=50")
    copy = path("copy.elf")
    with open(guest[-1], "rb") as f, open(copy, "wb") as g:
        g.write(f.read())
    recorded = record(path("a.hwr"), [*guest[:-1], copy]).expect(3)
    os.unlink(copy)
    check_replay(path("a.hwr"), recorded)


def copy_of_guest():
    guest, copy = small_guest(ENDLESS, "end=look"), path("copy.elf")
    with open(guest[-1], "rb") as f, open(copy, "wb") as g:
        g.write(f.read())
    return copy, [*guest[:-1], "--initrd", guest[-1], copy]


def test_guest_looks_at_its_image():
    """Kernel and module are no longer in memory when a guest reads them by fw_cfg: they come from the files, and in a
    replay from the recording."""
    copy, guest = copy_of_guest()
    consoles = []
    for command in ("run",), ("record", "-o", path("a.hwr")):
        running = Running([*command, *VIRTUAL, *guest], name=command[0])
        running.type(b"q")
        consoles.append(running.finish().expect(3))
    os.unlink(copy)
    check(b"done" in consoles[0].out, "the guest never ended")
    check_replay(path("a.hwr"), consoles[1])
    check_replay(path("a.hwr"), consoles[1], "--engine", "interp")


def test_image_changed():
    """A guest never reads another kernel than the one that it was started from, and that its recording holds."""
    copy, guest = copy_of_guest()
    running = Running(["record", "-o", path("a.hwr"), *guest], name="record")
    running.wait_for(b"started")
    with open(copy, "r+b") as f:
        f.seek(-1, os.SEEK_END)
        f.write(b"?")
    running.type(b"q")
    result = running.finish().expect(hwtest.HOST)
    check("has changed since" in result.err, result.err)
    replayed = run("replay", path("a.hwr"), "--quiet").expect(0)
    check("replay verified up to the last whole event" in replayed.err, replayed.err)


def test_info_agrees():
    """info says what the recorder said, and its sizes add up."""
    recorded = record(path("a.hwr"), small_guest("rounds=100")).expect(3)
    facts = info(path("a.hwr"))
    check(facts["file_bytes"] == os.path.getsize(path("a.hwr")), f"file_bytes in {facts}")
    check(facts["content_bytes"] + facts["log_bytes"] == facts["file_bytes"], f"sizes in {facts}")
    check(facts["state"] == "closed" and facts["end"] == "debug-exit", f"state and end in {facts}")
    check(facts["ticks"] == recorded.ended()[1], f"ticks in {facts}")
    check(facts["events"] == len(events(path("a.hwr"))), f"events in {facts}")


def drain(fd, seconds, until=None):
    data = b""
    end = time.monotonic() + seconds
    while time.monotonic() < end and (until is None or until not in data):
        if select.select([fd], [], [], 0.1)[0]:
            try:
                piece = os.read(fd, 65536)
            except OSError:  # the other side is gone
                break
            if not piece:
                break
            data += piece
    return data


def test_terminal():
    """On a terminal: raw while the guest has it, restored afterwards, left by the escape key, the recording usable."""
    try:
        controller, terminal = pty.openpty()
    except OSError as error:
        raise hwtest.Skip(f"no pseudo-terminals here: {error}") from error
    before = termios.tcgetattr(terminal)
    process = subprocess.Popen(
        [hwtest.PROGRAM, "record", "-o", path("a.hwr"), *small_guest("rounds=1000000")],
        stdin=terminal, stdout=terminal, stderr=terminal)
    out = drain(controller, 20, until=b"started")
    check(termios.tcgetattr(terminal) != before, "the terminal is not raw")
    os.write(controller, b"\x03")  # Ctrl-C is the guest's
    os.write(controller, b"ab\x1dq")
    out += drain(controller, 10, until=b"memory digest")
    status = process.wait(20)
    after = termios.tcgetattr(terminal)
    os.close(controller)
    os.close(terminal)
    check(b"started" in out and status == 0, f"status {status}: {out!r}")
    check(after == before, "the terminal is not restored")
    typed = "".join(e["data"] for e in events(path("a.hwr")) if e["event"] == "console_input")
    check(typed == "\x03ab", f"recorded {typed!r}")
    run("replay", path("a.hwr")).expect(0).verified_ticks()


def record_to_socket(rounds):
    """A recording under way whose console is the returned socket."""
    where = path("console")
    running = Running(["record", "-o", path("a.hwr"), "--console", f"unix:{where}", *small_guest(f"rounds={rounds}")],
                      name="record")
    client = socket.socket(socket.AF_UNIX)
    for _ in range(100):
        try:
            client.connect(where)
            break
        except OSError:
            time.sleep(0.05)
    return running, client


def test_slow_console():
    """A client that reads nothing while the guest runs gets all of its output, and the guest's time knew nothing of it."""
    running, client = record_to_socket(20000)
    time.sleep(2)
    out = b""
    while piece := client.recv(65536):
        out += piece
    client.close()
    running.finish().expect(3)
    replayed = run("replay", path("a.hwr")).expect(3)
    check(replayed.out == out, f"the client saw {len(out)} bytes, the replay printed {len(replayed.out)}")


def test_unix_console():
    """--console unix:PATH serves a client; one that goes away does not harm the guest."""
    running, client = record_to_socket(20000)
    client.sendall(b"xy")
    out = drain(client.fileno(), 10, until=b"xy")
    client.close()
    check(b"started" in out and b"xy" in out, f"the client saw {out!r}")
    recorded = running.finish().expect(3)
    replayed = run("replay", path("a.hwr")).expect(3)
    check(replayed.out.startswith(out), "the replay's console does not begin with what the client saw")
    check(replayed.verified_ticks() == recorded.ended()[1], "another end")


def test_no_console():
    result = run("run", "--console", "none", *small_guest("rounds=20")).expect(3)
    check(result.out == b"", f"printed {result.out!r}")


hwtest.main(sys.modules[__name__])
