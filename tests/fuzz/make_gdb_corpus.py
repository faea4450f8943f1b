#!/usr/bin/env python3
"""Seeds of fuzz_gdb: what gdb 13 sends in typical sessions, in the form that the harness reads.

usage: make_gdb_corpus.py FOLDER
"""
import os
import sys

START = ["qSupported:multiprocess+;swbreak+;hwbreak+;qRelocInsn+;fork-events+;vContSupported+;no-resumed+;"
         "memory-tagging+;xmlRegisters=i386", "vMustReplyEmpty", "QStartNoAckMode"]
OPEN = ["QProgramSignals:0;1;3;4;6;7", "Hgp0.0", "qXfer:features:read:target.xml:0,fffffb", "qTStatus", "?",
        "qXfer:threads:read::0,100000", "qAttached:1", "qXfer:exec-file:read:1:0,100000", "vFile:setfs:0",
        "vFile:open:2f6b65726e656c,0,1c0", "vFile:fstat:1", "vFile:pread:1,7fffe,0", "vFile:close:1", "Hc-1", "qOffsets",
        "g", "m1000,40", "qSymbol::", "vCont?"]
STOP = "\xff"
SESSIONS = {
    "open": START + OPEN + ["D;1"],
    "step": START + ["Z0,1010,1", "vCont;s:p1.1;c", STOP, "g", "z0,1010,1", "vCont;r1010,1020:p1.1", STOP, "vCont;c", "\x03",
                     STOP, "?"],
    "back": START + ["Hcp1.1", "bs", STOP, "bc", STOP, "bc", "\x03", STOP, "k"],
    "breaks": START + ["Z0,1010,1;X7,26000022051327X8,2310001722091327", "Z2,1100,8", "Z3,1100,4", "Z4,1100,1", "Z1,1010,1",
                       "vCont;c", STOP, "z2,1100,8", "vCont;c", STOP, "Z0,1010,1;X3,220027", "bc", STOP],
    "write": START + ["P0=0100000000000000", "G" + "00" * 36, "M1000,2:aabb", "X1000,0:", "X1000,3:a}\x03c", "x1000,10",
                      "qSearch:memory:1000;20000;needle", "qCRC:1000,100", "Qqemu.PhyMemMode:1", "m2000,4", "Z2,2000,4"],
    "monitor": START + ["qRcmd,736179", "qRcmd,6e6f", "R", "vRun;", "vKill;1"],
    "old": ["qC", "Hg1", "qfThreadInfo", "qsThreadInfo", "T2", "qThreadExtraInfo,1", "s", STOP, "c1010", STOP, "S05;1010", STOP,
            "C05", STOP, "!", "D"],
}


def framed(packet):
    if packet in (STOP, "\x03"):
        return packet.encode("latin-1")
    data = packet.encode("latin-1")
    return b"$%s#%02x" % (data, sum(data) % 256)


def main():
    folder = sys.argv[1]
    os.makedirs(folder, exist_ok=True)
    broken = {"half": b"$g#6", "wrong-sum": b"$g#00$g#67-", "again": b"$$$g#67+++---\x03\x03", "escape": b"$X1000,1:}#b5",
              "long": b"$m" + b"1" * 5000 + b",1#00", "no-end": b"$vCont" + b";c" * 2000}
    for name, packets in SESSIONS.items():
        with open(os.path.join(folder, name), "wb") as f:
            f.write(b"".join(framed(p) for p in packets))
    for name, data in broken.items():
        with open(os.path.join(folder, name), "wb") as f:
            f.write(data)


main()
