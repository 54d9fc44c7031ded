//! An unmodified Debian kernel under axvmm, in the emulated KVM host of each architecture, whose CPU
//! runs all that Linux needs. Nothing here is timed: the emulation takes its time, and so do busy
//! machines.

#[allow(dead_code, reason = "a kernel is not asked for all that a client can")]
#[path = "gdb/client.rs"]
mod client;
mod common;

use std::{
    io::{BufRead, BufReader},
    os::{fd::OwnedFd, unix::net::UnixStream},
    process::{Command, Stdio},
    time::Duration,
};

use client::Client;
use common::{Finished, Running, despite_svm, host, root, start};
use nix::sys::signal::Signal;

/// For one host and all that it runs. A guest boots in 2 to 10 seconds.
const PATIENCE: Duration = Duration::from_secs(480);

const PROMPT: &str = "debian:~# ";

/// An emulated host, with its architecture's Debian guest.
struct Linux {
    /// As `tests/hosts/host` calls it.
    host: &'static str,
    arch: &'static str,
    /// Linux's name for the board's serial console.
    console: &'static str,
}

const X86_64: Linux = Linux { host: "x86_64", arch: "x86_64", console: "ttyS0" };
const AARCH64: Linux = Linux { host: "aarch64", arch: "aarch64", console: "ttyAMA0" };
/// The interrupt controller is a GICv2, without an ITS.
const AARCH64_GICV2: Linux = Linux { host: "aarch64-gicv2", ..AARCH64 };
/// The interrupt controller is axvmm's PLIC.
const RISCV64: Linux = Linux { host: "riscv64", arch: "riscv64", console: "ttyS0" };
/// The interrupt controller is KVM's AIA.
const RISCV64_AIA: Linux = Linux { host: "riscv64-aia", ..RISCV64 };

/// Makes a test of each of these functions, named after the host.
macro_rules! tests {
    ($module:ident, $linux:ident: $($test:ident)*) => {
        mod $module {
            $(
                #[test]
                fn $test() {
                    _ = super::despite_svm(super::$linux.host, || super::$linux.$test());
                }
            )*
        }
    };
}

tests! { x86_64, X86_64:
    it_reaches_its_shell_and_each_way_to_end_is_a_status
    it_is_stopped_stepped_and_let_go_by_a_debugger
    a_reboot_comes_up_again_in_the_same_process
    it_is_unpacked_by_the_host_or_by_itself
    sixteen_processors_come_up
    memory_beyond_the_hole
    two_guests_exchange_a_gibibyte
    it_boots_without_a_command_line
    a_terminal_reaches_through_the_host_to_the_guests_shell
    doctor_says_that_this_kvm_can_run_it
    a_device_of_ones_own_is_there
}

tests! { aarch64, AARCH64:
    it_reaches_its_shell_and_each_way_to_end_is_a_status
    it_is_stopped_stepped_and_let_go_by_a_debugger
    a_reboot_comes_up_again_in_the_same_process
    much_memory
    it_boots_without_a_command_line
    a_terminal_reaches_through_the_host_to_the_guests_shell
    doctor_says_that_this_kvm_can_run_it
    u_boot_runs_as_on_the_board_it_is_built_for
    a_device_of_ones_own_is_there
    a_kernel_by_itself_finds_its_board
}

tests! { aarch64_gicv2, AARCH64_GICV2:
    it_reaches_its_shell_and_each_way_to_end_is_a_status
}

tests! { riscv64, RISCV64:
    it_reaches_its_shell_and_each_way_to_end_is_a_status
    it_is_stopped_stepped_and_let_go_by_a_debugger
    a_reboot_comes_up_again_in_the_same_process
    much_memory
    it_boots_without_a_command_line
    a_terminal_reaches_through_the_host_to_the_guests_shell
    doctor_says_that_this_kvm_can_run_it
    u_boot_runs_as_on_the_board_it_is_built_for
    a_device_of_ones_own_is_there
    a_kernel_by_itself_finds_its_board
}

