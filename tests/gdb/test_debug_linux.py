#!/usr/bin/env python3
"""The real gdb on Debian's kernel with its own kallsyms, in kernel and user mode; recorded, and live."""
import bisect
import json
import re
import shutil
import subprocess

from gdbtest import HERE, Live, debug, run_all
from gdb_guests import (GONE, at_end, back_and_forth_over_writes, linux_recording, once, refuses_changes,
                        same_as_forwards, system_registers, untouched, walk)
from hwtest import GUEST, check, check_replay, linux, path, record, rng


def kernel_functions(g, count):
    """Names of functions that are sure to run, and many more."""
    families = ("vfs", "do", "sys", "ksys", "sock", "tty", "page", "handle", "copy", "get", "put")
    text = "".join(g(f"info functions ^{family}_") for family in families)
    names = sorted(set(re.findall(r"^0x[0-9a-f]+  ([a-z_0-9]+)$", text, re.M)))
    check(len(names) > count, f"only {len(names)} functions")
    return rng.sample(names, count)


def test_backtraces():
    """The names are those that must be there: a system call, an interrupt, a fault, the idle task, start_kernel."""
    with debug(linux_recording()[0], "--at", "60%") as g:
        g("tbreak vfs_read")
        g("continue", r"in vfs_read \(\)")
        frames = g.frames()
        check(frames[:3] == ["vfs_read", "ksys_read", "do_syscall_64"], frames)
        g("tbreak hrtimer_interrupt")
        g("continue")
        frames = g.frames()
        wanted = ["hrtimer_interrupt", "__sysvec_apic_timer_interrupt", "sysvec_apic_timer_interrupt"]
        check(frames[:3] == wanted and len(frames) > 3, frames)
        g("tbreak do_user_addr_fault")
        g("reverse-continue")
        check(g.frames()[:2] == ["do_user_addr_fault", "exc_page_fault"], g.frames())
        g("seek end")
        frames = g.frames()
        wanted = ["acpi_power_off", "do_kernel_power_off", "native_machine_power_off", "__do_sys_reboot",
                  "do_syscall_64"]
        check([name for name in frames if name in wanted] == wanted, frames)
        g("tbreak default_idle_call")
        g("reverse-continue")
        frames = g.frames()
        wanted = ["default_idle_call", "do_idle", "cpu_startup_entry", "rest_init", "start_kernel"]
        check([name for name in frames if name in wanted] == wanted, frames)
        g("tbreak start_kernel")
        g("reverse-continue", r"in start_kernel \(\)")
        check(g.frames()[0] == "start_kernel", g.frames())
        g("print $icount < 1000000000", r"= 1")


def test_user_mode():
    """Out of a system call into user mode and back, step by step and in both directions."""
    with debug(linux_recording()[0], "--at", f"{rng.randrange(50, 90)}%") as g:
        g("tbreak do_syscall_64")
        g("continue", r"do_syscall_64")
        g("set var $back = *(long *) ($rdi + 0x80)")
        g("tbreak *$back")
        g("continue", r"Temporary breakpoint")
        check(g.number("$cs & 3") == 3, "not in user mode")
        user = g.state()
        values = system_registers(g)
        check(values["gs_base"] == 0 or values["gs_base"] >> 47 == 0, "the kernel's GS")
        g("info symbol $lstar", r"^entry_SYSCALL_64 in")
        g("info symbol $k_gs_base", r".")
        g("x/3i $pc", r"^=> 0x[0-9a-f]+:")
        g("reverse-stepi")
        check(g.number("$cs & 3") == 0, "not in the kernel")
        g("x/i $pc", r"sysret|iret")
        g("stepi")
        check(g.state() == user, "another place")
        g("tbreak *$lstar")
        g("continue", r"entry_SYSCALL_64")
        entry = g.state()
        g("reverse-stepi")
        g("x/i $pc", r"^=> 0x[0-9a-f]+:\s+syscall")
        g("stepi")
        check(g.state() == entry, "another place")
        g("reverse-continue", GONE)


