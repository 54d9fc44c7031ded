# shellcheck shell=bash disable=SC2034,SC2100 # read by ../setup and ../host
# The emulated x86_64 KVM host: TCG emulates SVM with nested paging.

debian_arch=amd64
kernel_package=linux-image-cloud-amd64

qemu_package=qemu-system-x86
# Under 7.2 a kernel crashes now and then (in cmpxchg16b).
qemu_least=10
qemu=(qemu-system-x86_64 -M q35 -accel 'tcg,thread=multi' -cpu 'EPYC,+svm,+npt')
console=ttyS0
# mitigations=off: speculation is nothing that TCG has, and working around it is slow there.
host_cmdline='mitigations=off'

host_modules=(kvm-amd)
# pvpanic-mmio also serves the ACPI device (QEMU0001) with an I/O port.
guest_modules=(pvpanic-mmio)
guest_programs=()
u_boot=

# axvmm for this host: static, so that it runs beside nothing but busybox.
rust_target=x86_64-unknown-linux-gnu

# host_kernel VMLINUZ OUTPUT: the ELF inside the bzImage, which QEMU starts through its PVH note: for TCG to unpack it
# takes a third of the boot. Its place is in the setup header (the boot protocol's payload_offset and payload_length),
# counted from the end of the setup sectors; its last four bytes are its unpacked length.
host_kernel() {
    local setup offset length
    setup=$(od -An -j 0x1f1 -N 1 -t u1 "$1")
    read -r offset length < <(od -An -j 0x248 -N 8 -t u4 "$1")
    dd if="$1" bs=1M iflag=skip_bytes,count_bytes skip=$(((setup + 1) * 512 + offset)) count=$((length - 4)) status=none |
        zstd -dcq >"$2"
}
