//! One bus: a table sorted by address, frozen before the first vCPU runs, so that a look-up takes no
//! lock.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use log::{Level, log};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::{
    addr::{AccessWidth, DeviceAddr, DeviceAddrRange},
    devices::{Access, BaseDeviceOps, Effect, fault::Fault, registers::WindowRegisters},
};

/// Two things want the same addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{new} at {new_range} overlaps {old} at {old_range}; move one of them")]
pub struct BusError {
    /// The one that came second, by its name.
    pub new: String,
    /// Its addresses.
    pub new_range: String,
    /// The one that was there.
    pub old: String,
    /// Its addresses.
    pub old_range: String,
}

/// How often the guest accessed what nobody owns, or in a way that its owner does not take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct UnownedCounts {
    /// Reads, which gave all ones.
    pub reads: u64,
    /// Writes, which went nowhere.
    pub writes: u64,
}

/// Which bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BusKind {
    /// Guest-physical memory.
    Mmio,
    /// x86 I/O ports.
    Port,
    /// System registers.
    SysReg,
}

impl BusKind {
    /// As files for programs have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mmio => "mmio",
            Self::Port => "port",
            Self::SysReg => "sys-reg",
        }
    }
}

/// A window that accesses are counted for: a device's on a bus, or what a part of it has of that.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct WindowInfo {
    /// The device, or its part, by name.
    pub device: String,
    /// The bus.
    pub bus: BusKind,
    /// First and last address of the device's window, as messages have them. Where in it a part
    /// answers is the guest's to say and to change.
    pub addresses: String,
}

/// Who takes an access: found once, used for all that is done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taker {
    entry: usize,
    offset: u64,
    window: usize,
}

impl Taker {
    /// The window's place among all of a VM's.
    pub const fn window(self) -> usize {
        self.window
    }

    /// Where in the device's window the access begins.
    pub const fn offset(self) -> u64 {
        self.offset
    }
}

/// A bus tells of this many different addresses, then falls silent: a guest that writes everywhere
/// must not fill the log.
const TOLD_ADDRESSES: usize = 32;

/// Faults of a device, each of a part of it or of all.
type PartFaults = Vec<(Option<usize>, Arc<Fault>)>;

/// One bus, with devices that are used as `D`.
pub struct Table<R: DeviceAddrRange, D: ?Sized> {
    kind: BusKind,
    entries: Vec<Entry<R, D>>,
    unowned_reads: AtomicU64,
    unowned_writes: AtomicU64,
    told: Mutex<HashSet<(u64, bool)>>,
    /// How loudly: kernels probe a PC's ports for what was there once, but nobody probes memory.
    level: Level,
}

struct Entry<R, D: ?Sized> {
    range: R,
    device: Arc<D>,
    /// How many windows the entries before it are.
    window: usize,
    /// How many it is beyond its own.
    parts: usize,
}

impl<R: DeviceAddrRange, D: BaseDeviceOps<R> + ?Sized> Table<R, D> {
    pub fn new(kind: BusKind, level: Level) -> Self {
        Self {
            kind,
            entries: Vec::new(),
            unowned_reads: AtomicU64::new(0),
            unowned_writes: AtomicU64::new(0),
            told: Mutex::default(),
            level,
        }
    }

    pub fn add(&mut self, device: Arc<D>) -> Result<(), BusError> {
        let range = device.address_range();
        let at = self.entries.partition_point(|it| it.range.first() < range.first());
        let before = at.checked_sub(1).and_then(|i| self.entries.get(i));
        let clash = before
            .filter(|it| it.range.last() >= range.first())
            .or_else(|| self.entries.get(at).filter(|it| it.range.first() <= range.last()));
        if let Some(old) = clash {
            return Err(BusError {
                new: device.name().to_owned(),
                new_range: range.to_string(),
                old: old.device.name().to_owned(),
                old_range: old.range.to_string(),
            });
        }
        let parts = device.parts().len();
        self.entries.insert(at, Entry { range, device, window: 0, parts });
        let mut window = 0;
        for entry in &mut self.entries {
            entry.window = window;
            window += 1 + entry.parts;
        }
        Ok(())
    }

    /// Puts what `wrap` makes in the place of each device that has, or a part of which has, one of
    /// these faults.
    pub fn interpose(
        &mut self,
        faults: &[Arc<Fault>],
        wrap: impl Fn(Arc<D>, PartFaults) -> Arc<D>,
    ) {
        for entry in &mut self.entries {
            let parts = entry.device.parts();
            let mut of_it = PartFaults::new();
            for fault in faults {
                let name = &fault.config().device;
                if entry.device.name() == name {
                    of_it.push((None, fault.clone()));
                } else if let Some(part) = parts.iter().position(|part| part == name) {
                    of_it.push((Some(part), fault.clone()));
                }
            }
            if !of_it.is_empty() {
                entry.device = wrap(entry.device.clone(), of_it);
            }
        }
    }

