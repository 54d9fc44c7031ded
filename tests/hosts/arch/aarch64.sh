# shellcheck shell=bash disable=SC2034,SC2100 # read by ../setup and ../host
# The emulated aarch64 KVM host: TCG emulates EL2, and KVM runs there with VHE and a GICv3.

debian_arch=arm64
kernel_package=linux-image-cloud-arm64

qemu_package=qemu-system-arm
qemu_least=10
# pauth-impdef: the architected pointer authentication algorithm takes TCG half of the boot.
qemu=(qemu-system-aarch64 -M 'virt,virtualization=on,gic-version=3' -accel 'tcg,thread=multi' -cpu 'max,pauth-impdef=on')
console=ttyAMA0
host_cmdline='mitigations=off'

host_modules=(virtio-console)
# Debian builds no driver for pvpanic here.
guest_modules=()
guest_programs=(report-panic.c)
# Position independent.
u_boot=qemu_arm64/u-boot.bin

rust_target=aarch64-unknown-linux-gnu

# host_kernel VMLINUZ OUTPUT: what QEMU is to start.
host_kernel() { cp "$1" "$2"; }
