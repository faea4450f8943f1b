#!/bin/bash
# tests/lint/lint_shell.sh SOURCE_DIR: every shell script parses, and shellcheck has nothing to say about it.
set -euo pipefail
cd "$1"
failed=0
mapfile -t scripts < <(find . \( -name .git -o -name 'build*' \) -prune -o -name '*.sh' -type f -print | sort)
scripts+=(.ci/run)
for script in "${scripts[@]}"; do
    bash -n "$script" || failed=1
done
if command -v shellcheck >/dev/null; then
    shellcheck -x "${scripts[@]}" || failed=1
else
    echo "shellcheck is not installed; only the syntax was checked"
fi
echo "${#scripts[@]} scripts"
exit $failed
