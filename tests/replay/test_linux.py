#!/usr/bin/env python3
"""Debian's cloud kernel: booted, recorded, replayed.

Slow: a boot is some 1.5 billion ticks, the short workload less than another billion."""
import os
import re
import signal
import sys
import time

import hwtest
from hwtest import Load, Running, Typist, check, check_replay, events, info, linux, path, record, rng, run

# What a healthy boot does not print.
SYMPTOMS = [rb"WARN", rb"unchecked MSR access", rb"\[Firmware Bug\]", rb"Firmware Warn", rb"Marking TSC unstable",
            rb"tsc: Unable", rb"tsc: Fast TSC calibration failed", rb"BUG:", rb"Oops", rb"Call Trace",
            rb"rcu: INFO", rb"soft lockup", rb"clocksource: timekeeping watchdog", rb"ACPI Error", rb"ACPI BIOS",
            rb"unknown workload", rb"Spurious", rb"APIC error", rb"nobody cared", rb"MP-BIOS bug", rb"TIMER: "]


def check_log(console):
    """The workload came to its end, and nothing on the way looked ill."""
    for symptom in SYMPTOMS:
        match = re.search(rb"[^\n]*" + symptom + rb"[^\n]*", console)
        check(not match, f"the guest printed: {match and match.group(0)!r}")
    check(b"reboot: Power down" in console, f"no power down:\n{console[-2000:].decode(errors='replace')}")


def check_short(console):
    check_log(console)
    check(b"short: counted to 20000" in console, "no count")
    check(b"sha256 of 8 MiB of zeros: 2daeb1f36095b44b318410b3f4e8b5d989dcc7bb023d1426c492dab0a3053e74" in console,
          "no hash, or a wrong one")
    check(b"short: forked 20 processes" in console, "no processes")


def test_run():  # labels: slow linux
    """Boots, finishes, powers off; the log is clean; time runs forward at a sane rate."""
    result = run("run", *linux("short")).expect(0)
    check(result.ended()[0] == "power-off", f"ended {result.ended()}")
    check_short(result.out)
    uptimes = [float(up) for up in re.findall(rb"short: uptime ([0-9.]+) s", result.out)]
    check(len(uptimes) == 2 and 0 < uptimes[0] <= uptimes[1], f"uptimes {uptimes}")


def test_record_quiet():  # labels: slow linux
    """Recorded on an idle machine, replayed on an idle and on a loaded one; small."""
    recorded = record(path("a.hwr"), linux("short")).expect(0)
    check_short(recorded.out)
    check_replay(path("a.hwr"), recorded)
    with Load():
        check_replay(path("a.hwr"), recorded, name="loaded")
    # 192 KiB for 9.4 billion ticks is the law; what does not depend on length is allowed for.
    facts = info(path("a.hwr"))
    log_len = facts["log_bytes"]
    allowed = 16384 + 192 * 1024 * facts["ticks"] // 9_400_000_000
    print(f"log without content: {log_len} bytes for {facts['ticks']} ticks, {allowed} allowed")
    check(log_len <= allowed, f"{log_len} bytes, {allowed} allowed")


def test_record_busy():  # labels: slow linux
    """Recorded with busy processes beside it."""
    with Load():
        recorded = record(path("a.hwr"), linux("short")).expect(0)
    check_short(recorded.out)
    check_replay(path("a.hwr"), recorded)


def test_record_typed():  # labels: slow linux
    """Recorded while somebody types at random times, during the boot as well."""
    running = Running(["record", "-o", path("a.hwr"), *linux("typed")], name="record")
    Typist(running, [b"early\r"], 5).join()
    running.wait_for(b"typed: ready")
    words = [bytes(rng.choices(b"abcdefgh 01234", k=rng.randrange(1, 30))) + b"\r" for _ in range(12)]
    Typist(running, [*words, b"\rend\r"], 1.0).join()
    recorded = running.finish().expect(0)
    check_log(recorded.out)
    check(b"typed: line" in recorded.out, "the guest got nothing of what was typed")
    check([e for e in events(path("a.hwr")) if e["event"] == "console_input"], "no input in the recording")
    check_replay(path("a.hwr"), recorded)


def test_virtual_clock():  # labels: slow linux
    """Two runs without a recording end at the same tick with the same memory."""
    first, second = (run("run", "--clock", "virtual", *linux("short"), name=n).expect(0) for n in ("first", "second"))
    check(first.out.count(b"\n") > 50, "hardly any output")
    # The wall clock and the boot seed are start facts; by the virtual clock both are fixed.
    check(first.ended() == second.ended(), f"{first.ended()} and {second.ended()}")
    check(first.out == second.out, f"the consoles differ, see {hwtest.work}")
    check_short(first.out)


def test_idle():  # labels: slow linux
    """An idle guest costs a kilobyte a second at most, and is flushed while it idles."""
    running = Running(["record", "-o", path("a.hwr"), *linux("idle", "hw.idle=25")], name="record")
    running.wait_for(b"idle: sleeping")
    time.sleep(4)
    before, started = os.path.getsize(path("a.hwr")), time.monotonic()
    time.sleep(16)
    grown, seconds = os.path.getsize(path("a.hwr")) - before, time.monotonic() - started
    print(f"idle: {grown / seconds:.0f} bytes a second")
    check(grown <= 1024 * seconds, f"{grown} bytes in {seconds:.1f} s")
    running.kill(signal.SIGKILL)
    running.finish()
    replayed = run("replay", path("a.hwr")).expect(0)
    check(b"idle: sleeping" in replayed.out, "what was printed seconds before the kill is not in the recording")
    check("not closed" in replayed.err, f"the replay does not say that the recording is cut short:\n{replayed.err}")


def test_killed():  # labels: slow linux
    """Killed somewhere in the boot."""
    running = Running(["record", "-o", path("a.hwr"), *linux("short")], name="record")
    running.wait_for(rng.choice([b"Linux version", b"Kernel command line", b"registered taskstats", b"short: counted"]))
    time.sleep(rng.uniform(0, 0.05))
    running.kill(signal.SIGKILL)
    console = running.finish().out
    check(info(path("a.hwr"))["state"] == "not closed", "not called so")
    replayed = run("replay", path("a.hwr")).expect(0)
    replayed.verified_ticks()
    common = min(len(replayed.out), len(console))
    check(replayed.out[:common] == console[:common], "the consoles differ")


def test_failing_boot():  # labels: slow linux
    """samples/failing-boot: the panic is in the replay, too."""
    sample = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../samples/failing-boot/run.sh")
    environment = {**os.environ, "HW_OUT_DIR": hwtest.work}
    done = hwtest.subprocess.run([sample, hwtest.PROGRAM], env=environment, capture_output=True, text=True,
                                 check=False)
    check(done.returncode == 0, f"status {done.returncode}\n{done.stdout}\n{done.stderr[-2000:]}")
    check(done.stdout.count("Kernel panic") == 2, done.stdout)
    check("replay verified" in done.stderr, done.stderr[-2000:])


hwtest.main(sys.modules[__name__])
