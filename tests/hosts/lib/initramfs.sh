# shellcheck shell=bash
# Initramfs images out of an unpacked Debian tree (see debian.sh).

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

# pack DIR: the tree under DIR as an archive on stdout; symbolic links become what they point to.
pack() {
    (cd "$1" && find -L . -print0 | LC_ALL=C sort -z | cpio --null -o -L -H newc -R 0:0 --quiet)
}

# build_initramfs TREE INIT OUTPUT [MODULE|FILE]…: busybox, the modules as /modules/NN-name.ko in the order of loading,
# each FILE (which has a slash in its path) in /bin, INIT as /init. Under `set -e`, with a directory `work` to make it in.
build_initramfs() {
    local tree=$1 init=$2 output=$3 root=$work/root item modules=() programs=() listed files file number=10
    shift 3
    for item; do
        case $item in
            */*) programs+=("$item") ;;
            *) modules+=("$item") ;;
        esac
    done
    listed=$(module_files "$tree" "${modules[@]}")
    mapfile -t files < <(awk 'NF && !seen[$0]++' <<<"$listed")
    mkdir -p "$root"/{bin,dev,etc,modules,proc,root,run,sbin,sys,tmp,usr/bin,usr/sbin}
    cp "$tree/usr/bin/busybox" "$root/bin/busybox"
    ln "$root/bin/busybox" "$root/bin/sh"
    [ ${#programs[@]} -eq 0 ] || cp "${programs[@]}" "$root/bin"
    cp "$init" "$root/init"
    for file in "${files[@]}"; do
        xz -dc "$file" >"$root/modules/$number-$(basename "$file" .xz)"
        number=$((number + 1))
    done
    pack "$root" >"$output"
    rm -r "$root"
}
