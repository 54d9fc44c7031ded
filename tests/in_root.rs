//! One command in a guest whose root is a directory, with Debian's kernels, in the emulated KVM host of
//! each architecture: several guests in one host, and what each did told at its end.

mod common;

use std::time::Duration;

use common::{despite_svm, host, start};

const PATIENCE: Duration = Duration::from_secs(900);

/// Runs in the host, with its architecture as the argument. A step that is not as it should be ends it.
const SCRIPT: &str = r#"
set -e
guest=configs/guests/debian-$1
step() { echo "step: $1"; }
in_root() {
    status=0
    axvmm run -k $guest/vmlinuz -i $guest/initrd -m 256M "$@" || status=$?
}

mkdir -p root/bin root/etc root/tmp outside
cp "$(which busybox)" root/bin/busybox
for applet in sh cat id mount md5sum sleep; do ln -s busybox root/bin/$applet; done
echo kept >root/etc/kept

step "status, and streams apart"
in_root --root root -- sh -c 'echo out; echo err >&2; id -u; cat /etc/kept; exit 7' </dev/null >out 2>err
[ $status = 7 ] || { cat out err; exit 1; }
printf 'out\n0\nkept\n' | cmp - out
grep -qx err err

step "changes are gone, and a signal is a status"
in_root --root root -- sh -c 'echo x >/etc/kept && echo y >/new && cat /etc/kept /new; kill -9 $$' </dev/null >out 2>err
[ $status = 137 ] || { cat out err; exit 1; }
printf 'x\ny\n' | cmp - out
[ "$(cat root/etc/kept)" = kept ]
[ ! -e root/new ]

step "input is whole, to its end, and so is output"
dd if=/dev/urandom of=bytes bs=1k count=3000 2>/dev/null
in_root --root root -- cat <bytes >out 2>err
[ $status = 0 ] || { cat err; exit 1; }
cmp bytes out
md5sum <bytes >sum
in_root --root root -- md5sum <bytes >out 2>err
cmp sum out

step "a command that is not there, and one that is none"
in_root --root root -- none </dev/null 2>err
[ $status = 127 ] || { cat err; exit 1; }
grep -q 'cannot run none: not found' err
in_root --root root -- /etc/kept </dev/null 2>err
[ $status = 126 ] || { cat err; exit 1; }

step "changes are kept where they are asked for"
in_root --root root --root-rw -- sh -c 'echo changed >/etc/kept' </dev/null 2>err
[ $status = 0 ] || { cat err; exit 1; }
[ "$(cat root/etc/kept)" = changed ]

step "a timeout, with a reader that nothing comes for"
in_root --root root --timeout 20s -- sh -c 'echo begun; cat; echo never' <&3 >out 2>err
[ $status = 124 ] || { cat out err; exit 1; }
[ "$(cat out)" = begun ]
[ -z "$(ls -d /tmp/axvmm-?????? 2>/dev/null)" ]

step "all done"
"#;

/// In a host as `tests/hosts/host` calls it.
fn in_host(name: &str, arch: &str) {
    // A pipe whose other end stays open, so that it has neither bytes nor an end.
    let script = format!("mkfifo open; exec 3<>open; set -- {arch}\n{SCRIPT}");
    despite_svm(name, || {
        let mut command = host(name);
        command.args(["--memory", "2G", "--", "sh", "-c", &script]);
        let ended = start(&mut command).within(PATIENCE).finish();
        ended.assert(0, "step: all done");
    });
}

#[test]
fn x86_64() {
    in_host("x86_64", "x86_64");
}

#[test]
fn aarch64() {
    in_host("aarch64", "aarch64");
}

#[test]
fn riscv64_plic() {
    in_host("riscv64", "riscv64");
}

#[test]
fn riscv64_aia() {
    in_host("riscv64-aia", "riscv64");
}
