#!/bin/sh
# Runs in an emulated host: all.sh ARCH CONSOLE TRANSPORT
# A guest with all devices of virtio/*, see ../virtio.rs; before.sh may look at TRANSPORT.
arch=$1 console=$2
export TRANSPORT="$3"
top=$PWD status=0
options=quiet patience=1h
# A guest that hangs ends: on the emulated SVM they do now and then.
[ "$arch" != x86_64 ] || options="quiet softlockup_panic=1" patience=8m
guest=$top/configs/guests/debian-$arch

# What the guest runs; it sees the folders in /virtio.
cat >virtio/run.sh <<'END'
for check in /virtio/*/check.sh; do
    cd "${check%/*}" || exit
    name=$(basename "$PWD")
    begun=$(cut -d. -f1 /proc/uptime)
    if sh -e check.sh >/tmp/log 2>&1; then
        echo "$1: $name: ok, $(($(cut -d. -f1 /proc/uptime) - begun)) s"
    else
        echo "$1: $name: FAILED"
        cat /tmp/log
        failed=1
    fi
done
exit "${failed:-0}"
END
# The kernel unpacks archives that follow each other.
find virtio | cpio -o -H newc 2>/dev/null >checks.cpio
cat "$guest/initrd" checks.cpio >initrd

# steps NAME: runs this script of each device that has it, in its own directory of the host's.
steps() {
    for folder in virtio/*/; do
        name=$(basename "$folder")
        mkdir -p "$top/work/$name"
        [ ! -e "$folder/$1" ] || (cd "$top/work/$name" && sh -e "$top/$folder/$1" "$top/$folder") || {
            echo "$TRANSPORT: $name: $1 FAILED"
            status=1
        }
    done
}

steps before.sh
{
    printf '[kernel]\nkernel_path = "%s/vmlinuz"\nramdisk_path = "%s/initrd"\n' "$guest" "$top"
    printf 'cmdline = '\''console=%s %s loglevel=3 axvmm.run="sh /virtio/run.sh %s"'\''\n' \
        "$console" "$options" "$TRANSPORT"
    printf '[base]\ncpu_num = 2\nmemory = "512M"\n'
    for folder in virtio/*/; do
        sed "s|TRANSPORT|\"$TRANSPORT\"|; s|WORK|$top/work/$(basename "$folder")|" "$folder/device.toml"
    done
} >guest.toml
axvmm run --config guest.toml --timeout "$patience" || status=$?
steps after.sh
exit $status
