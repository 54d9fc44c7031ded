# shellcheck shell=sh
# Runs in the guest: fio on the disk /dev/vdb, with the programs of the disk /dev/vda. For each job a line `io: begin JOB`
# before it, and `io: end JOB OPERATIONS/S OPERATIONS` after it.
mkdir /programs
mount -t ext4 -o ro /dev/vda /programs || exit
mount --bind /dev /programs/dev
mount --bind /proc /programs/proc
mount --bind /sys /programs/sys
mount -t tmpfs tmp /programs/tmp

# job NAME KIB DEPTH [OPTION]…: operations of so many KiB, so many at a time.
job() {
    name=$1 kib=$2
    set -- --name=job --filename=/dev/vdb --ioengine=libaio --direct=1 --time_based --minimal --randrepeat=0 \
        "--bs=$2k" "--iodepth=$3" "--rw=$4"
    # Not the first touch of anything.
    chroot /programs fio "$@" --runtime=1 >/dev/null
    echo "io: begin $name"
    terse=$(chroot /programs fio "$@" --runtime=5)
    # Fields 6 and 8 of fio's terse output are KiB and operations/s of reads; the same of writes come 41 later.
    echo "$terse" | awk -F ';' -v name="$name" -v kib="$kib" \
        '{ printf "io: end %s %d %d\n", name, $8 + $49, ($6 + $47) / kib }'
}

job random-read-1 4 1 randread
job random-read-32 4 32 randread
job random-write-1 4 1 randwrite
job random-write-32 4 32 randwrite
job sequential-read 128 8 read
