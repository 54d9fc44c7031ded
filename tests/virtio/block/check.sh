#!/bin/sh
disk() {
    for found in /sys/block/vd*; do
        [ "$(cat "$found/serial")" != "$1" ] || echo "$found"
    done
}
raw=$(disk raw) cow=$(disk cow) only_read=$(disk only-read)
[ "$(cat "$raw/size") $(cat "$cow/size") $(cat "$only_read/size")" = "32768 32768 2048" ]
[ "$(cat "$raw/ro") $(cat "$only_read/ro")" = "0 1" ]
[ "$(cat "$raw/queue/write_cache")" = "write back" ]
# A queue for each vCPU, or as many as are asked for.
queues() { find "$1/mq" -mindepth 1 -maxdepth 1 | wc -l; }
[ "$(queues "$raw") $(queues "$cow")" = "2 1" ]

dd if=/dev/urandom of=/tmp/data bs=64k count=200
for found in "$raw" "$cow"; do
    dev=/dev/${found##*/}
    dd if=/tmp/data of="$dev" bs=64k seek=3
    # By way of the disk, not of the guest's memory.
    sync
    echo 3 >/proc/sys/vm/drop_caches
    dd if="$dev" bs=64k skip=3 count=200 | cmp - /tmp/data
    # In small pieces and many at a time.
    for part in 0 1 2 3; do
        dd if=/tmp/data of="$dev" bs=4k count=400 skip=$((part * 400)) seek=$((part * 400)) conv=fsync &
    done
    wait
    echo 3 >/proc/sys/vm/drop_caches
    dd if="$dev" bs=4k count=1600 | cmp -n 6553600 - /tmp/data
    # A driver that has the cache switched off.
    echo "write through" >"$found/queue/write_cache"
    dd if=/tmp/data of="$dev" bs=64k conv=fsync
    echo "write back" >"$found/queue/write_cache"
done
! dd if=/tmp/data of=/dev/"${only_read##*/}" bs=4k count=1 conv=fsync
gzip -c /tmp/data | wc -c
dd if=/dev/"${only_read##*/}" bs=64k count=16 of=/tmp/read
[ "$(wc -c </tmp/read)" = 1048576 ]
md5sum </tmp/data | cut -c1-32 | dd of=/dev/"${raw##*/}" bs=512 seek=32000 conv=sync,fsync
rm /tmp/data /tmp/read
