//! What AxVisor's files ask for of the host: each row, and where it stands.

use std::fmt;

use serde::Serialize;

use crate::addr::{GuestPhysAddr, GuestPhysAddrRange};

/// Where something is written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct WrittenAt {
    /// The file, `--set #2`, or an option of the command line; empty for what a program asks for.
    pub origin: String,
    /// Counted from 1; `None` outside a file.
    pub line: Option<usize>,
    /// In characters, counted from 1.
    pub column: Option<usize>,
}

/// Such as `guest.toml:12`.
impl fmt::Display for WrittenAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}", self.origin),
            None if self.origin.is_empty() => f.write_str("asked for"),
            None => f.write_str(&self.origin),
        }
    }
}

/// How AxVisor would come by an area of memory (a row's `map_type`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum VmMemMappingType {
    /// 0: memory of the guest's own.
    #[default]
    MapAlloc,
    /// 1: the host's memory at the same physical address.
    MapIdentical,
    /// 2: an area that the host has set aside.
    MapReserved,
}

/// How interrupts come to a guest of AxVisor's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum VMInterruptMode {
    /// None.
    #[default]
    NoIrq,
    /// From emulated controllers.
    Emulated,
    /// The host's own interrupt controller and timers are the guest's.
    Passthrough,
}

/// The `interrupt_mode` that is written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct InterruptModeConfig {
    /// How they come.
    pub mode: VMInterruptMode,
    /// Where it is written.
    pub at: WrittenAt,
}

/// A row of `passthrough_devices`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PassThroughDeviceConfig {
    /// A name, or a path in the host's device tree; `/` means all of the host's devices.
    pub name: String,
    /// Where it begins.
    pub base_gpa: GuestPhysAddr,
    /// In bytes; 0 in a row that is nothing but a path.
    pub length: u64,
    /// 0 for none.
    pub irq_id: u32,
    /// Where it is written.
    pub at: WrittenAt,
}

impl PassThroughDeviceConfig {
    /// Its addresses; `None` for a row that is nothing but a path.
    pub fn window(&self) -> Option<GuestPhysAddrRange> {
        GuestPhysAddrRange::new(self.base_gpa, self.length)
    }
}

/// A row of `passthrough_addresses`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PassThroughAddressConfig {
    /// The addresses.
    pub window: GuestPhysAddrRange,
    /// Where it is written.
    pub at: WrittenAt,
}

/// A row of `excluded_devices`: paths in the host's device tree.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ExcludedDevicesConfig {
    /// The paths.
    pub paths: Vec<String>,
    /// Where they are written.
    pub at: WrittenAt,
}
