#!/bin/bash
# tests/run.sh: all builds and all their tests. The last line counts them; status 0 only if none failed.
#
#   release   gcc: every test
#   clang     clang, warnings as errors: the quick tests
#   sanitize  clang with AddressSanitizer and UndefinedBehaviorSanitizer: the quick tests, and the slow ones with the
#             label `sanitize`
#   fuzz      clang with libFuzzer: each harness for HW_FUZZ_SECONDS
#
# Labels: `slow` takes more than some ten seconds, `sanitize` is slow and yet runs in the sanitizer build.
# HW_STEPS="release clang" runs only these steps; HW_CTEST="-R replay" is passed on to ctest.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit

steps="${HW_STEPS:-release clang sanitize fuzz}"
fuzz_seconds="${HW_FUZZ_SECONDS:-25}"
jobs="$(nproc)"
results=build/results
rm -rf "$results"
mkdir -p "$results"

# Kernel and initramfs are the same for all builds.
export HW_GUEST_DIR="$PWD/build/guests"
# A recording made by the release build is replayed by the sanitizer build.
export HW_RELEASE_PROGRAM="$PWD/build/release/hyperwind"
export ASAN_OPTIONS=detect_leaks=1:abort_on_error=1 UBSAN_OPTIONS=print_stacktrace=1
ctest_options=()
read -r -a ctest_options <<<"${HW_CTEST:-}"

# note RESULT NAME: one result of a step that ctest does not run.
note()
{
    echo "$1 $2" >>"$results/steps.txt"
}

# build NAME TARGET CMAKE_ARGUMENT...: into build/NAME.
build()
{
    local name="$1" target="$2"
    shift 2
    echo "== $name: build"
    if cmake -S . -B "build/$name" -G Ninja "$@" >"$results/$name-cmake.log" 2>&1 &&
        cmake --build "build/$name" --target "$target" --parallel "$jobs" >"$results/$name-build.log" 2>&1; then
        note passed "$name build"
        return 0
    fi
    cat "$results/$name-cmake.log"
    tail -n 100 "$results/$name-build.log" 2>/dev/null
    note failed "$name build"
    return 1
}

# run_ctest NAME SUITE CTEST_ARGUMENT...: tests of build/NAME, results as SUITE.
run_ctest()
{
    local name="$1" suite="$2"
    shift 2
    echo "== $suite: tests"
    ctest --test-dir "build/$name" --output-on-failure --no-tests=ignore --parallel "$jobs" \
        --output-junit "$PWD/$results/$suite.xml" "$@" "${ctest_options[@]}"
    [ -f "$results/$suite.xml" ] || note failed "$suite: ctest"
}

step_release()
{
    build release all -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCMAKE_C_COMPILER=gcc && run_ctest release release
}

step_clang()
{
    build clang all -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCMAKE_C_COMPILER=clang && run_ctest clang clang -LE slow
}

step_sanitize()
{
    build sanitize all -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCMAKE_C_COMPILER=clang -DHW_SANITIZE=ON || return
    run_ctest sanitize sanitize -LE slow
    run_ctest sanitize sanitize-slow -L sanitize
}

step_fuzz()
{
    build fuzz fuzzers -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCMAKE_C_COMPILER=clang -DHW_FUZZ=ON \
        -DHW_FUZZ_SECONDS="$fuzz_seconds" || return
    run_ctest fuzz fuzz -L fuzz
}

for step in $steps; do
    "step_$step"
done
echo "== results"
python3 tests/sum_results.py "$results"
