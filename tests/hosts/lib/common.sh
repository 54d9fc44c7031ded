# shellcheck shell=bash
# What every script here needs: where things are, and how to speak.

# shellcheck disable=SC2034 # read by the scripts that source this file
hosts_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
repo=$(cd "$hosts_dir/../.." && pwd)
cache=${XDG_CACHE_HOME:-${HOME:?HOME is not set}/.cache}/axvmm
# This script's own failures, as in env(1), timeout(1) and containers: never a status of the command that was run.
readonly failed=125

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

die() {
    say "$*"
    exit "$failed"
}

# load_arch ARCH: the row of this architecture, or an error that names those there are.
load_arch() {
    local rows=("$hosts_dir"/arch/*.sh)
    rows=("${rows[@]##*/}")
    case " ${rows[*]%.sh} " in
        *" $1 "*) ;;
        *) die "no host for architecture '$1'; there are: ${rows[*]%.sh}" ;;
    esac
    # shellcheck source=arch/x86_64.sh
    . "$hosts_dir/arch/$1.sh"
}

# How Rust programs are built so that they run in a bare initramfs: with all that they need inside, at fixed addresses.
readonly static_flags='-C target-feature=+crt-static -C relocation-model=static'

# build_axvmm TARGET: builds the release binary for a Rust target, and sets `axvmm` to it.
build_axvmm() {
    local quiet=()
    [ -t 2 ] || quiet=(--quiet)
    (cd "$repo" && RUSTFLAGS=$static_flags cargo build "${quiet[@]}" --release --bin axvmm --target "$1" >&2) ||
        die "axvmm was not built"
    axvmm=${CARGO_TARGET_DIR:-$repo/target}/$1/release/axvmm
}
