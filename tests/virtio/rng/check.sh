#!/bin/sh
grep virtio_rng /sys/class/misc/hw_random/rng_available
echo virtio_rng.0 >/sys/class/misc/hw_random/rng_current
dd if=/dev/hwrng of=/tmp/random bs=4k count=64
dd if=/dev/hwrng of=/tmp/more bs=4k count=64
# All bytes have come, no two the same, and nothing of it can be told in fewer.
[ "$(wc -c </tmp/random)" = 262144 ]
! cmp -s /tmp/random /tmp/more
[ "$(gzip -c /tmp/random | wc -c)" -gt 262144 ]
rm /tmp/random /tmp/more
