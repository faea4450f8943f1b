"""The guests that test_debug*.py show to gdb, and what is asked of several of them."""
import os
import re
import subprocess

from gdbtest import debug  # first: it says where hwtest is
import hwtest
from hwtest import VIRTUAL, check, linux, record, rng

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
SAMPLES = os.path.join(ROOT, "samples")
GONE = r"No more reverse-execution history"
REFUSED = r"what happened cannot be changed"
made = {}


# ---- Guests ----

def once(name, make):
    """A file that all tests of this process share; make(path) makes it."""
    if name not in made:
        directory = os.path.join(hwtest.WORK_ROOT, "shared")
        os.makedirs(directory, exist_ok=True)
        made[name] = os.path.join(directory, name), make(os.path.join(directory, name))
    return made[name]


def compile_c(out, bits, script, *sources):
    subprocess.run(["cc", f"-m{bits}", "-Og", "-g", "-std=gnu17", "-ffreestanding", "-fno-pie", "-fno-stack-protector",
                    "-mno-red-zone", "-fno-asynchronous-unwind-tables", "-fcf-protection=none", "-mgeneral-regs-only",
                    "-nostdlib", "-static", f"-Wl,-T,{script}", "-Wl,--build-id=none", "-Wl,-z,max-page-size=4096",
                    "-o", out, *sources], check=True)


def sample(bits, directory, name):
    d = os.path.join(SAMPLES, directory)
    return once(name + ".elf", lambda out: compile_c(out, bits, f"{d}/{name}.ld", f"{d}/boot.S", f"{d}/{name}.c"))[0]


def c_guest():
    return ["--memory", "16M", *VIRTUAL, sample(64, "heisenbug", "heisenbug")]


def hello_guest(*words):
    return ["--memory", "16M", *VIRTUAL, "--append", " ".join(words), sample(32, "multiboot", "hello")]


def assemble(out):
    subprocess.run(["cc", "-m32", "-g", "-c", "-o", out + ".o", f"{ROOT}/tests/replay/guest.S"], check=True)
    subprocess.run(["ld", "-m", "elf_i386", "-n", "--no-warn-rwx-segments", "--build-id=none", "-Ttext=0x100000", "-o",
                    out, out + ".o"], check=True)


def assembler():
    return once("guest.elf", assemble)[0]


def recorded(name, guest, status):
    """(file, what the recorder said) of one recording that the tests of this process share."""
    return once(name, lambda out: record(out, guest, name="shared").expect(status))


def c_recording():
    return recorded("c.hwr", c_guest(), 1)[0]


def hello_recording():
    return recorded("hello.hwr", hello_guest(), 0)[0]


def linux_recording():
    return recorded("linux.hwr", linux("short"), 0)


def assembler_guest(rounds, end="exit"):
    return ["--memory", "16M", "--append", f"rounds={rounds} end={end}", assembler()]


def hot_line():
    """Of guest.S: one that runs 16384 times a round."""
    with open(f"{ROOT}/tests/replay/guest.S", encoding="utf-8") as f:
        return "guest.S:%d" % next(n for n, line in enumerate(f, 1) if "cmp $BUFFER_DWORDS" in line)


# ---- What several guests are asked ----

def stops(g, command, limit=40):
    """Positions at which a command stops, repeated up to an end of history."""
    found = []
    while len(found) < limit:
        if re.search(GONE, g(command)):
            return found
        found.append(g.icount())
    return found


def same_as_forwards(recording, states, *options):
    """A session that only goes forwards shows the same registers at these positions."""
    with debug(recording, "--at", "start", *options) as g:
        for position in sorted(states):
            g(f"seek {position}")
            check(g.state() == (position, states[position]), f"another state at {position}")


FORWARDS = ["stepi", "stepi 3", "stepi 40", "nexti", "step", "step 3", "next", "next 2", "until", "finish", "continue"]
BACKWARDS = ["reverse-stepi", "reverse-stepi 3", "reverse-stepi 40", "reverse-nexti", "reverse-step", "reverse-next",
             "reverse-finish", "reverse-continue"]


