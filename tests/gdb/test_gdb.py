#!/usr/bin/env python3
"""The real gdb against the server, on a guest whose states are a formula (tests/unit/fake_timeline.h).

usage: test_gdb.py RIG SOURCE_DIR WORK_DIR [TEST...]
"""
import os
import re
import shutil
import signal
import subprocess
import sys
import time

RIG, SOURCE, WORK = sys.argv[1:4]
TIMEOUT = 120


def rig(*args):
    process = subprocess.Popen([RIG, *args], stdout=subprocess.PIPE, text=True)
    return process, process.stdout.readline().strip()


def arguments(commands, address):
    line = ["gdb", "-nx", "-batch", "-iex", "set debuginfod enabled off", "-ex", "set confirm off",
            "-ex", f"target remote {address}"]
    for command in commands:
        line += ["-ex", command]
    return line


def gdb(commands, *rig_args, status=0):
    process, address = rig(*rig_args)
    text = subprocess.run(arguments(commands, address), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=TIMEOUT, check=False).stdout
    assert process.wait(timeout=TIMEOUT) == status, f"the rig ended with {process.returncode}\n{text}"
    for bad in ("packet error", "Unknown remote", "Architecture rejected", "Truncated register", "too long",
                "Protocol error",
                "internal-error", "Ignoring packet", "while parsing"):
        assert bad not in text, text
    return text


def want(text, *parts):
    at = 0
    for part in parts:
        match = re.compile(part).search(text, at)
        assert match, f"{part} is not in (or not after what came before it):\n{text}"
        at = match.end()


def test_registers():
    text = gdb(["info registers rip rax eflags cs icount cr0 cr4 cr8 efer fs_base k_gs_base gdtr_base tr lstar xcr0",
                "p $icount", "p $xmm0", "p $ymm1", "info registers cr3 dr7", "info float", "p $mxcsr", "p $cr0 & 1",
                "x/3i $pc"])
    want(text, r"rip +0x1004 +0x1004", r"rax +0x1f +31", r"eflags +0x242 +\[ ZF IF IOPL=0 \]", r"cs +0x10",
         r"icount +0x1f4 +500", r"cr0 +0x21 +\[ PE NE \]", r"cr8 +0x3", r"efer +0x500 +\[ LME LMA \]", r"\$1 = 500",
         r"v4_float", r"v8_float", r"cr3 +0x8000", r"dr7", r"Control Word: +0x037f", r"\[ IM DM ZM",
         r"=> 0x1004:\s+nop", r"0x1005:\s+nop")


def test_steps():
    text = gdb(["stepi", "p $icount", "reverse-stepi", "reverse-stepi", "p $icount", "stepi 5", "p $icount",
                "reverse-stepi 7", "p $icount"])
    want(text, r"\$1 = 501", r"\$2 = 499", r"\$3 = 504", r"\$4 = 497")


def test_breakpoints():
    text = gdb(["break *0x1003", "continue", "p $icount", "continue", "p $icount", "reverse-continue", "p $icount",
                "hbreak *0x1007", "reverse-continue", "p $icount", "info breakpoints"])
    want(text, r"Breakpoint 1, ", r"\$1 = 515", r"Breakpoint 1, ", r"\$2 = 531", r"Breakpoint 1, ", r"\$3 = 515",
         r"Breakpoint 2, ", r"\$4 = 503", r"already hit 3 times")


def test_conditions():
    text = gdb(["break *0x1003 if $rax == 50", "continue", "p $icount", "condition 1 $icount < 400", "reverse-continue",
                "p $icount", "condition 1 *(long *)0x2000 == 7 && $rax % 2", "reverse-continue", "p $icount",
                "break *0x1009 if $_streq(\"a\", \"a\")", "continue", "p $icount"])
    want(text, r"\$1 = 803", r"\$2 = 387", r"\$3 = 115", r"Breakpoint 2", r"\$4 = 121")


def test_conditions_are_evaluated_here():
    """gdb must not see the crossings that do not count."""
    text = gdb(["break *0x1003 if $rax == 50", "set debug remote 1", "continue"])
    assert text.count("T05") == 1, text
    want(text, r"Z0,1003,1;X")


def test_watchpoints():
    text = gdb(["watch *(long *)0x2000", "continue", "p $icount", "reverse-continue", "reverse-continue", "p $icount",
                "delete", "rwatch *(int *)0x2004", "continue", "p $icount", "reverse-continue", "reverse-continue",
                "p $icount", "delete", "awatch *(char *)0x2000", "reverse-continue", "p $icount"])
    want(text, r"Old value = 31", r"New value = 32", r"\$1 = 502", r"Old value = 32", r"New value = 31",
         r"Old value = 31", r"New value = 30", r"\$2 = 485", r"read watchpoint", r"\$3 = 490", r"\$4 = 473",
         r"access \(read/write\) watchpoint", r"\$5 = 469")


