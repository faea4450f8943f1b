#!/bin/bash
# shellcheck disable=SC2016 # what looks like a variable in single quotes is gdb's
#
# samples/failing-boot/session.sh [PROGRAM]: record the boot that panics (run.sh), then go back in gdb from the panic to what
# decided it. What gdb says is then checked against the states themselves.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
program="${1:-build/release/hyperwind}"
recording="${HW_OUT_DIR:-build/demo}/panic.hwr"
transcript="${recording%.hwr}.session"

samples/failing-boot/run.sh "$program"

echo "== from the panic backwards"
"$program" debug "$recording" -- -batch -ex 'set trace-commands on' -x samples/failing-boot/session.gdb 2>&1 |
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

# position N: the N-th `print $icount` of the session.
position()
{
    grep -a -A 1 '^+print \$icount' "$transcript" | sed -n 's/^\$[0-9]* = //p' | sed -n "$1p"
}

# What the kernel was started with, as it says itself.
root="$(sed -n 's/.*Kernel command line:.* root=\([^ \r]*\).*/\1/p' "${recording%.hwr}.console")"
decided="$(position 1)" asked="$(position 2)" lookup="$(position 3)" named="$(position 4)" first="$(position 5)"
for tick in "$decided" "$asked" "$lookup" "$named" "$first"; do
    [ -n "$tick" ] || fail "gdb did not get to the end of the session"
done

# _caller_is(NAME, 0) is about the frame itself.
read -r there value < <(at "$decided" '%d %d' '$_caller_is("prepare_namespace", 0), $eax')
[ "$there $value" = "1 0" ] || fail "tick $decided: not prepare_namespace() with device 0"
read -r there name < <(at "$asked" '%d %s' '$_caller_is("name_to_dev_t", 0), (char *)$rdi')
[ "$there $name" = "1 $root" ] || fail "tick $asked: not name_to_dev_t(\"$root\")"
read -r there name < <(at "$lookup" '%d %s' '$_caller_is("blk_lookup_devt", 0), (char *)$rdi')
[ "$there $name" = "1 ${root#/dev/}" ] || fail "tick $lookup: not blk_lookup_devt(\"${root#/dev/}\")"
read -r there < <(at "$named" '%d' '$_caller_is("root_dev_setup", 1)')
[ "$there" = 1 ] || fail "tick $named: not root_dev_setup()"
if ! [ "$named" -lt "$asked" ] || ! [ "$asked" -lt "$lookup" ] || ! [ "$lookup" -lt "$decided" ]; then
    fail "this is not the order in which it must have happened"
fi
if [ "$first" != 0 ] || ! grep -q 'No more reverse-execution history' "$transcript"; then
    fail "device_add_disk() was called: there was a disk"
fi
echo "tick $named: root_dev_setup() takes $root from the command line"
echo "tick $asked: name_to_dev_t() is asked which device that is"
echo "tick $lookup: blk_lookup_devt() finds none, nobody ever having called device_add_disk()"
echo "tick $decided: prepare_namespace() puts 0 into ROOT_DEV; the panic is what follows from it"
