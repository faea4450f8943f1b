"""For gdb: what it knows of structures. `structures NAMES OUT`: NAMES has a name on each line; into OUT, as JSON, each one's
size and members: [name, byte, bit or null, bits or null, size], those of anonymous structures within before the structure."""
import json

import gdb


def element(t):
    while t.strip_typedefs().code == gdb.TYPE_CODE_ARRAY:
        t = t.strip_typedefs().target()
    return t


def unqualified(t):
    return t.unqualified() if t.code in (gdb.TYPE_CODE_STRUCT, gdb.TYPE_CODE_UNION) else t


def members(t, base):
    out = []
    for f in t.fields():
        inner = unqualified(element(f.type))
        if inner.code in (gdb.TYPE_CODE_STRUCT, gdb.TYPE_CODE_UNION) and not inner.tag:
            out += members(inner, base + f.bitpos)
        if f.name:
            at = base + f.bitpos
            out.append([f.name, at // 8, at if f.bitsize else None, f.bitsize or None, f.type.sizeof])
    return out


class Structures(gdb.Command):
    def __init__(self):
        super().__init__("structures", gdb.COMMAND_DATA)

    def invoke(self, argument, from_tty):
        names, out = gdb.string_to_argv(argument)
        found = {}
        with open(names, encoding="ascii") as f:
            for name in f.read().split():
                t = gdb.lookup_type("struct " + name)
                found[name] = [t.sizeof, members(t, 0)]
        with open(out, "w", encoding="ascii") as f:
            json.dump(found, f)


Structures()
