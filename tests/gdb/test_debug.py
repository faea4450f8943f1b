#!/usr/bin/env python3
"""The real gdb on a guest of 64-bit C with debug information (samples/heisenbug); recorded, and live."""
import os
import re
import subprocess
import tempfile

from gdbtest import COMMON, Live, debug, run_all
import hwtest
from gdb_guests import (GONE, at_end, back_and_forth_over_writes, c_guest, c_recording, recorded, refuses_changes,
                        same_as_forwards, stops, system_registers, untouched, walk)
from hwtest import check, check_replay, path, rng, run


def test_forwards():
    """What a newcomer does: step, next, finish, until, advance, stepi, tbreak, x/i."""
    with debug(c_recording(), "--at", "start") as g:
        check(g.icount() == 0, "it is not at the start")
        g("x/i $pc", r"^=> 0x[0-9a-f]+ <_start>:\s+cld")
        g("stepi", r"boot\.S|\d+\s+movl")
        check(g.icount() == 1, "a stepi is a tick")
        g("tbreak main", r"Temporary breakpoint 1 at")
        g("continue", r"Temporary breakpoint 1, main \(\) at .*heisenbug\.c")
        g("info breakpoints", r"No breakpoints")
        g("next", r"\d+\s+interrupts_init\(\);")
        g("step", r"^interrupts_init \(\) at .*heisenbug\.c")
        g("finish", r"Run till exit from #0  interrupts_init", r"^main \(\)", r"for \(unsigned round = 0")
        g("next", r"journal_append\(MEASUREMENT, measure\(\)\);")
        g("step", r"^measure \(\)")
        g("tbreak journal_append")
        g("continue", r"journal_append \(kind=")
        g("until", r"if \(journal\.count == ENTRIES\)")
        g("next", r"struct entry \*e")
        g("next", r"e->kind = kind;")
        g("print *e", r"kind = 0, number = 0")
        g("next")
        g("print e->kind", r"= [12]\n")
        line = int(re.search(r"^(\d+)\t", g("list journal_append,+20", r"journal\.count = \(unsigned\)")
                             .split("journal.count = (unsigned)", maxsplit=1)[0].rsplit("\n", 1)[1] + "\t")[1])
        g(f"until {line}", rf"^{line}\s+journal\.count = ")
        g("advance timer_interrupt", r"^main \(\)|^timer_interrupt \(\)")
        check(g.frames() == ["main"], "the caller")


def test_backwards():
    """The same in the other direction, over calls and through an interrupt."""
    with debug(c_recording(), "--at", "start") as g:
        g("break journal_append if kind == 2 && number == 3")
        g("continue", r"journal_append \(kind=.*2, number=3\)")
        entry, registers = g.state()
        check(g.frames()[:2] == ["journal_append", "timer_interrupt"], g.text[-2000:])
        check(g.frames()[-2:] == ["measure", "main"], g.text[-2000:])
        g("backtrace", r"^#2  <signal handler called>")
        for command in ("next", "next", "step", "next", "next"):
            g(command)
        g("reverse-next")
        g("reverse-step")
        g("reverse-finish", r"Run back to call of #0 .*journal_append", r"Breakpoint 1, journal_append")
        g("reverse-continue", GONE)
        g("continue", r"number=3")
        check(g.state() == (entry, registers), "not the same place")
        g("delete")
        g("reverse-finish", r"^0x[0-9a-f]+ in timer_interrupt")
        g("x/i $pc", r"^=> .*call\s.*<journal_append>")
        check(g.icount() == entry - 1, "a call is a tick")
        g("step", r"^journal_append")
        check(g.state() == (entry, registers), "not the same place")
        # Out of the interrupt, forwards and backwards.
        g("finish")
        g("finish", r"Run till exit from #0 .*timer_interrupt")
        check(g.frames()[0] == "timer_stub" or "signal handler" in g("frame"), "not in the stub")
        g("reverse-finish", r"Run back to call of")
        # A call to step into from behind, or over.
        g("tbreak print_unsigned")
        g("continue", r"print_unsigned \(v=24\)")
        g("reverse-finish", r"print_unsigned\(heartbeats\);")
        g("reverse-step", r"print_unsigned\(heartbeats\);")  # to the beginning of the line
        g("reverse-step", r"journal_check \(\)")
        g("tbreak print_unsigned")
        g("continue", r"print_unsigned \(v=24\)")
        g("reverse-finish")
        g("reverse-next")
        g("reverse-next", r"journal_check\(\);")
        check(g.frames() == ["main"], "reverse-next goes over the call")


