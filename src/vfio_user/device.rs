//! What a server's device is, and what can be done with it: the protocol's commands as functions.

use std::os::fd::{AsRawFd, RawFd};

use zerocopy::{FromBytes, IntoBytes};

use super::{
    attached::Signal,
    session::{Session, Trouble},
    wire::{
        CAN_RESET, Command, DeviceInfo, DmaMap, DmaUnmap, EVENTFDS, IS_PCI, IrqInfo, NO_DATA,
        RegionAccess, RegionInfo, SetIrqs, TRIGGER, argsz,
    },
};
use crate::addrspace::SharedRegion;

/// The region of a PCI device's configuration space, behind its six BARs and its ROM.
pub const CONFIG: u32 = 7;
/// Those that are asked about: a PCI device has one more, VGA's.
const REGIONS: u32 = 8;

/// The interrupts of a PCI device: its line, MSI, MSI-X.
pub const LINE: u32 = 0;
pub const MSIX: u32 = 2;
const IRQS: u32 = 3;

/// What a server says of its device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// Whether its regions and interrupts are numbered as a PCI device's.
    pub is_pci: bool,
    can_reset: bool,
    /// How many bytes each region has.
    regions: Vec<u64>,
    /// How many interrupts of each kind there are.
    irqs: Vec<u32>,
}

impl Description {
    /// How many bytes a region has; 0: there is none.
    pub fn region(&self, index: u32) -> u64 {
        self.regions.get(index as usize).copied().unwrap_or(0)
    }

    /// How many interrupts of a kind there are.
    pub fn irqs(&self, index: u32) -> u32 {
        self.irqs.get(index as usize).copied().unwrap_or(0)
    }
}

impl Session {
    /// Asks what the device is.
    ///
    /// # Errors
    /// As of [`Session::ask`].
    pub fn describe(&self) -> Result<Description, Trouble> {
        let info = DeviceInfo { argsz: argsz::<DeviceInfo>(), flags: 0, regions: 0, irqs: 0 };
        let info: DeviceInfo = self.structure(&self.ask(Command::GetInfo, &info, &[])?)?;
        let region = |index| {
            let (argsz, flags) = (argsz::<RegionInfo>(), 0);
            let info = RegionInfo { argsz, flags, index, capabilities: 0, size: 0, offset: 0 };
            let answer = self.ask(Command::GetRegionInfo, &info, &[])?;
            Ok(self.structure::<RegionInfo>(&answer)?.size)
        };
        let irq = |index| {
            let info = IrqInfo { argsz: argsz::<IrqInfo>(), flags: 0, index, count: 0 };
            let answer = self.ask(Command::GetIrqInfo, &info, &[])?;
            Ok(self.structure::<IrqInfo>(&answer)?.count)
        };
        Ok(Description {
            is_pci: info.flags & IS_PCI != 0,
            can_reset: info.flags & CAN_RESET != 0,
            regions: (0..info.regions.min(REGIONS)).map(region).collect::<Result<_, _>>()?,
            irqs: (0..info.irqs.min(IRQS)).map(irq).collect::<Result<_, _>>()?,
        })
    }

    /// Reads from a region.
    ///
    /// # Errors
    /// As of [`Session::ask`].
    pub fn read(&self, region: u32, offset: u64, bytes: &mut [u8]) -> Result<(), Trouble> {
        let asked = RegionAccess { offset, region, count: bytes.len() as u32 };
        let answer = self.ask(Command::RegionRead, &asked, &[])?;
        let (of, data) = RegionAccess::read_from_prefix(&answer).map_err(|_| self.short())?;
        if of != asked || data.len() != bytes.len() {
            return Err(self.broken("its answer is not what has been read"));
        }
        bytes.copy_from_slice(data);
        Ok(())
    }

    /// Writes to a region.
    ///
    /// # Errors
    /// As of [`Session::ask`].
    pub fn write(&self, region: u32, offset: u64, bytes: &[u8]) -> Result<(), Trouble> {
        let asked = RegionAccess { offset, region, count: bytes.len() as u32 };
        let answer = self.ask(Command::RegionWrite, &asked, bytes)?;
        match self.structure::<RegionAccess>(&answer)? {
            of if of == asked => Ok(()),
            _ => Err(self.broken("its answer is not what has been written")),
        }
    }

    /// Resets the device, if that can be done.
    ///
    /// # Errors
    /// As of [`Session::ask`].
    pub fn reset(&self, device: &Description) -> Result<(), Trouble> {
        match device.can_reset {
            true => self.ask(Command::DeviceReset, &[0_u8; 0], &[]).map(drop),
            false => Ok(()),
        }
    }

    /// Gives the server memory of the guest's to map.
    ///
    /// # Errors
    /// As of [`Session::ask`].
    pub fn map(&self, memory: &SharedRegion) -> Result<(), Trouble> {
        const READ_AND_WRITE: u32 = 3;
        let map = DmaMap {
            argsz: argsz::<DmaMap>(),
            flags: READ_AND_WRITE,
            offset: memory.offset,
            address: memory.gpa.0,
            size: memory.size,
        };
        self.ask_with(Command::DmaMap, &[map.as_bytes()], &[memory.file.as_raw_fd()]).map(drop)
    }

    /// Takes it back.
    ///
    /// # Errors
    /// As of [`Session::ask`].
    pub fn unmap(&self, memory: &SharedRegion) -> Result<(), Trouble> {
        let (address, size) = (memory.gpa.0, memory.size);
        let unmap = DmaUnmap { argsz: argsz::<DmaUnmap>(), flags: 0, address, size };
        self.ask(Command::DmaUnmap, &unmap, &[]).map(drop)
    }

    /// Has interrupts of a kind, from the first on, signal these; no more at a time than the server
    /// takes.
    ///
    /// # Errors
    /// As of [`Session::ask`].
    pub fn connect_irqs(&self, index: u32, fds: &[Signal]) -> Result<(), Trouble> {
        let most = self.limits().max_msg_fds;
        for (start, fds) in (0..).step_by(most).zip(fds.chunks(most)) {
            let files: Vec<RawFd> = fds.iter().map(|fd| fd.as_raw_fd()).collect();
            let (argsz, flags, count) = (argsz::<SetIrqs>(), EVENTFDS | TRIGGER, fds.len() as u32);
            let set = SetIrqs { argsz, flags, index, start, count };
            self.ask_with(Command::SetIrqs, &[set.as_bytes()], &files)?;
        }
        Ok(())
    }

    /// Has interrupts of a kind signal nothing.
    ///
    /// # Errors
    /// As of [`Session::ask`].
    pub fn disconnect_irqs(&self, index: u32) -> Result<(), Trouble> {
        let (argsz, flags) = (argsz::<SetIrqs>(), NO_DATA | TRIGGER);
        let set = SetIrqs { argsz, flags, index, start: 0, count: 0 };
        self.ask(Command::SetIrqs, &set, &[]).map(drop)
    }

    fn structure<T: FromBytes>(&self, answer: &[u8]) -> Result<T, Trouble> {
        T::read_from_prefix(answer).map(|(value, _)| value).map_err(|_| self.short())
    }

    fn short(&self) -> Trouble {
        self.broken("its answer is too short")
    }
}
