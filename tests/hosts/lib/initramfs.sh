# shellcheck shell=bash
# Initramfs images out of an unpacked Debian tree (see debian.sh).

# shellcheck disable=SC2034 # read by ../setup
# What guests may want: virtio's drivers, and file systems to mount.
readonly guest_drivers=(virtio-mmio virtio-blk virtio-net virtio-rng virtio-balloon virtio-pmem nd-pmem
    vmw-vsock-virtio-transport overlay ext4)
# shellcheck disable=SC2034 # read by ../setup
# What VMMs may want of their host, and `host` of its init.
readonly host_drivers=(virtio-blk tun vhost-net vhost-vsock vsock-loopback bridge)

# module_files TREE NAME…: the files of these modules, each after those that it needs; one may come more than once.
# Debian's packages carry no modules.dep, but each module names those that it needs.
module_files() {
    local tree=$1 name file needs
    shift
    for name; do
        name=${name//_/-}
        file=$(find "$tree/usr/lib/modules" -name "$name.ko.xz" -o -name "${name//-/_}.ko.xz" | head -n 1)
        if [ -n "$file" ]; then
            needs=$(xz -dc "$file" | tr '\0' '\n' | sed -n 's/^depends=//p')
            # shellcheck disable=SC2086 # a list of words once its commas are gone
            module_files "$tree" ${needs//,/ } || return
            printf '%s\n' "$file"
        elif ! grep -q "/${name//-/[-_]}\.ko$" "$tree"/usr/lib/modules/*/modules.builtin; then
            say "no module '$name' in $tree"
            return 1
        fi
    done
}

# each_once: the lines of stdin, without those that have been before.
each_once() { awk 'NF && !seen[$0]++'; }

# add_drivers TREE ROOT NAME…: puts these modules, and those that they need, into ROOT/lib/modules for modprobe, which
# init calls for the devices that are there, and the kernel for the rest. Packed, as Debian has them: most runs load none.
add_drivers() {
    local tree=$1 directory listed file files module needs
    directory=$2/$(cd "$tree/usr" && echo lib/modules/*)
    shift 2
    listed=$(module_files "$tree" "$@")
    mapfile -t files < <(each_once <<<"$listed")
    mkdir -p "$directory"
    for file in "${files[@]}"; do
        module=$(basename "$file" .ko.xz)
        listed=$(module_files "$tree" "$module")
        needs=$(sed 's|.*/||' <<<"$listed" | each_once | head -n -1 | tac | tr '\n' ' ')
        cp "$file" "$directory"
        printf '%s.ko.xz: %s\n' "$module" "$needs" >>"$directory/modules.dep"
        xz -dc "$file" | tr '\0' '\n' | sed -n "s/^alias=\(.*\)/alias \1 $module/p" >>"$directory/modules.alias"
    done
}

# pack DIR: the tree under DIR as an archive on stdout; symbolic links become what they point to.
pack() {
    (cd "$1" && find -L . -print0 | LC_ALL=C sort -z | cpio --null -o -L -H newc -R 0:0 --quiet)
}

# pack_passt TREE: passt out of this tree, with what it needs, as an archive on stdout. Where the root file system is an
# initramfs it cannot turn away from that (pivot_root), so it is started in one that is a mount. Under `set -e`, with a
# directory `work` to make it in.
pack_passt() {
    local tree=$1 root=$work/root library
    mkdir -p "$root"/{etc,mnt,usr/bin,usr/lib/passt}
    cp "$tree"/usr/bin/passt* "$root/usr/lib/passt"
    for library in "$tree"/usr/lib*/ld-linux-* "$tree"/usr/lib/*/libc.so.6; do
        mkdir -p "$root$(dirname "${library#"$tree/usr"}")"
        cp -L "$library" "$root${library#"$tree/usr"}"
    done
    cat >"$root/usr/bin/passt" <<'END'
#!/bin/sh
exec unshare -m sh -c \
    'mount -o rbind / /mnt && cd /mnt && mount -o move . / && exec chroot . /usr/lib/passt/passt "$@"' passt "$@"
END
    chmod +x "$root/usr/bin/passt"
    echo 'nobody:x:65534:65534:nobody:/:/bin/false' >"$root/etc/passwd"
    pack "$root"
    rm -r "$root"
}

# build_initramfs TREE INIT OUTPUT [MODULE|FILE]… [-- DRIVER…]: busybox, the MODULEs as /modules/NN-name.ko in the order
# of loading, each FILE (which has a slash in its path) in /bin, INIT as /init; the DRIVERs for modprobe. Under `set -e`,
# with a directory `work` to make it in.
build_initramfs() {
    local tree=$1 init=$2 output=$3 root=$work/root modules=() programs=() listed files file number=10
    shift 3
    while [ $# -gt 0 ] && [ "$1" != -- ]; do
        case $1 in
            */*) programs+=("$1") ;;
            *) modules+=("$1") ;;
        esac
        shift
    done
    listed=$(module_files "$tree" "${modules[@]}")
    mapfile -t files < <(each_once <<<"$listed")
    mkdir -p "$root"/{bin,dev,etc,modules,proc,root,run,sbin,sys,tmp,usr/bin,usr/sbin}
    cp "$tree/usr/bin/busybox" "$root/bin/busybox"
    ln "$root/bin/busybox" "$root/bin/sh"
    [ ${#programs[@]} -eq 0 ] || cp "${programs[@]}" "$root/bin"
    cp "$init" "$root/init"
    for file in "${files[@]}"; do
        xz -dc "$file" >"$root/modules/$number-$(basename "$file" .xz)"
        number=$((number + 1))
    done
    [ $# -le 1 ] || add_drivers "$tree" "$root" "${@:2}"
    pack "$root" >"$output"
    rm -r "$root"
}