def test_ends_of_history():
    text = gdb(["reverse-continue", "p $icount", "reverse-stepi", "continue", "p $icount", "stepi", "reverse-stepi",
                "p $icount"])
    want(text, r"No more reverse-execution history", r"\$1 = 0", r"No more reverse-execution history",
         r"ends here: power-off",
         r"No more reverse-execution history", r"\$2 = 1000", r"No more", r"\$3 = 999")


def test_memory():
    text = gdb(["x/2xb 0x100e", "p *(long *)0x2000", "x/4xb 0xfffe", "find /b 0x1000, +0x100, 0xeb, 0xf0",
                "maintenance packet qqemu.PhyMemMode", "p *(char *)0x20000",
                "dump binary memory /dev/null 0x1000 0x9000"])
    want(text, r"0x100e:\s+0xeb\s+0xf0", r"\$1 = 31",
         r"0xfffe:\s+0x00\s+0x00\s+Cannot access memory at address 0x10000",
         r"0x100e", r"1 pattern found", r'received: "0"', r"Cannot access memory at address 0x20000")


def test_writes_refused():
    text = gdb(["set $rax = 5", "set *(int *)0x3000 = 1", "p $rax"])
    want(text, r"a recording cannot be changed", r"Cannot access memory at address 0x3000", r"\$1 = 31")


def test_live():
    text = gdb(["set $rbx = 0x123456789", "p/x $rbx", "set *(int *)0x3000 = 77", "p *(int *)0x3000", "stepi",
                "p $icount",
                "reverse-stepi", "set var $rip = 0x1000", "continue"], "live", status=7)
    want(text, r"\$1 = 0x123456789", r"\$2 = 77", r"\$3 = 1", r"does not support this command|does not support reverse",
         r"exited with code 07")


def test_i386():
    text = gdb(["info registers eip eax icount fs_base", "x/i $pc", "stepi", "p $icount", "p $xmm7",
                "info registers cr0"], "i386")
    want(text, r"eip +0x1004", r"eax +0x1f", r"icount +0x1f4", r"=> 0x1004:\s+nop", r"\$1 = 501", r"v4_float",
         r"cr0 .*PE NE")


def test_monitor():
    text = gdb(["monitor help", "monitor when", "monitor seek 10", "maintenance flush register-cache", "p $icount",
                "monitor info registers", "monitor nothing"])
    want(text, r"seek ICOUNT", r"icount 500 of 1000 \(50\.00 %\)", r"icount 10 ", r"\$1 = 10", r"RAX=0000",
         r"Target does not support this command")


def test_python_commands():
    text = gdb([f"source {SOURCE}/gdb/hyperwind.py", "help hyperwind", "when", "seek 25%", "p $icount", "mark here",
                "seek end",
                "p $icount", "seek here", "p $icount", "marks", "last-write *(long *)0x2000", "p $icount",
                "last-write 0x2000", "p $icount", "break *0x1003", "seek -1", "seek +100", "p $icount", "continue",
                "p $icount",
                "console 1", "hyperwind when", "seek nowhere", "p $icount", "last-write", "seek 0", "reverse-stepi",
                "last-write 0x2000", "p $icount"])
    want(text, r"hyperwind seek -- ", r"icount 500 of", r"0x000000000000100a in", r"\$1 = 250", r"here is icount 250",
         r"\$2 = 1000", r"\$3 = 250", r"here +icount 250", r"the next instruction writes 0x2000", r"\$4 = 245",
         r"\$5 = 229",
         r"\$6 = 328", r"Breakpoint 1", r"\$7 = 339", r"three", r"icount 339", r"a position was expected", r"\$8 = 339",
         r"an object of the program", r"No more reverse", r"nothing was written there before", r"\$9 = 0")


def test_threads():
    text = gdb(["info threads", "thread 1", "info inferiors", "p $_thread"])
    want(text, r"\* 1 +Thread 1\.1 \"CPU0\" \(running at icount 500\)", r"Switching to thread 1", r"process 1",
         r"\$1 = 1")


def test_detach_and_back():
    process, address = rig("many")
    line = arguments(["break *0x1003", "stepi", "detach", f"target remote {address}", "p $icount", "delete", "continue",
                      "kill"], address)
    text = subprocess.run(line, capture_output=True, text=True, timeout=TIMEOUT, check=False).stdout
    assert process.wait(timeout=TIMEOUT) == 0
    want(text, r"Inferior 1 .*detached", r"0x0+1005 in", r"\$1 = 501", r"0x0+1008 in", r"Inferior 1 .*killed")


