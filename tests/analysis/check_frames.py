"""Sourced by gdb: unwinds the core file that is loaded, and checks each frame by what ORC knows nothing of: the code.

A return address lies behind a call. A direct call leads to the function of the next inner frame, unless that was
reached by a jump at the end of the function called. A backtrace goes on to where nobody called: a thread's first
function, the boot code, or user mode. Prints one line: how many frames, direct calls to the inner frame, other calls,
interrupted frames, and the end.
"""
import gdb

BOTTOMS = {"ret_from_fork", "secondary_startup_64_no_verify", "secondary_startup_64", "x86_64_start_kernel"}
KERNEL = 1 << 63


def symbol(pc):
    """(name, offset, section) of what gdb finds at pc, None where there is nothing."""
    words = gdb.execute(f"info symbol {pc:#x}", to_string=True).split()
    if words[0] == "No":
        return None
    return words[0], int(words[2]) if words[1] == "+" else 0, words[-1]


def read(addr, length):
    return bytes(gdb.selected_inferior().read_memory(addr, length))


def call_before(pc):
    """How the call that ends at pc finds its target: an address, 'indirect', or None for no call."""
    code = read(pc - 7, 7)
    if code[2] == 0xe8:
        return (pc + int.from_bytes(code[3:], "little", signed=True)) % (1 << 64)
    for length in (2, 3, 4, 6, 7):  # FF /2 with its ModRM, SIB and displacement, perhaps a prefix
        insn = code[-length:]
        if (insn[0] == 0xff and insn[1] >> 3 & 7 == 2) or (insn[0] in (0x41, 0x2e) and insn[1] == 0xff):
            return "indirect"
    return None


def check_call(inner, start, pc):
    """Whether `inner`, which begins at start, was called directly by the call that ends at pc."""
    target, caller = call_before(pc), symbol(pc - 1)
    if caller is None:
        raise gdb.GdbError(f"{inner} returns to {pc:#x}, which is no function")
    if target == start:
        return True
    # Boot code pushes the address and jumps; code of the boot is overwritten after it.
    if target is None and (caller[0] in BOTTOMS or caller[2] == ".init.text"):
        return False
    if target is None:
        raise gdb.GdbError(f"{inner} returns to {pc:#x}, but there is no call before it")
    if target != "indirect" and symbol(target)[1] != 0:
        raise gdb.GdbError(f"the call before {pc:#x}, where {inner} returns to, leads to no function")
    return False


def main():
    frame = gdb.newest_frame()
    frames = interrupted = 0
    calls = {True: 0, False: 0}
    exact = True  # pc is where the frame is, rather than where a call will return to
    while True:
        frames += 1
        if frame.pc() < KERNEL:
            end = "user mode"
            break
        at = frame.pc() if exact else frame.pc() - 1
        here = symbol(at)
        if here is None:
            raise gdb.GdbError(f"frame {frames}: {frame.pc():#x} is no function")
        older = frame.older()
        end = here[0]
        if older is None:
            break
        exact = frame.type() == gdb.SIGTRAMP_FRAME
        if exact:
            interrupted += 1
        else:
            calls[check_call(here[0], at - here[1], older.pc())] += 1
        frame = older
    if end != "user mode" and end not in BOTTOMS:
        raise gdb.GdbError(f"the backtrace ends in {end}: {frame.unwind_stop_reason()}")
    print(f"frames={frames} direct={calls[True]} other={calls[False]} interrupted={interrupted} end={end}")


main()