def walk(g, length, states):
    """Random commands: each goes its way or stands; a position seen twice has the same registers."""
    at = g.icount()
    for _ in range(length):
        command = rng.choice(rng.choice([FORWARDS, BACKWARDS]))
        g(command)
        position, registers = g.state()
        check(position <= at if command in BACKWARDS else position >= at, f"{command}: from {at} to {position}")
        check(states.setdefault(position, registers) == registers, f"{command}: other registers at {position}")
        at = position


def untouched(g, expected_end, digest=None):
    """After all that: the rest of the recording still replays as recorded, to the same state."""
    g("delete")
    said = g("continue", GONE)
    check("diverged" not in said and "differ" not in said, said)
    check(g.icount() == expected_end, f"it ends at {g.icount()}, recorded {expected_end}")
    check(digest is None or g.digest() == digest, "the end is another one than before")


def at_end(recording, *options):
    with debug(recording, *options) as g:
        return g.icount(), g.digest()


def system_registers(g):
    """`info registers` has every system register, with the values that the monitor reads from the CPU itself."""
    said = g("info registers")
    values = {name: int(value, 16) for name, value in re.findall(r"^(\w+) +(0x[0-9a-f]+)\b", said, re.M)}
    monitor = g("monitor info registers")
    for name in ("CR0", "CR2", "CR3", "CR4", "DR0", "DR1", "DR2", "DR3", "DR6", "DR7", "EFER"):
        check(values[name.lower()] == int(re.search(rf"\b{name}=([0-9a-f]+)", monitor)[1], 16), f"{name}\n{said}")
    for table in ("GDT", "IDT"):
        base, limit = re.search(rf"^{table}= +([0-9a-f]+) ([0-9a-f]+)", monitor, re.M).groups()
        key = table.lower() + "r"
        check((values[key + "_base"], values[key + "_limit"]) == (int(base, 16), int(limit, 16)), table)
    for name, key in (("LDT", "ldtr"), ("TR ", "tr")):
        selector, base, limit = re.search(rf"^{name}=([0-9a-f]+) ([0-9a-f]+) ([0-9a-f]+)", monitor, re.M).groups()
        check((values[key], values[key + "_base"], values[key + "_limit"]) ==
              (int(selector, 16), int(base, 16), int(limit, 16)), name)
    for name in ("CS", "SS", "DS", "ES", "FS", "GS"):
        selector, base = re.search(rf"^{name} =([0-9a-f]+) ([0-9a-f]+)", monitor, re.M).groups()
        check(values[name.lower()] == int(selector, 16), name)
        check(values[name.lower() + "_base"] == int(base, 16), f"{name}_base")
    for name in ("cr8", "k_gs_base", "star", "lstar", "cstar", "sfmask", "xcr0", "icount", "eflags"):
        check(name in values, f"no {name}\n{said}")
    return values


def refuses_changes(g, register, address, why=REFUSED):
    """A register says why; of memory gdb 13 only says that it did not work. Neither has changed."""
    before = g.state(), g.digest()
    g(f"set ${register} = 12345", why)
    g(f"set var *(char *) {address} = *(char *) {address} + 1", "Cannot access memory")
    g("maintenance flush register-cache")
    check((g.state(), g.digest()) == before, "something has changed")


def back_and_forth_over_writes(g, lvalue, count):
    """A watchpoint's stops, forwards just behind each write and backwards just before it, values swapped."""
    g("delete")
    g(f"watch {lvalue}", r"^Hardware watchpoint")
    there, back = [], []
    for way, command in ((there, "continue"), (back, "reverse-continue")):
        for _ in range(count):
            old, new = re.search(r"Old value = (.*)\nNew value = (.*)", g(command)).groups()
            way.append((g.icount(), old, new))
    check(back == [(at - 1, new, old) for at, old, new in reversed(there)], f"there {there}\nback {back}")
    g("delete")
    return there
