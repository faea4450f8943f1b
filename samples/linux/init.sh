#!/bin/sh
# /init of the sample guest. The kernel command line chooses what it does:
#
#   hw.workload=full    the reference workload: a shell loop, a hash, many processes; then power off
#   hw.workload=short   the same, about a tenth of it
#   hw.workload=shell   an interactive shell on the console; leaving it powers off (the default)
#   hw.workload=typed   echoes typed lines while it computes; "end", or hw.rounds=N rounds of silence, ends it
#   hw.workload=idle    sleeps hw.idle=N seconds, then powers off
#   hw.workload=bench   the phases that tests/bench/dbt.py times: a line before each and one behind it
#   hw.workload=boot    powers off at once
#
# Every line printed is of one write and begins with its workload's name, so that tests can compare and grep.
#
# The shell is busybox ash, whose `read` takes a time-out; words of the command line are split on purpose.
# shellcheck disable=SC3045,SC2013
export PATH=/bin HOME=/root TERM=linux
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev 2>/dev/null

# param NAME DEFAULT: the value of NAME=... on the kernel command line.
param()
{
    for word in $(cat /proc/cmdline); do
        case "$word" in
        "$1="*)
            echo "${word#*=}"
            return
            ;;
        esac
    done
    echo "$2"
}

uptime_s()
{
    read -r up _ </proc/uptime
    echo "$up"
}

count_to()
{
    i=0
    while [ "$i" -lt "$1" ]; do
        i=$((i + 1))
    done
    echo "$workload: counted to $i"
}

hash_mib()
{
    echo "$workload: sha256 of $1 MiB of zeros: $(dd if=/dev/zero bs=65536 count=$(($1 * 16)) 2>/dev/null | sha256sum)"
}

# Full paths, so that the shell cannot run the applet in its own process.
fork_times()
{
    i=0
    while [ "$i" -lt "$1" ]; do
        /bin/true
        i=$((i + 1))
    done
    echo "$workload: forked $i processes"
}

compute() # ITERATIONS MIB FORKS
{
    uname -a
    echo "$workload: uptime $(uptime_s) s"
    count_to "$1"
    hash_mib "$2"
    fork_times "$3"
    echo "$workload: uptime $(uptime_s) s"
}

# Reads with a time-out between bursts of computing, so that input arrives in both states of the CPU.
typed()
{
    rounds="$(param hw.rounds 60)"
    lines=0
    echo "typed: ready"
    while [ "$rounds" -gt 0 ]; do
        i=0
        while [ "$i" -lt 1000 ]; do
            i=$((i + 1))
        done
        rounds=$((rounds - 1))
        if read -r -t 1 line; then
            lines=$((lines + 1))
            echo "typed: line $lines is '$line'"
            [ "$line" = end ] && break
        fi
    done
    echo "typed: $lines lines"
}

# phase NAME COMMAND...: the command between two lines that the benchmark waits for.
phase()
{
    name="$1"
    shift
    echo "bench: begin $name"
    "$@"
    echo "bench: end $name"
}

gzip_times()
{
    i=0
    while [ "$i" -lt "$1" ]; do
        size="$(gzip -c /bin/busybox | wc -c)"
        i=$((i + 1))
    done
    echo "bench: gzip of busybox: $size bytes"
}

# Two shells that answer each other's lines.
ping_pong()
{
    mkfifo /tmp/ping /tmp/pong
    while read -r word; do
        echo "$word"
    done </tmp/ping >/tmp/pong &
    exec 3>/tmp/ping 4</tmp/pong
    i=0
    while [ "$i" -lt "$1" ]; do
        echo "$i" >&3
        read -r word <&4
        i=$((i + 1))
    done
    exec 3>&- 4<&-
    wait
    echo "bench: the last answer is $word"
}

create_read_delete()
{
    mkdir /tmp/files
    i=0
    while [ "$i" -lt "$1" ]; do
        echo "line $i" >"/tmp/files/$i"
        i=$((i + 1))
    done
    while [ "$i" -gt 0 ]; do
        i=$((i - 1))
        read -r word </tmp/files/$i
    done
    rm -r /tmp/files
    echo "bench: the first file says $word"
}

bench()
{
    for file in /sys/devices/system/cpu/vulnerabilities/*; do
        echo "bench: mitigation ${file##*/}: $(cat "$file")"
    done
    phase loop count_to 100000
    phase sha256 hash_mib 16
    phase gzip gzip_times 2
    phase fork fork_times 200
    phase pipe ping_pong 4000
    phase file create_read_delete 2000
}

workload="$(param hw.workload shell)"
case "$workload" in
full) compute 200000 64 200 ;;
short) compute 20000 8 20 ;;
typed) typed ;;
idle)
    seconds="$(param hw.idle 10)"
    echo "idle: sleeping $seconds s"
    sleep "$seconds"
    echo "idle: uptime $(uptime_s) s"
    ;;
bench) bench ;;
boot) echo "boot: uptime $(uptime_s) s" ;;
shell)
    echo "shell: $(uname -sr); 'exit' powers off"
    setsid -c sh -i </dev/ttyS0 >/dev/ttyS0 2>&1
    ;;
*) echo "init: unknown workload '$workload'" ;;
esac
poweroff -f
