# shellcheck shell=sh
# Runs in the guest, until its end comes: guest.sh ROUND. On the file system of each of its two disks writers make files,
# flush each, and only then say so; others write what nobody flushes.
round=$1

# writer DISK NUMBER
writer() {
    n=0
    while [ $n -lt 60 ]; do
        n=$((n + 1))
        yes "$round $1 $2 $n" | head -c 50000 | dd of="/$1/files/$2-$n" bs=50000 iflag=fullblock conv=fsync 2>/dev/null
        echo "flushed $round $1 $2 $n"
    done
}

# noise DISK: the same places again and again, and names that come and go.
noise() {
    while true; do
        dd if=/dev/urandom of="/$1/noise" bs=64k count=32 conv=notrunc 2>/dev/null
        mv "/$1/noise" "/$1/noise.old"
    done
}

for found in /sys/block/vd*; do
    disk=$(cat "$found/serial")
    mkdir "/$disk"
    # What the last round has left is put right by the journal.
    mount -t ext4 "/dev/${found##*/}" "/$disk" || exit
    rm -rf "/$disk/files"
    mkdir "/$disk/files"
    for number in 1 2 3; do writer "$disk" $number & done
    noise "$disk" &
done
wait
