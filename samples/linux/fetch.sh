#!/bin/bash
# samples/linux/fetch.sh OUTDIR: makes a small Linux guest out of Debian's own packages.
#
#   OUTDIR/vmlinuz      Debian's cloud kernel, unmodified
#   OUTDIR/packages.txt  its package name and version
#   OUTDIR/initrd.cpio  busybox and init.sh beside this script
#
# The packages are downloaded and verified by apt and unpacked into OUTDIR; nothing is installed on this machine.
# The initramfs is a function of the busybox package and of init.sh alone: two builds are the same bytes.
# It is not compressed, because a guest would spend some hundred million instructions on unpacking it.
set -euo pipefail
export LC_ALL=C
umask 022

if [ $# -ne 1 ]; then
    echo "usage: samples/linux/fetch.sh OUTDIR" >&2
    exit 2
fi
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
mkdir -p "$1"
out="$(cd "$1" && pwd)"

# Tests that run side by side share one OUTDIR.
exec 9>"$out/.lock"
flock 9

# What init.sh calls by name; every other busybox applet is there as `busybox NAME`.
applets="[ awk cat date dd dmesg echo expr false grep gzip kill ls mkdir mkfifo mount poweroff printf ps reboot rm seq
         setsid sh sha256sum sleep sort stty sync test tr true uname uptime wc yes"

kernel_package()
{
    apt-cache depends linux-image-cloud-amd64 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-.*\)$/\1/p' | head -n 1
}

# apt reads its package lists; a machine that never ran `apt-get update`, or not for weeks, has none of use.
refresh_lists()
{
    apt-get -q update >"$out/apt-update.log" 2>&1 || { cat "$out/apt-update.log" >&2; return 1; }
}

# download PACKAGE...: verified .deb files in $work. Runs in a directory that apt's own user may not enter, which is
# harmless (apt then downloads as root and says so); `-o APT::Sandbox::User=root` says the same without a warning.
download()
{
    (cd "$work" && apt-get -q -o APT::Sandbox::User=root download "$@") >"$work/apt.log" 2>&1
}

unpack_packages()
{
    local kernel
    kernel="$(kernel_package)"
    [ -n "$kernel" ] && download "$kernel" busybox-static && return
    refresh_lists
    kernel="$(kernel_package)"
    if [ -z "$kernel" ]; then
        echo "fetch.sh: apt knows no linux-image-cloud-amd64; is this Debian 12 with its usual sources?" >&2
        return 1
    fi
    download "$kernel" busybox-static || { cat "$work/apt.log" >&2; return 1; }
}

# Versions that apt would download now. Empty when it cannot tell; then what is there stays in use.
wanted_versions()
{
    local kernel
    kernel="$(kernel_package)"
    [ -n "$kernel" ] || return 0
    apt-cache show --no-all-versions "$kernel" busybox-static 2>/dev/null |
        sed -n 's/^\(Package\|Version\): //p' | paste -d ' ' - -
}

have_packages()
{
    [ -f "$out/vmlinuz" ] && [ -f "$out/busybox" ] && [ -f "$out/packages.txt" ] || return 1
    local wanted
    wanted="$(wanted_versions)"
    [ -z "$wanted" ] || [ "$wanted" = "$(cat "$out/packages.txt")" ]
}

# Called where `set -e` does not reach, hence the chain.
fetch_packages()
{
    local deb
    work="$(mktemp -d "$out/fetch.XXXXXX")" && trap 'rm -rf "$work"' EXIT && unpack_packages || return 1
    for deb in "$work"/*.deb; do
        dpkg-deb -x "$deb" "$work/tree" || return 1
        # shellcheck disable=SC2016 # dpkg-deb expands these, not the shell
        dpkg-deb -W --showformat='${Package} ${Version}\n' "$deb" >>"$work/packages.txt" || return 1
    done
    install -m 644 "$work"/tree/boot/vmlinuz-* "$out/vmlinuz" &&
        install -m 755 "$work/tree/bin/busybox" "$out/busybox" &&
        sort -r "$work/packages.txt" >"$out/packages.txt"
}

# Fixed order, times, owner and inode numbers. /dev/console comes from the kernel's built-in initramfs.
make_initrd()
{
    local root="$out/initrd" applet
    rm -rf "$root"
    mkdir -p "$root"/{bin,dev,etc,proc,root,sys,tmp}
    install -m 755 "$out/busybox" "$root/bin/busybox"
    install -m 755 "$here/init.sh" "$root/init"
    for applet in $applets; do
        ln -s busybox "$root/bin/$applet"
    done
    find "$root" -exec touch -h -d @0 {} +
    (cd "$root" && find . | sort | cpio --quiet --reproducible -o -H newc -R 0:0) >"$out/initrd.cpio.new"
    mv "$out/initrd.cpio.new" "$out/initrd.cpio"
    rm -rf "$root"
}

# An older copy serves when the newer one cannot be had.
have_packages || fetch_packages || [ -f "$out/packages.txt" ]
make_initrd
echo "$out: $(head -n 1 "$out/packages.txt"), initrd.cpio $(stat -c %s "$out/initrd.cpio") bytes"
