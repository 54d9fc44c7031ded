//! The text that `axvmm init` writes.

use std::fmt;

/// The architecture of the guest that a template is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestArch {
    X86_64,
    Aarch64,
    Riscv64,
}

impl GuestArch {
    pub const ALL: [Self; 3] = [Self::X86_64, Self::Aarch64, Self::Riscv64];

    /// The architecture of this name, as `std::env::consts::ARCH` and `uname -m` have it.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|arch| arch.to_string() == name)
    }

    /// Linux's name for the board's serial console.
    fn console(self) -> &'static str {
        match self {
            Self::X86_64 | Self::Riscv64 => "ttyS0",
            Self::Aarch64 => "ttyAMA0",
        }
    }
}

impl fmt::Display for GuestArch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
            Self::Riscv64 => "riscv64",
        })
    }
}

/// A `guest.toml` for a kernel, and an initrd if there is one, with the other keys as comments.
/// The paths are written as they are given: relative to the file.
pub fn template(kernel: &str, ramdisk: Option<&str>, arch: GuestArch) -> String {
    let kernel = quoted(kernel);
    let ramdisk = match ramdisk {
        Some(path) => format!("ramdisk_path = {}", quoted(path)),
        None => "#ramdisk_path = \"initrd.img\"".into(),
    };
    let console = arch.console();
    let debug_exit = match arch {
        GuestArch::X86_64 => DEBUG_EXIT,
        GuestArch::Aarch64 | GuestArch::Riscv64 => "",
    };
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
#kernel_load_addr = 0x200000
#entry_point = 0x200000
# Who decompresses a compressed kernel: "auto" (the host from the second start on), "host" or "guest".
#unpack = "auto"

[devices]
{debug_exit}# Devices beside those that the board always has: [name, address, length, interrupt, kind, [more]].
#emu_devices = []
"##
    )
}

const DEBUG_EXIT: &str = "\
# The ports of isa-debug-exit, where writing v ends axvmm with status 2v + 1; false for none.
#debug_exit = [0xf4, 0x501]
";

/// The text as a TOML string.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}
