"""Commands of gdb for a guest that Hyperwind runs or replays: `help hyperwind` lists them.

They are the stub's monitor commands under names of their own. Those that move in time are executed by the stub in place
of a step (`monitor on-step`), so that gdb and every front end of it notice that the guest stands elsewhere.
"""
import os
import re
import struct

import gdb


def monitor(line):
    return gdb.execute("monitor " + line, to_string=True)


def travel(line):
    """Let the next step be this monitor command; its output comes with the stop."""
    monitor("on-step " + line)
    gdb.execute("stepi")


class Hyperwind(gdb.Command):
    """Time travel and other commands of Hyperwind. `monitor help` lists those of the stub itself."""

    def __init__(self):
        super().__init__("hyperwind", gdb.COMMAND_RUNNING, prefix=True)

    def invoke(self, argument, from_tty):
        gdb.execute("help hyperwind")


class Relay(gdb.Command):
    """One monitor command, as a command of gdb and as one of `hyperwind`'s."""

    def __init__(self, name, text, run, complete=gdb.COMPLETE_NONE):
        self.__doc__ = text
        self.run = run
        super().__init__(name, gdb.COMMAND_RUNNING, complete)

    def invoke(self, argument, from_tty):
        self.dont_repeat()
        try:
            self.run(argument)
        except gdb.error as error:  # nobody wants to read how Python came by it
            raise gdb.GdbError(str(error)) from None


def show(name):
    return lambda argument: gdb.write(monitor(f"{name} {argument}"))


def last_write(argument):
    """An object of the program is watched in its length, any other value is an address of 8 bytes."""
    if not argument:
        raise gdb.GdbError("last-write EXPRESSION: an object of the program, or an address")
    value = gdb.parse_and_eval(argument)
    if value.address is not None:
        travel(f"last-write {int(value.address):#x} {value.type.sizeof}")
    else:
        travel(f"last-write {int(value) % 2**64:#x}")


def sections(path):
    """Of an ELF file: the addresses of its sections by name; of a 32-bit one: nothing. (ELF specification, "Sections".)"""
    try:
        if not os.path.isfile(path):
            raise gdb.GdbError(f"{path}: " + ("This is no file." if os.path.exists(path) else "No such file or directory."))
        with open(path, "rb") as f:
            header = f.read(64)
            if header[:4] != b"\x7fELF" or header[4] not in (1, 2):
                raise gdb.GdbError(f"{path}: This is no ELF file.")
            if header[4] == 1:
                return {}
            (offset,), (size, count, names) = struct.unpack_from("<Q", header, 40), struct.unpack_from("<HHH", header, 58)
            f.seek(offset)
            table = f.read(size * count)
            rows = [struct.unpack_from("<IIQQQQ", table, i * size) for i in range(count)]
            f.seek(rows[names][4])
            strings = f.read(rows[names][5])
    except (OSError, struct.error, IndexError, ValueError, OverflowError, MemoryError):
        raise gdb.GdbError(f"{path}: This ELF file is damaged, or cannot be read.") from None
    return {strings[row[0]:].split(b"\0", 1)[0].decode(errors="replace"): row[3] for row in rows}


def load_symbols(path, moved):
    """Instead of all others. Each section lies as far from where it was linked as the kernel was moved, but that of
    per-CPU variables: their addresses are offsets."""
    per_cpu = " -s .data..percpu 0" if sections(path).get(".data..percpu") == 0 else ""
    quoted = re.sub(r"([\\\s\"'])", r"\\\1", path if path[0] != "-" else "./" + path)
    gdb.execute("symbol-file")
    if moved:
        gdb.execute(f"add-symbol-file {quoted} -o {moved:#x}{per_cpu}")
    else:
        gdb.execute(f"symbol-file {quoted}")


def symbols(argument):
    words = [argument.strip()] if os.path.exists(argument.strip()) else gdb.string_to_argv(argument)
    if len(words) > 2 or "" in words:
        raise gdb.GdbError("usage: symbols [VMLINUX [MOVED]]")
    if len(words) == 2:
        try:
            moved = int(words[1], 0)
        except ValueError:
            raise gdb.GdbError(f"{words[1]}: how far it was moved was expected, such as 0x20a00000") from None
        if not 0 <= moved < 2**64:
            raise gdb.GdbError(f"{words[1]}: this is beyond 64 bits")
    else:
        said = monitor("kernel")
        known = re.search(r"moved by (0x[0-9a-f]+|0)$", said, re.M)
        moved = int(known[1], 0) if known else 0
        gdb.write(said)
        if words and not known:
            gdb.write("So it is loaded where it was linked. When that is known: symbols VMLINUX MOVED\n")
    if words:
        load_symbols(os.path.expanduser(words[0]), moved)
    elif " symbols, " in said:
        gdb.execute("symbol-file")
        gdb.execute("symbol-file target:/kernel")


def types(argument):
    if argument:
        raise gdb.GdbError("types: it takes no argument")
    if " symbols, " not in monitor("kernel"):
        raise gdb.GdbError("From here no Linux kernel is to be seen that has symbols.")
    try:
        gdb.execute("add-symbol-file target:/types")
    except gdb.error as error:
        if "No such file" in str(error):
            raise gdb.GdbError("This kernel has no types in its memory that can be read (CONFIG_DEBUG_INFO_BTF).") from None
        raise


# Stops that gdb has no packet for: (command, what follows it, what it is).
CATCH = [
    ("catch vector", "N[-M]", "Stop when an interrupt or exception is delivered: catch vector 14, #PF, 32-255."),
    ("catch port", "N[-M]", "Stop when an I/O port is read or written: catch port 0x3f8, 0x20-0x21."),
    ("catch console", "TEXT", "Stop when the guest has printed a text: catch console Kernel panic."),
    ("catch input", "", "Stop where something that was typed reaches the guest."),
]

COMMANDS = [
    ("when", "Where in its history the guest stands.\nThe same number is in the register $icount.", show("when")),
    ("seek", "Go to a position: seek ICOUNT | P% | +N | -N | start | end | eEVENT | MARK.\nBreakpoints do not stop it.",
     lambda argument: travel("seek " + argument)),
    ("mark", "Give this position a name: mark [NAME]. `seek NAME` comes back to it.", show("mark")),
    ("marks", "The names given to positions.", show("marks")),
    ("last-write", "Go back to just before the last write to an object: last-write EXPRESSION.\n"
                   "The value of an expression that is no object is taken as an address.", last_write),
    ("console", "The last lines of the guest's console up to here, each with its icount: console [LINES].", show("console")),
    ("events", "What came from outside after this position (typed bytes, time): events [N]. `seek eNUMBER` goes there.",
     show("events")),
    ("symbols", "Load the symbols of a kernel's ELF file, moved to where KASLR put it: symbols VMLINUX [MOVED].\n"
                "MOVED is how far that is, in case it cannot be found out. All others go.\n"
                "Without a file: those that a Linux kernel carries in its own memory.", symbols, gdb.COMPLETE_FILENAME),
    ("types", "Load the types of a Linux kernel that carries them in its own memory (BTF).", types),
    ("catches", "List the catchpoints, set by " + ", ".join(name for name, _, _ in CATCH) + ".", show("catches")),
    ("uncatch", "Take a catchpoint away: uncatch N|all.", show("uncatch")),
]

Hyperwind()
for command, *rest in COMMANDS:
    Relay(command, *rest)
    Relay("hyperwind " + command, *rest)
for command, what, text in CATCH:
    Relay(command, f"{text}\nForwards or backwards, until `uncatch`. Usage: {command} {what}".rstrip(), show(command))
