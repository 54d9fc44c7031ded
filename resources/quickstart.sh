#!/usr/bin/env bash
# Builds axvmm and runs a Linux guest.
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: resources/quickstart.sh

Builds axvmm, fetches Debian's kernel, and ends in the shell of a Linux guest (Ctrl-A x leaves it); with no terminal, in a
guest that says hello and powers off. The guest runs on this machine's own KVM if `axvmm doctor` finds that it can, else in
an emulated KVM host.

Works on a machine that has cargo and, on Debian 12 or 13, apt (root or sudo); elsewhere it says which packages to install.
A second run downloads nothing.
TEXT
}

# shellcheck source=../tests/hosts/lib/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/../tests/hosts/lib/common.sh"

case ${1:-} in
    '') ;;
    -h | --help) usage && exit ;;
    *) usage >&2 && exit "$failed" ;;
esac
cd "$repo"
mkdir -p "$cache"
command -v cargo >/dev/null || die "please install Rust's cargo, 1.85 or newer"
load_arch "$(uname -m)"
tests/hosts/setup "$isa" build guest

say "building axvmm"
build_axvmm
export AXVMM=$axvmm

guest=(run --config "configs/debian-$isa.toml")
if ! [ -t 0 ] || ! [ -t 1 ]; then
    cmdline=$(sed -n 's/^cmdline = "\(.*\)"$/\1/p' "${guest[2]}")
    guest+=(--set "kernel.cmdline=$cmdline axvmm.run=\"echo Hello from a Linux guest of axvmm\"")
fi
if "$axvmm" doctor --json | grep -Eq '"linux": *true'; then
    say "the guest runs on this machine's own KVM"
    exec "$axvmm" "${guest[@]}"
fi
say "this machine's KVM cannot run Linux (axvmm doctor tells why): the guest runs in an emulated KVM host"
exec tests/hosts/host "$isa" -- axvmm "${guest[@]}"
