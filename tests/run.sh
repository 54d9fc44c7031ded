#!/usr/bin/env bash
# Gets what the tests need, and runs them all.
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: tests/run.sh [--without NAME]…

Runs all tests: format and lints, unit tests, tiny guests on KVM, Linux guests in the emulated KVM hosts. Works on a
machine that has cargo and, on Debian 12 or 13, apt (root or sudo); elsewhere it says which packages to install. A second
run downloads nothing.

Where this machine has no KVM that axvmm can use, the tests that need one run in the emulated x86_64 host.

Options:
  --without lints   leave out the format check, the lints and the scripts' check
  --without hosts   leave out the Linux guests in the emulated hosts
  -h, --help

Exit status: 0 when all passed.
TEXT
}

# shellcheck source=hosts/lib/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/hosts/lib/common.sh"
# shellcheck source=hosts/lib/debian.sh
. "$hosts_dir/lib/debian.sh"

lints=yes hosts=yes
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) usage && exit ;;
        --without)
            case ${2:-} in
                lints) lints=no ;;
                hosts) hosts=no ;;
                *) usage >&2 && exit "$failed" ;;
            esac
            shift 2
            ;;
        *) usage >&2 && exit "$failed" ;;
    esac
done
cd "$repo"
mkdir -p "$cache"

# The test programs that drive /dev/kvm, beside the library's own tests.
kvm_tests=(kvm_loop boot_protocols guests ends console terminal run readme)

step() { say "$* (after $SECONDS s)"; }

install_tools() {
    local missing=() pair
    for pair in gcc:cc binutils:as acpica-tools:iasl libc6-dev:; do
        local package=${pair%%:*} command=${pair#*:}
        if [ -n "$command" ]; then
            command -v "$command" >/dev/null || missing+=("$package")
        elif is_debian; then
            dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package")
        fi
    done
    [ $lints = no ] || command -v shellcheck >/dev/null || missing+=(shellcheck)
    [ ${#missing[@]} -eq 0 ] || install_packages "${missing[@]}"
}

check_lints() {
    cargo fmt --check
    cargo clippy --quiet --all-targets -- -D warnings
    # The scripts are those that begin as one; what they source is checked with them.
    find .ci benches resources tests -type f -print0 |
        xargs -0 awk 'FNR == 1 && /^#!.*sh$/ { print FILENAME }' | xargs shellcheck -x -P SCRIPTDIR
}

# Builds the test programs for the emulated host, and runs those that need KVM there.
run_in_host() {
    local program programs with
    mapfile -t programs < <(
        RUSTFLAGS=$static_flags cargo test --target x86_64-unknown-linux-gnu --no-run --lib "${kvm_tests[@]/#/--test=}" 2>&1 |
            sed -n 's/^ *Executable .*(\(.*\))$/\1/p'
    )
    [ ${#programs[@]} -eq $((${#kvm_tests[@]} + 1)) ] || die "the test programs were not built"
    for program in "${programs[@]}"; do
        with=${program##*/}
        tests/hosts/host x86_64 --with "$program" --with README.md -- "./$with" --test-threads=2
    done
}

install_tools
step "building"
resources/guests/build x86_64
cargo build --quiet
if [ $lints = yes ]; then
    step "format, lints, scripts"
    check_lints
fi
if [ $hosts = yes ]; then
    step "setting up the emulated hosts"
    tests/hosts/setup x86_64
fi

left_out=()
[ $hosts = yes ] || left_out+=(linux hosts)
if cargo run --quiet -- doctor >/dev/null 2>&1; then
    step "tests on this machine's KVM"
    skip=("${left_out[@]}")
else
    step "no KVM that can be used here: its tests run in the emulated x86_64 host"
    run_in_host
    step "tests that need no KVM"
    skip=("${left_out[@]}" "${kvm_tests[@]}")
fi
# Every test program by name, so that one that is left out is left out knowingly.
programs=()
for file in tests/*.rs; do
    name=${file##*/} name=${name%.rs}
    case " ${skip[*]} " in
        *" $name "*) say "left out: $name" ;;
        *) programs+=(--test "$name") ;;
    esac
done
[[ " ${skip[*]} " == *" kvm_loop "* ]] || programs+=(--lib --doc)
if [[ " ${programs[*]} " == *" --doc "* ]]; then
    programs=("${programs[@]/--doc/}")
    cargo test --quiet --doc
fi
# shellcheck disable=SC2068 # an element emptied above must vanish
cargo test --no-fail-fast ${programs[@]}
step "all passed"
