#!/usr/bin/env python3
"""The real gdb on 32-bit guests: C (samples/multiboot) and assembler (tests/replay/guest.S); recorded, and live."""
import os
import pty
import select
import time

from gdbtest import Live, debug, run_all
from gdb_guests import (GONE, assembler, assembler_guest, at_end, back_and_forth_over_writes, hello_guest,
                        hello_recording, hot_line, recorded, refuses_changes, same_as_forwards, stops,
                        system_registers, untouched, walk)
from hwtest import PROGRAM, check, rng


def test_recorded():
    end, digest = at_end(hello_recording(), "--gdb-i386")
    with debug(hello_recording(), "--at", "start", "--gdb-i386") as g:
        g("tbreak main")
        g("continue", r"Temporary breakpoint 1, main \(magic=732803074, info=0x[0-9a-f]+\)")
        main = g.state()
        g("next", r"serial_init\(\);")
        g("step", r"^serial_init \(\)")
        g("finish", r"^main")
        g("until", r"print\(\"hello")
        g("step", r"^print \(s=s@entry=0x[0-9a-f]+ \"hello from a Multiboot guest")
        g("break put if c == 'M'")
        g("continue", r"put \(c=.*77 'M'\)")
        check(g.frames() == ["put", "print", "main"], g.text[-1000:])
        g("reverse-finish")
        g("x/i $pc", r"call.*<put>")
        g("reverse-continue", GONE)
        g("continue", r"put \(c=.*77 'M'\)")
        g("delete")
        g("break timer_interrupt")
        there = stops(g, "continue")
        check(len(there) == 10 and g.number("ticks") == 10, f"{len(there)} ticks")
        check(stops(g, "reverse-continue") == there[::-1], "other ticks on the way back")
        g("delete")
        writes = back_and_forth_over_writes(g, "ticks", 10)
        check([new for _, _, new in writes] == [str(i) for i in range(1, 11)], writes)
        g("rwatch ticks")
        reads = stops(g, "continue", 20)
        check([at + 1 for at in stops(g, "reverse-continue", 20)] == reads[::-1], "other reads on the way back")
        g("delete")
        # HLT: it wakes up in the interrupt, and goes to sleep again on the way back.
        g("break timer_stub")
        g("continue")
        g("reverse-stepi", r"hlt")
        g("info threads", r"halted at icount")
        g("reverse-stepi")
        g("info threads", r"running at icount")
        g("delete")
        g("seek end")
        check(g.frames()[-3:] == ["power_off", "finish", "main"], g.text[-1000:])
        g("last-write ticks", r"writes")
        g("info symbol $pc", r"timer_interrupt")
        values = system_registers(g)
        check(values["efer"] == 0 and values["cr0"] & 1, "32 bits")
        g("print $eip", r"\(void \(\*\)\(\)\) 0x10")
        g("x/2i $pc")
        g("x/4xb 0xfffffe", r"Cannot access memory at address 0x1000000")
        refuses_changes(g, "eax", "&ticks")
        g("reverse-continue", GONE)
        g("tbreak main")
        g("continue")
        check(g.state() == main, "main is elsewhere")
        untouched(g, end, digest)


def test_walk():
    states = {}
    with debug(hello_recording(), "--at", "50%", "--gdb-i386") as g:
        g("break timer_stub")
        g("break put if c == '\\n'")
        walk(g, 150, states)
    same_as_forwards(hello_recording(), dict(rng.sample(sorted(states.items()), min(50, len(states)))), "--gdb-i386")


def test_live():
    guest = hello_guest()
    with Live("run", "--gdb-wait", "--gdb-i386", *guest) as live, live.gdb(guest[-1]) as g:
        g("tbreak timer_interrupt")
        g("continue", r"timer_interrupt \(\)")
        g("next")
        g("print ticks", r"= 1")
        g("print line[0] = 'h'")
        g("print line[1] = 'i'")
        g("print line_len = 2")
        g("print line_done = 1")
        g("watch ticks if ticks == 5")
        g("continue", r"New value = 5")
        g("set var ticks = 9")
        g("delete")
        g("tbreak print_unsigned")
        g("continue", r"print_unsigned")
        g("set var v = 4711")
        g("finish", r"^main|Run till exit")
        g("continue", r"exited normally")
        live.running.process.wait(20)
        for line in (b"you typed: hi", b"tick 4711"):
            check(line in live.running.console(), live.running.console())


