//! What a plan is made of: memory, devices and where they stand, tables of firmware.

use std::{fmt, io, ops::Range};

use serde::{Serialize, Serializer};

use super::Error;
use crate::{
    addr::{
        DeviceAddr, DeviceAddrRange, GuestPhysAddr, GuestPhysAddrRange, MappingFlags, PortRange,
        SysRegAddrRange,
    },
    boot::FirmwareInfo,
    devices::custom::About,
};

/// An area of guest memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RamArea {
    /// Where it begins.
    pub gpa: GuestPhysAddr,
    /// In bytes.
    pub size: u64,
    /// What the guest may do with it.
    #[serde(serialize_with = "as_text")]
    pub flags: MappingFlags,
    /// Whether it is given to the guest's hardware at the first touch, in pieces.
    pub lazy: bool,
}

impl RamArea {
    /// Its addresses.
    pub fn range(&self) -> Result<GuestPhysAddrRange, Error> {
        GuestPhysAddrRange::new(self.gpa, self.size)
            .ok_or(Error::MemoryRegion { gpa: self.gpa, size: self.size })
    }
}

/// A device and where it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DevicePlan {
    /// What messages call it.
    pub name: String,
    /// What kind of device it is.
    pub model: Model,
    /// Where it stands.
    #[serde(flatten)]
    pub window: Window,
    /// The line it drives, counted as `irq_id` is: a GSI on x86_64, an INTID on aarch64, a source on
    /// riscv64.
    pub irq: Option<u32>,
    /// What drivers know it by, if it is of a user's own making.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compatible: Option<String>,
}

/// What kind of device stands in a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "each is the device of that name in `devices`")]
pub enum Model {
    Uart16550,
    I8042Data,
    I8042Command,
    Cmos,
    AcpiSleep,
    Pm1Control,
    ResetControl,
    Pvpanic,
    DebugConsole,
    PostCode,
    DebugExit,
    Pl011,
    Pl031,
    Pl061,
    GoldfishRtc,
    SifiveTest,
    Plic,
    Seed,
    Doorbell,
    VirtioMmio,
    PciEcam,
    PciMemory,
    /// Where inter-VM channels come to be: memory, and no device.
    IvcChannels,
    /// Of which the guest may only read.
    IvcChannelsToRead,
    /// The area of a persistent memory device.
    PersistentMemory,
    /// Of a kind of the program's own.
    Custom(&'static About),
    /// Another process.
    VfioUser,
    /// Emulated by the host kernel, or reserved for it.
    HostKernel,
}

impl Model {
    /// Whether a device of ours answers there.
    pub fn is_device(self) -> bool {
        !matches!(self, Self::HostKernel | Self::PersistentMemory) && !self.is_channels()
    }

    /// Whether its interrupt is an edge each time, and no level.
    pub fn is_edge_triggered(self) -> bool {
        self.is_channels() || self == Self::VfioUser
    }

    /// Whether it is room for inter-VM channels.
    pub fn is_channels(self) -> bool {
        matches!(self, Self::IvcChannels | Self::IvcChannelsToRead)
    }
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Uart16550 => "16550 serial port",
            Self::I8042Data => "keyboard controller (data)",
            Self::I8042Command => "keyboard controller (command)",
            Self::Cmos => "real-time clock and CMOS RAM",
            Self::AcpiSleep => "powers off (ACPI sleep registers)",
            Self::Pm1Control => "powers off (PM1 control register)",
            Self::ResetControl => "resets",
            Self::Pvpanic => "tells of a kernel panic",
            Self::DebugConsole => "prints what is written",
            Self::PostCode => "keeps the last code",
            Self::DebugExit => "writing v ends with status 2v+1",
            Self::Pl011 => "PL011 serial port",
            Self::Pl031 => "PL031 real-time clock",
            Self::Pl061 => "PL061 with the power button",
            Self::GoldfishRtc => "Goldfish real-time clock",
            Self::SifiveTest => "powers off, resets, ends with a status",
            Self::Plic => "interrupt controller (PLIC)",
            Self::Seed => "gives entropy (seed CSR)",
            Self::Doorbell => "takes hypercalls",
            Self::VirtioMmio => "virtio over MMIO",
            Self::PciEcam => "PCI configuration space",
            Self::PciMemory => "PCI devices' registers",
            Self::IvcChannels => "room for inter-VM channels",
            Self::IvcChannelsToRead => "room for inter-VM channels to read",
            Self::PersistentMemory => "persistent memory",
            Self::Custom(about) => about.kind,
            Self::VfioUser => "another process",
            Self::HostKernel => "in the host kernel",
        })
    }
}

