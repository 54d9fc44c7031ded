#!/bin/sh
# The disk that no other is as large as: 32 MiB.
for size in /sys/block/vd*/size; do
    if [ "$(cat "$size")" = 65536 ]; then disk=$(basename "${size%/size}"); fi
done
[ "$(find "/sys/block/$disk/mq" -mindepth 1 -maxdepth 1 | wc -l)" = 2 ]
md5sum <"/dev/$disk" >/tmp/whole.sum
# The host compares what was there at first with what was read.
dd if=/tmp/whole.sum of="/dev/$disk" bs=512 seek=2048 conv=notrunc,fsync 2>/dev/null
dd if=/dev/urandom of=/tmp/data bs=1M count=8 2>/dev/null
dd if=/tmp/data of="/dev/$disk" bs=1M seek=16 conv=notrunc,fsync 2>/dev/null
echo 3 >/proc/sys/vm/drop_caches
dd if="/dev/$disk" bs=1M skip=16 count=8 2>/dev/null | cmp - /tmp/data
md5sum </tmp/data | dd of="/dev/$disk" bs=512 seek=4096 conv=notrunc,fsync 2>/dev/null
rm /tmp/data