def test_attach():
    """A running guest is stopped by who attaches, and runs on when they leave or vanish."""
    with Live("run", "--gdb-i386", *assembler_guest(1000000000)) as live:
        def goes_on():
            before = len(live.running.console())
            end = time.monotonic() + 20
            while len(live.running.console()) <= before:
                check(time.monotonic() < end, "the guest stands")
                time.sleep(0.05)
        goes_on()
        with live.gdb(assembler()) as g:
            before = live.running.console()
            first = g.icount()
            check(first > 0 and "round" in g.frames() or "_start" in g.frames() or g.frames(), "no frames")
            g("break stir")
            g("continue", r"Breakpoint 1, stir")
            check(g.frames()[:2] == ["stir", "round"], g.frames())
            g("stepi")
            g("set $ecx = 16383")
            g("finish", r"round")
            check(g.icount() > first, "it goes on")
            check(len(live.running.console()) - len(before) < 100, "it has run on while gdb was there")
            g("delete")
            g.interrupt("continue")
            g("print $icount", r"= \d+")
            g("detach", r"detached")
            goes_on()
            g(f"target remote {live.address}")
            g("break stir")
            g("continue", r"Breakpoint \d+, stir")
        goes_on()
        with live.gdb(assembler()) as g:
            g.kill()
        goes_on()
        with live.gdb(assembler()) as g:
            g("tbreak finish")
            live.running.type(b"q")
            g("continue", r"Temporary breakpoint \d+, finish")
            g("continue", r"exited with code 03")
        live.running.process.wait(20)
        check(live.running.process.returncode == 3, live.running.process.returncode)


def test_crash():
    """A guest that crashes still stands there to be looked at."""
    for end, status, name in (("triple", 14, "SIGSEGV"), ("halt", 18, "SIGABRT")):
        guest = assembler_guest(2, end)
        with Live("run", "--gdb-wait", "--gdb-i386", *guest, name=end) as live, live.gdb(guest[-1]) as g:
            g("continue", r"The guest ends here", rf"received signal {name}")
            g("info registers eip", r"eip")
            g("x/i $pc", r"=> ")
            g("continue", rf"Program terminated with signal {name}")
            live.running.process.wait(20)
            check(live.running.process.returncode == status, live.running.process.returncode)


def test_interrupt():
    """^C within a second, both ways, in a run over many conditions that do not hold and in a long seek."""
    recording = recorded("long.hwr", assembler_guest(30000), 3)[0]
    with debug(recording, "--gdb-i386", "--at", "50%") as g:
        half = g.icount()
        g(f"break {hot_line()} if $eax == 1 && $ecx == 2")
        g.want(g.interrupt("continue"), r"received signal SIGINT")
        check(g.icount() > half, "it has not moved")
        g("seek end")
        end = g.icount()
        g.want(g.interrupt("reverse-continue"), r"received signal SIGINT")
        check(g.icount() <= end, "not back")
        here = g.state()
        g("reverse-stepi")
        g("stepi")
        check(g.state() == here, "a bad place to stop at")
    same_as_forwards(recording, {here[0]: here[1]}, "--gdb-i386")


def test_terminal():
    """On a terminal: ^C stops gdb's wait, not the server; prompt and quit behave."""
    recording = recorded("long.hwr", assembler_guest(30000), 3)[0]
    pid, terminal = pty.fork()
    if not pid:
        os.environ["TERM"] = "dumb"
        os.execv(PROGRAM, [PROGRAM, "debug", recording, "--gdb-i386", "--", "-nx"])
    said = b""

    def wait_for(text, within=60):
        nonlocal said
        started = time.monotonic()
        while text not in said:
            check(select.select([terminal], [], [], within - (time.monotonic() - started))[0],
                  f"no {text!r} within {within} s:\n{said.decode(errors='replace')}")
            said += os.read(terminal, 65536)
        said = said.split(text, 1)[1]
        return time.monotonic() - started
    try:
        wait_for(b"(gdb) ")
        os.write(terminal, f"break {hot_line()} if $eax == 1 && $ecx == 2\n".encode())
        wait_for(b"(gdb) ")
        for start, command in ("end", "reverse-continue"), ("start", "continue"):
            os.write(terminal, f"seek {start}\n{command}\n".encode())
            wait_for(b"Continuing")
            time.sleep(0.5)
            os.write(terminal, b"\3")
            took = wait_for(b"received signal SIGINT", 30)
            check(took < 2, f"{command}: {took:.2f} s after ^C")
            wait_for(b"(gdb) ")
        os.write(terminal, b"\3")
        wait_for(b"Quit")
        os.write(terminal, b"print $icount > 0\n")
        wait_for(b"= 1")
        os.write(terminal, b"quit\n")
        check(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, "it ends with another status")
        pid = 0
    finally:
        if pid:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
        os.close(terminal)


run_all()
