#!/bin/bash
# setup.sh: sets up a Debian 12 machine for Hyperwind and runs its main jobs. See usage() below.
# Packages are installed only where some are missing, so that later runs need neither root nor a network.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

# What the build needs.
build_packages=(gcc libc6-dev binutils cmake ninja-build python3 acpica-tools
                libzydis-dev libzycore-dev libzstd-dev libxxhash-dev libelf-dev libcmocka-dev)
# What the samples need: fetching and unpacking a kernel, packing an initramfs, building small guests.
sample_packages=(cpio ca-certificates make)
# What only the tests need: the second compiler with its sanitizer and fuzzer run-times, the shell lint, and gdb.
test_packages=(clang llvm libclang-rt-14-dev shellcheck gdb dwarves)
# What the benchmark compares with; without it, its rows say so.
bench_packages=(qemu-system-x86 qemu-utils)

usage()
{
    cat <<'END'
usage: ./setup.sh COMMAND

  packages   install the Debian packages that the other commands need
  build      build the program: build/release/hyperwind
  demo       build it, record a boot of Debian's own kernel, replay it, and say whether the two agree
  test       build everything and run all tests; the last line counts them
  soak       record and replay the full workload twenty times, compare the engines (hours); writes docs/soak.md
  bench      speed of the engines beside QEMU's, cost of recording, time travel (half an hour); writes
             docs/performance.md
  bench quick   the same in few rounds (ten minutes), printed only
  bench travel  the part on time travel alone (six minutes)

Every command installs missing packages first, which needs root.
END
}

missing_packages()
{
    local package
    for package; do
        dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || echo "$package"
    done
}

install_packages()
{
    local missing
    mapfile -t missing < <(missing_packages "$@")
    [ ${#missing[@]} -eq 0 ] && return
    if [ "$(id -u)" -ne 0 ]; then
        echo "setup.sh: these packages are missing; install them or run me as root: ${missing[*]}" >&2
        exit 1
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get -q update
    apt-get -q install -y --no-install-recommends "${missing[@]}"
}

build()
{
    cmake -S . -B build/release -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCMAKE_C_COMPILER=gcc
    cmake --build build/release
}

case "${1:-help}" in
packages)
    install_packages "${build_packages[@]}" "${sample_packages[@]}" "${test_packages[@]}"
    ;;
build)
    install_packages "${build_packages[@]}"
    build
    ;;
demo)
    install_packages "${build_packages[@]}" "${sample_packages[@]}"
    build
    exec samples/linux/demo.sh build/release/hyperwind build/demo
    ;;
test)
    install_packages "${build_packages[@]}" "${sample_packages[@]}" "${test_packages[@]}"
    exec tests/run.sh
    ;;
soak)
    install_packages "${build_packages[@]}" "${sample_packages[@]}"
    build
    exec python3 tests/replay/soak.py build/release/hyperwind build/soak
    ;;
bench)
    install_packages "${build_packages[@]}" "${sample_packages[@]}" gdb
    (install_packages "${bench_packages[@]}") || echo "setup.sh: no QEMU to compare with" >&2
    build
    if [ "${2:-}" = travel ]; then
        exec python3 tests/bench/travel.py build/release/hyperwind build/bench
    fi
    if [ "${2:-}" = quick ]; then
        python3 tests/bench/interp.py build/release/hyperwind build/bench --pairs 2 --no-document
        python3 tests/bench/dbt.py build/release/hyperwind build/bench --rounds 2 --pairs 3 --no-document
        exec python3 tests/bench/travel.py build/release/hyperwind build/bench --places 30 --targets 3 --opens 3 \
            --pairs 3 --side-sessions 1 --no-document
    fi
    python3 tests/bench/interp.py build/release/hyperwind build/bench
    python3 tests/bench/dbt.py build/release/hyperwind build/bench
    exec python3 tests/bench/travel.py build/release/hyperwind build/bench
    ;;
help | -h | --help)
    usage
    ;;
*)
    usage >&2
    exit 2
    ;;
esac
