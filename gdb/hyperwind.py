"""Commands of gdb for a guest that Hyperwind runs or replays: `help hyperwind` lists them.

They are the stub's monitor commands under names of their own. Those that move in time are executed by the stub in place
of a step (`monitor on-step`), so that gdb and every front end of it notice that the guest stands elsewhere.
"""
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

    def __init__(self, name, text, run):
        self.__doc__ = text
        self.run = run
        super().__init__(name, gdb.COMMAND_RUNNING)

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
    ("catches", "List the catchpoints, set by " + ", ".join(name for name, _, _ in CATCH) + ".", show("catches")),
    ("uncatch", "Take a catchpoint away: uncatch N|all.", show("uncatch")),
]

Hyperwind()
for command, text, action in COMMANDS:
    Relay(command, text, action)
    Relay("hyperwind " + command, text, action)
for command, what, text in CATCH:
    Relay(command, f"{text}\nForwards or backwards, until `uncatch`. Usage: {command} {what}".rstrip(), show(command))
