#!/usr/bin/env bash
# Makes what a release of axvmm is made of.
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: resources/release.sh [--out DIR] [ARCH]…

Makes, for x86_64, aarch64 and riscv64 or for those that are named:
  axvmm-VERSION-ARCH-linux   the program, which needs no library of the machine's
  axvmm_VERSION_DEBARCH.deb  a package for Debian: the program, manual pages, completions, the guide, examples
  SHA256SUMS                 of these files
in DIR, by default target/release-files, in the place of what is there of these names.

Works on a machine that has cargo and, on Debian 12 or 13, apt (root or sudo), by which it gets what links programs for
the other architectures; elsewhere it says which packages to install. It builds cargo-deb if there is none.
TEXT
}

# shellcheck source=../tests/hosts/lib/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/../tests/hosts/lib/common.sh"

out=$repo/target/release-files arches=()
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) usage && exit ;;
        --out)
            [ $# -ge 2 ] || { usage >&2; exit "$failed"; }
            out=$2
            shift 2
            ;;
        -*) usage >&2 && exit "$failed" ;;
        *) arches+=("$1") && shift ;;
    esac
done
[ -n "$out" ] || { usage >&2 && exit "$failed"; }
[ ${#arches[@]} -gt 0 ] || arches=(x86_64 aarch64 riscv64)
for arch in "${arches[@]}"; do
    load_arch "$arch"
    [ "$arch" = "$isa" ] || die "'$arch' is a host, and no architecture"
done
command -v cargo >/dev/null || die "please install Rust's cargo, 1.85 or newer"
mkdir -p "$cache" "$out"
out=$(cd "$out" && pwd)
cd "$repo"
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
# Of what git knows, so that the same sources make the same packages.
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null || stat -c %Y Cargo.toml)
export SOURCE_DATE_EPOCH

# cargo-deb is one that the user has, or ours.
get_cargo_deb() {
    PATH=$cache/cargo-deb/bin:$PATH
    command -v cargo-deb >/dev/null && return
    say "building cargo-deb"
    logged cargo install --quiet --locked --root "$cache/cargo-deb" cargo-deb || die "cargo-deb was not built"
}

# What all architectures' packages have of the command line, by a program that runs here.
describe() {
    local shell
    cargo build --quiet --bin axvmm
    local here=${CARGO_TARGET_DIR:-$repo/target}/debug/axvmm
    mkdir -p "$staging/man" "$staging/completions"
    "$here" man "$staging/man"
    for shell in bash zsh fish; do "$here" completions "$shell" >"$staging/completions/axvmm.$shell"; done
}

# The examples of the architecture that is loaded, with the guests that they run.
collect_examples() {
    local config guest
    rm -rf "$staging/configs"
    mkdir -p "$staging/configs/guests"
    resources/guests/build "$isa" >/dev/null
    for config in configs/*-"$isa".toml; do cp "$config" "$staging/configs/"; done
    for guest in configs/guests/*-"$isa".{elf,bin}; do
        [ ! -f "$guest" ] || cp "$guest" "$staging/configs/guests/"
    done
}

# One at a time, as the packages are put together in one place.
staging=$repo/target/packaging
mkdir -p "$repo/target"
exec {lock}>"$repo/target/packaging.lock"
flock "$lock"
get_cargo_deb
for arch in "${arches[@]}"; do tests/hosts/setup "$arch" build; done
rm -rf "$staging"
describe
made=()
for arch in "${arches[@]}"; do
    load_arch "$arch"
    say "building axvmm for $arch"
    AXVMM_PROFILE=release build_axvmm
    collect_examples
    binary=axvmm-$version-$arch-linux
    package=axvmm_${version}_$debian_arch.deb
    install -m 755 "$axvmm" "$out/$binary"
    logged cargo deb --quiet --no-build --no-strip --target "$rust_target" --deb-revision '' --output "$out/$package" ||
        die "$package was not made"
    made+=("$binary" "$package")
done
(cd "$out" && sha256sum -- "${made[@]}" >SHA256SUMS)
say "made in $out: ${made[*]}, SHA256SUMS"
