#!/bin/bash
# tests/fuzz/run.sh HARNESS CORPUS WORK_DIR SECONDS: fuzzes for a while. New inputs stay in WORK_DIR; one that fails
# is there as crash-* or timeout-*: fix the bug and move it into CORPUS.
set -euo pipefail
harness="$1" corpus="$2" work="$3" seconds="$4"
mkdir -p "$work/found"
seeds=()
[ -d "$corpus" ] && seeds=("$corpus")
exec "$harness" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 -verbosity=0 \
    -artifact_prefix="$work/" "$work/found" "${seeds[@]}"
