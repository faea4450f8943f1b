#!/usr/bin/env python3
"""Going back in recordings: how long it takes, what it takes, and the same with QEMU where it can.

usage: travel.py PROGRAM WORK_DIR [options]         the result goes to docs/performance.md too

The guest is Debian's kernel with the full workload, recorded with checkpoints in the recording and without.
bench_travel moves a timeline over it; the same steps are taken once more through the stub, by a client of gdb's
protocol; reverse-step and reverse-next are those of the real gdb, in samples/heisenbug, which has source lines. What
recording costs with checkpoints is measured in interleaved pairs.

QEMU records and replays a boot of the same kernel, Hyperwind too, and both stubs are asked the same at the same places.
A breakpoint to run back to is an address that is executed about 100 million instructions before the place, and not
again for 80 million.
"""
import argparse
import collections
import math
import os
import random
import re
import shutil
import statistics
import subprocess
import sys

import common
import remote
from common import Failed

CHECKPOINTS = "250ms"
BUDGETS_MIB = [64, 256, 512]
COST_GOAL = 1.05
FAR, LAST_HIT = 100_000_000, 80_000_000 # ticks: where a breakpoint's address is taken from; without a hit since
DEBUG_EXITS = (1, 3)                    # statuses of samples/heisenbug: all is well, the assertion failed

# Rows: name, samples of bench_travel or of this file, {percentile: goal in ms}.
LATENCY = [
    ("`bs`, the first at a place", ["first_step"], {99: 100}),
    ("`bs`, the first at the end, just opened", ["first_step_at_end"], {99: 100}),
    ("`bs`, the next ones", ["step"], {50: 2, 99: 20}),
    ("`bs`, many in a row", ["walk"], {50: 2, 99: 20}),
    ("`bs` over a checkpoint of the recording, just arrived at it", ["step_over"], {}),
    ("`bs` through the stub, the first at a place", ["stub_first"], {99: 100}),
    ("`bs` through the stub, the next ones", ["stub_step"], {50: 2, 99: 20}),
    ("`bc` to a breakpoint, just arrived", ["break_first"], {99: 1000}),
    ("`bc` to a breakpoint, again", ["break_again"], {99: 1000}),
    ("`bc` to a watchpoint, just arrived", ["watch_first"], {99: 1000}),
    ("`bc` to a watchpoint, again", ["watch_again"], {99: 1000}),
    ("reverse-step in gdb", ["reverse_step"], {99: 100}),
    ("reverse-next in gdb", ["reverse_next"], {99: 100}),
    ("reverse-finish in gdb", ["reverse_finish"], {99: 100}),
    ("seek, checkpoints in the recording", ["seek_ahead", "seek_back"], {99: 300}),
    ("seek, without, after one pass", ["plain_seek_ahead", "plain_seek_back"], {99: 300}),
    ("open at the end, checkpoints in the recording", ["open_end"], {99: 1000}),
    ("open at the end, without", ["plain_open_end"], {}),
    ("`hyperwind debug`, gdb's start and end included", ["debug"], {}),
]


def percentile(values, percent):
    """The smallest value that so many percent do not exceed."""
    return sorted(values)[max(math.ceil(len(values) * percent / 100) - 1, 0)]


def milliseconds(value):
    return f"{value:.3g} ms" if value < 1000 else f"{value / 1000:.3g} s"


def mib(value):
    return f"{value / 2**20:.0f} MiB"


