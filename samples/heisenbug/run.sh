#!/bin/bash
# samples/heisenbug/run.sh [PROGRAM]: record a guest until it fails, then replay the failure. About one run in three
# fails. Every attempt is recorded, because nobody knows before which one it will be; the last one is kept.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
program="${1:-build/release/hyperwind}"
out="${HW_OUT_DIR:-build/demo}"
attempts="${HW_ATTEMPTS:-50}"
passed=1 failed=3 # of the debug-exit port: (value << 1) | 1
mkdir -p "$out"
make -s -C samples/heisenbug OUT="$(cd "$out" && pwd)"

echo "== record until it fails"
for ((attempt = 1; ; attempt++)); do
    status=0
    "$program" record -o "$out/heisenbug.hwr" --memory 16M "$out/heisenbug.elf" </dev/null >"$out/heisenbug.console" \
        2>"$out/heisenbug.err" || status=$?
    echo "attempt $attempt: $(tr -d '\r' <"$out/heisenbug.console")"
    [ "$status" -eq "$failed" ] && break
    if [ "$status" -ne "$passed" ]; then
        cat "$out/heisenbug.err" >&2
        exit "$status"
    fi
    if [ "$attempt" -ge "$attempts" ]; then
        echo "run.sh: it did not fail in $attempts attempts" >&2
        exit 1
    fi
done

# From here on it fails every time, and in the same way.
echo "== replay"
status=0
"$program" replay "$out/heisenbug.hwr" </dev/null || status=$?
if [ "$status" -ne "$failed" ]; then
    echo "run.sh: the replay ended with status $status" >&2
    exit 1
fi
