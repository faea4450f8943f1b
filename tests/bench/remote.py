"""Clients for the clock: a small one of gdb's remote protocol, and the real gdb through its MI."""
import re
import socket
import subprocess
import time

from common import Failed


class Silent(Failed):
    """No reply within the time that there is."""


class Stub:
    """One connection to a gdb stub behind a unix socket. `limit`: seconds to wait for a reply."""

    def __init__(self, path, limit):
        self.limit, self.buffer = limit, b""
        deadline = time.monotonic() + limit
        while True:
            self.socket = socket.socket(socket.AF_UNIX)
            try:
                self.socket.connect(path)
                break
            except OSError as error:
                self.socket.close()
                if time.monotonic() > deadline:
                    raise Silent(f"{path}: {error}") from error
                time.sleep(0.01)
        self.acknowledge = True
        features = self.ask("qSupported:multiprocess+;swbreak+;hwbreak+")
        if b"QStartNoAckMode+" in features:
            self.ask("QStartNoAckMode")
            self.acknowledge = False

    def close(self):
        self.socket.close()

    def send(self, packet):
        data = packet.encode()
        self.socket.sendall(b"$%s#%02x" % (data, sum(data) % 256))

    def receive(self):
        deadline = time.monotonic() + self.limit
        while not (match := re.search(rb"\$([^#]*)#..", self.buffer, re.S)):
            self.socket.settimeout(max(deadline - time.monotonic(), 1e-3))
            try:
                data = self.socket.recv(1 << 16)
            except TimeoutError as error:
                raise Silent(f"no reply within {self.limit} s") from error
            if not data:
                raise Failed("the stub is gone")
            self.buffer += data
        self.buffer = self.buffer[match.end():]
        if self.acknowledge:
            self.socket.sendall(b"+")
        return re.sub(rb"(.)\*(.)", lambda m: m[1] * (1 + m[2][0] - 29), match[1], flags=re.S)

    def ask(self, packet):
        self.send(packet)
        return self.receive()

    def monitor(self, line):
        reply, text = self.ask("qRcmd," + line.encode().hex()), b""
        while reply != b"OK":
            if reply[:1] != b"O":
                raise Failed(f"monitor {line}: {reply!r}")
            text += bytes.fromhex(reply[1:].decode())
            reply = self.receive()
        return text.decode()

    def move(self, packet):
        """Seconds until the guest stands again."""
        started = time.monotonic()
        self.send(packet)
        while (reply := self.receive())[:1] == b"O":
            pass
        if reply[:1] not in (b"T", b"S"):
            raise Failed(f"{packet}: {reply!r}")
        return time.monotonic() - started

    def rip(self):
        return int.from_bytes(bytes.fromhex(self.ask("g")[256:272].decode()), "little")


class Gdb:
    """gdb under `command`, which passes the option of its machine interface on to it."""

    def __init__(self, command, limit):
        self.limit = limit
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL, text=True, bufsize=1)
        self.until(lambda line: line.startswith("*stopped"))

    def until(self, wanted):
        """Lines, up to the one that is wanted. gdb is trusted to close its output when it ends."""
        lines = []
        while line := self.process.stdout.readline():
            lines.append(line.rstrip())
            if line.startswith("^error"):
                raise Failed(f"gdb: {lines[-1]}")
            if wanted(line):
                return lines
        raise Failed("gdb has ended: " + "\n".join(lines[-5:]))

    def move(self, command):
        """Seconds until gdb reports a stop."""
        started = time.monotonic()
        self.process.stdin.write(command + "\n")
        lines = self.until(lambda line: line.startswith("*stopped"))
        return time.monotonic() - started, lines[-1]

    def close(self):
        self.process.stdin.write("-gdb-exit\n")
        try:
            self.process.communicate(timeout=self.limit)
        finally:
            self.process.kill()
