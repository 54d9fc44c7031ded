# shellcheck shell=bash
# The part `net` of ../compare; what it has in common with other Linux guests is in ../io/part.sh.

# tcp_programs DIR: iperf3 and sockperf with their libraries, to be started by DIR/run.
tcp_programs() {
    local tree=$work/tcp loader program
    debian_tree "$tree" iperf3 sockperf
    mkdir -p "$1/lib"
    for program in iperf3 sockperf; do
        cp "$tree/usr/bin/$program" "$1/"
        needed "$1/$program" "$tree" "$1/lib"
    done
    loader=("$1"/lib/ld-linux-*)
    chmod +x "${loader[0]}"
    cat >"$1/run" <<TEXT
#!/bin/sh
here=\${0%/*} program=\$1
shift
exec "\$here/lib/${loader[0]##*/}" --library-path "\$here/lib" "\$here/\$program" "\$@"
TEXT
    chmod +x "$1/run"
    rm -r "$tree"
}

# TCP between a guest with one vCPU and its host.
net() {
    local kernel=configs/guests/debian-x86_64/vmlinuz network transport with contenders=() cmdline
    local start='console=ttyS0 quiet loglevel=3' card passt
    local mac=02:00:00:00:00:01
    mkdir -p "$work/net"
    cp benches/net/guest.sh "$work/net/"
    tcp_programs "$work/net/programs"
    scripted_initrd "$work/initrd" "$work/net"
    with=(--with "$work/net/programs")
    for network in tap user; do
        cmdline="$start axvmm.run=\"sh /guest.sh $network\""
        for transport in mmio pci; do
            cat >"$work/$network-$transport.toml" <<TEXT
[kernel]
kernel_path = "$kernel"
ramdisk_path = "initrd"
cmdline = '$cmdline'
memory = "256M"
[[devices.virtio]]
kind = "net"
$([ $network = tap ] && echo 'tap = "tap0"' || echo 'net = "user"')
mac = "$mac"
transport = "$transport"
TEXT
            with+=(--with "$work/$network-$transport.toml")
            contenders+=("axvmm-$transport=axvmm run --config $network-$transport.toml")
        done
        wanted qemu || continue
        [ -d "$work/qemu" ] || own_qemu
        case $network in
            tap) passt='' card='-netdev tap,id=n,ifname=tap0,script=no,downscript=no' ;;
            user)
                passt='passt --quiet --mtu 65520 --socket /tmp/passt.sock >/dev/null 2>&1 && '
                card='-netdev stream,id=n,addr.type=unix,addr.path=/tmp/passt.sock'
                ;;
        esac
        card+=" -device virtio-net-device,netdev=n,mac=$mac"
        contenders+=("qemu-microvm-mmio=$passt$(qemu_guest microvm,accel=kvm,rtc=on "-bios qboot.rom $card")")
        card=${card//-device,/-pci,romfile=,}
        contenders+=("qemu-microvm-pci=$passt$(qemu_guest microvm,accel=kvm,rtc=on,pcie=on "-bios qboot.rom $card")")
    done
    ! wanted qemu || with+=(--with "$work/qemu")
    contend net 'TCP between a Linux guest, 1 vCPU, and its host (iperf3 and sockperf, 5 s each)' \
        'job | VMM | KiB/s, or requests/s | exits per MiB or request'
}
