# shellcheck shell=bash disable=SC2034 # read by ../setup and ../host
# The emulated aarch64 KVM host with a GICv2, which guests have then as well; no ITS, and 8 vCPUs at most.

# shellcheck source=aarch64.sh
. "$hosts_dir/arch/aarch64.sh"
qemu=(qemu-system-aarch64 -M 'virt,virtualization=on,gic-version=2' -accel 'tcg,thread=multi' -cpu 'max,pauth-impdef=on')
