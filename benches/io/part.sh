# shellcheck shell=bash
# The part `io` of ../compare, and what it has in common with other Linux guests that run programs of Debian's.

# debian_tree DIR PACKAGE…: Debian's packages of the architecture that is loaded, unpacked.
debian_tree() {
    local dir=$1 apt_options packages=$work/packages
    shift
    say "downloading $* for $debian_arch"
    apt_root "debian-$debian_arch" "$debian_arch"
    mkdir -p "$packages/partial" "$dir"
    logged apt-get "${apt_options[@]}" update
    # With base-files, for /lib and /bin are links of its.
    logged apt-get "${apt_options[@]}" -o "Dir::Cache::archives=$packages" -o APT::Keep-Downloaded-Packages=true \
        install --download-only --no-install-recommends -y base-files "$@"
    for package in "$packages"/*.deb; do dpkg-deb --fsys-tarfile "$package"; done |
        tar -C "$dir" --ignore-zeros --keep-directory-symlink -x
    rm -r "$packages"
}

# fio_image FILE: a disk with fio and what it needs.
fio_image() {
    [ ! -e "$1" ] || return 0
    debian_tree "$work/fio" fio
    mkdir -p "${1%/*}"
    PATH=$PATH:/usr/sbin mke2fs -q -t ext4 -d "$work/fio" "$1.new" 1G
    mv "$1.new" "$1"
    rm -r "$work/fio"
}

# scripted_initrd FILE DIR: the Debian guest's initrd, with what is in DIR.
scripted_initrd() { { cat "configs/guests/debian-x86_64/initrd" && pack "$2"; } >"$1"; }

# qemu_guest MACHINE OPTION…: QEMU's command in the host, for the guest of `kernel` and `cmdline`.
qemu_guest() {
    local machine=$1
    shift
    echo "qemu/run -M $machine -cpu host,arch-capabilities=off -smp 1 -m 256M -nodefaults -no-user-config" \
        "-display none -serial stdio -no-reboot -kernel $kernel -initrd initrd -append '$cmdline' $*"
}

# contend PART TITLE COLUMNS: runs the contenders in the host with PART's host.sh, and prints the medians of what they
# said as a table: of each job a row for each contender, and how many times the first one's figure it is.
contend() {
    local part=$1 turns=${rounds[1]:-3}
    with+=(--with "$work/initrd" --with "benches/$part/host.sh" --with benches/io/counters.sh)
    AXVMM=$axvmm "$hosts_dir/host" x86_64 --memory 2G "${with[@]}" -- sh host.sh "$turns" "${contenders[@]}" |
        tee "$work/$part.log" | grep -v "^$part: " >&2 || true
    printf '\n%s (median of %s)\n\n| %s: all | device | halt | MSR | host |\n' "$2" "$turns" "$3"
    printf '|---|---|---|---|---|---|---|---|\n'
    awk -v part="$part:" '
        function median(text, parts, n, i, j, t) {
            n = split(text, parts)
            for (i = 2; i <= n; i++)
                for (j = i; j > 1 && parts[j - 1] + 0 > parts[j] + 0; j--) {
                    t = parts[j]
                    parts[j] = parts[j - 1]
                    parts[j - 1] = t
                }
            return parts[int((n + 1) / 2)]
        }
        $1 == part {
            if (!($3 in jobs)) {
                jobs[$3] = ++job_count
                job[job_count] = $3
            }
            if (!($2 in vmms)) {
                vmms[$2] = ++vmm_count
                vmm[vmm_count] = $2
            }
            for (i = 4; i <= 9; i++) figures[$3, $2, i] = figures[$3, $2, i] " " $i
        }
        END {
            for (j = 1; j <= job_count; j++) {
                first = 0
                for (v = 1; v <= vmm_count; v++) {
                    if (!((job[j], vmm[v], 4) in figures)) continue
                    figure = median(figures[job[j], vmm[v], 4])
                    if (!first) first = figure
                    printf "| %s | %s | %d (×%.2f) |", job[j], vmm[v], figure, figure / first
                    for (i = 5; i <= 9; i++) printf " %.3f |", median(figures[job[j], vmm[v], i])
                    print ""
                }
            }
        }' "$work/$part.log"
}

# What a disk does in a guest with one vCPU, on a block device of the host's which it has in its cache.
io() {
    local image=$cache/bench/fio-$debian_arch.img transport with contenders=()
    local kernel=configs/guests/debian-x86_64/vmlinuz cmdline='console=ttyS0 quiet loglevel=3 axvmm.run="sh /guest.sh"' disks disk
    fio_image "$image"
    mkdir "$work/io"
    cp benches/io/guest.sh "$work/io/"
    scripted_initrd "$work/initrd" "$work/io"
    head -c 256M /dev/urandom >"$work/disk.img"
    with=(--disk "$image" --disk "$work/disk.img")
    for transport in mmio pci; do
        cat >"$work/$transport.toml" <<TEXT
[kernel]
kernel_path = "$kernel"
ramdisk_path = "initrd"
cmdline = '$cmdline'
memory = "256M"
[[devices.virtio]]
kind = "block"
path = "/dev/vda"
readonly = true
transport = "$transport"
[[devices.virtio]]
kind = "block"
path = "/dev/vdb"
transport = "$transport"
TEXT
        with+=(--with "$work/$transport.toml")
        contenders+=("axvmm-$transport=axvmm run --config $transport.toml")
    done
    if wanted qemu; then
        own_qemu
        with+=(--with "$work/qemu")
        disks='-object iothread,id=thread -drive if=none,id=a,file=/dev/vda,format=raw,readonly=on'
        disks+=' -drive if=none,id=b,file=/dev/vdb,format=raw,aio=io_uring'
        disk='-device virtio-blk-device,drive=a -device virtio-blk-device,drive=b,iothread=thread'
        contenders+=("qemu-microvm-mmio=$(qemu_guest microvm,accel=kvm,rtc=on "-bios qboot.rom $disks $disk")")
        disk=${disk//-device,/-pci,}
        contenders+=("qemu-microvm-pci=$(qemu_guest microvm,accel=kvm,rtc=on,pcie=on "-bios qboot.rom $disks $disk")")
    fi
    if wanted alioth; then
        [ -d "$work/alioth" ] || bundle "$alioth" "$work/alioth"
        with+=(--with "$work/alioth")
        # It wants a terminal: one at which nobody types.
        contenders+=("alioth-pci=alioth/run boot -k $kernel -i initrd -c '$cmdline' -m size=256M -p count=1 \
            --blk file,path=/dev/vda,readonly=true --blk file,path=/dev/vdb,api=iouring </dev/ttyS0")
    fi
    contend io 'A virtio disk in a Linux guest, 1 vCPU, whose bytes the host has in its cache (fio, 5 s each)' \
        'job | VMM | operations/s | exits per operation'
}