tests! { riscv64_aia, RISCV64_AIA:
    it_reaches_its_shell_and_each_way_to_end_is_a_status
    a_reboot_comes_up_again_in_the_same_process
    doctor_says_that_this_kvm_can_run_it
}

/// Waits for the shell of the guest that is the `nth` to say that it is ready.
#[track_caller]
fn wait_for_shell(running: &Running, nth: usize) {
    running.wait_until("the shell's prompt", |printed| {
        printed.split("axvmm-guest: ready").nth(nth).is_some_and(|rest| rest.contains(PROMPT))
    });
}

/// The MiB of memory that a guest has said it has.
#[track_caller]
fn mib(ended: &Finished) -> u64 {
    let told = ended.stdout.split(" cpus, ").nth(1).unwrap_or_else(|| panic!("{ended:#?}"));
    told.split(' ').next().unwrap().parse().unwrap()
}

impl Linux {
    /// Runs a shell script in the host; stdin is a pipe.
    fn in_host(&self, options: &[&str], script: &str) -> Running {
        let mut command = host(self.host);
        command.args(options).args(["--", "sh", "-c", script]).stdin(Stdio::piped());
        start(&mut command).within(PATIENCE)
    }

    /// The same to its end, which is success.
    #[track_caller]
    fn script(&self, options: &[&str], script: &str) -> Finished {
        let ended = self.in_host(options, script).finish();
        ended.assert(0, "").assert_tells(&[]);
        ended
    }

    /// Runs the guest of configs/debian-ARCH.toml.
    fn debian(&self) -> String {
        format!("axvmm run --config configs/debian-{}.toml", self.arch)
    }

    /// The options for its kernel and initrd, to be given a command line.
    fn images(&self) -> String {
        let guest = format!("configs/guests/debian-{}", self.arch);
        format!("-k {guest}/vmlinuz -i {guest}/initrd")
    }

    fn it_reaches_its_shell_and_each_way_to_end_is_a_status(&self) {
        let guests =
            [(1, "", "poweroff", 0), (2, "--no-reboot", "reboot", 32), (4, "", "panic", 34)];
        let debian = self.debian();
        let runs = guests.map(|(cpus, options, ..)| {
            format!("{debian} --set base.cpu_num={cpus} {options}; echo \"ended: $?\"")
        });
        let mut running = self.in_host(&[], &runs.join("\n"));
        for (nth, (cpus, _, word, _)) in guests.iter().enumerate() {
            wait_for_shell(&running, nth + 1);
            running.wait_for(&format!("axvmm-guest: ready ({cpus} cpus"));
            running.type_in("echo answer $((6 * 7)) of $(nproc)\n");
            running.wait_for(&format!("answer 42 of {cpus}\r\n"));
            running.type_in(&format!("{word}\n"));
            running.wait_for_times("ended: ", nth + 1);
        }
        let ended = running.finish();
        ended.assert(0, "").assert_tells(&["panic"]);
        let statuses = ended.stdout.split("ended: ").skip(1);
        let statuses: Vec<i32> =
            statuses.map(|rest| rest.lines().next().unwrap().trim().parse().unwrap()).collect();
        assert_eq!(statuses, guests.map(|guest| guest.3), "{ended:#?}");
    }

    /// Built for QEMU's `virt` board among others, and given nothing but memory: it finds all else in
    /// the device tree, its console among it.
    fn a_kernel_by_itself_finds_its_board(&self) {
        let run = format!(
            "cat >kernel.toml <<END
[base]
memory = \"256M\"
[kernel]
kernel_path = \"configs/guests/debian-{}/vmlinuz\"
END
axvmm run --config kernel.toml",
            self.arch
        );
        let running = self.in_host(&[], &run);
        running.wait_for("Linux version 6.");
        // It has no root file system: it says so on the console, and stays.
        running.wait_for("Unable to mount root fs");
        running.signal(Signal::SIGTERM);
        running.finish().assert(143, "");
    }

