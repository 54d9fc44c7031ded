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

# logged COMMAND…: progress for a person; in a pipe nothing, unless it fails.
logged() {
    if [ -t 2 ]; then
        "$@" >&2
    else
        local output
        output=$("$@" 2>&1 </dev/null) || { printf '%s\n' "$output" >&2 && return 1; }
    fi
}

# load_arch ARCH: the row of this architecture, or an error that names those there are. Sets `isa` to the name of the
# architecture itself, and `linker` with its `linker_packages` to what links programs for it on this machine.
load_arch() {
    local rows=("$hosts_dir"/arch/*.sh)
    rows=("${rows[@]##*/}")
    case " ${rows[*]%.sh} " in
        *" $1 "*) ;;
        *) die "no host for architecture '$1'; there are: ${rows[*]%.sh}" ;;
    esac
    # shellcheck source=arch/x86_64.sh
    . "$hosts_dir/arch/$1.sh"
    isa=${1%%-*}
    # shellcheck disable=SC2034 # read by `setup`
    if [ "$isa" = "$(uname -m)" ]; then
        linker=cc linker_packages=(gcc libc6-dev)
    else
        linker=$isa-linux-gnu-gcc
        linker_packages=("gcc-${isa//_/-}-linux-gnu" "libc6-dev-$debian_arch-cross")
    fi
}

# How Rust programs are built so that they run in a bare initramfs: with all that they need inside, at fixed addresses.
readonly static_flags='-C target-feature=+crt-static -C relocation-model=static'

# cargo_for_host COMMAND [ARGUMENT]…: cargo, building such programs for the architecture that is loaded.
cargo_for_host() {
    local variable=CARGO_TARGET_${rust_target//-/_}_LINKER
    variable=${variable^^}
    (cd "$repo" && env "$variable=${!variable-$linker}" RUSTFLAGS="$static_flags" cargo "$1" --target "$rust_target" "${@:2}")
}

# build_axvmm: builds the binary for the architecture that is loaded, and sets `axvmm` to it.
build_axvmm() {
    local quiet=() profile=${AXVMM_PROFILE:-release}
    [ -t 2 ] || quiet=(--quiet)
    cargo_for_host build "${quiet[@]}" --profile "$profile" --bin axvmm >&2 || die "axvmm was not built"
    axvmm=${CARGO_TARGET_DIR:-$repo/target}/$rust_target/$profile/axvmm
}
