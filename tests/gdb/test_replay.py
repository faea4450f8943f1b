#!/usr/bin/env python3
"""The server over recordings of real guests: what gdb's packets reach is exactly what was there.

usage: test_replay.py HYPERWIND SERVE SMALL_GUEST WORK_DIR [TEST...]
"""
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import time

HYPERWIND, SERVE, GUEST, WORK = sys.argv[1:5]
SEED = int(os.environ.get("HW_SEED", random.SystemRandom().randrange(1 << 32)))
RECORDING = os.path.join(WORK, "small.hwr")


class Client:
    """One connection in no-ack mode."""

    def __init__(self, ticks, engine=None):
        command = [SERVE, RECORDING, str(ticks)] + ([engine] if engine else [])
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        host, port = self.process.stdout.readline().strip().rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=120)
        self.buffer = b""
        self.ask("QStartNoAckMode")
        assert b"ReverseStep+" in self.ask("qSupported:swbreak+;hwbreak+;multiprocess+")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()
        assert self.process.wait(timeout=60) == 0

    def send(self, packet):
        data = packet.encode()
        self.socket.sendall(b"$%s#%02x" % (data, sum(data) % 256))

    def receive(self):
        while not re.search(rb"\$[^#]*#..", self.buffer, re.S):
            data = self.socket.recv(1 << 20)
            assert data, "the server is gone"
            self.buffer += data
        packet, self.buffer = re.match(rb"\+?\$([^#]*)#..(.*)", self.buffer, re.S).groups()
        return re.sub(rb"(.)\*(.)", lambda m: m[1] * (1 + m[2][0] - 29), packet, flags=re.S)

    def ask(self, packet):
        self.send(packet)
        return self.receive()

    def monitor(self, line):
        reply, text = self.ask("qRcmd," + line.encode().hex()), b""
        while reply != b"OK":
            assert reply[:1] == b"O", reply
            text += bytes.fromhex(reply[1:].decode())
            reply = self.receive()
        return text.decode()

    def move(self, packet):
        reply = self.ask(packet)
        while reply[:1] == b"O":
            reply = self.receive()
        return reply.decode()

    def position(self):
        return int(re.search(r"icount (\d+)", self.monitor("when"))[1])

    def seek(self, ticks):
        self.monitor(f"seek {ticks}")

    def state(self):
        """Everything that gdb can see, and the machine's digest, which it cannot."""
        return self.ask("g"), self.monitor("digest")


def record():
    with open(os.path.join(WORK, "record.log"), "wb") as log:
        result = subprocess.run([HYPERWIND, "record", "-o", RECORDING, "--memory", "16M", "--append", "rounds=60",
                                 GUEST], stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=120, check=False)
    assert result.returncode == 3, result.returncode


def end_of(client):
    return int(re.search(r" of (\d+)", client.monitor("when"))[1])