def test_breakpoints():
    """Three hundred at once; conditions with positions; the same stops there and back."""
    with debug(linux_recording()[0], "--at", "70%") as g:
        for name in kernel_functions(g, 300):
            g(f"break {name}", r"^Breakpoint \d+ at 0x")
        check(len(re.findall(r"breakpoint +keep y", g("info breakpoints"))) >= 300, "some are missing")
        begin = g.icount()
        there = [(g.icount(), g("frame")) for _ in range(25) if g("continue", r"^Breakpoint [\d.]+, 0x")]
        back = [(g.icount(), g("frame")) for _ in range(24) if g("reverse-continue", r"^Breakpoint [\d.]+, 0x")]
        check(back == there[-2::-1], f"there {there}\nback {back}")
        g("reverse-stepi")
        g("stepi")
        check(g.icount() == there[0][0] > begin, "steps over three hundred breakpoints")
        g("delete")
        g("rbreak ^vfs_[rw]", r"Breakpoint \d+ at", r"vfs_read;")
        g("continue", r"Breakpoint [\d.]+, 0x[0-9a-f]+ in vfs_")
        g("delete")
        for place in ("start", "80%"):
            g(f"seek {place}")
            floor = g.icount() + 1000000
            g(f"tbreak vfs_write if $icount > {floor} && $rdx > 20")
            g("continue", r"vfs_write")
            check(g.icount() > floor and g.number("$rdx") > 20, "the condition does not hold")
        hit = g.icount()
        g("seek end")
        g(f"tbreak vfs_write if $icount <= {hit} && $rdx > 20")
        g("reverse-continue", r"vfs_write")
        check(g.icount() == hit, f"{g.icount()} is not {hit}")


def test_watchpoints():
    with debug(linux_recording()[0], "--at", "75%") as g:
        there = back_and_forth_over_writes(g, "*(unsigned long *) &jiffies", 5)
        values = [int(new) for _, _, new in there]
        check(values == list(range(values[0], values[0] + 5)), values)
        g("seek end")
        g("last-write *(unsigned long *) &jiffies", r"the next instruction writes 0x")
        g("x/i $pc", r"^=> ")
        check("do_timer" in g.frames() or "tick_do_update_jiffies64" in g.frames(), g.frames())
        g("seek 75%")
        g("rwatch *(unsigned long *) &jiffies")
        reads = [g.icount() for _ in range(5) if g("continue", r"read watchpoint", r"Value = ")]
        back = [g.icount() + 1 for _ in range(5) if g("reverse-continue", r"read watchpoint", r"Value = ")]
        check(back == reads[::-1], f"{reads}\n{back}")
        g("delete")
        # What the last system call wrote on the user's stack, seen from there.
        g("tbreak ksys_read")
        g("continue")
        g("set var $buffer = (char *) $rsi")
        g("finish", r"Run till exit")
        g("awatch *$buffer", r"Hardware access")
        g("reverse-continue", r"watchpoint")
        g("delete")


def test_steps():
    """Without line numbers step and next go to the function's end; until and advance; finish there and back."""
    with debug(linux_recording()[0], "--at", "65%") as g:
        g("tbreak ksys_read")
        g("continue", r"in ksys_read")
        entry = g.state()
        g("finish", r"Run till exit from #0 .*in ksys_read", r"in do_syscall_64")
        g("reverse-step")
        g("reverse-finish", r"Run back to call of")
        g(f"seek {entry[0]}", r"ksys_read")
        check(g.state() == entry, "another state")
        g("reverse-finish", r"in (do_syscall_64|x64_sys_call|__x64_sys_read)")
        g("stepi")
        g("next", r"no line number information")
        g("stepi 100")
        g("until *$pc")
        g("nexti 10")
        g("reverse-nexti 10")
        g(f"seek {entry[0]}")
        g("tbreak vfs_read")
        g("step", r"vfs_read|no line number")
        states = {}
        for name in ("vfs_read", "schedule", "do_user_addr_fault"):
            g(f"break {name}")
        walk(g, 60, states)
    same_as_forwards(linux_recording()[0], dict(rng.sample(sorted(states.items()), min(25, len(states)))))


