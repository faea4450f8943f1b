#!/usr/bin/env python3
"""Hyperwind, QEMU and the CPU itself, side by side; what recording and replay cost; memory beside guest RAM.

usage: dbt.py PROGRAM WORK_DIR [options]         the result goes to docs/performance.md too

Bare metal: build/*/bench/guest.bin runs one workload of workloads.c or guest.c a start, bench_native the same function
under Linux. Guests' clocks are virtual, so time is taken outside, and the time of a start with no iterations is taken
off. Each virtual machine monitor gets as many iterations as take it --seconds; what is compared is the time of one.
Linux: one boot a round of the sample guest with hw.workload=bench; a row is the time between two lines of its console.
The boot row begins with the process, less the time of a bare-metal start, so that QEMU's firmware does not count.

All take their turn in every round, the order reversed from one to the next. A ratio is that of one round.
"""
import argparse
import json
import math
import os
import re
import shutil
import statistics
import sys

import common
from common import Failed

# Goals against QEMU record, per class; the geometric mean of its rows counts.
CLASSES = [
    ("integer loops", 2, ["sha", "sort", "tree", "alu", "mem"]),
    ("calls, indirect jumps", 5, ["fib", "dispatch"]),
    ("large footprint, page faults, CR3 switches", 10, ["rand64", "fault", "cr3", "invlpg"]),
    ("scalar FP, x87", 12, ["matmul", "x87"]),
    ("packed FP and integer, AES, SHA", 15, ["sse_float", "sse_int", "avx_float", "aes", "sha_packed"]),
    ("strings", 100, ["movsb", "stosq"]),
]
# These belong to no class and do not count in the overall figure, but nothing may be slower than QEMU record.
OTHER = ("other kernel operations", 1, ["syscall", "pushf", "patch"])
KERNEL_ONLY = {"fault", "cr3", "invlpg", "syscall", "pushf", "patch"}
LINUX_ROWS = ["boot", "loop", "sha256", "gzip", "fork", "pipe", "file"]
LINUX_GOAL, OVERALL_GOAL, PAIR_GOAL, MEMORY_GOAL_MIB, TRANSLATION_GOAL_NS = 5, 6, 1.05, 64, 150

HYPERWIND = ["run", "record", "replay"]  # its commands
FIRST_ITERATIONS = 1000
DEBUG_EXIT_0 = 1  # exit status of a guest that ended by debug exit with value 0


# ---- who runs guests ----

class Native:
    name = counts = "native"

    def __init__(self, options):
        self.program = os.path.join(options.bench, "bench_native")

    def bare(self, test, n):
        """Arguments and expected status of a start; None: not possible."""
        return None if test in KERNEL_ONLY else ([self.program, test, str(n)], 0)

    def linux(self, _append, _mitigated):
        return None


class Hyperwind:
    """`run`, `record`, or `replay` of what the last `record` of the same kind of guest left."""
    counts = "hyperwind"  # who shares numbers of iterations

    def __init__(self, name, options):
        self.name, self.options = name, options

    def guest(self, recording, arguments):
        recording = os.path.join(self.options.work, f"{recording}.hwr")
        args = [self.options.program, self.name, "--engine", self.options.engine]
        if self.name == "replay":
            return [*args[:2], recording, *args[2:]]
        return [*args, *(["-o", recording] if self.name == "record" else []), *arguments]

    def bare(self, test, n):
        image = os.path.join(self.options.bench, "guest.bin")
        arguments = ["--memory", "128M", "--append", f"{test} {n}", image]
        return self.guest("bare" if n else "zero", arguments), DEBUG_EXIT_0

    def linux(self, append, mitigated):
        cpu = ["--cpu", "+mitigations"] if mitigated else []
        return self.guest("linux", [*cpu, *common.linux_guest(append)])


class Qemu:
    """With Hyperwind's family, model and string features, on which a kernel's mitigations and copy routines hang."""

    def __init__(self, name, options, icount):
        self.name = self.counts = name
        self.options, self.icount = options, icount

    def guest(self, memory, mitigated, kernel, append, arguments):
        model = "model=85,stepping=4" if mitigated else "model=54,stepping=1"
        return [self.options.qemu, "-M", "pc", "-accel", "tcg", *self.icount, "-smp", "1", "-m", str(memory >> 20),
                "-cpu", f"max,vendor=GenuineIntel,family=6,{model},erms=off,fsrm=off,la57=off", "-nodefaults",
                "-nographic", "-serial", "stdio", "-no-reboot", "-device", "isa-debug-exit,iobase=0xf4,iosize=4",
                "-kernel", kernel, "-append", append, *arguments]

    def bare(self, test, n):
        image = os.path.join(self.options.bench, "guest.bin")
        return self.guest(128 << 20, False, image, f"{test} {n}", []), DEBUG_EXIT_0

    def linux(self, append, mitigated):
        kernel, initrd = common.linux_files()
        return self.guest(common.LINUX_MEMORY, mitigated, kernel, append, ["-initrd", initrd])


