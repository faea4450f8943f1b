#!/usr/bin/env python3
"""Adds up the results of a test run and prints the closing line 'N passed, N failed, N skipped'.

usage: sum_results.py RESULTS_DIR

RESULTS_DIR holds a JUnit file NAME.xml of each ctest run, and NAME.txt files of steps that ctest did not run, one
'passed' or 'failed' and a name a line. Exit status 0 only if something passed and nothing failed.
"""
import glob
import os
import sys
import xml.etree.ElementTree as ElementTree


def from_junit(path):
    try:
        cases = ElementTree.parse(path).getroot().iter("testcase")
        for case in cases:
            if case.find("skipped") is not None or case.get("status") in ("notrun", "disabled"):
                # A test that could not start (its program is missing, its fixture failed) says so here; that is
                # a failure. One that started and returned 77 has been skipped.
                message = "".join(e.get("message", "") for e in case.iter("skipped"))
                yield case.get("name"), "skipped" if "SKIP_RETURN_CODE" in message else "failed"
            else:
                yield case.get("name"), "passed" if case.get("status") == "run" else "failed"
    except ElementTree.ParseError as error:
        yield f"{path}: {error}", "failed"


def from_text(path):
    with open(path, encoding="utf-8") as f:
        for line in f:
            result, name = line.split(maxsplit=1)
            yield name.strip(), result


def main():
    total = {"passed": 0, "failed": 0, "skipped": 0}
    for path in sorted(glob.glob(os.path.join(sys.argv[1], "*.xml")) + glob.glob(os.path.join(sys.argv[1], "*.txt"))):
        counts = {"passed": 0, "failed": 0, "skipped": 0}
        for name, result in from_junit(path) if path.endswith(".xml") else from_text(path):
            counts[result] += 1
            if result != "passed":
                print(f"{result}: {os.path.basename(path)}: {name}")
        suite = os.path.splitext(os.path.basename(path))[0]
        print(f"{suite:10} {counts['passed']:4} passed {counts['failed']:4} failed {counts['skipped']:4} skipped")
        for result, count in counts.items():
            total[result] += count
    skipped = f", {total['skipped']} skipped" if total["skipped"] else ""
    print(f"{total['passed']} passed, {total['failed']} failed{skipped}")
    return 0 if total["passed"] and not total["failed"] else 1


sys.exit(main())