    pub fn devices(&self) -> impl Iterator<Item = &Arc<D>> {
        self.entries.iter().map(|it| &it.device)
    }

    /// How many windows there are.
    pub fn window_count(&self) -> usize {
        self.entries.last().map_or(0, |it| it.window + 1 + it.parts)
    }

    /// All windows, in the order of [`Taker::window`].
    pub fn windows(&self) -> impl Iterator<Item = WindowInfo> {
        let bus = self.kind;
        self.entries.iter().flat_map(move |it| {
            let names = std::iter::once(it.device.name().to_owned()).chain(it.device.parts());
            let addresses = it.range.to_string();
            names.map(move |device| WindowInfo { device, bus, addresses: addresses.clone() })
        })
    }

    /// The registers of all windows, in the same order.
    pub fn registers(&self) -> impl Iterator<Item = WindowRegisters> {
        self.entries.iter().flat_map(|it| {
            let first = it.range.first().number();
            let maps = std::iter::once(it.device.registers()).chain(it.device.part_registers());
            maps.map(move |map| WindowRegisters { first, map })
        })
    }

    /// Whose window holds all `len` units from `addr` on. `first` is the number of the bus's first
    /// window.
    pub fn find(&self, addr: R::Addr, len: usize, first: usize) -> Option<Taker> {
        let at = self.entries.partition_point(|it| it.range.first() <= addr).checked_sub(1)?;
        let Entry { range, device, window, parts } = self.entries.get(at)?;
        let last = addr.number().checked_add(len as u64 - 1)?;
        if last > range.last().number() {
            return None;
        }
        let offset = addr.number() - range.first().number();
        let part = if *parts == 0 { None } else { device.part_at(offset) };
        let window = first + window + part.map_or(0, |part| 1 + part.min(parts - 1));
        Some(Taker { entry: at, offset, window })
    }

    /// The device that [`Self::find`] has found.
    pub fn device(&self, taker: Taker) -> Option<&D> {
        self.entries.get(taker.entry).map(|it| &*it.device)
    }

    pub fn read(&self, taker: Option<Taker>, addr: R::Addr, width: AccessWidth) -> u64 {
        let device = taker.and_then(|it| Some((self.device(it)?, it.offset)));
        let refused = match device {
            Some((device, offset)) => match device.handle_read(offset, width) {
                Ok(value) => return value & width.mask(),
                Err(access) => Some((device, access)),
            },
            None => None,
        };
        self.unowned_reads.fetch_add(1, Ordering::Relaxed);
        self.tell(addr, width, false, "read gives all ones", refused);
        width.mask()
    }

    pub fn write(
        &self,
        taker: Option<Taker>,
        addr: R::Addr,
        width: AccessWidth,
        val: u64,
    ) -> Effect {
        let device = taker.and_then(|it| Some((self.device(it)?, it.offset)));
        let refused = match device {
            Some((device, offset)) => {
                match device.handle_write(offset, width, val & width.mask()) {
                    Ok(effect) => return effect,
                    Err(access) => Some((device, access)),
                }
            }
            None => None,
        };
        self.unowned_writes.fetch_add(1, Ordering::Relaxed);
        self.tell(addr, width, true, "write dropped", refused);
        Effect::None
    }

    #[cold]
    pub fn tell(
        &self,
        addr: R::Addr,
        width: AccessWidth,
        is_write: bool,
        what: &str,
        by: Option<(&D, Access)>,
    ) {
        let mut told = self.told.lock();
        if told.len() > TOLD_ADDRESSES || !told.insert((addr.number(), is_write)) {
            return;
        }
        let bits = width.size() * 8;
        match by {
            Some((device, access)) => {
                log!(
                    self.level,
                    "{addr}: {} refuses a {bits}-bit access ({access:?}): {what}",
                    device.name()
                );
            }
            None => log!(self.level, "{addr}: nobody takes a {bits}-bit access here: {what}"),
        }
        if told.len() > TOLD_ADDRESSES {
            log!(self.level, "further addresses that nobody owns are counted, not told");
        }
    }

    pub fn counts(&self) -> UnownedCounts {
        UnownedCounts {
            reads: self.unowned_reads.load(Ordering::Relaxed),
            writes: self.unowned_writes.load(Ordering::Relaxed),
        }
    }
}