def runners(options):
    """In the order of an even round: what records comes before what replays it."""
    who = [Hyperwind(name, options) for name in HYPERWIND]
    if shutil.which(options.qemu):
        log = os.path.join(options.work, "qemu.rr")
        who += [Qemu("TCG", options, []),
                Qemu("QEMU record", options, ["-icount", f"shift=0,sleep=off,rr=record,rrfile={log}"])]
    return [*who, Native(options)]


def turns(who, number):
    """Every other round is backwards, but for replays, which follow their recordings."""
    if number % 2 == 0:
        return who
    names = [w.name for w in reversed(who) if w.name != "replay"]
    names.insert(names.index("record") + 1, "replay")
    return [next(w for w in who if w.name == name) for name in names]


# ---- measuring ----

def processor_seconds(pid):
    """Of all threads so far."""
    total = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/schedstat", encoding="ascii") as f:
            total += int(f.read().split()[0])
    return total * 1e-9


def resident_mib(pid):
    """(guest RAM, all else) of a Hyperwind process. Guest RAM is the mapping of its size, which the kernel may have
    joined with a small neighbour: that counts as RAM as far as RAM's size goes. The proportional size is taken, as code
    is mapped twice: writable, and executable."""
    ram = other = 0
    with open(f"/proc/{pid}/smaps", encoding="ascii") as f:
        sizes = re.findall(r"^Size: +(\d+) kB.*?^Pss: +(\d+) kB", f.read(), re.M | re.S)
    for size, resident in ((int(size) << 10, int(resident) << 10) for size, resident in sizes):
        if not ram and common.LINUX_MEMORY <= size < common.LINUX_MEMORY + (8 << 20):
            ram = min(resident, common.LINUX_MEMORY)
            resident -= ram
        other += resident
    if not ram:
        raise Failed("guest RAM is no mapping of its own")
    return ram / 2**20, other / 2**20


class LinuxRun:
    """One boot of the sample guest: seconds by row, mitigations, and the whole process."""

    def __init__(self, bench, runner, mitigated):
        append = "console=ttyS0 hw.workload=bench" + (" spectre_v2=retpoline" if mitigated else "")
        self.use_cpu = bench.options.time == "cpu"
        self.wants_memory = runner.name in HYPERWIND
        self.rows, self.mitigations, self.memory, self.begun = {}, [], None, None
        self.done = common.run(runner.linux(append, mitigated), on_line=self.line).expect(0)
        if set(self.rows) != set(LINUX_ROWS):
            raise Failed(f"rows {sorted(self.rows)}: {' '.join(self.done.args)}\n{self.done.out[-1000:]}")

    def line(self, process, text, now):
        kind, _, rest = text.partition("bench: ")[2].partition(" ")
        if kind == "mitigation":
            self.mitigations.append(rest)
        if kind not in ("begin", "end"):
            return
        if self.use_cpu:
            now = processor_seconds(process.pid)
        if kind == "begin":
            self.begun = now
            self.rows.setdefault("boot", now)
        else:
            self.rows[rest] = max(now - self.begun, 1e-6)
        if self.wants_memory and (kind, rest) == ("end", LINUX_ROWS[-1]):
            self.memory = resident_mib(process.pid)


