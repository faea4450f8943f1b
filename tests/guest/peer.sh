#!/bin/sh
# The self-checking guests under QEMU: a second opinion on what they expect. peer.sh DIRECTORY-OF-IMAGES
status=0
for image in "$1"/*.bin; do
    how=-kernel
    [ "$(basename "$image")" = real.bin ] && how=-bios
    timeout 60 qemu-system-x86_64 -M pc -cpu max,vendor=GenuineIntel -m 64 -display none -serial none -monitor none \
        -debugcon stdio -no-reboot -device isa-debug-exit,iobase=0xf4,iosize=4 "$how" "$image" </dev/null
    if [ $? -eq 1 ]; then
        echo "pass $(basename "$image")"
    else
        echo "FAIL $(basename "$image")"
        status=1
    fi
done
exit $status