    /// Built for QEMU's `virt` board, and given nothing but memory; where it is a flat binary, an
    /// address. It finds the board in the device tree: memory, console, a way to power off.
    fn u_boot_runs_as_on_the_board_it_is_built_for(&self) {
        let arch = self.arch;
        let address = if arch == "aarch64" { "kernel_load_addr = 0x4020_0000" } else { "" };
        let run = format!(
            "cat >u-boot.toml <<END
[base]
memory = \"256M\"
[kernel]
kernel_path = \"configs/guests/u-boot-{arch}\"
{address}
END
axvmm run --config u-boot.toml"
        );
        let mut running = self.in_host(&[], &run);
        running.wait_for("DRAM:  256 MiB");
        running.wait_for("Hit any key to stop autoboot");
        running.type_in("\n");
        running.wait_for("=> ");
        running.type_in(
            "echo answer $ncpu${fdtcontroladdr}; fdt addr $fdtcontroladdr; fdt print /chosen\n",
        );
        running.wait_for("stdout-path");
        running.type_in("poweroff\n");
        running.finish().assert(0, "");
    }

    /// The device that `axvmm device new` writes, used as the guide has it, and known to the kernel by
    /// what a driver would find it by.
    fn a_device_of_ones_own_is_there(&self) {
        let dir = tempfile::tempdir().unwrap();
        let mut new = common::axvmm();
        common::run(new.args(["device", "new", "countdown"]).current_dir(&dir)).assert(0, "");
        let mut build = Command::new(root().join("tests/devices/build"));
        let built = build.arg(self.arch).arg(dir.path().join("countdown")).output().unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        let mut command = host(self.host);
        command.env("AXVMM", String::from_utf8(built.stdout).unwrap().trim());
        let row = "devices.custom=[{kind=\"countdown\"}]";
        let run = format!("{} --set '{row}' --stats", self.debian());
        command.args(["--", "sh", "-c", &run]).stdin(Stdio::piped());
        let mut running = start(&mut command).within(PATIENCE);
        wait_for_shell(&running, 1);
        let at = match self.arch {
            "x86_64" => "0xd0000",
            "aarch64" => "0xc000",
            _ => "0x4000",
        };
        let guide = include_str!("../resources/guide/devices.md").lines();
        let mut session = guide.skip_while(|line| !line.contains("~ # "));
        let mut commands = 0;
        while let Some(command) = session.next().and_then(|line| line.strip_prefix("    ~ # ")) {
            let answer = session.next().unwrap().trim();
            running.type_in(&format!("{}\n", command.replace("0xd0000", at)));
            running.wait_for(&format!("\n{answer}\r\n"));
            commands += 1;
        }
        assert_eq!(commands, 2);
        running.type_in("grep -l Cexample,countdown /sys/bus/platform/devices/*/modalias\n");
        running.wait_for("\n/sys/bus/platform/devices/");
        running.type_in("poweroff\n");
        running.finish().assert(0, "").assert_tells(&["countdown"]);
    }