def test_breakpoints():
    with debug(c_recording(), "--at", "start") as g:
        g("break journal_append if kind == 2")
        there = stops(g, "continue")
        beats = g.number("heartbeats")
        check(len(there) == beats == 24, f"{len(there)} stops, {beats} heartbeats")
        check(stops(g, "reverse-continue") == there[::-1], "other stops on the way back")
        g("info breakpoints", r"stop only if kind == 2", rf"already hit {2 * beats} times")
        for condition, holds in ((f"kind == 2 && $icount > {there[9]}", there[10:]),
                                 ("kind == 2 && (number & 3) == 2 || number == 12345678", there[1::4])):
            g(f"condition 1 {condition}")
            check(stops(g, "continue") == holds, condition)
            check(stops(g, "reverse-continue") == holds[::-1], f"{condition}, on the way back")
        # One that only gdb can evaluate: each crossing goes there.
        g("condition 1 kind == 2 && $_streq(\"a\", \"a\")")
        g(f"seek {there[20]}")
        check(stops(g, "continue") == there[21:], "a function of gdb's in a condition")
        check([g.icount() for _ in range(2) if g("reverse-continue")] == [there[23], there[22]], "on the way back")
        g("seek start")
        g("condition 1 kind == 2")
        g("ignore 1 4")
        g("continue", r"number=5\)")
        check(g.icount() == there[4], "ignored too few or too many")
        g("delete")
        g("hbreak timer_interrupt", r"Hardware assisted breakpoint")
        g("tbreak journal_check")
        g("continue", r"Breakpoint \d+, timer_interrupt")
        g("delete 2")
        g("continue", r"Temporary breakpoint 3, journal_check")
        g("info breakpoints", r"No breakpoints")
        g("break timer_interrupt\ncommands\nsilent\nprintf \"beat %d\\n\", heartbeats\ncontinue\nend")
        g("seek 50%")
        first = g.number("heartbeats")
        said = g("continue")
        check([int(n) for n in re.findall(r"beat (\d+)", said)] == list(range(first, 24)), said)


def test_watchpoints():
    with debug(c_recording(), "--at", "start") as g:
        beats = back_and_forth_over_writes(g, "heartbeats", 10)
        check([new for _, _, new in beats] == [str(i) for i in range(1, 11)], beats)
        back_and_forth_over_writes(g, "journal.count", 30)
        g("watch heartbeats if heartbeats == 7")
        g("continue", r"New value = 7")
        check(g.icount() == beats[6][0], "not where it was written")
        g("delete")
        # Reads: forwards behind the instruction, backwards before it.
        g("rwatch heartbeats", r"Hardware read watchpoint")
        there = stops(g, "continue")
        check(len(there) >= 10, there)
        back = stops(g, "reverse-continue")
        check([at + 1 for at in back][:len(there)] == there[::-1], f"other reads on the way back: {there} {back}")
        g("delete")
        g("seek start")
        g("awatch heartbeats", r"Hardware access \(read/write\) watchpoint")
        both = stops(g, "continue", 16)
        check(set(both) > {at for at, _, _ in beats[:4]}, "writes are missing")
        back = stops(g, "reverse-continue", 15)
        check([at + 1 for at in back] == both[-2::-1] or [at + 1 for at in back] == both[::-1][:15], f"{both}\n{back}")
        g("delete")
        g("seek 50%")
        g("last-write journal.count", r"the next instruction writes 0x")
        g("watch journal.count")
        g("continue", r"Old value", r"New value")
        g("delete")
        # One that gdb steps for.
        g("watch $rbx", r"^Watchpoint")
        there = [g.icount() for _ in range(3) if g("continue", r"Old value", r"New value")]
        back = [g.icount() for _ in range(3) if g("reverse-continue", r"Old value", r"New value")]
        check([at - 1 for at in there[::-1]] == back, f"{there}\n{back}")
        g("delete")
        # Its variable goes out of scope.
        g("seek start")
        g("tbreak print_unsigned")
        g("continue")
        g("watch -l journal.entry[5].word[2]")
        g("reverse-continue", r"Hardware watchpoint", r"Old value = [1-9]", r"New value = 0\n")
        g("info symbol $pc", r"journal_append")


