# shellcheck shell=sh
# Runs in the emulated host: host.sh ROUNDS SLOT, with a raw image on the disk /dev/vda, and a qcow2 image of the same in
# `cow`. In each round axvmm is killed while its guest writes; then both images go to the disk /dev/vdb, to places of SLOT
# MiB that follow each other. Prints what the guest said.
rounds=$1 slot=$2
guest=$PWD/configs/guests/debian-x86_64
# What a whole line ends with: the last one may be cut.
end=$(printf '\r')
cat /dev/vda >/dev/shm/raw
mv cow /dev/shm/cow
mkdir scripts
mv guest.sh scripts/power_cut.sh
(cd scripts && echo power_cut.sh | cpio -o -H newc 2>/dev/null) | cat "$guest/initrd" - >initrd

# write_some COUNT: starts a guest, `vmm`, which has then flushed so many files, some on each disk. Fails if it ends.
write_some() {
    axvmm run --config guest.toml >said 2>errors </dev/null &
    vmm=$!
    until [ "$(grep -c "flushed.*$end" said)" -ge "$1" ] && grep -q " raw .*$end" said && grep -q " cow .*$end" said; do
        kill -0 $vmm 2>/dev/null || return
        usleep 10000
    done
}

for round in $(seq "$rounds"); do
    cat >guest.toml <<TEXT
[kernel]
kernel_path = "$guest/vmlinuz"
ramdisk_path = "initrd"
cmdline = 'console=ttyS0 quiet loglevel=3 axvmm.run="sh /power_cut.sh $round"'
memory = "256M"
[base]
cpu_num = 2
[[devices.virtio]]
kind = "block"
path = "/dev/shm/raw"
format = "raw"
serial = "raw"
[[devices.virtio]]
kind = "block"
path = "/dev/shm/cow"
format = "qcow2"
serial = "cow"
TEXT
    until write_some $((6 + round * 37 % 40)); do
        # What the emulated SVM does now and then is no power cut.
        grep 'triple fault' errors >&2 || {
            cat said errors
            exit 1
        }
    done
    kill -9 $vmm
    wait $vmm 2>/dev/null
    for disk in raw cow; do
        dd if=/dev/shm/$disk of=/dev/vdb bs=1M seek=$((place * slot)) 2>/dev/null || exit
        place=$((place + 1))
    done
    grep "flushed.*$end" said
    cat errors >&2
    echo "killed $round"
done