    /// A client of GDB's protocol, whose packets go through the host's stdin and stdout, stops the kernel
    /// where it prints its first byte.
    fn it_is_stopped_stepped_and_let_go_by_a_debugger(&self) {
        let Self { arch, console, .. } = self;
        let run = format!(
            "ifconfig lo 127.0.0.1
axvmm run --config configs/debian-{arch}.toml --gdb 1234 \\
    --set kernel.cmdline='console={console} quiet axvmm.run=nproc' </dev/null >console 2>log &
until grep -q 'target remote' log; do sleep 1; done
echo it waits >&2
nc 127.0.0.1 1234
wait $! && grep -q 'axvmm-guest: exit 0' console && echo it has ended well >&2"
        );
        let (ours, hosts) = UnixStream::pair().unwrap();
        let mut command = host(self.host);
        let there = || OwnedFd::from(hosts.try_clone().unwrap());
        command.args(["--timeout", "460", "--", "sh", "-c", &run]);
        command.stdin(there()).stdout(there()).stderr(Stdio::piped());
        let mut host = command.spawn().unwrap();
        drop((command, hosts));
        let mut told = BufReader::new(host.stderr.take().unwrap()).lines().map_while(Result::ok);
        assert!(told.any(|line| line == "it waits"));

        let mut gdb = Client::over(ours);
        // The program counter's number, the console's data register, a breakpoint that all have.
        let (pc, data, kind) = match *arch {
            "x86_64" => (16, "port:0x3f8", "Z1,1"),
            "aarch64" => (32, "0x9000000", "Z0,4"),
            _ => (32, "0x10000000", "Z0,2"),
        };
        let first = gdb.register(pc);
        gdb.monitor(&format!("watch {data} write"));
        assert!(gdb.go_on().starts_with("T05"));
        let amid = gdb.register(pc);
        // In the upper half, and no longer where physical addresses are virtual ones.
        assert!(first >> 63 == 0 && amid >> 63 == 1, "{first:#x}, {amid:#x}");
        assert_ne!(gdb.memory(amid, 8), [0; 8]);
        let steps = [(); 20].map(|()| {
            gdb.step(1);
            gdb.register(pc)
        });
        assert!(steps.iter().all(|at| at >> 63 == 1), "{steps:x?}");
        let moved = steps.windows(2).filter(|pair| pair[0] != pair[1]).count();
        assert!(moved > 10, "{steps:x?}");
        gdb.monitor("unwatch");
        let (set, size) = kind.split_once(',').unwrap();
        gdb.expect(&format!("{set},{amid:x},{size}"), "OK");
        assert!(gdb.go_on().starts_with("T05"));
        assert_eq!(gdb.register(pc), amid, "it prints more");
        gdb.expect(&format!("{},{amid:x},{size}", set.replace('Z', "z")), "OK");
        assert_eq!(gdb.go_on(), "W00");
        drop(gdb);
        assert!(told.any(|line| line == "it has ended well"));
        assert!(host.wait().unwrap().success());
    }

    fn a_reboot_comes_up_again_in_the_same_process(&self) {
        let run = format!("{} --result-file result; echo \"ended: $?\"; cat result", self.debian());
        let mut running = self.in_host(&[], &run);
        wait_for_shell(&running, 1);
        running.type_in("reboot\n");
        wait_for_shell(&running, 2);
        running.type_in("echo answer $((6 * 7))\n");
        running.wait_for("answer 42\r\n");
        running.type_in("poweroff\n");
        let ended = running.finish();
        ended.assert(0, "ended: 0");
        let result = ended.stdout.split("ended: 0").nth(1).unwrap();
        let result: serde_json::Value = serde_json::from_str(result).unwrap();
        assert_eq!((&result["reason"], &result["reboots"]), (&"shutdown".into(), &1.into()));
    }

    fn it_is_unpacked_by_the_host_or_by_itself(&self) {
        let Self { console, .. } = self;
        let images = self.images();
        let run = |unpack: &str| {
            format!(
                "guest=\"{images} --set kernel.unpack={unpack}\"\n\
                 axvmm check $guest\n\
                 axvmm run $guest -c 'console={console} quiet axvmm.run=nproc' -n 2 || exit\n"
            )
        };
        let ended = self.script(&[], &(run("host") + &run("guest")));
        let runs: Vec<_> = ended.stdout.split_inclusive("axvmm-guest: exit 0").collect();
        assert_eq!(runs.len(), 3, "{ended:#?}");
        assert!(runs[0].contains("unpacked on the host"), "{ended:#?}");
        assert!(!runs[1].contains("unpacked on the host"), "{ended:#?}");
    }

    fn sixteen_processors_come_up(&self) {
        let command = format!("console={} axvmm.run=nproc", self.console);
        let run = format!("axvmm run {} -n 16 -c '{command}'", self.images());
        let ended = self.script(&[], &run);
        ended.assert(0, "axvmm-guest: ready (16 cpus").assert(0, "\n16\r\n");
    }

