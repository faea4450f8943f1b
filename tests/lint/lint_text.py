#!/usr/bin/env python3
"""Words that do not belong in a finished tree: notes to oneself, and paths of somebody's machine.

usage: lint_text.py SOURCE_DIR
"""
import os
import re
import sys

# Spelt in pieces so that this file passes too.
WORDS = re.compile("|".join([r"\bTO" r"DO\b", r"\bFIX" r"ME\b", r"\bX" r"XX\b", r"\bha" r"ck(s|y|ish|ed)?\b",
                             r"(?<![\w.}\)])/(home|root|work|mnt|srv|Users)/\w"]))
SKIPPED_FOLDERS = re.compile(r"^(\.git|build.*|out)$")
BINARY = (".hwr", ".bin", ".png", ".gz", ".zst")


def files(source):
    for folder, dirs, names in os.walk(source):
        dirs[:] = sorted(d for d in dirs if not SKIPPED_FOLDERS.match(d) and d != "corpus")
        for name in sorted(names):
            if not name.endswith(BINARY):
                yield os.path.join(folder, name)


def check_file(path, shown):
    problems = []
    try:
        with open(path, encoding="utf-8") as f:
            lines = f.read().split("\n")
    except UnicodeDecodeError:
        return [f"{shown}: not UTF-8 text"]
    for number, line in enumerate(lines, 1):
        match = WORDS.search(line)
        if match:
            problems.append(f"{shown}:{number}: '{match.group(0)}'")
        if line != line.rstrip():
            problems.append(f"{shown}:{number}: white space at the end of the line")
    return problems


def main():
    source = sys.argv[1]
    problems = []
    count = 0
    for path in files(source):
        problems += check_file(path, os.path.relpath(path, source))
        count += 1
    print("\n".join(problems))
    print(f"{count} files: {len(problems)} problems")
    return 1 if problems or not count else 0


sys.exit(main())
