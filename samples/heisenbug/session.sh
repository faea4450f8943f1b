#!/bin/bash
# samples/heisenbug/session.sh [PROGRAM]: record the guest until it fails (run.sh), then find out with gdb who damaged the
# journal, by a watchpoint and two times `reverse-continue`. What gdb says is then checked against the states themselves.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
program="${1:-build/release/hyperwind}"
recording="${HW_OUT_DIR:-build/demo}/heisenbug.hwr"
transcript="${recording%.hwr}.session"

mkdir -p "$(dirname "$recording")"
samples/heisenbug/run.sh "$program" | tee "${recording%.hwr}.run"
damaged="$(sed -n 's/.*journal.entry\[\([0-9]*\)\].word\[\([0-9]*\)\] is damaged.*/\1 \2/p' "${recording%.hwr}.run" | tail -n 1)"
read -r entry word <<<"$damaged"

echo "== from the end backwards"
"$program" debug "$recording" -- -batch -ex 'set trace-commands on' -x samples/heisenbug/session.gdb 2>&1 |
    tee "$transcript"

echo "== is it so?"
fail()
{
    echo "session.sh: $*" >&2
    exit 1
}

# at TICKS FORMAT EXPRESSIONS: what printf of a new gdb makes of the state at that tick.
at()
{
    "$program" debug --at "$1" "$recording" -- -batch -ex "printf \"state: $2\\n\", $3" 2>"$transcript.err" |
        sed -n 's/^state: //p'
}

# As word_of() of heisenbug.c: what belongs into a word of an entry.
word_of() # KIND NUMBER I
{
    printf '%x' $((($2 << 8 | $1 << 4 | $3) * 0x9e3779b97f4a7c15))
}

mapfile -t ticks < <(sed -n 's/^\$[0-9]* = \([0-9]*\)$/\1/p' "$transcript")
[ "${#ticks[@]}" -eq 2 ] || fail "gdb did not stop twice"
guilty="${ticks[0]}" victim="${ticks[1]}"
shown="journal.entry[$entry].word[$word]"
measurement=1 heartbeat=2

read -r by_main kind number before < <(at "$guilty" '%d %lu %lu %lx' "\$_caller_is(\"main\"), kind, number, $shown")
read -r after < <(at $((guilty + 1)) '%lx' "$shown")
read -r by_timer < <(at "$victim" '%d' "\$_caller_is(\"timer_interrupt\")")
read -r beat written < <(at $((victim + 1)) '%lu %lx' "journal.entry[$entry].number, $shown")

if [ "$by_main" != 1 ] || [ "$kind" != "$measurement" ]; then
    fail "tick $guilty: this is not main() noting a measurement"
elif [ "$after" != "$(word_of "$measurement" "$number" "$word")" ]; then
    fail "tick $guilty: what it writes, $after, is no measurement's"
elif [ "$by_timer" != 1 ] || [ "$victim" -ge "$guilty" ] || [ "$written" != "$before" ]; then
    fail "tick $victim: this is not the timer interrupt noting what is damaged later"
elif [ "$before" != "$(word_of "$heartbeat" "$beat" "$word")" ]; then
    fail "tick $victim: what it writes, $before, is no heartbeat's"
fi
echo "tick $victim: timer_interrupt() notes heartbeat $beat in journal.entry[$entry]: word[$word] becomes 0x$before"
echo "tick $guilty: journal_append(), called by main(), writes a measurement over it: word[$word] becomes 0x$after"