def test_memory():
    """Reads stop where the mapping stops, in the kernel and in user space."""
    with debug(linux_recording()[0], "--at", "80%") as g:
        text = g("monitor info mem")
        ranges = [(int(a, 16), int(b, 16)) for a, b in re.findall(r"^([0-9a-f]+)-([0-9a-f]+) [0-9a-f]+ ", text, re.M)]
        begins = sorted(a for a, _ in ranges)
        edges = [b for _, b in ranges if b and (bisect.bisect_left(begins, b) == len(begins) or
                                                begins[bisect.bisect_left(begins, b)] != b)]
        readable = 0
        check(len(edges) > 10, text[:2000])
        for edge in rng.sample(edges, 10):
            said = g(f"x/4xb {edge - 2:#x}")
            if re.search(rf":\s+0x[0-9a-f]{{2}}\s+0x[0-9a-f]{{2}}\s+Cannot access memory at address {edge:#x}", said):
                readable += 1
            else:  # a device's registers, which are not read for gdb
                check(f"Cannot access memory at address {edge - 2:#x}" in said, said)
        check(readable > 4, f"{readable} of 10 edges")
        g("x/s &linux_banner", r"Linux version ")
        g("find &linux_banner, +64, 'v', 'e', 'r', 's'", r"1 pattern found")
        refuses_changes(g, "rax", "&linux_banner")
        values = system_registers(g)
        check(values["cr4"] & 0x300000 == 0x300000 and values["efer"] & 0x901 == 0x901, "SMEP, SMAP, NX, SCE")


def test_interrupt():
    recording = linux_recording()[0]
    with debug(recording) as g:
        for name in ("memset", "memcpy", "copy_user_generic_unrolled", "native_read_msr", "clear_page_rep"):
            g(f"break {name} if $rdi == 12345 && $rsi == 54321")
        g.want(g.interrupt("reverse-continue", 0.2), r"received signal SIGINT|No more")
        back = g.state()
        g("delete")
        g("seek start")
        g("watch *(long *) &jiffies if $icount > 1000000000000")
        g.want(g.interrupt("continue", 0.1), r"received signal SIGINT")
        there = g.state()
    same_as_forwards(recording, dict([back, there]))


def test_events():
    """What came from outside, and going there."""
    with debug(linux_recording()[0], "--at", "50%") as g:
        listed = re.findall(r"^(\d+) (\d+) \w+", g("events 3"), re.M)
        check(len(listed) == 3, "three events")
        for number, position in listed:
            g(f"seek e{number}")
            check(g.icount() == int(position), f"event {number} is at {position}")
        g("console 3", r"^ *\d+  .")
        g("seek -1")
        g("events 1", rf"^{listed[2][0]} {listed[2][1]} ")


def test_beginning():
    """The first steps of the kernel's loader, where there are no names."""
    states = {}
    with debug(linux_recording()[0], "--at", "start") as g:
        g("reverse-stepi", GONE)
        for _ in range(60):
            position, states[position] = g.state()
            g("stepi")
        g("seek 0") if rng.random() < 0.5 else g("reverse-continue", GONE)
        g("stepi 59")
        for position in range(59, -1, -1):
            check(g.state() == (position, states[position]), f"another state at {position}")
            g("reverse-stepi")
        g("x/3i $pc", r"^=> 0x")


def test_untouched():
    """Whatever gdb did, the rest of the recording replays as it was recorded, to the same digest."""
    recording, said = linux_recording()
    end, digest = at_end(recording)
    check(end == said.ended()[1], "gdb sees another end")
    with debug(recording, "--at", "85%") as g:
        g("break vfs_write")
        g("watch *(long *) &jiffies")
        for command in ("continue", "stepi 50", "continue", "reverse-continue", "finish", "reverse-stepi",
                        "info registers", "reverse-continue", "continue", "monitor info tlb", "x/100xg $rsp", "next",
                        "reverse-finish"):
            g(command)
        g("delete")
        g("reverse-continue", GONE)
        check(g.icount() == 0, "not at the beginning")
        untouched(g, end, digest)


CAUGHT = r"Catchpoint {}: {}\n+(?:.*\n)*.*SIGTRAP"