def test_back_is_where_it_came_from(engine=None):
    """seek(N), k times `bs`: the same state as on the way forwards."""
    with Client(0, engine) as c:
        end = end_of(c)
        for _ in range(40):
            n, k = random.randrange(end // 100, end + 1), random.choice([1, 2, 7, 30])
            c.seek(n - k)
            want = c.state()
            if random.random() < 0.5:
                c.seek(random.randrange(end))
            c.seek(n)
            for i in range(k):
                assert c.move("bs").startswith("T05")
            assert c.position() == n - k, (n, k, c.position())
            assert c.state() == want, f"{n} - {k} is another place"
            for i in range(k):
                assert c.move("vCont;s:p1.1").startswith("T05")
            assert c.position() == n
    print("checked", end)


def test_back_with_another_engine():
    test_back_is_where_it_came_from("interp")


def test_breakpoints_agree_in_both_directions():
    """Every hit forwards is a hit backwards."""
    with Client(0) as c:
        c.seek("50%")
        address = int.from_bytes(bytes.fromhex(c.ask("p10").decode()), "little")
        c.seek(0)
        assert c.ask(f"Z0,{address:x},1") == b"OK"
        there = []
        while "swbreak" in c.move("vCont;c") and len(there) < 25:
            there.append(c.position())
        assert len(there) >= 2 and there == sorted(set(there))
        back = []
        if len(there) == 25:
            c.move("vCont;s:p1.1")
        while "swbreak" in c.move("bc"):
            back.append(c.position())
        assert c.position() == 0
        assert [t for t in reversed(back) if t <= there[-1]][:len(there)] == there, (there, back)


def test_watchpoint_finds_the_write():
    """A write, found backwards: not done before it, done after it; the same one as `last-write` finds."""
    with Client(0) as c:
        c.seek("70%")
        stack = int.from_bytes(bytes.fromhex(c.ask("p7").decode()), "little") - 4
        c.ask(f"Z2,{stack:x},4")
        assert f"watch:{stack:x};" in c.move("bc"), "nothing writes the stack"
        at, before = c.position(), c.ask(f"m{stack:x},4")
        assert f"watch:{stack:x};" in c.move("vCont;c")
        assert c.position() == at + 1
        after = c.ask(f"m{stack:x},4")
        c.ask(f"z2,{stack:x},4")
        c.seek("70%")
        assert f"writes {stack:#x}" in c.monitor(f"last-write {stack:#x} 4")
        assert (c.position(), c.ask(f"m{stack:x},4")) == (at, before)
        c.move("vCont;s:p1.1")
        assert c.ask(f"m{stack:x},4") == after


def test_conditions_hold_where_it_stops():
    with Client(0) as c:
        c.seek("50%")
        address = int.from_bytes(bytes.fromhex(c.ask("p10").decode()), "little")
        c.seek(0)
        # the low bits of RBP, which is the round: reg 6, const 7, and, const 5, equal
        condition = "2600062207" + "0f" + "22051327"
        assert c.ask(f"Z0,{address:x},1;X{len(condition) // 2:x},{condition}") == b"OK"
        for packet, want in (("vCont;c", 5), ("vCont;c", 5), ("bc", 5)):
            reply = c.move(packet)
            if "replaylog" in reply:
                break
            assert bytes.fromhex(c.ask("p6").decode())[0] & 7 == want, packet


def test_ends():
    with Client(0) as c:
        assert "replaylog:begin" in c.move("bs") and "replaylog:begin" in c.move("bc")
        assert "replaylog:end" in c.move("vCont;c")
        end = c.position()
        assert end == end_of(c)
        assert "replaylog:end" in c.move("vCont;s:p1.1")
        assert c.move("bs").endswith("core:0;") and c.position() == end - 1


def test_refuses_writes():
    with Client(1000) as c:
        before = c.state()
        assert c.ask("P0=0000000000000000").startswith(b"E.")
        assert c.ask("M100000,1:00").startswith(b"E.")
        assert c.state() == before


def test_interrupt():
    """^C in the middle of a long way, in both directions."""
    with Client(0) as c:
        slow = "2200" + "28" * 100 + "29" * 100 + "27"  # a condition that takes its time, and never holds
        c.ask(f"Z4,0,ffffffff;X{len(slow) // 2:x},{slow}")
        for packet, start in (("bc", "end"), ("vCont;c", "start")):
            c.seek(start)
            c.send(packet)
            time.sleep(0.2)
            c.socket.sendall(b"\003")
            started = time.monotonic()
            reply = c.receive().decode()
            took = time.monotonic() - started
            assert reply.startswith("T02"), reply
            assert took < 2, took  # generous: sanitizers, a loaded host
            print(f"{packet}: {reply[:3]} after {took * 1000:.0f} ms")


def main():
    tests = {name: test for name, test in globals().items() if name.startswith("test_")}
    shutil.rmtree(WORK, ignore_errors=True)
    os.makedirs(WORK)
    print("seed", SEED, flush=True)
    random.seed(SEED)
    record()
    for name in sys.argv[5:] or tests:
        started = time.monotonic()
        tests[name]()
        print(f"{name}: passed ({time.monotonic() - started:.1f} s)", flush=True)


main()
