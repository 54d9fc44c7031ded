//! The machine, its kernel, and what has an effect on how it is run.

use super::{Draft, Given, tell_rest, words::number};
use crate::config::At;

/// Boards that axvmm has, or that are as good as one.
const BOARDS: [&str; 5] = ["virt", "q35", "pc", "microvm", "none"];

/// What axvmm does, or has, anyway; with the values for which that is so, or with none for all.
const USUAL: [(&str, &[&str]); 17] = [
    ("enable-kvm", &[]),
    ("nographic", &[]),
    ("nodefaults", &[]),
    ("nodefconfig", &[]),
    ("no-user-config", &[]),
    ("no-hpet", &[]),
    ("no-fd-bootchk", &[]),
    ("no-shutdown", &["never"]),
    ("accel", &["kvm", "kvm:tcg"]),
    ("cpu", &["host", "max"]),
    ("display", &["none"]),
    ("vga", &["none"]),
    ("monitor", &["none", "null"]),
    ("parallel", &["none", "null"]),
    ("serial", &["stdio", "mon:stdio"]),
    ("bios", &["none", "default"]),
    ("sandbox", &["off"]),
];

/// What an option is as an option of `axvmm run`.
const OF_RUN: [(&str, &str); 4] =
    [("no-reboot", "--no-reboot"), ("s", "--gdb 1234"), ("S", "--gdb 1234"), ("gdb", "--gdb 1234")];

/// Takes an option that is about no device.
pub fn option(given: &Given<'_>, draft: &mut Draft) {
    let text = || given.at(given.value.to_owned());
    let is_usual = |(name, values): &(&str, &[&str])| {
        *name == given.name && (values.is_empty() || values.contains(&given.value))
    };
    match given.name.as_str() {
        "m" => memory(given, draft),
        "smp" => processors(given, draft),
        "kernel" => draft.set("kernel", "kernel_path", text()),
        "initrd" => draft.set("kernel", "ramdisk_path", text()),
        "append" => draft.set("kernel", "cmdline", text()),
        "dtb" => draft.set("kernel", "dtb_path", text()),
        "name" => name(given, draft),
        "machine" | "M" => machine(given, draft),
        "object" => object(given, draft),
        "action" => action(given, draft),
        other => {
            if USUAL.iter().any(is_usual) {
                return;
            }
            if let Some((_, option)) = OF_RUN.iter().find(|(name, _)| *name == other) {
                draft.note(given.place, format!("no key: give {option} to `axvmm run`"));
                draft.run_with(option);
                return;
            }
            draft.note(given.place, unused(other));
        }
    }
}

/// Why an option is not used.
fn unused(name: &str) -> &'static str {
    match name {
        "accel" => "not used: the guest runs on KVM",
        "cpu" => "not used: the guest's processors are those of the host",
        "snapshot" => "not used: disks are changed; give a copy, or readonly = true",
        "serial" => "not used: the first serial port is on stdin and stdout, and there is no other",
        "monitor" | "qmp" | "mon" => "not used: there is no monitor; `axvmm top` looks into a run",
        "bios" | "pflash" => "not used: axvmm starts the kernel itself, without firmware",
        "blockdev" => "not used: write it as -blockdev driver=…,node-name=…, or as -drive",
        "d" | "D" | "trace" => "not used: --record FILE for `axvmm run` keeps every exit",
        "rtc" => "not used: the guest's clock has the host's time, in UTC",
        "daemonize" | "pidfile" => "not used: axvmm stays in the foreground",
        _ => "not used: it has no counterpart",
    }
}

/// `-m [size=]N[unit][,…]`, in MiB if there is no unit.
fn memory(given: &Given<'_>, draft: &mut Draft) {
    let mut keys = given.keys("size");
    if let Some(At { mut value, place }) = keys.take("size") {
        if value.bytes().all(|byte| byte.is_ascii_digit()) {
            value.push('M');
        }
        draft.set("base", "memory", At { value, place });
    }
    tell_rest(keys, &[], draft);
}

/// `-smp [cpus=]N[,sockets=…]`: without a number, the product of the rest.
fn processors(given: &Given<'_>, draft: &mut Draft) {
    let mut keys = given.keys("cpus");
    let most = keys.number("maxcpus", &mut draft.report);
    let cpus = keys.number("cpus", &mut draft.report);
    let levels = ["drawers", "books", "sockets", "dies", "clusters", "modules", "cores", "threads"];
    let counts: Vec<_> =
        levels.iter().filter_map(|level| keys.number(level, &mut draft.report)).collect();
    let product = counts.iter().map(|count| count.value).reduce(u64::saturating_mul);
    let most = most.map(|most| most.value);
    let number = cpus.map(|cpus| cpus.value).or(most).or(product);
    if most.is_some_and(|most| Some(most) != number) {
        draft.note(given.place, "maxcpus is not used: no vCPU is added while the guest runs");
    }
    if counts.iter().any(|count| count.value > 1) {
        draft.note(given.place, "what belongs together of the vCPUs (sockets, cores) is not used");
    }
    if let Some(number) = number {
        draft.set("base", "cpu_num", given.at(number));
    }
    tell_rest(keys, &[], draft);
}

fn name(given: &Given<'_>, draft: &mut Draft) {
    let mut keys = given.keys("guest");
    if let Some(name) = keys.take("guest") {
        draft.set("base", "name", name);
    }
    tell_rest(keys, &["process", "debug-threads"], draft);
}

fn machine(given: &Given<'_>, draft: &mut Draft) {
    let mut keys = given.keys("type");
    if let Some(board) = keys.take("type") {
        let is_known = BOARDS.iter().any(|known| {
            // With a version behind it: pc-q35-9.0, virt-8.2.
            board.value.split('-').any(|part| part == *known)
        });
        if !is_known {
            let text = format!(
                "{:?} is not used: the guest gets the board of its architecture",
                board.value
            );
            draft.note(given.place, text);
        }
    }
    if let Some(accel) = keys.take("accel").filter(|accel| !accel.value.starts_with("kvm")) {
        draft.note(accel.place, unused("accel"));
    }
    let usual =
        ["kernel_irqchip", "kernel-irqchip", "usb", "graphics", "vmport", "dump-guest-core"];
    tell_rest(keys, &usual, draft);
}

/// Objects that devices refer to, and that axvmm needs none of.
fn object(given: &Given<'_>, draft: &mut Draft) {
    let kind = given.keys("qom-type").take("qom-type").map(|kind| kind.value);
    let needless = ["rng-random", "rng-builtin", "iothread", "memory-backend-memfd"];
    if kind.is_none_or(|kind| !needless.contains(&kind.as_str())) {
        draft.note(given.place, unused("object"));
    }
}

fn action(given: &Given<'_>, draft: &mut Draft) {
    let mut keys = given.keys("reboot");
    if keys.take("reboot").is_some_and(|action| action.value == "shutdown") {
        draft.note(given.place, "no key: give --no-reboot to `axvmm run`");
        draft.run_with("--no-reboot");
    }
    tell_rest(keys, &[], draft);
}

/// The ports of an `isa-debug-exit`.
pub fn debug_exit(given: &Given<'_>, port: Option<&At<String>>, draft: &mut Draft) {
    match port.map_or(Some(0x501), |port| number(&port.value)) {
        Some(port) => draft.set("devices", "debug_exit", given.at(port)),
        None => {
            draft.report.problem(given.place, "iobase is no number");
        }
    }
}
