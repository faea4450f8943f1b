"""What the record-and-replay tests share: running the program, feeding consoles, judging results.

A test is a script with functions named test_*, run as

    TEST.py PROGRAM WORK_DIR [test_name...]

Files go to WORK_DIR/<test>, which is removed when the test passes and kept when it fails. HW_SEED repeats a run with
the same random choices; every failure prints it. HW_GUEST_DIR holds the Linux guest (samples/linux/fetch.sh).
"""
import json
import os
import random
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback

PROGRAM = os.path.abspath(sys.argv[1])
WORK_ROOT = os.path.abspath(sys.argv[2])
GUEST_DIR = os.environ.get("HW_GUEST_DIR", "")
SEED = int(os.environ.get("HW_SEED", random.SystemRandom().randrange(1 << 32)))
SKIPPED = 77

# Exit statuses, docs/exit-codes.md.
OK, USAGE, INPUT, CORRUPT, UNSUPPORTED, HOST, DIVERGED, GUEST, RANGE, HALTED = range(0, 20, 2)

rng = random.Random(SEED)
work = None


class Failure(Exception):
    pass


class Skip(Exception):
    pass


def check(condition, message):
    if not condition:
        raise Failure(message)


class Result:
    """What a finished run of the program left behind."""

    def __init__(self, args, status, out, err):
        self.args, self.status, self.out, self.err = args, status, out, err

    def command(self):
        return shlex.join([PROGRAM, *self.args])

    def lines(self):
        return [line for line in self.err.splitlines() if line.startswith("hyperwind: ")]

    def expect(self, *statuses):
        check(self.status in statuses,
              f"status {self.status}, expected {' or '.join(map(str, statuses))}\n{self.command()}\n{self.err[-3000:]}")
        return self

    def ended(self):
        """('power-off', ticks, memory digest) of the line that closes a run, a recording or a replay."""
        match = re.search(r"^hyperwind: (\S.*) after (\d+) ticks, memory digest ([0-9a-f]+)", self.err, re.M)
        check(match, f"no closing line\n{self.command()}\n{self.err[-3000:]}")
        return match.group(1), int(match.group(2)), match.group(3)

    def verified_ticks(self):
        match = re.search(r"^hyperwind: replay verified(?: up to the last whole event)?: (\d+) ticks", self.err, re.M)
        check(match, f"no verdict\n{self.command()}\n{self.err[-3000:]}")
        return int(match.group(1))


class Running:
    """The program while it runs, its console in a file, its input fed by type()."""

    def __init__(self, args, name="run", **options):
        self.args = [str(a) for a in args]
        self.name = name
        self.out_path, self.err_path = (os.path.join(work, f"{name}.{kind}") for kind in ("console", "stderr"))
        with open(self.out_path, "wb") as out, open(self.err_path, "wb") as err:
            self.process = subprocess.Popen([PROGRAM, *self.args], stdin=subprocess.PIPE, stdout=out, stderr=err,
                                            **options)

    def type(self, data):
        try:
            self.process.stdin.write(data)
            self.process.stdin.flush()
        except (BrokenPipeError, ValueError):  # the program has ended
            pass

    def console(self):
        with open(self.out_path, "rb") as f:
            return f.read()

    def wait_for(self, text, timeout=300):
        """Until the guest has printed text."""
        end = time.monotonic() + timeout
        while text not in self.console():
            check(self.process.poll() is None and time.monotonic() < end,
                  f"the guest never printed {text!r}\n{shlex.join([PROGRAM, *self.args])}")
            time.sleep(0.05)

    def kill(self, number=signal.SIGKILL):
        self.process.send_signal(number)

    def finish(self, timeout=900):
        """Waits for the end by itself; standard input stays open until then."""
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise Failure(f"still running after {timeout} s\n{shlex.join([PROGRAM, *self.args])}") from None
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass
        with open(self.err_path, encoding="utf-8", errors="replace") as f:
            return Result(self.args, self.process.returncode, self.console(), f.read())


def run(*args, name="run", timeout=900, **options):
    return Running(args, name, **options).finish(timeout)


def path(name):
    return os.path.join(work, name)


def info(recording, status=OK):
    result = run("info", recording, "--json", name="info").expect(status)
    return json.loads(result.out)


def events(recording, status=OK):
    """The events of a recording as dictionaries."""
    result = run("dump", recording, "--json", name="dump").expect(status)
    return [json.loads(line) for line in result.out.splitlines() if line.strip()]


# ---- Guests ----

def small_guest(*words):
    """Arguments that run guest.S: a second for some 13,000 rounds."""
    guest = os.path.join(os.environ["HW_SMALL_GUEST_DIR"], "guest.elf")
    return ["--memory", "16M", "--append", " ".join(words), guest]


def linux(workload, *words):
    """Arguments that boot Debian's kernel with a workload of samples/linux/init.sh."""
    kernel = os.path.join(GUEST_DIR, "vmlinuz")
    check(os.path.exists(kernel), f"HW_GUEST_DIR holds no guest: {GUEST_DIR!r}; see samples/linux/fetch.sh")
    append = " ".join(["console=ttyS0", f"hw.workload={workload}", *words])
    return ["--memory", "512M", "--initrd", os.path.join(GUEST_DIR, "initrd.cpio"), "--append", append, kernel]