def test_ends():
    end, digest = at_end(c_recording())
    with debug(c_recording(), "--at", "start") as g:
        first = g.state()
        for command in ("reverse-stepi", "reverse-continue", "reverse-step", "reverse-nexti", "reverse-stepi 5"):
            g(command, GONE)
            check(g.state() == first, f"{command} at the beginning")
        g("continue", r"The recording ends here: debug-exit", GONE)
        last = g.state()
        check(last[0] == end, f"{last[0]} of {end}")
        for command in ("stepi", "continue", "nexti", "stepi 3"):
            g(command, GONE)
            check(g.state() == last and g.digest() == digest, f"{command} at the end")
        g("reverse-stepi")
        check(g.icount() == end - 1, "back from the end")
        g("reverse-continue", GONE)
        check(g.state() == first, "back to the beginning")
        g("stepi 20000")
        check(g.icount() == 20000, "twenty thousand steps")
        g("reverse-stepi 20003", GONE)
        check(g.state() == first, "back to the beginning")
        untouched(g, end, digest)


def test_walk():
    """Wherever random commands lead, the registers are those of a way that only goes forwards."""
    states = {}
    end, digest = at_end(c_recording())
    with debug(c_recording(), "--at", f"{rng.randrange(5, 95)}%") as g:
        g("break timer_interrupt")
        g("break measure")
        g("tbreak journal_append if kind == 2")
        walk(g, 150, states)
        untouched(g, end, digest)
    same_as_forwards(c_recording(), dict(rng.sample(sorted(states.items()), min(60, len(states)))))


def test_looking():
    """Registers, memory across the edge of what is there, disassembly; nothing can be changed."""
    with debug(c_recording(), "--at", "60%") as g:
        check(system_registers(g)["efer"] & 0x500 == 0x500, "not in long mode")
        g("x/4xb 0xfffffe", r"0xfffffe:\s+0x[0-9a-f]{2}\s+0x[0-9a-f]{2}\s+Cannot access memory at address 0x1000000")
        g("x/xg 0xfffffc", r"Cannot access memory at address 0x")
        g("x/2xb 0x3ffffffe", r"Cannot access memory at address 0x3ffffffe")
        g("x/2xb 0x40000000", r"Cannot access memory at address 0x40000000")
        g(f"dump binary memory {path('memory')} 0xfff000 0x1000000")
        check(os.path.getsize(path("memory")) == 4096, "the last page")
        g("x/3i main", r"<main>:\s", r"<main\+", r"<main\+")
        g("compare-sections .text", r"matched")
        g("info line timer_interrupt", r"heisenbug\.c")
        g("print sizeof(journal.entry)", r"= 1048576")
        refuses_changes(g, "rax", "&journal")
        refuses_changes(g, "rip", "0x100000")
        g("call journal_check()", r"cannot be changed|[Cc]annot")
        g("print $icount", r"= \d+")