def test_events():
    """Stops at what happens rather than at a place, in both directions; long moves say where they are."""
    recording, _ = linux_recording()
    end, digest = at_end(recording)
    with debug(recording) as g:
        g("catch console Run /init as init process", r'^Catchpoint 1: console prints "Run /init as init process"')
        g("reverse-continue", CAUGHT.format(1, 'console prints "Run /init as init process"'))
        last, here = g("console 1"), g.state()
        check("Run /init as init proces" in last and "process" not in last.split("init process")[-1], last)
        g("stepi")
        check("Run /init as init process" in g("console 1"), "one byte on, it is printed")
        g("reverse-stepi")
        check(g.state() == here, "back before it")
        g("catch vector #PF", r"^Catchpoint 2: vector 14 \(#PF\)")
        g("catches", r"^1 +console prints", r"^2 +vector 14 \(#PF\)")
        g("uncatch 1")
        g("continue", CAUGHT.format(2, r"vector 14 \(#PF\)"))
        g("info symbol $pc", r"asm_exc_page_fault")
        g("reverse-stepi")
        check("asm_exc_page_fault" not in g("info symbol $pc"), "not delivered yet")
        cr2, pc = g.number("$cr2"), g.number("$pc")
        g("stepi")
        check(g.number("$cr2") != cr2 or g.number("$pc") != pc, "it was delivered")
        g("uncatch all")
        g("catches", r"there are no catchpoints")
        g("catch port 0x40-0x43", r"^Catchpoint 3: ports 0x40 to 0x43")
        g("reverse-continue", CAUGHT.format(3, r"port 0x4[0-3] is (written|read)"))
        g("x/i $pc", r"=> .*\s(in|out)\b")
        g("catch port 0x20-0x60")
        g("stepi", r"Catchpoint 3: port 0x4[0-3] is (written|read)\n+Catchpoint 4: port 0x4[0-3] is (written|read)")
        g("uncatch 3")
        g("uncatch 3", r"there is no catchpoint 3")
        g("uncatch 4")
        g("catch vector 256", r"expected a vector")
        g("catch port 65530-65536", r"expected an I/O port")
        g("monitor catch everything", r"expected vector")
        g("monitor progress 1", r"every 1 ms")
        g("catch input")
        g("reverse-continue", r"looking back: at icount \d+", GONE)
        g("continue", r"\d+ %: at icount \d+ on the way to \d+", r"ends here")
        g("monitor progress off", r"do not say")
        untouched(g, end, digest)


# ---- live ----

def symbols():
    """The kernel's own names as an ELF file. They are valid for every guest that is started with nokaslr."""
    def make(out):
        record(out + ".hwr", linux("boot", "nokaslr"), name="nokaslr").expect(0)
        with Live("debug", out + ".hwr", name="symbols") as live:
            shutil.copy(live.said(r"symbols: file (\S+)")[1], out)
    return once("kernel.elf", make)[0]

# In every part of the image.
NAMES = "_text vfs_read linux_banner init_task jiffies start_kernel".split()


def addresses(g):
    return [re.search(r"0x[0-9a-f]+", g(f"info address {name}"))[0] for name in NAMES]


def test_vmlinux():
    """The symbols of a kernel's ELF file, of which KASLR has moved all but those of per-CPU variables."""
    elf, recording = symbols(), linux_recording()[0]
    with open(path("cut"), "wb") as cut, open(path("empty"), "wb"), open(elf, "rb") as whole:
        cut.write(whole.read(5000))
    with debug(recording) as g:
        moved = addresses(g)
        for _ in range(2):
            g("symbols", r"moved by")
            check(addresses(g) == moved, addresses(g))
    for at in ("start", "end"):
        with debug(recording, "--at", at, "--symbols", elf) as g:
            check(addresses(g) == moved, f"{addresses(g)}, by kallsyms {moved}")
            g("monitor kernel", r"^Linux version 6", r"^\d+ symbols, moved by 0x[0-9a-f]+00000$")
    with debug(recording, "--symbols", vmlinux()) as g:
        slide = int(re.search(r"moved by (0x[0-9a-f]+)", g("monitor kernel"))[1], 0)
        check(slide, "this kernel was not moved: nothing is shown")
        for name, where in (("in_text", 0xffffffff81000010), ("in_init", 0xffffffff83000010)):
            g(f"info symbol {where + slide:#x}", f"^{name} in section")
        g("info address per_cpu", r"is at 0x10 ")
        for bad in (__file__, HERE, path("nowhere"), path("empty"), path("cut")):
            g(f"symbols {bad}", "ELF file|No such file|no file")
        g("info address per_cpu", r"is at 0x10 ")
        g(f"symbols {elf} 0x100000", r"offset by 0x100000")
        check(addresses(g)[0] == "0xffffffff81100000", addresses(g))
        g("symbols", r"moved by")
        check(addresses(g) == moved, f"{addresses(g)}, by kallsyms {moved}")
    with Live("run", *linux("idle", "hw.idle=60")) as live:
        live.running.wait_for(b"idle: sleeping", 60)
        with live.gdb() as g:
            moved = addresses(g)
            g(f"symbols {elf}", r"moved by")
            check(addresses(g) == moved, f"{addresses(g)}, by kallsyms {moved}")
            g(f"symbols {elf} 0x100000", r"offset by 0x100000")
            check(addresses(g)[0] == "0xffffffff81100000", addresses(g))
            g(f"symbols {elf} a bit", r"usage: symbols")
            g(f"symbols {elf} far", r"far: how far it was moved")
            g("symbols", r"moved by")
            check(addresses(g) == moved, f"{addresses(g)}, at first {moved}")
        with live.gdb(elf) as g:
            check(addresses(g)[0] == "0xffffffff81000000", "a file that gdb was given is left where it is")