def record(recording, guest, *options, name="record", **popen):
    return run("record", "-o", recording, *options, *guest, name=name, **popen)


def check_replay(recording, recorded, *options, name="replay", timeout=900):
    """Replay, and compare verdict, end and console with what the recorder said."""
    replayed = run("replay", *options, recording, name=name, timeout=timeout).expect(recorded.status)
    ticks = recorded.ended()[1]
    check(replayed.verified_ticks() == ticks, f"verified {replayed.verified_ticks()} of {ticks} ticks")
    check(replayed.ended() == recorded.ended(), f"ended {replayed.ended()}, recorded {recorded.ended()}")
    check(replayed.out == recorded.out, f"the consoles differ: {recorded.args}, {replayed.args}; see {work}")
    return replayed


# ---- Engines ----

VIRTUAL = ("--clock", "virtual")
# What an engine may be told, and nobody may notice. Each is hard on another part of the translator.
STRESS = ["dbt", "dbt:block=1", "dbt:nochain=1", "dbt:cache=64K", "dbt:flush=200", "dbt:exact=1",
          "dbt:exact=1,block=3,nochain=1", "dbt:tlb=4", "interp:tlb=2"]


def some_mixed(switch):
    """The engines in turn; which seed it was is in a failure's command."""
    return f"mixed:switch={switch},seed={rng.randrange(1 << 32)}"


def timeless_events(recording):
    """The events without what depends on the host's time: where memory digests lie, and so the numbering."""
    return [{**event, "seq": None} for event in events(recording) if event["event"] != "memory_digest"]


def record_both(guest, status):
    """The guest recorded by either engine; both must have done the same. Returns what interp's recorder left."""
    results = []
    for engine in ("interp", "dbt"):
        results.append(record(path(f"{engine}.hwr"), guest, *VIRTUAL, "--engine", engine, name=engine).expect(status))
    one, other = results
    check(one.ended() == other.ended(), f"interp {one.ended()}, dbt {other.ended()}")
    check(one.out == other.out, f"the consoles differ, see {work}")
    ours, theirs = (timeless_events(path(f"{engine}.hwr")) for engine in ("interp", "dbt"))
    for pair in zip(ours, theirs):
        check(pair[0] == pair[1], f"the first difference:\ninterp {pair[0]}\ndbt    {pair[1]}")
    check(len(ours) == len(theirs), f"interp recorded {len(ours)} events, dbt {len(theirs)}")
    digests = {event["ticks"] for event in ours if event["event"] in ("digest", "state_digest")}
    missing = set(range(0, one.ended()[1], 1000000)) - digests
    check(not missing, f"no digest at {sorted(missing)[:9]}")
    return one


def replay_on(recording, recorded, *engines, timeout=900):
    for engine in engines:
        check_replay(path(recording), recorded, "--engine", engine, timeout=timeout)


# ---- Disturbances ----

class Load:
    """Other busy processes on the machine while the block runs."""

    def __init__(self, processes=2):
        self.processes = processes
        self.running = []

    def __enter__(self):
        spin = "while True: sum(i * i for i in range(100000))"
        self.running = [subprocess.Popen([sys.executable, "-c", spin]) for _ in range(self.processes)]

    def __exit__(self, *_):
        for process in self.running:
            process.kill()
            process.wait()


class Typist:
    """Types words at random times while the program runs."""

    def __init__(self, running, words, longest_pause):
        self.running, self.words, self.longest_pause = running, words, longest_pause
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    def work(self):
        typist = random.Random(SEED)
        for word in self.words:
            time.sleep(typist.uniform(0, self.longest_pause))
            self.running.type(word)

    def join(self):
        self.thread.join()


def limit_file_size(length):
    """A preexec_fn: writes beyond length fail with EFBIG, as a full disk does with ENOSPC."""
    def apply():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (length, length))
    return apply


# ---- The runner ----

def run_test(name, function):
    global work
    work = os.path.join(WORK_ROOT, name)
    shutil.rmtree(work, ignore_errors=True)
    os.makedirs(work)
    started = time.monotonic()
    try:
        function()
    except Skip as reason:
        print(f"{name}: skipped: {reason}", flush=True)
        return SKIPPED
    except Exception as error:  # a failing test must not hide the ones after it
        print(f"{name}: FAILED: {error}" if isinstance(error, Failure) else traceback.format_exc())
        print(f"  files: {work}\n  again: HW_SEED={SEED} HW_GUEST_DIR={GUEST_DIR} "
              f"{shlex.join([*sys.argv[:3], name])}", flush=True)
        return 1
    print(f"{name}: passed ({time.monotonic() - started:.1f} s)", flush=True)
    shutil.rmtree(work, ignore_errors=True)
    return 0


def main(module):
    names = sys.argv[3:] or [name for name in vars(module) if name.startswith("test_")]
    results = [run_test(name, getattr(module, name)) for name in names]
    if any(result == 1 for result in results):
        sys.exit(1)
    sys.exit(SKIPPED if results and all(result == SKIPPED for result in results) else 0)
