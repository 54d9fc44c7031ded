//! The text that `axvmm init` writes.

use crate::hal::Arch;

/// What a template says of an architecture's board.
struct Board {
    /// Linux's name for the serial console.
    console: &'static str,
    /// An address in RAM for an image whose format names none.
    load_addr: u64,
    /// The keys of `[kernel]` that not every board has, as comments.
    kernel: &'static str,
    /// Those of `[devices]`.
    devices: &'static str,
}

impl Board {
    fn of(arch: Arch) -> Self {
        let (console, load_addr) = match arch {
            Arch::X86_64 => ("ttyS0", 0x20_0000),
            Arch::Aarch64 => ("ttyAMA0", 0x4020_0000),
            Arch::Riscv64 => ("ttyS0", 0x8020_0000),
        };
        let (kernel, devices) = match arch {
            Arch::X86_64 => ("", DEBUG_EXIT),
            Arch::Aarch64 | Arch::Riscv64 => (DEVICE_TREE, ""),
        };
        Self { console, load_addr, kernel, devices }
    }
}

/// A `guest.toml` for a kernel, and an initrd if there is one, with the other keys as comments.
/// The paths are written as they are given: relative to the file.
pub fn template(kernel: &str, ramdisk: Option<&str>, arch: Arch) -> String {
    let kernel = quoted(kernel);
    let ramdisk = match ramdisk {
        Some(path) => format!("ramdisk_path = {}", quoted(path)),
        None => "#ramdisk_path = \"initrd.img\"".into(),
    };
    let board = Board::of(arch);
    let Board { console, load_addr, .. } = board;
    format!(
        r##"# A guest for axvmm on {arch}: `axvmm run --config` with this file's name runs it, `axvmm check`
# shows what it becomes. Relative paths are relative to this file. A key that is not written, or is
# a comment as below, has its default.

[base]
# How messages call the VM; the file's name if not given.
#name = "guest"
# How many vCPUs.
#cpu_num = 1
# The host CPUs that each vCPU may run on, as bit masks: here, CPU 0.
#phys_cpu_sets = [0x1]
# Units are K, M, G and T.
memory = "512M"

[kernel]
# Its format is recognised.
kernel_path = {kernel}
# An initial RAM disk.
{ramdisk}
# Without this key the guest gets no command line at all.
cmdline = "console={console}"
# For an image whose format does not say so: where it goes, and where execution begins.
#kernel_load_addr = {load_addr:#x}
#entry_point = {load_addr:#x}
# Who decompresses a compressed kernel: "auto" (the host from the second start on), "host" or "guest".
#unpack = "auto"
{}
[devices]
{}# Devices beside those that the board always has: [name, address, length, interrupt, kind, [more]].
#emu_devices = []

# A disk, of as many as there are such tables; a raw image unless there is a format = "qcow2".
#[[devices.virtio]]
#kind = "block"
#path = "disk.img"
#format = "raw"
# Whether the guest only reads; whether the kernel finds its root file system there.
#readonly = false
#root = true
# By which the guest finds it in /dev/disk/by-id.
#serial = "disk0"
# How many queues: one for each vCPU, if not given.
#queues = 1
# Whether to go past the host's page cache.
#direct = false
# Whether a qcow2 image may take what it lacks from files that it names; or the path of one.
#backing = false
# At most so much each second.
#rate = {{ bandwidth = "100M", operations = 1000 }}
"##,
        board.kernel, board.devices
    )
}

const DEVICE_TREE: &str = "\
# A device tree for the guest in place of the board's own, and what of the guest is put into it:
# \"memory\", \"cpus\", \"chosen\" (command line, seeds) and \"initrd\".
#dtb_path = \"guest.dtb\"
#dtb_patch = [\"chosen\", \"initrd\"]
";

const DEBUG_EXIT: &str = "\
# The ports of isa-debug-exit, where writing v ends axvmm with status 2v + 1; false for none.
#debug_exit = [0xf4, 0x501]
";

/// The text as a TOML string.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}