def test_run_again():
    """`run` and `starti` go to the beginning."""
    process, address = rig()
    line = arguments(["p $icount", "set remote exec-file guest", "starti", "p $icount", "stepi", "p $icount", "run",
                      "p $icount"], address)
    line[line.index(f"target remote {address}")] = f"target extended-remote {address}"
    text = subprocess.run(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=TIMEOUT,
                          check=False).stdout
    assert process.wait(timeout=TIMEOUT) == 0, text
    want(text, r"\$1 = 500", r"\$2 = 0", r"\$3 = 1", r"No more reverse-execution history", r"\$4 = 1000")


def mi(commands, address):
    """What an editor's front end sends, one line at a time, and what it gets."""
    command = ["gdb", "-nx", "-q", "-i=mi"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as front:
        text = ""
        for command in [f"-target-select remote {address}", *commands]:
            front.stdin.write(command + "\n")
            front.stdin.flush()
            moves = "-exec-" in command or "seek" in command or "select" in command
            done = False
            while not done:
                line = front.stdout.readline()
                assert line and not line.startswith("^error"), f"{command}: {line}\n{text}"
                text += line
                done = line.startswith("*stopped") if moves else line.startswith(("^done", "^exit"))
        front.stdin.close()
    return text


def test_front_ends():
    """gdb/MI: every move, `seek` too, ends in a *stopped."""
    process, address = rig()
    text = mi(["-list-target-features", "-exec-step-instruction --reverse", "-break-insert *0x1003",
               "-exec-continue --reverse", "-data-evaluate-expression $icount", "-exec-continue",
               "-data-evaluate-expression $icount", f'-interpreter-exec console "source {SOURCE}/gdb/hyperwind.py"',
               '-interpreter-exec console "seek 25%"', "-data-evaluate-expression $icount", "-gdb-exit"], address)
    assert process.wait(timeout=TIMEOUT) == 0
    want(text, r'features=\[.*"reverse"', r'reason="end-stepping-range",frame=\{addr="0x0000000000001003"',
         r'reason="breakpoint-hit"', r'value="483"', r'reason="breakpoint-hit"', r'value="499"',
         r"\*stopped", r'value="250"')


def interrupt_in(command):
    """^C while gdb waits: it must come back soon."""
    process, address = rig("long")
    log = os.path.join(WORK, "interrupt.log")
    with open(log, "w", encoding="utf-8") as out:
        client = subprocess.Popen(arguments(["python print('ready', flush=True)", command, "p $icount > 0",
                                             "p $_siginfo"],
                                            address), stdout=out, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + TIMEOUT
        while "ready" not in open(log, encoding="utf-8").read() and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.3)
        client.send_signal(signal.SIGINT)
        client.wait(timeout=TIMEOUT)
    process.wait(timeout=TIMEOUT)
    text = open(log, encoding="utf-8").read()
    want(text, r"Program received signal SIGINT|Interrupt|Quit")
    return text


def test_interrupt():
    want(interrupt_in("continue"), r"received signal SIGINT")
    want(interrupt_in("reverse-continue"), r"received signal SIGINT")


def test_exec_file():
    """A bare `target remote` loads the guest's own ELF file."""
    source, elf = os.path.join(WORK, "kernel.S"), os.path.join(WORK, "kernel.elf")
    with open(source, "w", encoding="utf-8") as f:
        f.write(".globl _start, halfway\n.text\n_start: .fill 8, 1, 0x90\nhalfway: .fill 6, 1, 0x90\njmp _start\n")
    subprocess.run(["cc", "-c", "-o", elf + ".o", source], check=True)
    subprocess.run(["ld", "-Ttext=0x1000", "-o", elf, elf + ".o"], check=True)
    text = gdb(["info symbol $pc", "break halfway", "continue", "p $icount", "compare-sections .text"], "elf", elf)
    want(text, r"_start \+ 4 in section \.text", r"Breakpoint 1, 0x0+1008 in halfway", r"\$1 = 504", r"matched")


def test_many_breakpoints():
    text = gdb([f"break *{0x4000 + i}" for i in range(300)] + ["break *0x1003", "stepi", "continue", "reverse-continue",
                                                               "p $icount"])
    want(text, r"Breakpoint 301", r"\$1 = 499")


def main():
    if not shutil.which("gdb"):
        print("no gdb here")
        return 77
    os.makedirs(WORK, exist_ok=True)
    tests = {name: test for name, test in globals().items() if name.startswith("test_")}
    for name in sys.argv[4:] or tests:
        tests[name]()
        print(name, "passed", flush=True)
    return 0


sys.exit(main())