def test_commands():
    """when, seek, mark, last-write, console, restart; and gdb's view follows."""
    end, digest = at_end(c_recording())
    with debug(c_recording()) as g:
        g("help hyperwind", r"hyperwind seek")
        g("when", rf"icount {end} of {end} \(100\.00 %\)")
        g("seek 25%")
        quarter = g.state()
        check(quarter[0] == end // 4, f"{quarter[0]} is no quarter of {end}")
        g("mark quarter", rf"quarter is icount {end // 4}")
        g("seek +1000")
        check(g.icount() == end // 4 + 1000, "+1000")
        g("seek -1")
        check(g.icount() == end // 4 + 999, "-1")
        g("mark", r"m1 is icount")
        g("seek start", r"_start")
        check(g.icount() == 0, "start")
        g("seek end", r"the recording ends here: debug-exit", r"finish \(code=")
        g("console 1", r"^ *\d+  24 heartbeats, the journal is right")
        g("marks", r"quarter +icount", r"m1 +icount")
        g("seek quarter")
        check(g.state() == quarter, "the mark is elsewhere")
        g("console", r"^$")
        g("seek nowhere", r"a position was expected")
        g("seek 99999999999", r"the recording ends here")
        g("last-write heartbeats", r"the next instruction writes")
        g("info symbol $pc", r"timer_interrupt")
        check(g.number("heartbeats") == 23, "the write is not done yet")
        g("last-write heartbeats")
        check(g.number("heartbeats") == 22, "the one before")
        g("seek start")
        g("last-write heartbeats", r"nothing was written there before")
        g("last-write nonsense_of_mine", r"No symbol")
        g("monitor restart")
        g("maintenance flush register-cache")
        g("info symbol $pc", r"_start")
        g("seek start")
        g("events 3", r"no more events")  # time is the instructions', and nothing was typed
        g("monitor checkpoints", r"^\d+ checkpoints, [\d.]+ MiB")
        untouched(g, end, digest)


def test_restart():
    """run, start and starti begin again, from anywhere, and after a kill."""
    end, digest = at_end(c_recording())
    with debug(c_recording()) as g:
        g("starti", r"Program stopped", r"_start")
        first = g.state()
        check(first[0] == 0, "starti")
        g("start", r"Temporary breakpoint 1, main")
        main = g.state()
        g("seek end")
        g("break main")
        g("run", r"Breakpoint 2, main")
        check(g.state() == main, "run")
        g("kill", r"killed")
        g("run", r"Breakpoint 2, main")
        check(g.state() == main, "run after kill")
        g("reverse-continue", GONE)
        check(g.state() == first, "the beginning")
        untouched(g, end, digest)


def test_leaving():
    """Detach, and come back to where it stood; a second client is turned away; `run` with extended-remote restarts."""
    socket = os.path.join(hwtest.work, "s")
    end, digest = at_end(c_recording())
    with Live("debug", c_recording(), name="server", where="unix:" + socket) as live:
        with live.gdb() as g:
            g("seek 1000000")
            g("break timer_interrupt")
            g("continue", r"Breakpoint")
            here = g.state()
            g("detach", r"detached")
            g("info registers", r"has no registers now")
            g("when", r"not supported|no target|monitor")
            g(f"target remote {socket}")
            check(g.state() == here, "it stands elsewhere")
            g("delete")
            g("stepi")
        with live.gdb() as g:
            check(g.icount() == here[0] + 1, "breakpoints and position of who left")
            other = subprocess.run(["gdb", *COMMON, "-batch", "-ex", f"target remote {socket}"], timeout=60,
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
            check(re.search("Remote (connection closed|communication error)", other.stdout), other.stdout)
            check(g.icount() == here[0] + 1, "the first one suffers")
            g("disconnect")
            g(f"target extended-remote {socket}")
            g("tbreak main")
            g("run", r"Temporary breakpoint \d+, main")
            check(g.icount() < here[0], "run does not restart")
            untouched(g, end, digest)


# ---- live ----

def live_c(kind="run", *options):
    return Live(kind, *options, "--gdb-wait", *c_guest())


def test_failures():
    """A gdb that is killed is told; a replay that diverges can be looked at up to there."""
    recording = c_recording()
    killed = run("debug", recording, "--", "-batch", "-ex", "shell kill -9 $PPID").expect(hwtest.HOST)
    check(killed.lines()[-1] == "hyperwind: gdb was killed by signal 9", killed.err)
    wrong = ("debug", "--engine", "dbt:wrong=2000000", recording)
    diverged = run(*wrong, "--", "-batch").expect(hwtest.DIVERGED)
    check(re.search(r"with --at TICK: replay diverged between ticks \d+ and \d+$", diverged.err.strip()), diverged.err)
    looked = run(*wrong, "--at", "1999999", "--", "-batch", "-ex", "stepi", "-ex", "when").expect(0)
    check(b"icount 2000000 of" in looked.out, looked.out)


def test_left_behind():
    """A session that is killed leaves a directory of files, the next one removes it; but not that of one that goes on."""
    recording = c_recording()
    with tempfile.TemporaryDirectory(prefix="hw") as tmp:
        env = {**os.environ, "TMPDIR": tmp}
        run("debug", recording, "--", "-batch", "-ex", "python import os; os.kill(os.getppid(), 9)", env=env).expect(-9)
        killed = os.listdir(tmp)
        check(len(killed) == 1, f"left behind: {killed}")
        others = ["hyperwind.others", "hyperwind.backup"]
        for name in others:
            os.mkdir(os.path.join(tmp, name))
        with open(os.path.join(tmp, "hyperwind.backup", "hyperwind.py"), "w", encoding="ascii") as f:
            f.write("mine\n")
        inner = f"shell {hwtest.PROGRAM} debug {recording} -- -batch -ex 'shell echo inner $(ls $TMPDIR)'"
        result = run("debug", recording, "--", "-batch", "-ex", "shell echo before $(ls $TMPDIR)", "-ex", inner, "-ex",
                     "shell echo after $(ls $TMPDIR)", env=env).expect(0)
        seen = [line.split() for line in result.out.decode().splitlines() if "hyperwind." in line]
        before, within, after = (next(words[1:] for words in seen if words[0] == where)
                                 for where in ("before", "inner", "after"))
        check(len(before) == 3 and killed[0] not in before, f"{killed} is left: {before}")
        check(len(within) == 4 and set(before) < set(within), f"a session has lost its files: {before}, {within}")
        check(after == before, f"{before}, {after}")
        check(sorted(os.listdir(tmp)) == sorted(others), os.listdir(tmp))
        check(os.listdir(os.path.join(tmp, "hyperwind.backup")), "a file of somebody else's is gone")


def test_live():
    """From the first instruction; what is changed counts."""
    with live_c() as live, live.gdb(c_guest()[-1]) as g:
        check(g.icount() == 0, "it has not waited")
        g("x/i $pc", r"<_start>:\s+cld")
        g("tbreak main")
        g("continue", r"Temporary breakpoint \d+, main")
        g("next", r"interrupts_init")
        g("step", r"^interrupts_init")
        g("finish", r"^main")
        g("stepi 5")
        g("break journal_append if kind == 2")
        g("continue", r"number=1\)")
        g("continue", r"number=2\)")
        g("backtrace", r"^#0  journal_append", r"^#1 .*timer_interrupt", r"^#2  <signal handler called>", r" main \(\)")
        g("until", r"journal\.count == ENTRIES")
        g("finish", r"timer_interrupt")
        g("info breakpoints", r"already hit 2 times")
        g("delete")
        for command in ("reverse-stepi", "reverse-continue", "reverse-step", "reverse-finish"):
            g(command, r"does not support this command")
        g("seek start", r"a live guest has no past")
        g("when", r"^icount \d+, ")
        g("watch heartbeats")
        g("continue", r"Old value = 2", r"New value = 3")
        g("delete")
        g("rwatch heartbeats")
        g("continue", r"Value = 3")
        g("delete")
        g("awatch heartbeats")
        g("continue", r"Value = 3|New value = 4")
        g("delete")
        system_registers(g)
        g("x/4xb 0xfffffe", r"Cannot access memory at address 0x1000000")
        g("set var heartbeats = 1000000")
        g("print heartbeats", r"= 1000000")
        # A register: the argument of the next entry in the journal, which the check at the end then knows.
        g("tbreak *journal_append if $rdi == 2")
        g("continue", r"Temporary breakpoint")
        g("set $rsi = 77777")
        g("print $rsi", r"= 77777")
        g("set var $index = journal.count")
        g("finish")
        g("print journal.entry[$index].number", r"= 77777")
        g("set $icount = 5", r"icount is read-only")
        g("set $xmm3.v2_int64[1] = 0x1234567890")
        g("stepi")
        g("print/x $xmm3.v2_int64[1]", r"= 0x1234567890")
        g("print word_of(1, 2, 4) == word_of(1, 2, 4) && word_of(1, 2, 4) != word_of(1, 2, 5)", r"= 1")
        g("print/x word_of(1, 2, 3)", rf"= {((2 << 8 | 1 << 4 | 3) * 0x9e3779b97f4a7c15) % 2**64:#x}\n")
        g("tbreak journal_check")
        g("continue", r"Temporary breakpoint")
        g("call journal_append(1, 424242)")
        g("print journal.entry[journal.count - 1].number", r"= 424242")
        g("continue", r"The guest ends here", r"\[Inferior 1 \(process 1\) exited with code 01\]")
        live.running.process.wait(20)
        check(live.running.process.returncode == 1, live.running.process.returncode)
        check(re.match(rb"10000\d\d heartbeats, the journal is right", live.running.console()), live.running.console())


def test_recorded_live():
    """Looked at while it is recorded: nothing can be changed, and the recording is as if nobody had looked."""
    guest = c_guest()
    with Live("record", "-o", path("a.hwr"), "--gdb-wait", *guest, name="record") as live, live.gdb(guest[-1]) as g:
        g("break timer_interrupt if heartbeats == 5")
        g("continue", r"Breakpoint 1, timer_interrupt")
        for command in ("stepi", "next", "finish", "step", "watch heartbeats", "continue", "stepi 100", "delete"):
            g(command)
        refuses_changes(g, "rax", "&journal", r"recorded|cannot be changed")
        g("reverse-stepi", r"does not support this command")
        g("continue", r"exited with code 01")
        live.running.process.wait(20)
    first = recorded("c.hwr", c_guest(), 1)[1]
    with open(live.running.err_path, encoding="utf-8") as f:
        check(first.ended()[2] in f.read(), "the guest has noticed")
    result = hwtest.Result([], 1, live.running.console(), open(live.running.err_path, encoding="utf-8").read())
    check_replay(path("a.hwr"), result)


run_all()
