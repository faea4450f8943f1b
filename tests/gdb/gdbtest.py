"""What the tests with the real gdb and real guests share: a gdb that is talked to line by line, and live guests for it.

hwtest.py (tests/replay) runs the tests. A session is

    with debug(recording) as g:             # hyperwind debug
        g("break main")
        check(g.icount() == 7, ...)

and keeps everything that was said in a transcript, which a failure prints.
"""
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.append(os.path.join(HERE, "../replay"))
import hwtest
from hwtest import PROGRAM, SKIPPED, Running, check

TIMEOUT = 120
# What gdb says when a stub has not kept to the protocol; never a good sign.
BAD = ("packet error", "Unknown remote", "Architecture rejected", "Truncated register", "Protocol error",
       "internal-error", "Ignoring packet", "while parsing", "Remote failure reply", "Remote connection closed",
       "Sanitizer", "runtime error")
COMMON = ["-nx", "-iex", "set debuginfod enabled off", "-iex", "set confirm off", "-iex", "set pagination off",
          "-iex", "set prompt", "-iex", "set width 0", "-iex", f"source {HERE}/gdb_state.py"]


class Gdb:
    """A gdb whose commands come through a pipe. Calling it gives what a command printed."""

    def __init__(self, command, **options):
        self.text, self.asked, self.unread = "", 0, b""
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, **options)
        self.gdb_pid = None
        self.killed = False

    def __enter__(self):
        try:
            self("echo ready")
        except BaseException:
            self.__exit__(True)
            raise
        return self

    def __exit__(self, kind, *_):
        """It ends with its input, and so does `hyperwind debug`, with status 0."""
        try:
            self.process.stdin.close()
            self.process.wait(60 if not kind else 2)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        rest = self.process.stdout.read().decode(errors="replace")
        self.process.stdout.close()
        good = not self.process.returncode or self.killed
        if kind or not good:
            print(f"--- what gdb was told and said\n{(self.text + rest)[-6000:]}\n---")
        check(kind or good, f"gdb ended with status {self.process.returncode}")

    def kill(self):
        self.killed = True
        self.process.kill()

    def send(self, command):
        """Begins a command, whose output answer() gives."""
        self.asked += 1
        self.text += f"(gdb) {command}\n"
        self.process.stdin.write(f"{command}\necho \\n<{self.asked}>\\n\n".encode())
        self.process.stdin.flush()

    def answer(self, timeout=TIMEOUT):
        mark, end = b"\n<%d>\n" % self.asked, time.monotonic() + timeout
        while mark not in self.unread:
            ready = select.select([self.process.stdout], [], [], max(0, end - time.monotonic()))[0]
            data = os.read(self.process.stdout.fileno(), 1 << 16) if ready else b""
            self.text += data.decode(errors="replace")
            check(data, f"gdb {'is gone' if ready else f'says nothing for {timeout} s'}")
            self.unread += data
        said, self.unread = self.unread.split(mark, 1)
        said = said.decode(errors="replace")
        for bad in BAD:
            check(bad not in said, f"{bad!r}: gdb does not like what it got")
        return said

    def __call__(self, command, *parts):
        """Says it; the patterns must be in the answer, one behind the other."""
        self.send(command)
        return self.want(self.answer(), *parts)

    def want(self, text, *parts):
        at = 0
        for part in parts:
            match = re.compile(part, re.M).search(text, at)
            check(match, f"{part!r} is not in (or not behind what came before it):\n{text}")
            at = match.end()
        return text

    def number(self, expression):
        match = re.search(r"^\$\d+ = (-?\d+)", self(f"p/d {expression}"), re.M)
        check(match, f"no value of {expression}")
        return int(match[1])

    def icount(self):
        return self.number("$icount")

    def state(self):
        """Position, and a hash of all registers as gdb shows them (gdb_state.py)."""
        match = re.search(r"state (\d+) ([0-9a-f]+)", self("state"))
        check(match, "no state")
        return int(match[1]), match[2]

    def digest(self):
        """Of registers, devices and memory, of which gdb does not see all."""
        match = re.search(r"^([0-9a-f]{16})$", self("monitor digest"), re.M)
        check(match, "no digest")
        return match[1]

    def frames(self, count=40):
        """The names of the functions of a backtrace, None where gdb knows none."""
        lines = re.findall(r"^#\d+ +(?:0x[0-9a-f]+ in )?(\S+)", self(f"backtrace {count}"), re.M)
        return [None if name == "??" else name for name in lines]

    def interrupt(self, command, after=0.3, within=2.0):
        """^C while the command runs. Returns its output; it must end soon after the ^C: 50 ms, but hosts are busy."""
        pid = self.gdb_pid or self.find_gdb()
        self.send(command)
        time.sleep(after)
        while select.select([self.process.stdout], [], [], 0)[0]:
            self.unread += os.read(self.process.stdout.fileno(), 1 << 16)
        check(b"\n<%d>" % self.asked not in self.unread, f"{command} was over before it was interrupted")
        os.kill(pid, signal.SIGINT)
        started = time.monotonic()
        said = self.answer()
        took = time.monotonic() - started
        check(took < within, f"{command}: it came back after {took:.2f} s")
        return said

    def find_gdb(self):
        """`hyperwind debug` is gdb's parent."""
        with open(f"/proc/{self.process.pid}/comm", encoding="utf-8") as f:
            if f.read().strip() == "gdb":
                self.gdb_pid = self.process.pid
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children", encoding="utf-8") as f:
            children = f.read().split()
        self.gdb_pid = self.gdb_pid or int(children[0])
        return self.gdb_pid


def debug(recording, *options):
    return Gdb([PROGRAM, "debug", recording, *map(str, options), "--", *COMMON])


def connect(address, *files):
    """A gdb of one's own, as for a live guest."""
    return Gdb(["gdb", "-q", *COMMON, *files, "-ex", f"source {HERE}/../../gdb/hyperwind.py",
                "-ex", f"target remote {address}"])


class Live:
    """A guest that gdb may attach to. `arguments`: of `run` or `record`, with the guest."""

    def __init__(self, *arguments, name="live", where="0"):
        self.running = Running([arguments[0], "--gdb", where, *arguments[1:]], name=name)
        self.address = None

    def __enter__(self):
        self.address = self.said(r"gdb may connect: target remote (\S+)")[1]
        return self

    def __exit__(self, kind, *_):
        if kind:
            with open(self.running.err_path, encoding="utf-8", errors="replace") as f:
                print(f"--- the guest's program said\n{f.read()[-2000:]}\n---")
        status = self.running.process.poll()
        if status is None:
            self.running.kill(signal.SIGKILL)
            self.running.process.wait()
        check(kind or status is None or status >= 0, f"the guest's program died of signal {-(status or 0)}")

    def said(self, pattern, timeout=60):
        end = time.monotonic() + timeout
        while True:
            with open(self.running.err_path, encoding="utf-8", errors="replace") as f:
                match = re.search(pattern, f.read())
            if match:
                return match
            check(self.running.process.poll() is None and time.monotonic() < end, f"{pattern!r} was never said")
            time.sleep(0.02)

    def gdb(self, *files):
        return connect(self.address, *files)


def run_all():
    if not shutil.which("gdb"):
        print("gdb is not installed")
        sys.exit(SKIPPED)
    hwtest.main(sys.modules["__main__"])
