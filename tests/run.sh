#!/usr/bin/env bash
# Gets what the tests need, and runs them all.
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: tests/run.sh [--all] [--only PART]… [--without PART]…

Runs the tests. Works on a machine that has cargo and, on Debian 12 or 13, apt (root or sudo); elsewhere it says which
packages to install. A second run downloads nothing.

Parts:
  lints    format, lints for all architectures, the scripts
  machine  unit tests, and tiny guests on this machine's KVM; where it has none that axvmm can use, the tests that need
           one run in the emulated host of this machine's architecture
  x86_64, aarch64, riscv64
           in the emulated KVM hosts of this architecture: Linux guests, and but for this machine's own architecture the
           unit tests and the tiny guests as well
  hosts    these three
  packages the release for this machine's architecture, built as users get it, and its package in a clean root: several
           minutes, and only if it is named

Options:
  --all  also what takes long, which is an hour more and told at the end where it is left out: the part packages, all
         virtio devices over all transports in all hosts, --root in all hosts, disks of guests that are killed, and a
         whole Debian with systemd in the host of each architecture

Exit status: 0 when all passed.
TEXT
}

# shellcheck source=hosts/lib/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/hosts/lib/common.sh"
# shellcheck source=hosts/lib/debian.sh
. "$hosts_dir/lib/debian.sh"

own=$(uname -m)
arches=(x86_64 aarch64 riscv64)
parts=(lints machine "${arches[@]}")

# choose VARIABLE NAME: adds the parts that NAME stands for.
choose() {
    local -n chosen=$1
    case ${2:-} in
        hosts) chosen+=("${arches[@]}") ;;
        lints | machine | packages | x86_64 | aarch64 | riscv64) chosen+=("$2") ;;
        *) usage >&2 && exit "$failed" ;;
    esac
}

only=() without=() all=no
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) usage && exit ;;
        --all) all=yes parts+=(packages) ;;
        --only) choose only "${2:-}" && shift ;;
        --without) choose without "${2:-}" && shift ;;
        *) usage >&2 && exit "$failed" ;;
    esac
    shift
