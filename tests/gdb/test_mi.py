#!/usr/bin/env python3
"""What editors do: gdb's machine interface (MI) over `hyperwind debug --gdb`, as VS Code's two front ends speak it.

usage: test_mi.py HYPERWIND SOURCE_DIR WORK_DIR
"""
import os
import re
import shutil
import signal
import subprocess
import sys
import threading

HYPERWIND, SOURCE, WORK = sys.argv[1:4]
TIMEOUT = 60
SOCKET = os.path.join(WORK, "socket")
ELF = os.path.join(WORK, "heisenbug.elf")
RECORDING = os.path.join(WORK, "heisenbug.hwr")


def prepare():
    """The virtual clock: the same recording in every run."""
    shutil.rmtree(WORK, ignore_errors=True)
    os.makedirs(WORK)
    subprocess.run(["make", "-s", "-C", f"{SOURCE}/samples/heisenbug", f"OUT={os.path.abspath(WORK)}"], check=True)
    result = subprocess.run([HYPERWIND, "record", "-o", RECORDING, "--clock", "virtual", "--memory", "16M", ELF],
                            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert result.returncode in (1, 3), result.stderr


class Server:
    def __enter__(self):
        where = os.path.relpath(SOCKET)  # the path of a socket has little room
        self.process = subprocess.Popen([HYPERWIND, "debug", "--gdb", f"unix:{where}", RECORDING],
                                        stderr=subprocess.PIPE, text=True)
        line = self.process.stderr.readline()
        assert "gdb may connect" in line, line
        return where

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(timeout=TIMEOUT) == 0
        self.process.stderr.close()


class Mi:
    """gdb, whom we talk to as a front end does."""

    def __init__(self):
        self.log = []
        self.gdb = subprocess.Popen(["gdb", "-nx", "-q", "--interpreter=mi3", "-iex", "set debuginfod enabled off"],
                                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.killer = threading.Timer(TIMEOUT, self.gdb.kill)
        self.killer.daemon = True
        self.killer.start()
        self.number = 0

    def until(self, what):
        """The line that begins so; gdb sends others before it."""
        for line in self.gdb.stdout:
            self.log.append(line.rstrip())
            if line.startswith(what):
                return line.rstrip()
        sys.exit("gdb is gone\n" + "\n".join(self.log))

    def send(self, command):
        self.number += 1
        self.log.append(f"{self.number}{command}")
        self.gdb.stdin.write(f"{self.number}{command}\n")
        self.gdb.stdin.flush()

    def ask(self, command, result="done"):
        self.send(command)
        line = self.until(f"{self.number}^")
        self.expect(line, rf"\d+\^{result}")
        return line

    def expect(self, line, *patterns):
        for pattern in patterns:
            if not re.search(pattern, line):
                sys.exit(f"{pattern} is not in\n{line}\n\n" + "\n".join(self.log))

    def go(self, command, *patterns):
        """A command that moves the guest, and the stop that follows."""
        self.send(command)
        self.expect(self.until(f"{self.number}^"), r"\^running")
        line = self.until("*stopped")
        self.expect(line, *patterns)
        return line

    def icount(self):
        return int(re.search(r'value="(\d+)"', self.ask("-data-evaluate-expression $icount"))[1])

    def digest(self):
        """Of registers, devices and memory."""
        self.ask('-interpreter-exec console "monitor digest"')
        return next(line for line in reversed(self.log) if re.search(r'"[0-9a-f]{16}\\n"', line))

    def leave(self):
        self.send("-gdb-exit")
        self.gdb.stdin.close()
        self.gdb.stdout.read()
        assert self.gdb.wait(timeout=TIMEOUT) == 0
        self.gdb.stdout.close()
        self.killer.cancel()


def connect(where, *settings):
    mi = Mi()
    for setting in settings:
        mi.ask(setting)
    mi.ask(f"-file-exec-and-symbols {ELF}")
    mi.ask(f"-target-select remote {where}", "connected")
    mi.ask(f'-interpreter-exec console "source {SOURCE}/gdb/hyperwind.py"')
    return mi


def test_reverse_buttons():
    """Native Debug: it looks for the feature, then sends --reverse."""
    with Server() as where:
        mi = connect(where, "-gdb-set mi-async on")
        mi.expect(mi.ask("-list-target-features"), r'"reverse"')
        mi.ask('-break-insert -f -c "kind == 1" journal_append')
        mi.go("-exec-continue --reverse", 'reason="breakpoint-hit"', 'func="journal_append"')
        begin = mi.icount()
        mi.go("-exec-finish", 'reason="function-finished"', 'func="main"')
        end = mi.icount()
        mi.go("-exec-step --reverse", 'reason="end-stepping-range"', 'func="journal_append"', 'line="103"')
        mi.go("-exec-next --reverse", 'reason="end-stepping-range"', 'func="journal_append"', 'line="102"')
        here = mi.icount()
        assert begin < here < end, mi.log
        mi.go("-exec-step-instruction --reverse", 'func="journal_append"')
        mi.go("-exec-next-instruction --reverse", 'func="journal_append"')
        assert mi.icount() == here - 2, mi.log
        mi.go("-exec-step-instruction")
        mi.go("-exec-next", 'line="10[23]"')
        mi.ask("-break-delete")
        mi.go("-exec-finish --reverse", 'func="main"')
        assert mi.icount() == begin - 1, mi.log
        mi.go("-exec-continue --reverse", 'func="_start"')
        assert not mi.icount()
        mi.go("-exec-continue", 'func="finish"')
        mi.leave()


def test_views():
    """What an editor shows at a stop: the stack, variables, registers, memory. The guest does not notice."""
    with Server() as where:
        mi = connect(where)
        mi.ask('-break-insert -c "kind == 2 && number == 10" journal_append')
        mi.go("-exec-continue --reverse", 'func="journal_append"', r'name="number",value="10"')
        before = mi.digest()
        mi.expect(mi.ask("-stack-list-frames"), 'level="1".*func="timer_interrupt"', 'level="2".*signal handler called')
        mi.expect(mi.ask("-stack-list-variables --simple-values"), 'name="kind",arg="1",type="uint64_t",value="2"')
        names = re.findall(r'"([^"]*)"', mi.ask("-data-list-register-names").split("=", 1)[1])
        rip, icount = names.index("rip"), names.index("icount")
        line = mi.ask(f"-data-list-register-values x {rip} {icount}")
        values = {int(n): int(v, 16) for n, v in re.findall(r'number="(\d+)",value="(0x[0-9a-f]+)"', line)}
        assert values[icount] == mi.icount(), line
        pc = int(re.search(r'value="(0x[0-9a-f]+)', mi.ask("-data-evaluate-expression $pc"))[1], 16)
        assert values[rip] == pc, line
        mi.expect(mi.ask("-data-read-memory-bytes &journal.count 4"), r'contents="[0-9a-f]{8}"')
        mi.expect(mi.ask("-var-create j * journal.count"), r'type="volatile unsigned int"')
        mi.expect(mi.ask("-data-disassemble -s $pc -e $pc+8 -- 0"), 'func-name="journal_append"')
        mi.expect(mi.ask("-thread-info"), r'"Thread 1\.1".*name="CPU0"')
        mi.ask("-var-assign j 5", "error")
        assert mi.digest() == before, mi.log
        mi.go("-exec-step-instruction", "stopped")
        assert mi.digest() != before, mi.log
        mi.leave()


def test_console():
    """cppdbg: commands typed after `-exec`. The front end learns where the guest is from the stop."""
    with Server() as where:
        mi = connect(where)
        mi.ask("-break-watch journal.count")
        mi.go('-interpreter-exec console "reverse-continue"', 'reason="watchpoint-trigger"', 'func="journal_append"')
        mi.go('-interpreter-exec console "seek 25%"', "stopped")
        quarter = mi.icount()
        mi.go('-interpreter-exec console "last-write heartbeats"', 'func="timer_interrupt"')
        assert mi.icount() < quarter, mi.log
        mi.ask('-interpreter-exec console "monitor when"')
        mi.expect("\n".join(mi.log[-5:]), r"icount \d+ of \d+")
        mi.leave()


def test_pause():
    """The pause button, while time runs backwards."""
    with Server() as where:
        mi = connect(where, "-gdb-set mi-async on")
        mi.ask('-break-insert -c "$_streq(\\"a\\", \\"b\\")" sample')  # gdb's own condition takes its time
        mi.send("-exec-continue --reverse")
        mi.until("*running")
        mi.ask("-exec-interrupt")
        mi.expect(mi.until("*stopped"), 'signal-name="SIGINT"')
        mi.expect(mi.ask("-stack-list-frames"), 'level="0"')
        mi.leave()


def main():
    for needed in ("gdb", "make"):
        if not shutil.which(needed):
            print(needed, "is not installed")
            sys.exit(77)
    prepare()
    for name, test in list(globals().items()):
        if name.startswith("test_"):
            test()
            print(name, "passed", flush=True)
    shutil.rmtree(WORK)


main()