class Bench:
    def __init__(self, options):
        self.options = options
        self.who = runners(options)
        self.checksums, self.iterations, self.problems = {}, {}, []
        self.bare = {}         # test: a row {who: seconds of an iteration} for each round
        self.linux = {}        # (mitigated, test): the same for whole phases
        self.mitigations = {}  # (mitigated, who): text
        self.costs = []        # {who: (processor seconds a tick, wall seconds a tick)} of Hyperwind's Linux runs
        self.memory = []       # (who, RAM, other)
        self.statistics = []   # {name: value} of a boot each

    def failed(self, what, error):
        self.problems.append(f"{what}: {error}")
        print(f"FAILED {what}: {error}", file=sys.stderr, flush=True)

    def bare_once(self, runner, test, n):
        """Seconds of one start. Its checksum must be everybody's for the same n."""
        args, status = runner.bare(test, n)
        done = common.run(args).expect(status)
        match = re.search(rf"{test} {n} ([0-9a-f]{{16}})", done.out)
        if not match or self.checksums.setdefault((test, n), match.group(1)) != match.group(1):
            raise Failed(f"not {test} {n} {self.checksums.get((test, n), '')}: {' '.join(args)}\n{done.out[-500:]}")
        return done.cpu if self.options.time == "cpu" else done.wall

    def calibrate(self, runner, test):
        """As many iterations as take about --seconds. In steps: starts differ by more than a few iterations take."""
        n, goal = FIRST_ITERATIONS, self.options.seconds
        zero = self.bare_once(runner, test, 0)
        while (took := self.bare_once(runner, test, n) - zero) < goal / 2:
            n *= 3 if took > goal / 10 else 10
        self.iterations[test, runner.counts] = max(1, round(n * goal / took))

    def bare_iteration(self, runner, test):
        """Seconds of one iteration."""
        if (test, runner.counts) not in self.iterations:
            self.calibrate(next(w for w in self.who if w.counts == runner.counts), test)
        n = self.iterations[test, runner.counts]
        for _ in range(3):
            zero = self.bare_once(runner, test, 0)
            took = self.bare_once(runner, test, n) - zero
            if took > self.options.seconds / 4:
                return took / n
        raise Failed(f"{n} iterations took {took:.3f} s more than none, thrice so few")

    def bare_round(self, test, number):
        row = {}
        for runner in turns(self.who, number):
            if not runner.bare(test, 0):
                continue
            try:
                row[runner.name] = self.bare_iteration(runner, test)
            except Failed as error:
                self.failed(f"{test}, {runner.name}", error)
        print(f"round {number + 1}: {test}: " + ", ".join(f"{who} {duration(s)}" for who, s in row.items()), flush=True)
        self.bare.setdefault(test, []).append(row)

    def linux_round(self, number, mitigated, only=None):
        rows, costs = {name: {} for name in LINUX_ROWS}, {}
        for runner in turns(self.who, number):
            if not runner.linux("", mitigated) or only and runner.name not in only:
                continue
            try:
                start = self.bare_once(runner, "alu", 0)
                done = LinuxRun(self, runner, mitigated)
            except Failed as error:
                self.failed(f"Linux, {runner.name}", error)
                continue
            done.rows["boot"] -= start
            for name in LINUX_ROWS:
                rows[name][runner.name] = done.rows[name]
            self.mitigations[mitigated, runner.name] = "; ".join(done.mitigations)
            if runner.name in HYPERWIND:
                ticks = done.done.ticks()
                costs[runner.name] = done.done.cpu / ticks, done.done.wall / ticks
                self.memory.append((runner.name, *done.memory))
            print(f"round {number + 1}: Linux{' mitigated' if mitigated else ''}, {runner.name}: " +
                  ", ".join(f"{name} {done.rows[name]:.3f}" for name in LINUX_ROWS) + " s", flush=True)
        if not only:
            for name in LINUX_ROWS:
                self.linux.setdefault((mitigated, name), []).append(rows[name])
        if not mitigated and len(costs) == len(HYPERWIND):
            self.costs.append(costs)


    def translation_round(self):
        """A boot with --stats, which no other row is measured with."""
        args = [self.options.program, "run", "--engine", self.options.engine, "--stats",
                *common.linux_guest("console=ttyS0 hw.workload=boot")]
        try:
            err = common.run(args).expect(0).err
        except Failed as error:
            self.failed("translation", error)
            return
        rows = re.findall(r"^hyperwind: statistics: (.*): (\S+)$", err, re.M)
        self.statistics.append({name: float(value) for name, value in rows})


# ---- the report ----

def ratios(rows, dividend, divisor):
    """One a round that has both."""
    return [row[dividend] / row[divisor] for row in rows if dividend in row and divisor in row]


def geometric_mean(values):
    return math.exp(statistics.mean(math.log(v) for v in values))


def mean_row(rows_of_tests):
    """Rows of a class: per round, the geometric mean of its tests for each who that has them all."""
    means = []
    for rows in zip(*rows_of_tests):
        everybody = set.intersection(*(set(row) for row in rows))
        means.append({who: geometric_mean([row[who] for row in rows]) for who in everybody})
    return means


def common_rows(rows_of_tests, who):
    """Only tests that this one could run."""
    return [rows for rows in rows_of_tests if any(who in row for row in rows)]


def duration(seconds):
    for unit, scale in (("s", 1), ("ms", 1e3), ("us", 1e6)):
        if seconds * scale >= 1:
            return f"{seconds * scale:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def median_cell(values, form=str):
    return form(statistics.median(values)) if values else "-"


def range_cell(values):
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})" if values else "-"


