//! What the hardware beneath offers to VMs, as far as a board depends on it.

use std::{env, fmt};

use serde::Serialize;

use crate::addr::{GuestPhysAddr, GuestPhysAddrRange};

/// An architecture that guests can be of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    /// AMD64, Intel 64.
    #[serde(rename = "x86_64")]
    X86_64,
    /// Arm's A64.
    Aarch64,
    /// RV64GC.
    Riscv64,
}

impl Arch {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::X86_64, Self::Aarch64, Self::Riscv64];

    /// The architecture with this name, as `uname -m` has it.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|arch| arch.name() == name)
    }

    /// That of this program, and so of the guests that KVM runs for it; `None`: none of these.
    pub fn host() -> Option<Self> {
        Self::from_name(env::consts::ARCH)
    }

    /// As `uname -m` has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
            Self::Riscv64 => "riscv64",
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a host gives its guests, where hosts of one architecture differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Platform {
    /// All hosts of this architecture are the same in this.
    X86_64,
    /// An Arm host.
    Aarch64(Aarch64Platform),
    /// A RISC-V host.
    Riscv64(Riscv64Platform),
}

/// How hosts of aarch64 differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Aarch64Platform {
    /// How many bits a guest-physical address has.
    pub ipa_bits: u8,
    /// Its interrupt controller.
    pub gic: GicVersion,
    /// Whether the GICv3 has an Interrupt Translation Service.
    pub its: bool,
    /// Whether guests have a performance monitor unit (PMUv3).
    pub pmu: bool,
}

/// The Generic Interrupt Controller that KVM emulates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum GicVersion {
    /// GICv2: IHI 0048.
    V2,
    /// GICv3: IHI 0069.
    V3,
}

/// How hosts of riscv64 differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Riscv64Platform {
    /// What guests have, by the names that a device tree's `riscv,isa-extensions` gives them: `i`,
    /// `m`, `a`, `zicbom` and so on, in canonical order.
    pub extensions: Vec<&'static str>,
    /// The block sizes of cache maintenance, prefetching and zeroing, in bytes.
    pub cbom_block_size: Option<u32>,
    /// Of prefetching.
    pub cbop_block_size: Option<u32>,
    /// Of zeroing.
    pub cboz_block_size: Option<u32>,
    /// The largest page table format: a device tree's `mmu-type`, e.g. `riscv,sv57`.
    pub mmu_type: Option<&'static str>,
    /// Ticks of `time` per second.
    pub timebase_frequency: u64,
    /// The Advanced Interrupt Architecture in the host kernel, where it is there.
    pub aia: Option<AiaPlatform>,
}

/// What KVM's AIA is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct AiaPlatform {
    /// The highest interrupt identity of an IMSIC.
    pub ids: u32,
}

impl Platform {
    /// The architecture.
    pub const fn arch(&self) -> Arch {
        match self {
            Self::X86_64 => Arch::X86_64,
            Self::Aarch64(_) => Arch::Aarch64,
            Self::Riscv64(_) => Arch::Riscv64,
        }
    }

    /// A usual host of this architecture, for plans that are made with no host to ask.
    pub fn usual(arch: Arch) -> Self {
        match arch {
            Arch::X86_64 => Self::X86_64,
            Arch::Aarch64 => Self::Aarch64(Aarch64Platform {
                ipa_bits: 40,
                gic: GicVersion::V3,
                its: true,
                pmu: true,
            }),
            Arch::Riscv64 => Self::Riscv64(Riscv64Platform {
                extensions: vec!["i", "m", "a", "f", "d", "c", "zicsr", "zifencei"],
                cbom_block_size: None,
                cbop_block_size: None,
                cboz_block_size: None,
                mmu_type: Some("riscv,sv39"),
                timebase_frequency: 10_000_000,
                aia: None,
            }),
        }
    }
}

/// The interrupt controller that the host is to give a VM, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[allow(missing_docs, reason = "windows, and numbers that the line above explains")]
pub enum InterruptController {
    /// A PC's: local APICs, IOAPIC and 8259s where they always are; and its timer, the 8254.
    Pc,
    /// Arm's GICv2 (IHI 0048).
    GicV2 { distributor: GuestPhysAddrRange, cpu_interface: GuestPhysAddrRange },
    /// Arm's GICv3 (IHI 0069); interrupts up to INTID `lines` - 1, and an ITS if it has a window.
    GicV3 {
        distributor: GuestPhysAddrRange,
        redistributors: GuestPhysAddrRange,
        its: Option<GuestPhysAddrRange>,
        lines: u32,
    },
    /// RISC-V's APLIC and IMSICs (AIA 1.0), supervisor level: interrupt sources 1 to `sources`,
    /// identities 1 to `ids`. The IMSICs stand one after the other, 4 KiB each.
    Aia { aplic: GuestPhysAddr, imsics: GuestPhysAddr, sources: u32, ids: u32 },
    /// Nothing in the host: a device of the board's is the interrupt controller, and drives each
    /// vCPU's pin ([`super::ExternalIrq`]).
    Board,
}

impl fmt::Display for InterruptController {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pc => write!(f, "local APICs and an IOAPIC in the host kernel"),
            Self::GicV2 { .. } => write!(f, "a GICv2 in the host kernel"),
            Self::GicV3 { its: Some(_), .. } => write!(f, "a GICv3 with ITS in the host kernel"),
            Self::GicV3 { its: None, .. } => write!(f, "a GICv3 in the host kernel"),
            Self::Aia { .. } => write!(f, "an APLIC and IMSICs in the host kernel"),
            Self::Board => write!(f, "a device of the board's"),
        }
    }
}
