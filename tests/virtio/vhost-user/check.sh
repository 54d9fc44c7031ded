#!/bin/sh
# Beside the device that axvmm is itself: both are virtio_rng's.
available=$(cat /sys/class/misc/hw_random/rng_available)
for rng in virtio_rng.0 virtio_rng.1; do
    echo "$available" | grep -w "$rng"
    echo "$rng" >/sys/class/misc/hw_random/rng_current
    [ "$(cat /sys/class/misc/hw_random/rng_current)" = "$rng" ]
    dd if=/dev/hwrng of=/tmp/elsewhere bs=4k count=64
    [ "$(gzip -c /tmp/elsewhere | wc -c)" -gt 262144 ]
    rm /tmp/elsewhere
done