COLUMNS = [*HYPERWIND, "TCG", "QEMU record", "native"]


class Table:
    def __init__(self, first, have_qemu):
        self.have_qemu = have_qemu
        titles = [first, *COLUMNS, "QEMU record / record", "goal", "TCG / run", "run / native"]
        self.lines = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]

    def cells(self, name, times, rows, goal, native_rows):
        against = ratios(rows, "QEMU record", "record")
        met = ""
        if against:
            of_goal = statistics.median(against) / goal
            met = ", met" if of_goal >= 1 else f", missed: {math.floor(100 * of_goal)} % of it"
        cells = [name, *times, range_cell(against) if self.have_qemu else "no QEMU", f"{goal} or more{met}",
                 median_cell(ratios(rows, "TCG", "run"), "{:.2f}".format) if self.have_qemu else "no QEMU",
                 median_cell(ratios(native_rows, "run", "native"), "{:.2f}".format)]
        self.lines.append("| " + " | ".join(cells) + " |")

    def test(self, name, rows, goal):
        times = [median_cell([row[who] for row in rows if who in row], duration) for who in COLUMNS]
        self.cells(name, times, rows, goal, rows)

    def total(self, name, rows_of_tests, goal):
        """A line for several tests: ratios of their geometric means."""
        native = common_rows(rows_of_tests, "native")
        self.cells(f"**{name}**", [""] * len(COLUMNS), mean_row(rows_of_tests), goal, mean_row(native))


def overall(bench):
    """Per round: Linux rows half the weight, the classes equally the rest. Nothing unless all were run."""
    if any(test not in bench.bare for _, _, tests in CLASSES for test in tests) or (False, "boot") not in bench.linux:
        return []
    classes = [mean_row([bench.bare[test] for test in tests]) for _, _, tests in CLASSES]
    return mean_row([mean_row(classes), mean_row([bench.linux[False, name] for name in LINUX_ROWS])])


def speed_tables(bench, have_qemu):
    bare, text = Table("bare metal", have_qemu), []
    for name, goal, tests in [*CLASSES, OTHER]:
        rows_of_tests = [(test, bench.bare[test]) for test in tests if test in bench.bare]
        if rows_of_tests:
            bare.total(name, [rows for _, rows in rows_of_tests], goal)
        for test, rows in rows_of_tests:
            bare.test(test, rows, 1)
    if bench.bare:
        text += ["Time of one iteration. A class has its goal; no row of it may be slower than QEMU record.", "",
                 *bare.lines, ""]
    for mitigated in (False, True):
        rows_of_tests = [(name, bench.linux[mitigated, name]) for name in LINUX_ROWS
                         if (mitigated, name) in bench.linux]
        if not rows_of_tests:
            continue
        table = Table("Linux" + (", mitigated" if mitigated else ""), have_qemu)
        for name, rows in rows_of_tests:
            table.test(name, rows, LINUX_GOAL)
        table.total("all Linux rows", [rows for _, rows in rows_of_tests], LINUX_GOAL)
        if not mitigated and (rows := overall(bench)):
            table.cells("**overall**", [""] * len(COLUMNS), rows, OVERALL_GOAL, [])
        text += [*table.lines, "", *mitigation_lines(bench, mitigated)]
    return text


def mitigation_lines(bench, mitigated):
    by_text = {}
    for (kind, who), mitigations in bench.mitigations.items():
        if kind == mitigated:
            by_text.setdefault(mitigations, []).append(who)
    return [f"Mitigations, as the guest of {', '.join(who)} says: {summary(mitigations)}.\n"
            for mitigations, who in by_text.items()]


def summary(mitigations):
    """What is the same for most is said once."""
    states = [line.split(": ", 1) for line in mitigations.split("; ") if ": " in line]
    plain = sum(state == "Not affected" for _, state in states)
    rest = [f"{name}: {state}" for name, state in states if state != "Not affected"]
    return "; ".join(rest + [f"{plain} others: Not affected" if rest else f"{plain} of {plain}: Not affected"])


def cost_table(bench):
    if not bench.costs:
        return []
    lines = [f"The same Linux guest, {len(bench.costs)} interleaved rounds; time per tick.", "",
             "| cost | median | min | max | goal |", "|---|---|---|---|---|"]
    for what, dividend, divisor in (("recording against running", "record", "run"),
                                    ("replay against recording", "replay", "record")):
        for i, clock in enumerate(("processor", "wall clock")):
            values = [row[dividend][i] / row[divisor][i] for row in bench.costs]
            lines.append(f"| {what}, {clock} | {common.spread(values, '{:.3f}')} | at most {PAIR_GOAL} |")
    lines += ["", "| memory at the end, largest | guest RAM | all else | goal |", "|---|---|---|---|"]
    for who in HYPERWIND:
        ram, other = max((m[1:] for m in bench.memory if m[0] == who), key=lambda pair: pair[1])
        lines.append(f"| {who} | {ram:.0f} MiB of {common.LINUX_MEMORY >> 20} touched | {other:.1f} MiB | at most "
                     f"{MEMORY_GOAL_MIB} MiB |")
    return [*lines, ""]


