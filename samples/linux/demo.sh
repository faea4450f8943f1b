#!/bin/bash
# samples/linux/demo.sh PROGRAM OUTDIR: records a boot of Debian's kernel with a workload, replays it, and shows what
# the recording weighs. The replay compares every digest in the recording and says so; a divergence fails the demo.
set -euo pipefail
program="$1" out="$2"
here="$(dirname "${BASH_SOURCE[0]}")"
guest="${HW_GUEST_DIR:-build/guests}"

mkdir -p "$out"
"$here/fetch.sh" "$guest"

echo
echo "== record: boot, a shell loop, a hash, some processes, power off"
"$program" record -o "$out/boot.hwr" --memory 512M --initrd "$guest/initrd.cpio" \
    --append 'console=ttyS0 hw.workload=short' "$guest/vmlinuz" </dev/null | tee "$out/record.console"
echo
echo "== replay: the same instructions again, every digest compared"
# The verdict is kept until the console has gone through tee.
status=0
"$program" replay "$out/boot.hwr" 2>"$out/verdict" | tee "$out/replay.console" || status=$?
cat "$out/verdict"
[ "$status" -eq 0 ] || exit "$status"
echo
echo "== what the recording holds"
"$program" info "$out/boot.hwr" | sed -n '1,/^blob.cmdline/p'
echo
cmp "$out/record.console" "$out/replay.console"
echo "The console output of the replay equals that of the recording: $(wc -c <"$out/replay.console") bytes."
echo "Recording: $out/boot.hwr, $(stat -c %s "$out/boot.hwr") bytes."