done
[ ${#only[@]} -eq 0 ] || parts=("${only[@]}")

wanted() { [[ " ${parts[*]} " == *" $1 "* && " ${without[*]} " != *" $1 "* ]]; }

cd "$repo"
mkdir -p "$cache"

# The test programs that drive /dev/kvm, beside the library's own tests, and those of them that are not for the hosts of
# other architectures: about PCs, or what takes long.
kvm_tests=(kvm_loop axvisor boot_protocols buttons guests ends stats top recordings replay faults gdb console terminal run several library memory ivc guide readme vfio_user_guest test_command import)
pc_tests=(boot_protocols readme vfio_user_guest)
[ "$all" = yes ] || pc_tests+=(top)
# Those that need none, and are about what each architecture's build must do.
arch_tests=(conformance)
# Those that bring up hosts themselves.
host_tests=(linux virtio cargo_test in_root power_cut debian hosts emulated)
# Those of the part `packages`.
package_tests=(release)

step() { say "$* (after $SECONDS s)"; }

# limited LIMIT COMMAND…: where nobody is there to press Ctrl-C, a test that hangs is one that fails, and soon.
limited() { if [ -t 0 ]; then "${@:2}"; else timeout --kill-after=10 "$@"; fi; }

install_tools() {
    local missing=() pair
    for pair in gcc:cc binutils:as acpica-tools:iasl gdb:gdb device-tree-compiler:dtc e2fsprogs: libc6-dev: python3-jsonschema:; do
        local package=${pair%%:*} command=${pair#*:}
        if [ -n "$command" ]; then
            command -v "$command" >/dev/null || missing+=("$package")
        elif is_debian; then
            dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package")
        fi
    done
    # A browser that reports are looked at with.
    ! wanted machine || command -v chromium >/dev/null || missing+=(chromium)
    ! wanted lints || command -v shellcheck >/dev/null || missing+=(shellcheck)
    [ ${#missing[@]} -eq 0 ] || install_packages "${missing[@]}"
}

# The standard library's `core` for kernels (tests/cargo_test.rs).
install_targets() {
    local target
    for target in x86_64-unknown-none aarch64-unknown-none riscv64gc-unknown-none-elf; do
        [ -d "$(rustc --print target-libdir --target "$target")" ] || logged rustup target add "$target"
    done
}

check_lints() {
    local arch
    cargo fmt --check
    cargo clippy --quiet --all-targets -- -D warnings
    RUSTDOCFLAGS='-D warnings' cargo doc --quiet --no-deps
    for arch in "${arches[@]}"; do
        [ "$arch" != "$own" ] || continue
        load_arch "$arch"
        cargo_for_host clippy --quiet --all-targets -- -D warnings
    done
    # The scripts are those that begin as one; what they source is checked with them.
    find .ci benches examples resources tests -type f -print0 |
        xargs -0 awk 'FNR == 1 && /^#!.*sh$/ { print FILENAME }' | xargs shellcheck -x -P SCRIPTDIR
}

# run_in_host ARCH: builds the test programs for this architecture, and runs in its host those that need KVM or are about
# the architecture.
run_in_host() {
    local name names=() program programs with=()
    load_arch "$1"
    [ "$1" = "$own" ] || names+=("${arch_tests[@]}")
    for name in "${kvm_tests[@]}"; do
        [ "$1" != x86_64 ] && [[ " ${pc_tests[*]} " == *" $name "* ]] || names+=("$name")
    done
    resources/guests/build "$1"
    mapfile -t programs < <(
        cargo_for_host test --profile hosts --no-run --lib "${names[@]/#/--test=}" 2>&1 | tee >(cat >&2) |
            sed -n 's/^ *Executable .*(\(.*\))$/\1/p'
    )
    [ ${#programs[@]} -eq $((${#names[@]} + 1)) ] || die "the test programs for $1 were not built"
    for program in "${programs[@]}"; do with+=(--with "$program:tests/${program##*/}"); done
    # shellcheck disable=SC2016 # for the shell in the host
    AXVMM_PROFILE=hosts tests/hosts/host "$1" "${with[@]}" --with README.md --memory 2G -- sh -c '
        for program in tests/*; do
            echo "$program"
            timeout 900 "./$program" --test-threads=2 || failed="$failed $program"
        done
        [ -z "$failed" ] || { echo "failed:$failed" && exit 1; }'
}

install_tools
step "building"
resources/guests/build "$own"
cargo build --quiet
for arch in "${arches[@]}"; do
    ! wanted "$arch" || tests/hosts/setup "$arch"
done
if wanted lints; then
    step "format, lints, scripts"
    for arch in "${arches[@]}"; do tests/hosts/setup "$arch" build; done
    check_lints
fi
if wanted machine; then
    left_out=("${host_tests[@]}" "${package_tests[@]}")
    if cargo run --quiet -- doctor >/dev/null 2>&1; then
        step "tests on this machine's KVM"
    else
        step "no KVM that can be used here: its tests run in the emulated $own host"
        tests/hosts/setup "$own"
        run_in_host "$own"
        step "tests that need no KVM"
        # GDB is not in the hosts; its protocol is (gdb.rs).
        left_out+=("${kvm_tests[@]}" gdb_itself)
    fi
    # Every test program by name, so that one that is left out is left out knowingly.
    programs=()
    for file in tests/*.rs; do
        name=${file##*/} name=${name%.rs}
        [[ " ${left_out[*]} " == *" $name "* ]] || programs+=(--test "$name")
    done
    if [[ " ${left_out[*]} " != *" kvm_loop "* ]]; then
        programs+=(--lib)
        limited 10m cargo test --quiet --doc
    fi
    limited 25m cargo test --no-fail-fast "${programs[@]}"
fi
linux=()
for arch in "${arches[@]}"; do
    wanted "$arch" || continue
    # The modules of tests/linux.rs, and tests of the other programs; riscv64 is also the beginning of the other host's
    # name.
    linux+=("$arch")
    [ "$arch" != "$own" ] || continue
    step "tests in the emulated $arch host"
    run_in_host "$arch"
done
if [ ${#linux[@]} -gt 0 ]; then
    step "Linux guests in the emulated hosts"
    install_targets
    ! wanted "$own" || limited 20m cargo test --no-fail-fast --test hosts --test emulated
    case $all in
        yes)
            programs=(linux virtio cargo_test in_root power_cut debian)
            AXVMM_TESTS=all limited 150m cargo test --no-fail-fast "${programs[@]/#/--test=}" -- "${linux[@]}"
            ;;
        no)
            limited 60m cargo test --no-fail-fast --test linux --test virtio --test cargo_test -- "${linux[@]}"
            ! wanted aarch64 || limited 15m cargo test --test in_root -- aarch64
            untried="; what takes long was left out (--all)"
            ;;
    esac
fi
if wanted packages; then
    step "packages"
    limited 30m cargo test --no-fail-fast "${package_tests[@]/#/--test=}"
fi
step "all passed${untried-}"
