//! Registers of devices that are watched, and what is told of an access to one.

use std::fmt;

use gdbstub::target::ext::breakpoints::WatchKind;

use crate::{
    addr::{DeviceAddr, DeviceAddrRange, GuestPhysAddr, GuestPhysAddrRange},
    devices::AxVmDevices,
    hal::{AccessKind, AxVCpuExitReason as Exit, VCpuId},
    vm::{Watch, WatchedAddrs},
};

/// More would be a client's mistake.
const MOST: usize = 64;

/// A watchpoint as GDB asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    pub addr: u64,
    pub len: u64,
    pub on: AccessKind,
}

/// All watches.
#[derive(Debug, Default)]
pub struct Watches {
    /// Those by GDB's watchpoints have what it asked; those by `monitor watch` have nothing.
    all: Vec<(Option<Asked>, Watch)>,
}

impl Watches {
    /// `false`: there are too many.
    pub fn add(&mut self, asked: Option<Asked>, watch: Watch) -> bool {
        let is_new = !self.all.contains(&(asked, watch));
        if is_new && self.all.len() >= MOST {
            return false;
        }
        if is_new {
            self.all.push((asked, watch));
        }
        true
    }

    /// Whether there was one that GDB had asked for so.
    pub fn remove(&mut self, asked: Asked) -> bool {
        let before = self.all.len();
        self.all.retain(|(it, _)| *it != Some(asked));
        self.all.len() < before
    }

    /// Removes those of `monitor watch`, at these addresses or at all; how many that were.
    pub fn remove_monitored(&mut self, at: Option<WatchedAddrs>) -> usize {
        let before = self.all.len();
        self.all.retain(|(asked, watch)| asked.is_some() || at.is_some_and(|at| at != watch.at));
        before - self.all.len()
    }

    pub fn clear(&mut self) {
        self.all.clear();
    }

    pub fn list(&self) -> Vec<Watch> {
        self.all.iter().map(|(_, watch)| *watch).collect()
    }

    /// The watchpoint of GDB's that an access is for.
    pub fn asked(&self, exit: &Exit) -> Option<Asked> {
        let covers = |watch: &Watch| watch.covers(exit);
        self.all.iter().find(|(asked, watch)| asked.is_some() && covers(watch))?.0
    }
}

/// The window of a device that has all of these addresses, as far as the addresses are one's.
pub fn in_window(devices: &AxVmDevices, at: GuestPhysAddr, len: u64) -> Option<WatchedAddrs> {
    let range = GuestPhysAddrRange::new(at, len)?;
    let mut windows = devices.iter_mmio_dev().map(|device| device.address_range());
    windows
        .any(|window| window.contains(range.first()) && window.contains(range.last()))
        .then_some(WatchedAddrs::Mmio(range))
}

/// GDB's kinds in our words.
pub const fn kind_of(kind: WatchKind) -> AccessKind {
    match kind {
        WatchKind::Write => AccessKind::Write,
        WatchKind::Read => AccessKind::Read,
        WatchKind::ReadWrite => AccessKind::Any,
    }
}

/// And back.
pub const fn kind_for(kind: AccessKind) -> WatchKind {
    match kind {
        AccessKind::Write => WatchKind::Write,
        AccessKind::Read => WatchKind::Read,
        AccessKind::Any => WatchKind::ReadWrite,
    }
}

/// An access to a device, as a line for a person.
pub struct Told<'a> {
    pub vcpu: VCpuId,
    pub exit: &'a Exit,
    pub answer: Option<u64>,
    pub devices: &'a AxVmDevices,
}

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (at, width, written) = match *self.exit {
            Exit::MmioRead { addr, width, .. } => (addr.to_string(), width, None),
            Exit::MmioWrite { addr, width, data } => (addr.to_string(), width, Some(data)),
            Exit::IoRead { port, width } => (port.to_string(), width, None),
            Exit::IoWrite { port, width, data } => (port.to_string(), width, Some(data)),
            _ => return write!(f, "vCPU {}: {:?}", self.vcpu, self.exit),
        };
        let (verb, value) = match (written, self.answer) {
            (Some(data), _) => ("wrote", data),
            (None, answer) => ("read", answer.unwrap_or_default() & width.mask()),
        };
        write!(f, "vCPU {} {verb} {value:#x} ({} bits) at {at}", self.vcpu, width.size() * 8)?;
        match self.place() {
            Some((name, offset)) => write!(f, ": {name}+{offset:#x}"),
            None => f.write_str(": nobody's"),
        }
    }
}

impl Told<'_> {
    /// Whose register it is, and its offset.
    fn place(&self) -> Option<(String, u64)> {
        match *self.exit {
            Exit::MmioRead { addr, .. } | Exit::MmioWrite { addr, .. } => {
                let mut all = self.devices.iter_mmio_dev();
                let device = all.find(|it| it.address_range().contains(addr))?;
                let first = device.address_range().first();
                Some((device.name().to_owned(), addr.number() - first.number()))
            }
            Exit::IoRead { port, .. } | Exit::IoWrite { port, .. } => {
                let mut all = self.devices.iter_port_dev();
                let device = all.find(|it| it.address_range().contains(port))?;
                let first = device.address_range().first();
                Some((device.name().to_owned(), port.number() - first.number()))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::{AccessWidth, Port, PortRange};

    #[test]
    fn gdbs_watchpoints_and_the_monitors_are_apart() {
        let mut watches = Watches::default();
        let at = WatchedAddrs::Port(PortRange::at(Port(0x3f8)));
        let asked = Asked { addr: 0x3f8, len: 1, on: AccessKind::Write };
        let watch = Watch { at, on: AccessKind::Write };
        assert!(watches.add(Some(asked), watch) && watches.add(None, watch));
        assert!(watches.add(None, watch), "the same once more");
        assert_eq!(watches.list().len(), 2);
        let out = Exit::IoWrite { port: Port(0x3f8), width: AccessWidth::Byte, data: 0x41 };
        assert_eq!(watches.asked(&out), Some(asked));
        assert_eq!(watches.remove_monitored(Some(at)), 1);
        assert!(watches.remove(asked) && !watches.remove(asked));
        for port in 0..MOST as u16 {
            let at = WatchedAddrs::Port(PortRange::at(Port(port)));
            assert!(watches.add(None, Watch { at, on: AccessKind::Any }));
        }
        assert!(!watches.add(None, watch), "too many");
        assert_eq!(watches.remove_monitored(None), MOST);
    }
}
