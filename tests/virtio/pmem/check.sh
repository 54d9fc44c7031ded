#!/bin/sh
if [ "$(uname -m)" = riscv64 ]; then
    # Debian builds no driver for it there: the devices are known, and that is all.
    [ "$(cat /sys/bus/virtio/devices/*/device | grep -c 0x001b)" = 2 ]
    exit
fi

# A file system on the file, by direct access, and what is flushed is there: see after.sh.
[ -b /dev/pmem0 ] && [ -b /dev/pmem1 ]
[ "$(blockdev --getsize64 /dev/pmem0)" = $((32 << 20)) ]
mke2fs -b 4096 /dev/pmem0
mkdir -p /mnt/pmem
# Where it is built in there is no such module.
modprobe ext4 || true
mount -t ext4 -o dax=always /dev/pmem0 /mnt/pmem
echo "this was written by the guest" >/mnt/pmem/file
sync
umount /mnt/pmem

# One that does not change has any size, and zeros behind it.
[ "$(blockdev --getsize64 /dev/pmem1)" = $((2 << 20)) ]
[ "$(head -c 1000000 /dev/pmem1 | md5sum)" = "$(yes axvmm | head -c 1000000 | md5sum)" ]
[ "$(tail -c 1097152 /dev/pmem1 | md5sum)" = "$(head -c 1097152 /dev/zero | md5sum)" ]
echo gone | dd of=/dev/pmem1 conv=fsync
[ "$(head -c 4 /dev/pmem1)" = gone ]
