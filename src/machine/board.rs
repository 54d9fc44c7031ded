//! What the boards of the architectures have in common: the questions that a plan asks of one.

use super::{
    Error,
    plan::{DevicePlan, Firmware, RamArea},
    x86_64::Pc,
};
use crate::{
    addr::{GuestPhysAddrRange, PortRange},
    hal::{Arch, InterruptController, Platform},
    vm::config::{CpuConfig, DevicesConfig, MemoryConfig},
};

/// An architecture's board: what stands where, and how a kernel is told.
///
/// Notes are what was asked for and is done in another way, each a sentence for the user.
pub trait Board {
    /// The guest's RAM: as much as is asked for, where the board has it, or just the areas that are.
    fn ram(&self, asked: &MemoryConfig) -> Result<Vec<RamArea>, Error>;

    /// The vCPUs with the architectural ids that they will have.
    fn cpus(&self, asked: &CpuConfig, notes: &mut Vec<String>) -> Result<CpuConfig, Error>;

    /// What stands on the buses of a machine with so many vCPUs.
    fn hardware(
        &self,
        cpus: usize,
        asked: &DevicesConfig,
        notes: &mut Vec<String>,
    ) -> Result<Hardware, Error>;

    /// What the kernel is told about the machine.
    fn firmware(
        &self,
        cpus: usize,
        ram: &[GuestPhysAddrRange],
        hardware: &Hardware,
        notes: &mut Vec<String>,
    ) -> Result<Firmware, Error>;
}

/// What stands on a board beside vCPUs and RAM.
pub struct Hardware {
    /// Ascending by bus and address.
    pub devices: Vec<DevicePlan>,
    pub interrupt_controller: InterruptController,
    /// Writes to these may come late, as nobody waits for them.
    pub late_writes: Vec<PortRange>,
}

/// The board of a host like this.
pub fn of(platform: &Platform) -> Result<Box<dyn Board + '_>, Error> {
    match platform {
        Platform::X86_64 => Ok(Box::new(Pc)),
        Platform::Aarch64(_) => Err(Error::NoBoard { arch: Arch::Aarch64 }),
        Platform::Riscv64(_) => Err(Error::NoBoard { arch: Arch::Riscv64 }),
    }
}
