# shellcheck shell=bash disable=SC2034 # read by ../setup and ../host
# The emulated riscv64 KVM host with the Advanced Interrupt Architecture: APLIC and IMSIC in the kernel, MSIs, irqfd.

# shellcheck source=riscv64.sh
. "$hosts_dir/arch/riscv64.sh"
qemu=(qemu-system-riscv64 -M 'virt,aia=aplic-imsic,aia-guests=3' -accel 'tcg,thread=multi' -cpu 'rv64,h=true')
