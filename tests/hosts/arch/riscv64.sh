# shellcheck shell=bash disable=SC2034,SC2100 # read by ../setup and ../host
# The emulated riscv64 KVM host: TCG emulates the H extension. No in-kernel interrupt controller: the PLIC is the VMM's.

debian_arch=riscv64
kernel_package=linux-image-riscv64

qemu_package=qemu-system-misc
qemu_least=10
# zkr: KVM leaves the CSR seed to the VMM. The AIA host is one without it.
qemu=(qemu-system-riscv64 -M virt -accel 'tcg,thread=multi' -cpu 'rv64,h=true,zkr=true')
console=ttyS0
host_cmdline=''

host_modules=(virtio-console kvm)
# Debian builds no driver for pvpanic here. The other architectures' cloud kernels have no 9p, and have built in what
# ext4 asks for without naming the module.
guest_modules=(9p 9pnet-virtio crc32c-generic)
guest_programs=(report-panic.c)
# Built to be started by an SBI, at the address in it.
u_boot=qemu-riscv64_smode/uboot.elf

rust_target=riscv64gc-unknown-linux-gnu

# host_kernel VMLINUX OUTPUT: an Image, despite its name.
host_kernel() { cp "$1" "$2"; }
