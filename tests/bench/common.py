"""What the benchmarks share: the Linux guest, programs on the clock, and the document they write."""
import os
import re
import resource
import statistics
import subprocess
import tempfile
import textwrap
import time

ROOT = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
GUESTS = os.environ.get("HW_GUEST_DIR") or os.path.join(ROOT, "build", "guests")
DOCUMENT = os.path.join(ROOT, "docs", "performance.md")


class Failed(Exception):
    pass


# ---- programs ----

def children_cpu():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Finished:
    """A program that has ended: status, output, and the seconds it took, of wall clock and of processor."""

    def __init__(self, args, status, out, err, wall, cpu):
        self.args, self.status, self.out, self.err, self.wall, self.cpu = args, status, out, err, wall, cpu

    def expect(self, *statuses):
        if self.status not in statuses:
            raise Failed(f"status {self.status}: {' '.join(self.args)}\n{self.out[-2000:]}\n{self.err[-2000:]}")
        return self

    def ticks(self):
        """How long a guest of Hyperwind ran."""
        match = re.search(r"after (\d+) ticks", self.err)
        if not match:
            raise Failed(f"no closing line: {' '.join(self.args)}\n{self.err[-2000:]}")
        return int(match.group(1))


def run(args, timeout=600, on_line=None):
    """Runs a program to its end. on_line(process, line, seconds since its start) is called for each line of its
    standard output as it comes."""
    before, started = children_cpu(), time.monotonic()
    with tempfile.TemporaryFile() as err, \
            subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=err) as process:
        output, line = [], b""
        try:
            while chunk := os.read(process.stdout.fileno(), 65536):
                now = time.monotonic() - started
                output.append(chunk)
                *whole, line = (line + chunk).split(b"\n")
                for text in whole if on_line else ():
                    on_line(process, text.decode(errors="replace").strip(), now)
                if now > timeout:
                    raise Failed(f"still running after {timeout} s: {' '.join(args)}")
            process.wait(timeout)
        except BaseException:
            process.kill()
            raise
        wall = time.monotonic() - started
        err.seek(0)
        return Finished(args, process.returncode, b"".join(output).decode(errors="replace"),
                        err.read().decode(errors="replace"), wall, children_cpu() - before)


# ---- the Linux guest ----

LINUX_MEMORY = 512 << 20


def fetch_linux():
    subprocess.run([os.path.join(ROOT, "samples/linux/fetch.sh"), GUESTS], check=True, stdout=subprocess.DEVNULL)


def linux_files():
    """Kernel and initial RAM disk."""
    return os.path.join(GUESTS, "vmlinuz"), os.path.join(GUESTS, "initrd.cpio")


def linux_guest(append):
    """Arguments of Hyperwind for a Linux guest."""
    kernel, initrd = linux_files()
    return ["--memory", str(LINUX_MEMORY), "--initrd", initrd, "--append", append, kernel]


# ---- the document ----

def host():
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        model = next((line.split(":")[1].strip() for line in f if line.startswith("model name")), "unknown CPU")
    return f"{model}, {os.cpu_count()} CPUs"


def spread(values, form):
    """Median, minimum and maximum as three cells of a table."""
    return f"{form.format(statistics.median(values))} | {form.format(min(values))} | {form.format(max(values))}"


def add_document_option(parser):
    parser.add_argument("--no-document", action="store_true", help="only print the result")


def publish(options, title, text):
    """Prints the result. Unless --no-document, it also replaces the part of the document under this heading, or is
    added at its end."""
    lines = [line if line.startswith("|") else textwrap.fill(line, 120) for line in text.strip().splitlines()]
    part = "\n".join([f"## {title}", "", *lines, ""])
    print(f"\n{part}")
    if options.no_document:
        return
    with open(DOCUMENT, encoding="utf-8") as f:
        head, *parts = re.split(r"^(?=## )", f.read(), flags=re.M)
    old = [i for i, other in enumerate(parts) if other.startswith(f"## {title}\n")]
    if old:
        parts[old[0]] = part
    else:
        parts.append(part)
    with open(DOCUMENT, "w", encoding="utf-8") as f:
        f.write("\n".join(p.strip() + "\n" for p in [head, *parts]))
