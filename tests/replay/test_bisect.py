#!/usr/bin/env python3
"""bisect finds the instruction at which an engine went wrong, one that is made wrong at a tick of the test's choice."""
import re
import sys

import hwtest
from hwtest import CORRUPT, DIVERGED, INPUT, OK, USAGE, check, path, record, rng, run, small_guest

TICKS = 20_000_000
ENGINES = ("interp", "dbt")


def make_recording():
    recording = path("a.hwr")
    record(recording, small_guest("rounds=100000"), "--limit-ticks", TICKS).expect(0)
    return recording


def bisect(recording, *options, name="bisect"):
    return run("bisect", recording, *options, name=name)


def found(result):
    """(last equal tick, first different tick, tick of the instruction) of the report."""
    result.expect(DIVERGED)
    match = re.search(r"last equal position: tick (\d+)\n *first different position: tick (\d+)\n", result.err)
    line = re.search(r"^hyperwind: .* differ: the instruction at tick (\d+), rip 0x[0-9a-f]+: \w+", result.err, re.M)
    check(match and line and len(result.lines()) == 1, f"no report\n{result.command()}\n{result.err}")
    return int(match.group(1)), int(match.group(2)), int(line.group(1))


def check_found(result, at, wrong, other):
    """The report names the instruction at tick `at`, RAX and nothing else, bit 0 of it, and who has which value."""
    check(found(result) == (at, at + 1, at), f"wrong at {at}\n{result.command()}\n{result.err}")
    after = result.err[result.err.index("after it:"):]
    fields = re.findall(r"^  (register|memory|[a-z0-9]+) (\S+): ", after, re.M)
    check(fields == [("register", "rax")], f"{fields} differ\n{result.command()}\n{result.err}")
    values = re.search(rf" before, {re.escape(wrong)} 0x([0-9a-f]+), {re.escape(other)} 0x([0-9a-f]+)$", after, re.M)
    check(values and int(values.group(1), 16) ^ int(values.group(2), 16) == 1, f"{result.command()}\n{result.err}")


def test_equal():
    """Engines that agree, on the whole recording and on a part of it."""
    recording = make_recording()
    table = (("dbt", "interp", None), ("interp", "dbt:nochain=1", 1_234_567), ("dbt", "dbt:block=1", 1))
    for engine, against, limit in table:
        options = ["--engine", engine, "--against", against, *(["--limit-ticks", limit] if limit else [])]
        result = bisect(recording, *options).expect(OK)
        expected = f"hyperwind: no difference: {engine} and {against} agree on {limit or TICKS} ticks"
        check(result.lines() == [expected], result.err)


def test_ends():
    """Guests that end by themselves, and a recording that was cut off."""
    for end in ("exit", "reset", "triple", "halt"):
        ticks = record(path("e.hwr"), small_guest("rounds=20", f"end={end}")).ended()[1]
        result = bisect(path("e.hwr")).expect(OK)
        check(result.lines() == [f"hyperwind: no difference: dbt and interp agree on {ticks} ticks"], result.err)
    recording = make_recording()
    with open(recording, "rb") as f:
        data = f.read()
    with open(path("cut.hwr"), "wb") as f:
        f.write(data[:-100])
    result = bisect(path("cut.hwr")).expect(OK)
    whole = re.search(r"was not closed .* whole up to tick (\d+)", result.err)
    check(whole and f" agree on {whole.group(1)} ticks" in result.err and len(result.lines()) == 2, result.err)


def test_wrong_tick():
    """The last tick that is compared, so that nothing can cover the difference up."""
    recording = make_recording()
    for engine in ENGINES:
        for against in ENGINES:
            at = rng.randrange(1, TICKS)
            spec = f"{engine}:wrong={at}"
            for a, b in ((spec, against), (against, spec)):
                result = bisect(recording, "--engine", a, "--against", b, "--limit-ticks", at + 1)
                check_found(result, at, a, b)


def test_wrong_long_ago():
    """What comes of the difference is found, what began it is named. If nothing comes of it, a replay says so too."""
    recording = make_recording()
    begun = 0
    for _ in range(12):
        at = rng.randrange(1, TICKS - 2_000_000)
        spec = f"dbt:wrong={at}"
        result = bisect(recording, "--engine", spec).expect(OK, DIVERGED)
        replayed = run("replay", recording, "--engine", spec, "--quiet").expect(result.status)
        if result.status == DIVERGED:
            begun += 1
            check_found(result, at, spec, "interp")
            check(re.search(r"replay diverged between ticks \d+ and (\d+)", replayed.err), replayed.err)
    check(begun, "no difference lasted; try another seed")


def test_default_engines():
    recording = make_recording()
    at = rng.randrange(1, TICKS)
    spec = f"interp:wrong={at}"
    check_found(bisect(recording, "--against", spec, "--limit-ticks", at + 1), at, "dbt", spec)


def test_recording_is_wrong():
    """A recording made by a wrong engine: the right ones agree with each other, and it is told that it does not."""
    recording = path("a.hwr")
    for at in range(5_000_000, 5_000_040):  # not every value is still needed
        wrong = ["--engine", f"interp:wrong={at}"]
        record(recording, small_guest("rounds=100000"), "--limit-ticks", TICKS, *wrong).expect(0)
        if run("replay", recording, "--quiet").status == DIVERGED:
            break
    result = bisect(recording).expect(OK)
    check(f"no difference: dbt and interp agree on {TICKS} ticks" in result.err, result.err)
    check(re.search(r"both disagree with the recording, first at event \d+, tick [56]\d{6}: ", result.err), result.err)
    spec = f"dbt:wrong={at}"
    check_found(bisect(recording, "--engine", spec, "--limit-ticks", at + 1), at, spec, "interp")


def test_errors():
    recording = make_recording()
    for options in (["--engine", "steam"], ["--against", "steam"], ["--engine", "dbt:wrong"],
                    ["--engine", "dbt:wrong=x"], ["--to", "5"], ["b.hwr"]):
        check(len(bisect(recording, *options).expect(USAGE).err.splitlines()) == 1, f"{options}: not one line")
    run("bisect").expect(USAGE)
    bisect(path("nowhere")).expect(INPUT)
    with open(recording, "rb") as f:
        data = bytearray(f.read())
    for name, changed in (("text", b"no recording\n" * 100), ("empty", b""), ("header", data[:20])):
        with open(path(name), "wb") as f:
            f.write(changed)
        bisect(path(name), name=f"bisect-{name}").expect(CORRUPT)
    for at in rng.sample(range(64, len(data)), 20):
        with open(path("damaged"), "wb") as f:
            f.write(data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1:])
        bisect(path("damaged"), name="bisect-damaged").expect(OK, CORRUPT)


hwtest.main(sys.modules[__name__])