/// The addresses that a device answers at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "bus", rename_all = "lowercase")]
pub enum Window {
    /// I/O ports.
    Port(PortRange),
    /// Guest-physical memory.
    Mmio(GuestPhysAddrRange),
    /// System registers.
    #[serde(rename = "system-register")]
    SysReg(SysRegAddrRange),
}

impl Window {
    /// The ports, if that is where it is.
    pub fn ports(&self) -> Option<PortRange> {
        match self {
            Self::Port(ports) => Some(*ports),
            _ => None,
        }
    }

    /// The addresses in memory, if that is where it is.
    pub fn mmio(&self) -> Option<GuestPhysAddrRange> {
        match self {
            Self::Mmio(range) => Some(*range),
            _ => None,
        }
    }

    /// What devices are sorted by: bus and address.
    pub(super) fn key(&self) -> (u8, u64) {
        match self {
            Self::Port(ports) => (0, ports.first().0.into()),
            Self::Mmio(range) => (1, range.first().0),
            Self::SysReg(range) => (2, range.first().0),
        }
    }

    /// The first and last number of the bus's that it has.
    pub(super) fn bounds(&self) -> (u64, u64) {
        match self {
            Self::Mmio(range) => (range.first().number(), range.last().number()),
            Self::Port(range) => (range.first().number(), range.last().number()),
            Self::SysReg(range) => (range.first().number(), range.last().number()),
        }
    }

    /// Whether the two have an address in common, on one bus.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Port(a), Self::Port(b)) => a.overlaps(b),
            (Self::Mmio(a), Self::Mmio(b)) => a.overlaps(b),
            (Self::SysReg(a), Self::SysReg(b)) => a.overlaps(b),
            _ => false,
        }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(ports) if ports.len() == 1 => write!(f, "port {:#x}", ports.first().0),
            Self::Port(ports) => write!(f, "ports {ports}"),
            Self::Mmio(range) => write!(f, "{range}"),
            Self::SysReg(range) => write!(f, "{}", range.first()),
        }
    }
}

/// A table that firmware would leave in memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FirmwareTable {
    /// What it is called.
    pub name: &'static str,
    /// Where it begins.
    pub gpa: GuestPhysAddr,
    /// In bytes.
    pub size: u64,
    #[serde(skip)]
    bytes: Vec<u8>,
    /// Which of the bytes are random, fresh for each machine.
    #[serde(skip)]
    seeds: Vec<Range<usize>>,
}

impl FirmwareTable {
    pub(super) fn new(name: &'static str, gpa: GuestPhysAddr, bytes: Vec<u8>) -> Self {
        Self { name, gpa, size: bytes.len() as u64, bytes, seeds: Vec::new() }
    }

    pub(super) fn seeded(mut self, seeds: Vec<Range<usize>>) -> Self {
        self.seeds = seeds;
        self
    }

    /// The table itself, with zeros for what is random.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The table for a machine: what is random is new each time.
    pub fn with_seeds(&self) -> io::Result<Vec<u8>> {
        let mut bytes = self.bytes.clone();
        for seed in &self.seeds {
            if let Some(seed) = bytes.get_mut(seed.clone()) {
                getrandom::fill(seed).map_err(io::Error::other)?;
            }
        }
        Ok(bytes)
    }
}

/// What a board has told about itself, beside its devices.
#[derive(Default)]
pub(super) struct Firmware {
    pub info: FirmwareInfo,
    /// What a kernel finds in memory: ACPI, or a device tree.
    pub tables: Vec<FirmwareTable>,
}

fn as_text<T: fmt::Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}