class Travel:
    def __init__(self, options):
        self.options = options
        self.samples = collections.defaultdict(list) # name: values
        self.costs = []                              # (processor ratio, wall ratio)
        self.sizes = {}                              # kind of recording: bytes
        self.memory = []                             # (budget, {name: values})
        self.side = {}                               # (who, what): Answer
        self.problems = []
        self.random = random.Random(options.seed)

    def path(self, name):
        return os.path.join(self.options.work, name)

    def attempt(self, what, function, *arguments):
        """What fails costs its own rows only."""
        print(f"travel: {what}", flush=True)
        try:
            function(*arguments)
        except (Failed, OSError, subprocess.TimeoutExpired) as error:
            self.problems.append(what)
            print(f"FAILED {what}: {error}", file=sys.stderr, flush=True)

    # ---- recordings ----

    def record(self, name, workload, *arguments):
        args = [self.options.program, "record", *arguments, "-o", self.path(name),
                *common.linux_guest(f"console=ttyS0 hw.workload={workload}")]
        return common.run(args).expect(0)

    def recordings(self):
        self.record("plain.hwr", "full")
        self.record("indexed.hwr", "full", "--checkpoint-every", CHECKPOINTS)
        for name in ("plain", "indexed"):
            self.sizes[name] = os.path.getsize(self.path(f"{name}.hwr"))

    # ---- the timeline ----

    def bench_travel(self, *arguments):
        out = collections.defaultdict(list)
        args = [os.path.join(self.options.bench, "bench_travel"), *map(str, arguments)]
        for line in common.run(args).expect(0).out.splitlines():
            name, value = line.split()
            out[name].append(float(value))
        return out

    def places(self, recording, budget_mib, places, steps, walk):
        return self.bench_travel("places", self.path(recording), budget_mib << 20, self.options.seed, places, steps,
                                 walk)

    def keep(self, samples, prefix=""):
        for name, values in samples.items():
            self.samples[prefix + name] += values

    def in_the_timeline(self):
        o = self.options
        self.keep(self.places("indexed.hwr", BUDGETS_MIB[-1], o.places, 30, 1000))
        for _ in range(o.opens - 1):
            self.keep(self.places("indexed.hwr", BUDGETS_MIB[-1], 0, 0, 0))
        self.keep(self.bench_travel("over", self.path("indexed.hwr")))

    def far_back(self):
        self.keep(self.bench_travel("back", self.path("indexed.hwr"), self.options.seed, self.options.targets))

    def budgets(self):
        """From a recording without checkpoints, so that all that are there are the session's own."""
        for budget in BUDGETS_MIB:
            samples = self.places("plain.hwr", budget, self.options.places // 3, 30, 100)
            self.memory.append((budget, samples))
            if budget == BUDGETS_MIB[-1]:
                self.keep(samples, "plain_")

    # ---- the stub, and gdb ----

    def serve(self, recording):
        """A stub over the recording, at its end."""
        path = self.path("socket")
        if os.path.exists(path):
            os.unlink(path)
        process = subprocess.Popen([self.options.program, "debug", self.path(recording), "--gdb", f"unix:{path}"],
                                   stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return process, path

    def through_the_stub(self):
        process, path = self.serve("indexed.hwr")
        try:
            stub = remote.Stub(path, 60)
            end = int(re.search(r" of (\d+)", stub.monitor("when"))[1])
            for _ in range(self.options.places):
                stub.monitor(f"seek {self.random.randrange(100, end)}")
                for i in range(31):
                    self.samples["stub_step" if i else "stub_first"].append(1e3 * stub.move("bs"))
            stub.close()
        finally:
            process.kill()
            process.wait()

    def source_level(self):
        sample = os.path.join(common.ROOT, "samples/heisenbug")
        subprocess.run(["make", "-s", "-C", sample, f"OUT={os.path.abspath(self.options.work)}"], check=True)
        recording = self.path("heisenbug.hwr")
        common.run([self.options.program, "record", "-o", recording, "--memory", "16M",
                    self.path("heisenbug.elf")]).expect(*DEBUG_EXITS)
        gdb = remote.Gdb([self.options.program, "debug", recording, "--", "--interpreter=mi3"], 60)
        try:
            for _ in range(self.options.places // 4):
                gdb.move(f'-interpreter-exec console "seek {self.random.uniform(5, 95):.4f}%"')
                self.gdb_moves(gdb, ["step", "step", "next", "next"] * 3)
                for _ in range(8): # out of what is called, so that the lines behind it call much
                    if self.gdb_moves(gdb, ["finish"]) == "main":
                        break
                self.gdb_moves(gdb, ["next"] * 4)
        finally:
            gdb.close()

    def gdb_moves(self, gdb, commands):
        """Backwards. Returns the function it is in then."""
        for command in commands:
            seconds, stop = gdb.move(f"-exec-{command} --reverse")
            if "signal-received" in stop:
                raise Failed(f"gdb was stopped on its way: {stop}")
            self.samples[f"reverse_{command}"].append(1e3 * seconds)
        return re.search(r'func="(\w+)"', stop + 'func="unknown"')[1]

    def debug_command(self):
        for _ in range(self.options.opens):
            args = [self.options.program, "debug", self.path("indexed.hwr"), "--", "-batch", "-ex", "quit"]
            self.samples["debug"].append(1e3 * common.run(args).expect(0).wall)

    # ---- what checkpoints cost a recording ----

    def cost_pair(self, number):
        """Per tick: guests whose time is the host's never run equally long."""
        took = {}
        for arguments in [[], ["--checkpoint-every", CHECKPOINTS]][::-1 if number % 2 else 1]:
            done = self.record("pair.hwr", "bench", *arguments)
            os.unlink(self.path("pair.hwr"))  # or the next one pays for it
            took[len(arguments)] = done.cpu / done.ticks(), done.wall / done.ticks()
        self.costs.append(tuple(took[2][i] / took[0][i] for i in range(2)))

    def costs_of_recording(self):
        for number in range(self.options.pairs):
            self.cost_pair(number)

    # ---- side by side ----

    def side_by_side(self):
        if not shutil.which(self.options.qemu) or not shutil.which("qemu-img"):
            print("travel: no QEMU, or no qemu-img", file=sys.stderr)
            return
        for who in (HyperwindSide(self), QemuSide(self)):
            self.side[who.name, "record the boot"] = answer = Answer()
            answer.add(who.record(), "")
            for place in self.options.side_places:
                for _ in range(self.options.side_sessions):
                    self.ask_side(who, place, [("first `bs`", "bs"), ("second `bs`", "bs")])
                    self.ask_side(who, place, [("`bc`", "bc")])

    def ask_side(self, who, place, questions):
        """One session: to the place, and back, until there is no reply."""
        where = f"{place / 1e6:.0f} million instructions in"
        asked = f"start, and go {where}"
        who.start()
        try:
            address = far_breakpoint(who, place)
            who.arrive(place)
            for question, packet in questions:
                asked = f"{question}, {where}"
                if packet == "bc" and address is None:
                    print(f"travel: {who.name}: no address to run back to, {where}", file=sys.stderr)
                    continue
                if packet == "bc":
                    who.stub.ask(f"Z0,{address:x},1")
                here = who.position()
                took = who.stub.move(packet)
                self.answer(who, asked).add(took, here - who.position())
        except remote.Silent: # what else would have been asked here is missing
            self.answer(who, asked).silent += 1
        finally:
            who.stop()

    def answer(self, who, asked):
        return self.side.setdefault((who.name, asked), Answer())


class Answer:
    """What was asked in several sessions: seconds, instructions gone back, and how often there was no reply."""

    def __init__(self):
        self.took, self.back, self.silent = [], [], 0

    def add(self, took, back):
        self.took.append(took)
        self.back.append(back)

    def cells(self, limit):
        took = milliseconds(1e3 * statistics.median(self.took)) if self.took else "-"
        silent = f"{self.silent} of {self.silent + len(self.took)}, within {limit:.0f} s" if self.silent else "-"
        return [took, ", ".join(sorted({str(back) for back in self.back})), silent]


def far_breakpoint(who, place):
    """Go to `place`, by way of places whose instruction is remembered. Those that are executed again in the last
    LAST_HIT instructions before it are dropped. Returns an address that is left, or None."""
    addresses = set()
    for i in range(24):
        who.go(place - FAR + i * 800_000, False)
        addresses.add(who.stub.rip())
    who.go(place - LAST_HIT, False)
    for address in addresses:
        who.stub.ask(f"Z0,{address:x},1")
    while who.go(place, True) < place:
        address = who.stub.rip()
        if address not in addresses:
            raise Failed(f"stopped at {address:#x} for no reason")
        addresses.discard(address)
        who.stub.ask(f"z0,{address:x},1")
    for address in addresses:
        who.stub.ask(f"z0,{address:x},1")
    return min(addresses, default=None)


class HyperwindSide:
    name = "Hyperwind"

    def __init__(self, travel):
        self.travel, self.process, self.stub = travel, None, None

    def record(self):
        """Seconds."""
        return self.travel.record("boot.hwr", "boot", "--checkpoint-every", CHECKPOINTS).wall

    def start(self):
        self.process, path = self.travel.serve("boot.hwr")
        self.stub = remote.Stub(path, self.travel.options.side_limit)
        self.stub.monitor("seek start")

    def stop(self):
        self.process.kill()
        self.process.wait()

    def position(self):
        return int(re.search(r"icount (\d+)", self.stub.monitor("when"))[1])

    def go(self, place, breakpoints):
        """Ahead to `place`, or to a breakpoint that is hit before it; returns where that is. What is hit behind it was
        not hit before: then the guest goes back to `place`."""
        if breakpoints:
            self.stub.move("vCont;c")
        if not breakpoints or self.position() > place:
            self.stub.monitor(f"seek {place}")
        return self.position()

    def arrive(self, place):
        """In a new session, for this one has left checkpoints all over the place."""
        self.stop()
        self.start()
        self.stub.monitor(f"seek {place}")


class QemuSide:
    """rrsnapshot makes one snapshot, at the beginning; QEMU makes no others by itself."""
    name = "QEMU"

    def __init__(self, travel):
        self.travel, self.process, self.stub = travel, None, None

    def arguments(self, mode):
        kernel, initrd = common.linux_files()
        log, disk = self.travel.path("travel.rr"), self.travel.path("snapshots.qcow2")
        return [self.travel.options.qemu, "-M", "pc", "-accel", "tcg", "-smp", "1", "-m",
                str(common.LINUX_MEMORY >> 20), "-icount", f"shift=0,sleep=off,rr={mode},rrfile={log},rrsnapshot=init",
                "-cpu", "max,vendor=GenuineIntel,family=6,model=54,stepping=1,erms=off,fsrm=off,la57=off",
                "-nodefaults", "-nographic", "-serial", "stdio", "-no-reboot", "-drive", f"file={disk},if=none,id=rr",
                "-kernel", kernel, "-initrd", initrd, "-append", "console=ttyS0 hw.workload=boot"]

    def record(self):
        common.run(["qemu-img", "create", "-q", "-f", "qcow2", self.travel.path("snapshots.qcow2"), "1M"]).expect(0)
        return common.run(self.arguments("record"), 120).expect(0).wall

    def start(self):
        path = self.travel.path("qemu.socket")
        self.process = subprocess.Popen([*self.arguments("replay"), "-S", "-gdb", "chardev:gdb", "-chardev",
                                         f"socket,path={path},server=on,wait=off,id=gdb"], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.stub = remote.Stub(path, self.travel.options.side_limit)

    def stop(self):
        self.process.kill() # asked to end, it may hang with its disk image locked
        self.process.wait()

    def position(self):
        return int(re.search(r"instruction count = (\d+)", self.stub.monitor("info replay"))[1])

    def go(self, place, _breakpoints):
        """As HyperwindSide.go()."""
        self.stub.monitor(f"replay_break {place}")
        self.stub.move("vCont;c")
        self.stub.monitor("replay_delete_break")
        return self.position()

    def arrive(self, place):
        """It is there: nothing of what it did on the way helps it to go back."""


# ---- the report ----

def judged(values, goals):
    """The goals' cell: each with what was reached of it, when it was missed."""
    cells = []
    for percent, goal in goals.items():
        value = percentile(values, percent)
        cells.append(f"p{percent} {milliseconds(goal)} or less, " +
                     ("met" if value <= goal else f"missed: {value / goal:.2g} times as much"))
    return "; ".join(cells) or "-"


def latency_table(travel):
    lines = ["| what | number | p50 | p99 | most | goal |", "|---|---|---|---|---|---|"]
    for name, sources, goals in LATENCY:
        values = [value for source in sources for value in travel.samples.get(source, [])]
        if values:
            cells = [name, str(len(values)), *(milliseconds(v) for v in (
                percentile(values, 50), percentile(values, 99), max(values))), judged(values, goals)]
        else:
            cells = [name, "0", "-", "-", "-", "not measured"]
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, ""]


def far_text(travel):
    ticks = travel.samples["break_ticks"] + travel.samples["watch_ticks"]
    if not ticks:
        return []
    return [f"What `bc` found lay {min(ticks) / 1e6:.0f} to {max(ticks) / 1e6:.0f} million ticks back, median "
            f"{statistics.median(ticks) / 1e6:.0f}. \"Just arrived\" is a new session that went to the place and no "
            "further; \"again\" is the same from there once more.", ""]


def memory_table(travel):
    if not travel.memory:
        return []
    lines = ["| memory, after one pass and the steps above | checkpoints | they take, at most | process | "
             "`bs` p99 | seek p99 | goal |", "|---|---|---|---|---|---|---|"]
    for budget, samples in travel.memory:
        most = samples["checkpoint_most_bytes"][0]
        met = "met" if most <= budget << 20 else f"missed: {mib(most)}"
        seeks = samples["seek_ahead"] + samples["seek_back"]
        lines.append(f"| --checkpoint-memory {budget}M | {samples['checkpoints_count'][0]:.0f} | {mib(most)} | "
                     f"{mib(samples['resident_most_bytes'][0])} | {milliseconds(percentile(samples['step'], 99))} | "
                     f"{milliseconds(percentile(seeks, 99))} | at most {budget} MiB, {met} |")
    return [*lines, ""]


def cost_table(travel):
    if not travel.costs:
        return []
    lines = [f"Recording with `--checkpoint-every {CHECKPOINTS}` against without, per tick: {len(travel.costs)} "
             "interleaved pairs of the bench workload. The default of `record` is without.", "",
             "| cost | median | min | max | goal |", "|---|---|---|---|---|"]
    for i, clock in enumerate(("processor", "wall clock")):
        values = [pair[i] for pair in travel.costs]
        met = "met" if statistics.median(values) <= COST_GOAL else "missed"
        lines.append(f"| {clock} | {common.spread(values, '{:.3f}')} | at most {COST_GOAL}, {met} |")
    return [*lines, ""]


def size_text(travel):
    if not travel.sizes:
        return []
    plain, indexed = travel.sizes["plain"], travel.sizes["indexed"]
    return [f"The full workload's recording takes {plain / 2**20:.1f} MiB without checkpoints, "
            f"{indexed / 2**20:.1f} MiB with.", ""]


def side_table(travel):
    if not travel.side:
        return ["QEMU was not asked.", ""]
    return ["The same kernel's boot, asked through both stubs by the same client, in "
            f"{travel.options.side_sessions} sessions for each place.",
            "Where no address was found to run back to, there is no row for `bc`.", "",
            "| who | what | median | instructions back | no reply |", "|---|---|---|---|---|",
            *("| " + " | ".join([*key, *answer.cells(travel.options.side_limit)]) + " |"
              for key, answer in travel.side.items()), ""]


def report(travel):
    failed = f"Failed, and not in the tables: {', '.join(travel.problems)}." if travel.problems else ""
    return "\n".join([f"Host: {common.host()}. Guest: Debian's cloud kernel, 512 MiB, full workload. How: head of "
                      "`tests/bench/travel.py`.", "", *latency_table(travel), *far_text(travel), *memory_table(travel),
                      *cost_table(travel), *size_text(travel), *side_table(travel), failed])


PARTS = [
    ("timeline", Travel.in_the_timeline), ("back", Travel.far_back), ("memory", Travel.budgets),
    ("stub", Travel.through_the_stub), ("gdb", Travel.source_level), ("debug", Travel.debug_command),
    ("cost", Travel.costs_of_recording), ("qemu", Travel.side_by_side),
]


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("work")
    parser.add_argument("--places", type=int, default=100, help="random places in the recording")
    parser.add_argument("--targets", type=int, default=10, help="breakpoints, and watchpoints, to run back to")
    parser.add_argument("--opens", type=int, default=9, help="how often the recording is opened")
    parser.add_argument("--pairs", type=int, default=15, help="of recordings, with and without checkpoints")
    parser.add_argument("--side-places", type=lambda s: [int(n) * 1_000_000 for n in s.split(",")],
                        default=[250_000_000, 500_000_000], metavar="N,...",
                        help="where both stubs are asked, in million instructions (default 250,500)")
    parser.add_argument("--side-sessions", type=int, default=2, help="of both stubs for each of these")
    parser.add_argument("--side-limit", type=float, default=15, help="seconds that a stub has for a reply")
    parser.add_argument("--seed", type=int, default=1, help="of the random places")
    parser.add_argument("--only", default="", help="PART,...: of " + ", ".join(name for name, _ in PARTS))
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
    common.fetch_linux()
    travel = Travel(options)
    travel.recordings()
    for name, part in PARTS:
        if not options.only or name in options.only:
            travel.attempt(name, part, travel)
    text = report(travel)
    common.publish(options, "Time travel", text)
    sys.exit(1 if travel.problems else 0)


if __name__ == "__main__":
    main()
