#!/bin/sh
# All of the 64 MiB that are asked for come to be in the balloon.
inflated() { sed -n 's/^balloon_inflate //p' /proc/vmstat; }
for _ in $(seq 60); do
    [ "$(inflated)" -lt 16384 ] || break
    sleep 0.5
done
[ "$(inflated)" -ge 16384 ]

# Memory that is free again is reported, which takes the kernel some seconds, and the host takes it.
mkdir -p /tmp/fallen
mount -t virtiofs -o ro fallen /tmp/fallen
dd if=/dev/zero of=/fill bs=1M count=160
rm /fill
for _ in $(seq 240); do
    fallen=$(cat /tmp/fallen/fallen 2>/dev/null || true)
    [ "${fallen:-0}" -le $((100 * 1024)) ] || break
    sleep 0.5
done
umount /tmp/fallen
