#!/usr/bin/env python3
"""Tests that docs/determinism.md names in its last column exist. A name may end in `*`.

usage: lint_docs.py SOURCE_DIR BUILD_DIR"""
import fnmatch
import re
import subprocess
import sys


def test_names(build):
    listing = subprocess.run(["ctest", "--test-dir", build, "-N"], check=True, capture_output=True, text=True).stdout
    return re.findall(r"Test +#\d+: (\S+)", listing)


def named_tests(document):
    with open(document, encoding="utf-8") as f:
        for number, line in enumerate(f, 1):
            cells = line.strip().strip("|").split(" | ")
            if line.startswith("|") and len(cells) > 2:
                for name in re.findall(r"`([a-z0-9_]+\*?)`", cells[-1]):
                    yield number, name


def main():
    source, build = sys.argv[1:]
    document, names, wrong = f"{source}/docs/determinism.md", test_names(build), 0
    for number, name in named_tests(document):
        if not fnmatch.filter(names, name):
            print(f"{document}:{number}: there is no test {name}")
            wrong = 1
    sys.exit(wrong)


main()