def translation_table(bench):
    """Nothing for engines that do not translate."""
    if not bench.statistics or "guest instructions translated" not in bench.statistics[0]:
        return []
    lines = [f"What the translator emits for a boot of the same guest, and how fast; {len(bench.statistics)} boots.",
             "", "| translation | median | min | max | goal |", "|---|---|---|---|---|"]
    for name, form, goal in (("guest instructions translated", "{:.0f}", ""),
                             ("host instructions per guest instruction", "{:.2f}", ""),
                             ("the same with slow paths and exits", "{:.2f}", ""),
                             ("bytes of host code per guest instruction", "{:.1f}", ""),
                             ("translation, ns per guest instruction", "{:.0f}", f"at most {TRANSLATION_GOAL_NS}")):
        lines.append(f"| {name} | {common.spread([row[name] for row in bench.statistics], form)} | {goal} |")
    return [*lines, ""]


def report(bench, options):
    have_qemu = any(isinstance(w, Qemu) for w in bench.who)
    qemu = "no QEMU was installed"
    if have_qemu:
        qemu = common.run([options.qemu, "--version"]).out.splitlines()[0]
    return "\n".join([
        f"Host: {common.host()}. {qemu}. Engine `{options.engine}`. {options.rounds} interleaved rounds; "
        f"{'processor time' if options.time == 'cpu' else 'wall clock'}; medians, and ranges in brackets. "
        "A ratio over 1 in the columns against QEMU is in Hyperwind's favour. How: head of `tests/bench/dbt.py`.", "",
        *speed_tables(bench, have_qemu), *cost_table(bench), *translation_table(bench),
        *([f"Failed: {len(bench.problems)} measurements; those rows are incomplete.", ""] if bench.problems else [])])


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("work")
    parser.add_argument("--engine", default="dbt", help="Hyperwind's engine, NAME[:OPTION=N,...]")
    parser.add_argument("--rounds", type=int, default=5, help="of everything")
    parser.add_argument("--pairs", type=int, default=15, help="Linux rounds of run, record, replay altogether")
    parser.add_argument("--seconds", type=float, default=0.4, help="how long a bare-metal test runs")
    parser.add_argument("--time", choices=["wall", "cpu"], default="wall",
                        help="cpu: processor time, for a machine that has other work")
    parser.add_argument("--only", default="",
                        help="NAME,...: these tests; linux, mitigated and translation are names, too")
    parser.add_argument("--qemu", default="qemu-system-x86_64")
    common.add_document_option(parser)
    options = parser.parse_args(arguments)
    options.program = os.path.abspath(options.program)
    options.bench = os.path.join(os.path.dirname(options.program), "bench")
    options.only = set(filter(None, options.only.split(",")))
    return options


def main():
    options = parse(sys.argv[1:])
    os.makedirs(options.work, exist_ok=True)
    bench = Bench(options)

    def wanted(name):
        return not options.only or name in options.only

    if wanted("linux") or wanted("mitigated") or wanted("translation"):
        common.fetch_linux()
    for number in range(options.rounds):
        for _, _, tests in [*CLASSES, OTHER]:
            for test in filter(wanted, tests):
                bench.bare_round(test, number)
        for mitigated in (False, True):
            if wanted("mitigated" if mitigated else "linux"):
                bench.linux_round(number, mitigated)
    for number in range(options.rounds, options.pairs if wanted("linux") else 0):
        bench.linux_round(number, False, HYPERWIND)
    for _ in range(options.rounds if wanted("linux") or wanted("translation") else 0):
        bench.translation_round()
    text = report(bench, options)
    with open(os.path.join(options.work, "dbt.json"), "w", encoding="utf-8") as f:
        json.dump({"bare": bench.bare, "linux": [[*key, rows] for key, rows in bench.linux.items()],
                   "costs": bench.costs, "memory": bench.memory, "statistics": bench.statistics,
                   "problems": bench.problems}, f, indent=1)
    common.publish(options, "The translating engine beside QEMU", text)
    sys.exit(1 if bench.problems else 0)


if __name__ == "__main__":
    main()
