"""Runs a chaos guest and judges what became of the program: it must end by itself within the time, or on SIGTERM, with a
closing line and one of the expected exit statuses, and without a word from a sanitizer.

usage: chaos.py PROGRAM GUEST --case N [--seed N] --expect STATUS,... [--limit TICKS] [--verify FILE [--engine E]]
With --verify it is recorded to FILE and the recording is replayed at once: what a guest does to itself must replay, too.
With --engine that one records, and the reference interpreter replays.
Statuses (docs/exit-codes.md): 1 the guest's value 0, other odd ones its other values, 0 limit, reset or power-off, 14 triple
fault, 18 halted for ever; "any" allows all of these."""
import argparse
import os
import re
import subprocess
import sys

STOP_S = 20  # how long the program may take to obey SIGTERM, under sanitizers on a busy machine


def fail(why, args, err):
    print(f"{why}\n{' '.join(args)}\n{err[-3000:]}")
    sys.exit(1)


def run(args, seconds):
    """(status, stderr, stopped). Only the process that was started here is ever signalled."""
    with subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as p:
        try:
            return finish(p, seconds)
        except subprocess.TimeoutExpired:
            p.terminate()
            try:
                return (*finish(p, STOP_S)[:2], True)
            except subprocess.TimeoutExpired:
                p.kill()
                fail("hangs: did not even stop on SIGTERM", args, p.communicate()[1])


def finish(p, seconds):
    err = p.communicate(timeout=seconds)[1]
    return p.returncode, err, False


def judge(args, status, err):
    """It ended, and in an orderly way."""
    if re.search(r"Sanitizer|runtime error:|CHECK|check failed", err) or status < 0:
        fail(f"the program broke, status {status}", args, err)
    if not re.search(r"^hyperwind: \S.* after \d+ ticks", err, re.M):
        fail(f"no closing line, status {status}", args, err)


def replay(program, recording, expected, seconds):
    args = [program, "replay", "--quiet", "--engine", "interp", recording]
    status, err, stopped = run(args, seconds)
    judge(args, status, err)
    if status != expected or stopped:
        fail(f"replayed with status {status}, recorded with {expected}", args, err)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("program")
    ap.add_argument("guest")
    ap.add_argument("--case", type=int, default=0)
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--expect", required=True)
    ap.add_argument("--limit", type=int, default=3000000)
    ap.add_argument("--seconds", type=int, default=200)
    ap.add_argument("--verify")
    ap.add_argument("--engine")
    o = ap.parse_args()

    command = ["record", "-o", o.verify] if o.verify else ["run"]
    command += ["--engine", o.engine] if o.engine else ["--verify"] if o.verify else []
    args = [o.program, *command, "--clock", "virtual", "--console", "none", "--memory", "64M", "--limit-ticks", str(o.limit),
            "--append", f"case={o.case} seed={o.seed}", o.guest]
    status, err, stopped = run(args, o.seconds)
    judge(args, status, err)
    allowed = status % 2 == 1 or status in (0, 14, 18) if o.expect == "any" else str(status) in o.expect.split(",")
    if not allowed or (stopped and o.expect != "any"):
        fail(f"status {status}{' after SIGTERM' if stopped else ''}, expected {o.expect}", args, err)
    if o.verify and o.engine:
        replay(o.program, o.verify, status, o.seconds)
    if o.verify:
        os.unlink(o.verify)
    print(err.strip())


main()
