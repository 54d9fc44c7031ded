//! The VMMs, and how each is told to run a guest.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vmm {
    /// The kernel is unpacked on the host; with a cache, where there is something to unpack.
    Axvmm,
    /// The same with nothing in the cache yet.
    AxvmmCold,
    /// The kernel unpacks itself in the guest.
    AxvmmGuest,
    Alioth,
    /// QEMU's microvm machine; elsewhere its `virt` machine.
    Qemu,
    /// The latter with the interrupt controllers that KVM has on riscv64.
    QemuAia,
    /// `bare_loop`.
    Bare,
}

/// A VMM as it stands on this machine.
pub struct Contender {
    pub vmm: Vmm,
    program: PathBuf,
    cache: PathBuf,
}

/// A guest to run: one vCPU.
pub struct Guest<'a> {
    pub kernel: &'a Path,
    pub initrd: Option<&'a Path>,
    pub cmdline: &'a str,
    /// In MiB.
    pub memory: u32,
}

impl Contender {
    pub fn new(vmm: &str, program: &str) -> Option<Self> {
        let vmm = match vmm {
            "axvmm" => Vmm::Axvmm,
            "axvmm-cold" => Vmm::AxvmmCold,
            "axvmm-guest" => Vmm::AxvmmGuest,
            "alioth" => Vmm::Alioth,
            "qemu" => Vmm::Qemu,
            "qemu-aia" => Vmm::QemuAia,
            "bare" => Vmm::Bare,
            _ => return None,
        };
        let cache = std::env::temp_dir().join(format!("axvmm-bench-{}", std::process::id()));
        Some(Self { vmm, program: program.into(), cache })
    }

    pub fn name(&self) -> &'static str {
        match self.vmm {
            Vmm::Axvmm => "axvmm",
            Vmm::AxvmmCold => "axvmm, empty cache",
            Vmm::AxvmmGuest => "axvmm, unpacked by the guest",
            Vmm::Alioth => "alioth",
            Vmm::Qemu if env::consts::ARCH == "x86_64" => "QEMU microvm",
            Vmm::Qemu | Vmm::QemuAia => "QEMU virt",
            Vmm::Bare => "bare KVM_RUN loop",
        }
    }

    /// The command that runs `guest` with its console on stdin and stdout.
    pub fn command(&self, guest: &Guest) -> Command {
        let mut command = Command::new(&self.program);
        let Guest { kernel, initrd, cmdline, memory } = *guest;
        match self.vmm {
            Vmm::Axvmm | Vmm::AxvmmCold | Vmm::AxvmmGuest => {
                command.arg("run").arg("-k").arg(kernel).args(["-c", cmdline]);
                command.args(["-m", &format!("{memory}M")]);
                if let Some(initrd) = initrd {
                    command.arg("-i").arg(initrd);
                }
                match self.vmm {
                    Vmm::AxvmmGuest => command.args(["--set", "kernel.unpack=guest"]),
                    _ => command.env("XDG_CACHE_HOME", &self.cache),
                };
            }
            Vmm::Alioth => {
                // It tells by the option, not by the file, what kind of kernel it is.
                let kind = if initrd.is_some() { "--kernel" } else { "--pvh" };
                command.arg("boot").arg(kind).arg(kernel).args(["--cmdline", cmdline]);
                command.args(["--memory", &format!("size={memory}M"), "--cpu", "count=1"]);
                if let Some(initrd) = initrd {
                    command.arg("--initramfs").arg(initrd);
                }
            }
            Vmm::Qemu | Vmm::QemuAia => {
                let machine: &[_] = match (self.vmm, env::consts::ARCH) {
                    // The firmware that serves no more than microvm's own kernels, and starts them
                    // the soonest; and the one feature that not every KVM lets QEMU set.
                    (_, "x86_64") => &[
                        "-M",
                        "microvm,accel=kvm,rtc=on",
                        "-bios",
                        "qboot.rom",
                        "-cpu",
                        "host,arch-capabilities=off",
                    ],
                    (_, "aarch64") => &["-M", "virt,accel=kvm,gic-version=3", "-cpu", "host"],
                    (Vmm::QemuAia, _) => &["-M", "virt,accel=kvm,aia=aplic-imsic", "-cpu", "host"],
                    _ => &["-M", "virt,accel=kvm", "-cpu", "host"],
                };
                command.args(machine).args(["-smp", "1"]);
                command.args(["-m", &format!("{memory}M"), "-nodefaults", "-no-user-config"]);
                command.args(["-display", "none", "-serial", "stdio", "-no-reboot"]);
                command.arg("-kernel").arg(kernel).args(["-append", cmdline]);
                if let Some(initrd) = initrd {
                    command.arg("-initrd").arg(initrd);
                }
            }
            Vmm::Bare => {
                command.arg(kernel).arg(cmdline);
            }
        }
        command
    }

    /// Makes the next start as the contender's name says.
    pub fn prepare(&self) {
        if self.vmm == Vmm::AxvmmCold {
            self.clean_up();
        }
    }

    /// Removes what the runs have left behind.
    pub fn clean_up(&self) {
        let _ = std::fs::remove_dir_all(&self.cache);
    }
}
