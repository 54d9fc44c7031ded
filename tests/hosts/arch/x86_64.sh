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

# axvmm for this host: static, so that it runs beside nothing but busybox.
rust_target=x86_64-unknown-linux-gnu
