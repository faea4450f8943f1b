#!/bin/bash
# samples/failing-boot/run.sh [PROGRAM]: a kernel without a root file system panics. Record it, then replay it to
# the panic: the file is all that a colleague needs to see the same panic.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
program="${1:-build/release/hyperwind}"
guest="${HW_GUEST_DIR:-build/guests}"
recording="${HW_OUT_DIR:-build/demo}/panic.hwr"
mkdir -p "$(dirname "$recording")"
samples/linux/fetch.sh "$guest"

# panic=-1: reset at once, which ends the run.
echo "== record"
"$program" record -o "$recording" --memory 512M --append 'console=ttyS0 root=/dev/vda1 panic=-1' "$guest/vmlinuz" \
    </dev/null >"${recording%.hwr}.console"
grep -a 'Kernel panic' "${recording%.hwr}.console"
echo "== replay"
"$program" replay "$recording" | grep -a 'Kernel panic'