    /// A guest with 4 GiB in a host of 2, which prints its memory map. Its memory comes at the first
    /// touch, which is any that Linux makes: zeroing a page, taking a lock, filling a page table.
    fn much_memory(&self) -> Finished {
        let command = format!("console={} quiet axvmm.run=\"cat /proc/iomem\"", self.console);
        let run = format!(
            "axvmm run {} -m 4G --set base.lazy_memory=true -c '{command}' --result-file r && \
             cat r",
            self.images()
        );
        let ended = self.script(&["--memory", "2G"], &run);
        ended.assert(0, "axvmm-guest: exit 0").assert(0, "\"NestedPageFault\"");
        assert!((3 << 10..4 << 10).contains(&mib(&ended)), "{ended:#?}");
        ended
    }

    fn memory_beyond_the_hole(&self) {
        let ended = self.much_memory();
        assert!(ended.stdout.contains("100000000-13fffffff : System RAM"), "{ended:#?}");
    }

    /// Through an inter-VM channel, with an interrupt for each round, every word checked. On the
    /// other architectures ivc.rs does it, in their hosts.
    fn two_guests_exchange_a_gibibyte(&self) {
        common::guest("ivc-send"); // has them built
        let mut with = Vec::new();
        for end in ["send", "receive"].map(|end| format!("ivc-{end}-{}", self.arch)) {
            with.extend([format!("configs/{end}.toml"), format!("configs/guests/{end}.elf")]);
        }
        let options: Vec<_> = with.iter().flat_map(|file| ["--with", file]).collect();
        let run = format!(
            "axvmm run --config {} --config {} --set kernel.cmdline='size=0x801000 \
             total=0x40000000'",
            with[0], with[2]
        );
        self.script(&options, &run)
            .assert(0, "ivc-send: sent 0x40000000 bytes")
            .assert(0, "ivc-receive: received 0x40000000 bytes, all as sent");
    }

    /// What a guest without a command line prints may go nowhere, so that this one's init, put over
    /// the other one, has to look for the serial port itself.
    fn it_boots_without_a_command_line(&self) {
        let images = self.images();
        let (kernel, initrd) = images.split_once(" -i ").unwrap();
        let console = self.console;
        let run = format!(
            r##"mkdir over && cat >over/init <<'END' && chmod +x over/init
#!/bin/sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t devtmpfs dev /dev
echo "command line: '$(/bin/busybox cat /proc/cmdline)'" >/dev/{console}
/bin/busybox poweroff -f
END
(cd over && echo init | cpio -o -H newc 2>/dev/null) | cat {initrd} - >initrd
axvmm run {kernel} -i initrd -m 256M"##
        );
        self.script(&[], &run).assert(0, "command line: ''\r\n");
    }

    fn a_terminal_reaches_through_the_host_to_the_guests_shell(&self) {
        // `script` gives the command a terminal, and us its output.
        let command = format!("tests/hosts/host {} -- {}", self.host, self.debian());
        let mut on_terminal = Command::new("script");
        on_terminal.args(["--quiet", "--return", "--command", &command, "/dev/null"]);
        on_terminal.env("AXVMM_PROFILE", "hosts");
        let mut running =
            start(on_terminal.current_dir(root()).stdin(Stdio::piped())).within(PATIENCE);
        wait_for_shell(&running, 1);
        // Ctrl-C is the guest's. Told by the process that is to be interrupted: between two
        // commands the shell would take it.
        running.type_in("sh -c 'echo begun $((6 * 7)); exec sleep 9999'\n");
        running.wait_for("begun 42\r");
        running.type_in("\x03");
        running.wait_until("the prompt again", |printed| {
            printed.split("begun 42\r").nth(1).is_some_and(|rest| rest.contains(PROMPT))
        });
        running.type_in("echo answer $((6 * 7))\n");
        running.wait_for("answer 42\r");
        // Ctrl-A x is axvmm's.
        running.type_in("\x01x");
        running.finish().assert(130, "quit at the console");
    }

    fn doctor_says_that_this_kvm_can_run_it(&self) {
        let ended = self.script(&[], "axvmm doctor && axvmm doctor --json");
        ended.assert(0, "Guests can run here, unmodified Linux kernels among them.");
        ended.assert(0, "\"linux\": true");
    }
}
