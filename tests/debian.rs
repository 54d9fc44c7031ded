//! A whole Debian, with systemd, from a disk image that `resources/debian-rootfs` makes, in the
//! emulated KVM host of each architecture.

mod common;

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use common::{Finished, despite_svm, host, root, start};

/// For an image whose packages are configured in emulation, and for a host and a guest.
const PATIENCE: Duration = Duration::from_secs(2400);

/// What is typed at root's prompt, a line at a time, and the answer, which is in no line.
const SESSION: &[(&str, &str)] = &[
    ("echo told: $((6 * 7)) state=$(systemctl is-system-running --wait)", "told: 42 state=running"),
    ("echo told: root=$(findmnt -no SOURCE,FSTYPE / | tr ' ' ,)", "told: root=/dev/vda,ext4"),
    // The guest has the host's own address, by DHCP.
    (
        "/usr/lib/systemd/systemd-networkd-wait-online -4 --timeout 900; ip route show default | cat",
        "proto dhcp src 192.0.2.2",
    ),
    (
        "rm -f /etc/apt/sources.list.d/*; \
        echo 'deb [trusted=yes] http://192.0.2.1:8000 ./' >/etc/apt/sources.list; \
        apt-get -qo APT::Update::Error-Mode=any update; echo told: update=$?",
        "told: update=0",
    ),
    (
        "DEBIAN_FRONTEND=noninteractive apt-get -qy install greeting </dev/null; greeting",
        "told: greetings",
    ),
];

/// systemd gives up on what takes longer than these, for which its own 90 s are too few here.
const LIMITS: &str = "systemd.default_timeout_start_sec=900 systemd.default_device_timeout_sec=900";

/// Makes a test of each of these hosts.
macro_rules! tests {
    ($($host:ident $arch:literal $console:literal)*) => {
        $(
            #[test]
            fn $host() {
                debian(stringify!($host), $arch, $console);
            }
        )*
    };
}

tests! {
    x86_64 "x86_64" "ttyS0"
    aarch64 "aarch64" "ttyAMA0"
    riscv64 "riscv64" "ttyS0"
}

/// Runs a program of this machine to its end, which is success.
#[track_caller]
fn succeed(command: &mut Command) -> Finished {
    let ended = start(command.current_dir(root())).within(PATIENCE).finish();
    ended.assert(0, "");
    ended
}

fn debian(host_name: &str, arch: &str, console: &str) {
    let dir = tempfile::tempdir().unwrap();
    let (image, repository) = (dir.path().join("debian.img"), dir.path().join("repository"));
    succeed(Command::new("tests/debian/repository").arg(&repository));
    despite_svm(host_name, || {
        let _ = fs::remove_file(&image);
        succeed(Command::new("resources/debian-rootfs").arg(arch).arg(&image));
        boot(host_name, arch, console, &image, &repository);
    });
    // It was unmounted as it should be.
    succeed(Command::new("/sbin/e2fsck").arg("-fn").arg(&image)).assert_tells(&[]);
}

fn boot(host_name: &str, arch: &str, console: &str, image: &Path, repository: &Path) {
    let guest = format!("configs/guests/debian-{arch}");
    let cmdline = format!("console={console} quiet {LIMITS}");
    let mut command = host(host_name);
    command.args(["--memory", "1500M", "--disk"]).arg(image).arg("--with").arg(repository);
    command.args(["--with", "tests/debian/host.sh", "--", "sh", "host.sh"]);
    command.args(["-n", "2", "-m", "512M", "--disk", "/dev/vda,root", "-c", &cmdline]);
    command.args(["-k", &format!("{guest}/vmlinuz"), "-i", &format!("{guest}/initrd")]);
    let mut running = start(command.stdin(Stdio::piped())).within(PATIENCE);
    running.wait_for("debian login: ");
    running.type_in("root\n");
    running.wait_for("root@debian:~#");
    for (line, answer) in SESSION {
        running.type_in(&format!("{line}\n"));
        running.wait_for(answer);
    }
    running.type_in("systemctl poweroff\n");
    running.finish().assert(0, "Power down").assert_tells(&[]);
}