def test_triple_fault():
    """A kernel that has thrown its IDT away to reset the machine still has names."""
    append = "console=ttyS0 root=/dev/vda1 panic=-1 reboot=t"
    record(path("a.hwr"), ["--append", append, linux("boot")[-1]]).expect(GUEST)
    with debug(path("a.hwr")) as g:
        g("backtrace", r"native_machine_emergency_restart", r" panic ", r"mount_block_root", r"kernel_init")


def pahole_structures(text):
    """Of each structure that there is one of: its size and members, as gdb_types.py has them."""
    found, name, size, members = {}, None, 0, []
    for line in text.splitlines():
        start = re.fullmatch(r"struct (\w+) \{.*", line)
        if start:
            name, members = start[1], []
        elif line.startswith("}") and name:
            # pahole goes into an anonymous structure that is only pointed to, with offsets of its own
            found[name] = None if name in found or None in members else [size, members]
            name = None
        total = re.search(r"/\* size: (\d+),", line)
        size = int(total[1]) if total else size
        row = re.fullmatch(r"\t+(.*);\s+/\* +(\d+)(?:: ?(\d+))? +(\d+) \*/", line)
        if not row or not name:
            continue
        text, byte, bit = re.sub(r"\s*__attribute__\(\(.*\)\)", "", row[1]), int(row[2]), row[3]
        if re.match(r"\} *\*", text):
            members.append(None)
        member = re.search(r"\(\*+(\w+)(?:\[\d+\])*\)|(\w+)(?:\[\d*\])*(?::(\d+))?$", text)
        if member:
            members.append([member[1] or member[2], byte, 8 * byte + int(bit) if bit else None,
                            int(member[3]) if member[3] else None, int(row[4])])
    return {name: what for name, what in found.items() if what}


def without_units(structure):
    """A bit field is where it is, whatever unit it is said to be in."""
    size, members = structure
    return size, [m[:1] + m[2:4] if m[3] else m for m in members]


def test_types():
    """Types out of the guest's memory, against what pahole reads there."""
    recording, _ = linux_recording()
    with debug(recording) as g:
        check("No struct type named task_struct" in g("ptype struct task_struct"), "it has them already")
        g("types", r"add symbol table from file \"target:/types\"")
        g("print ((struct task_struct *) &init_task)->comm", r'= "swapper')
        g("print ((struct task_struct *) &init_task)->mm == 0", r"= 1")
        g("print (enum pid_type) 1", r"= PIDTYPE_TGID")
        g("whatis loff_t", r"type = __kernel_loff_t")
        g("ptype ((struct file_operations *) 0)->llseek", r"type = long long \(\*\)\(struct file \*, loff_t, int\)")
        g("info symbol vfs_read", r"vfs_read in section")
        if not shutil.which("pahole"):
            print("pahole is not installed: structures are not compared")
            return
        g(f"dump binary memory {path('btf')} &__start_BTF &__stop_BTF")
        said = subprocess.run(["pahole", "-F", "btf", path("btf")], stdout=subprocess.PIPE, check=True, encoding="utf-8").stdout
        known = pahole_structures(said)
        check(len(known) > 5000, f"pahole knows {len(known)} structures")
        with open(path("names"), "w", encoding="ascii") as f:
            f.write("\n".join(known))
        g(f"source {HERE}/gdb_types.py")
        g(f"structures {path('names')} {path('json')}")
        with open(path("json"), encoding="ascii") as f:
            ours = json.load(f)
        wrong = [name for name in known if without_units(known[name]) != without_units(ours[name])]
        check(not wrong, f"{len(wrong)} differ: {[(known[name], ours[name]) for name in wrong[:2]]}")


