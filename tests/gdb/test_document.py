#!/usr/bin/env python3
"""docs/debugging.md was run as printed, and is again: its commands, and what they say but for numbers.

usage: test_document.py HYPERWIND SOURCE_DIR GUEST_DIR WORK_DIR tutorial|reference|tables

In an indented block, `$ ...` is a line for the shell and `(gdb) ...` one for the gdb that the last shell line started. What
stands below is what they print; `...` stands for any number of lines, and nothing at all for anything.
"""
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import time

HYPERWIND, SOURCE, GUESTS, WORK, WHICH = sys.argv[1:6]
DOCUMENT = os.path.join(SOURCE, "docs/debugging.md")
TUTORIAL = "Ten minutes"
SKIPPED = "./setup.sh"  # it installs packages, and builds what is tested here
TIMEOUT = 300
PROMPT = "(gdb) "


def blocks(tutorial):
    """Lists of lines, of one part of the document or the other."""
    with open(DOCUMENT, encoding="utf-8") as f:
        sections = re.split(r"^## ", f.read(), flags=re.M)
    for section in sections:
        if section.startswith(TUTORIAL) == tutorial:
            for block in re.findall(r"(?:^    .*\n|^\n(?=    ))+", section, re.M):
                lines = [line[4:] for line in block.split("\n") if line.strip()]
                if lines:
                    yield lines


def steps(tutorial):
    """[command, lines it prints]"""
    found = []
    for block in blocks(tutorial):
        if not block[0].startswith(("$ ", PROMPT)):
            continue
        for line in block:
            if line.startswith(("$ ", PROMPT)):
                found.append([line, []])
            elif found[-1][0].endswith("\\"):
                found[-1][0] = found[-1][0][:-1] + line.strip()
            else:
                found[-1][1].append(line)
    return found


def plain(line):
    """What is the same in every run, wherever this is."""
    line = re.sub(r"\S*/samples/", "samples/", line.replace("\r", ""))
    return re.sub(r"\s+", " ", re.sub(r"0x[0-9a-f]+|\d+", "N", line)).strip()


def pattern(line):
    return re.escape(plain(line)).replace(re.escape("..."), ".*")


def check(command, expected, said):
    said = re.sub(r"\n +at ", " at ", said)  # gdb breaks lines that are too long for a terminal
    said = re.sub(r"^(looking back|\d+ %): at icount .*\n", "", said, flags=re.M)  # on a slow machine, in a slow build
    lines = [plain(line) for line in said.split("\n") if line.strip()]
    wanted = "".join("(?:.*\n)*" if line == "..." else pattern(line) + "\n" for line in expected)
    if expected and not re.fullmatch(wanted, "".join(line + "\n" for line in lines)):
        sys.exit(f"{command}\n\nThe document:\n" + "\n".join(expected) + "\n\nThe program:\n" + said)
    print("as printed:", command, flush=True)


class Background:
    """`... &`: it runs on when it says that gdb may connect."""

    def __init__(self, command, number):
        self.log = os.path.join(WORK, f"background{number}")
        with open(self.log, "w", encoding="utf-8") as log:
            self.process = subprocess.Popen(["bash", "-c", "exec " + command[:-1]], stdout=log, stderr=log, cwd=WORK)
        end = time.monotonic() + TIMEOUT
        while "gdb may connect" not in self.text() and time.monotonic() < end and self.process.poll() is None:
            time.sleep(0.05)

    def text(self):
        with open(self.log, encoding="utf-8", errors="replace") as log:
            return log.read()


def shell(command, typed):
    result = subprocess.run(["bash", "-c", command], input="".join(line + "\n" for line in typed), timeout=TIMEOUT,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", cwd=WORK,
                            check=False)
    guests_own = " replay " in command and result.returncode % 2  # docs/exit-codes.md
    if result.returncode and not guests_own:
        sys.exit(f"{command}: status {result.returncode}\n{result.stdout}")
    return result.stdout


def run(tutorial):
    every = steps(tutorial)
    starts = [i for i, step in enumerate(every) if step[0].startswith("$ ")]
    assert starts and starts[0] == 0, "a session without a shell line"
    running = []
    for begin, end in itertools.pairwise([*starts, len(every)]):
        command, expected = every[begin][0][2:], every[begin][1]
        typed = every[begin + 1:end]
        if command.startswith(SKIPPED):
            continue
        if command.endswith("&"):
            running.append(Background(command, len(running)))
            check(command, expected, running[-1].text())
            continue
        said = shell(command, [step[0][len(PROMPT):] for step in typed])
        if not typed:
            check(command, expected, said)
            continue
        said = said.split(PROMPT)
        for step, text in zip([every[begin], *typed], [*said, *[""] * len(typed)]):
            check(step[0], step[1], text)
    for background in running:
        assert background.process.wait(timeout=TIMEOUT) == 0, background.text()


def prepare():
    """A tree as the document has it, around the program that is to be tested."""
    shutil.rmtree(WORK, ignore_errors=True)
    os.makedirs(os.path.join(WORK, "build/release"))
    os.makedirs(os.path.join(WORK, "build/demo"))
    links = {"samples": f"{SOURCE}/samples", "gdb": f"{SOURCE}/gdb", "build/guests": GUESTS,
             "build/release/hyperwind": HYPERWIND}
    for name, target in links.items():
        os.symlink(os.path.abspath(target), os.path.join(WORK, name))
    os.environ["HOME"] = WORK  # nobody's .gdbinit
    for name in ("DEBUGINFOD_URLS", "HW_OUT_DIR"):
        os.environ.pop(name, None)


def tables():
    """The document's tables have every command there is, and no other; its settings are JSON."""
    with open(DOCUMENT, encoding="utf-8") as f:
        text = f.read()
    rows = {head: set(re.findall(r"`([a-z0-9-]+)", " ".join(re.findall(r"^\| (`.*?) \| ", body, re.M))))
            for head, body in re.findall(r"^\| ((?:monitor )?command) \| .*\n\|---.*\n((?:\|.*\n)+)", text, re.M)}
    with open(f"{SOURCE}/gdb/hyperwind.py", encoding="utf-8") as f:
        commands = set(re.findall(r'^    \("([a-z-]+)[ "]', f.read(), re.M))
    with open(f"{SOURCE}/gdb/monitor.c", encoding="utf-8") as f:
        monitor = set(re.findall(r'^    \{"([a-z0-9-]+)", "[^"]*", "', f.read(), re.M))
    assert commands and rows["command"] == commands, rows["command"] ^ commands
    assert monitor and rows["monitor command"] == monitor, rows["monitor command"] ^ monitor
    settings = [json.loads("\n".join(block)) for block in blocks(False) if block[0] == "{"]
    assert {s["type"] for s in settings} == {"cppdbg", "gdb"}
    print(len(commands), "commands,", len(monitor), "of the monitor,", len(settings), "settings")


def main():
    if WHICH == "tables":
        tables()
        return
    if not shutil.which("gdb") or not shutil.which("make"):
        print("gdb or make is not installed")
        sys.exit(77)
    prepare()
    if WHICH == "reference":
        shell("samples/heisenbug/run.sh", [])  # whoever reads on has done this
    run(WHICH == "tutorial")
    shutil.rmtree(WORK)


main()