def vmlinux():
    """A kernel's ELF file as far as its sections go."""
    def make(out):
        parts = ((".text", "in_text", 0xffffffff81000000), (".data..percpu", "per_cpu", 0),
                 (".init.text", "in_init", 0xffffffff83000000))
        with open(out + ".S", "w", encoding="utf-8") as source, open(out + ".lds", "w", encoding="utf-8") as script:
            for section, name, at in parts:
                source.write(f'.section {section}, "awx"\n.skip 16\n.globl {name}\n{name}: .quad 0\n')
                script.write(f"SECTIONS {{ {section} {at:#x} : {{ *({section}) }} }}\n")
        subprocess.run(["cc", "-c", "-o", out + ".o", out + ".S"], check=True)
        subprocess.run(["ld", "--no-warn-rwx-segments", "-e", "in_text", "-T", out + ".lds", "-o", out, out + ".o"],
                       check=True)
    return once("vmlinux", make)[0]


def test_live():
    elf = symbols()
    with Live("run", "--gdb-wait", *linux("short", "nokaslr")) as live, live.gdb(elf) as g:
        check(g.icount() == 0, "it has not waited")
        g("hbreak start_kernel")
        g("continue", r"in start_kernel \(\)")
        check(g.frames()[0] == "start_kernel", g.frames())
        g("delete")
        for name in kernel_functions(g, 300):
            g(f"break {name}")
        for _ in range(20):
            g("continue", r"^Breakpoint [\d.]+, 0x")
        g("stepi 20")
        g("delete")
        g("watch *(unsigned long *) &jiffies")
        g("continue", r"Old value", r"New value")
        g("continue", r"Old value", r"New value")
        check("do_timer" in g.frames() or "tick_do_update_jiffies64" in g.frames(), g.frames())
        g("delete")
        g("tbreak vfs_write if $rdx > 15 && *(char *) $rsi == 's' && *((char *) $rsi + 4) == 't'")
        g("continue", r"vfs_write")
        check(g.frames()[:3] == ["vfs_write", "ksys_write", "do_syscall_64"], g.frames())
        system_registers(g)
        g("print *(char *) $rsi", r"115 's'")
        g("set var *(char *) $rsi = 'S'")
        g("finish", r"ksys_write")
        for _ in range(2):
            g("print ((int (*)(void)) nr_processes)() > 10", r"= 1")
        check(g.frames()[:2] == ["ksys_write", "do_syscall_64"], g.frames())
        g("reverse-stepi", r"does not support this command")
        g.interrupt("continue", 0.1)
        check(g.frames(), "no frames")
        g("catch console forked 20")
        g("continue", CAUGHT.format(1, 'console prints "forked 20"'))
        check("forked 20" in g("monitor console 1"), "the console of a live guest")
        g("detach", r"detached")
        result = live.running.finish(120).expect(0)
        check(re.search(rb"^Short: ", result.out, re.M), result.out[-1500:])


def test_attach():
    """To a guest that sleeps, again and again, while it is recorded. It has names although gdb was given no file."""
    with Live("record", "-o", path("a.hwr"), *linux("idle", "hw.idle=2"), name="record") as live:
        live.running.wait_for(b"idle: sleeping", 60)
        for _ in range(2):
            with live.gdb() as g:
                g("info threads", r"CPU0")
                if "halted" in g("info threads"):
                    check("do_idle" in g.frames() and "start_kernel" in g.frames(), g.frames())
                refuses_changes(g, "rax", "&jiffies", r"recorded|cannot be changed")
                g("tbreak tick_nohz_idle_enter")
                g("continue", r"tick_nohz_idle_enter")
                g("detach")
        result = live.running.finish(120).expect(0)
    check_replay(path("a.hwr"), result)


run_all()
