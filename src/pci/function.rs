//! A function: its configuration space, and what happens when a guest writes there.

use std::sync::Arc;

use parking_lot::Mutex;

use super::{
    Capability, Identity, Msix, PciDevice, PciFunction,
    config_space::{ConfigSpace, MEMORY_SPACE, reg},
    msix::{MSIX_SIZE, PENDING},
};
use crate::{
    addr::{AccessWidth, GuestPhysAddr, GuestPhysAddrRange},
    devices::{Access, Effect, RegisterMap},
};

/// A capability: MSI-X (PCI Local Bus 3.0, 6.8.2.3).
const MSIX: u8 = 0x11;
const MSIX_CONTROL: usize = 2;
const MSIX_ENABLE: u16 = 1 << 15;
const FUNCTION_MASK: u16 = 1 << 14;

/// What a function is made of.
pub struct FunctionParts {
    /// What it is.
    pub identity: Identity,
    /// How many bytes its BAR has: a power of two, at least 16.
    pub bar_size: u32,
    /// Its interrupts.
    pub msix: Arc<Msix>,
    /// Where in the BAR their [`MSIX_SIZE`] bytes are, which never reach the device.
    pub msix_at: u32,
    /// Its capabilities but MSI-X.
    pub capabilities: Vec<Capability>,
    /// Which of them is a window on the BAR, if one is: with fields at these offsets from the
    /// capability's first byte.
    pub bar_window: Option<(usize, BarWindow)>,
    /// What stands behind the BAR.
    pub device: Arc<dyn PciDevice>,
}

/// The fields of a capability through which the BAR is reached from configuration space: where a
/// guest writes the BAR's number, the offset in it and the access' width, and where the data is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the offset of the field of its name, in bytes")]
pub struct BarWindow {
    pub bar: usize,
    pub offset: usize,
    pub length: usize,
    pub data: usize,
}

/// A function on a bus.
pub struct Function {
    config: Mutex<ConfigSpace>,
    bar_size: u32,
    msix: Arc<Msix>,
    msix_at: u64,
    /// Where the MSI-X capability is.
    msix_capability: usize,
    /// Where the window on the BAR has its fields.
    window: Option<BarWindow>,
    device: Arc<dyn PciDevice>,
}

impl Function {
    /// Makes a function whose BAR is at `bar`, where it does not answer before the guest says so.
    /// `None`: the configuration space has no room for its capabilities.
    pub fn new(parts: FunctionParts, bar: u32) -> Option<Self> {
        let mut config = ConfigSpace::new(&parts.identity, parts.bar_size, bar);
        let msix_capability = config.add(&msix_capability(&parts.msix, parts.msix_at))?;
        let mut window = None;
        for (index, capability) in parts.capabilities.iter().enumerate() {
            let at = config.add(capability)?;
            window = window.or(parts
                .bar_window
                .filter(|(of, _)| *of == index)
                .map(|(_, fields)| fields.at(at)));
        }
        Some(Self {
            config: Mutex::new(config),
            bar_size: parts.bar_size,
            msix: parts.msix,
            msix_at: parts.msix_at.into(),
            msix_capability,
            window,
            device: parts.device,
        })
    }

    /// Where the BAR answers; `None`: nowhere.
    fn place(&self) -> Option<GuestPhysAddrRange> {
        let config = self.config.lock();
        if config.u16(reg::COMMAND) & MEMORY_SPACE == 0 {
            return None;
        }
        let first = GuestPhysAddr(config.u32(reg::BAR0).into());
        GuestPhysAddrRange::new(first, self.bar_size.into())
    }

    /// Reads from the BAR.
    ///
    /// # Errors
    /// It does not suit the device.
    fn read_bar(&self, offset: u64, width: AccessWidth) -> Result<u64, Access> {
        match self.in_msix(offset) {
            Some(offset) => Ok(self.msix.read(offset, width)),
            None => self.device.read(offset, width),
        }
    }

    /// Writes to the BAR.
    ///
    /// # Errors
    /// It does not suit the device.
    fn write_bar(&self, offset: u64, width: AccessWidth, value: u64) -> Result<Effect, Access> {
        match self.in_msix(offset) {
            Some(offset) => {
                self.msix.write(offset, width, value);
                Ok(Effect::None)
            }
            None => self.device.write(offset, width, value),
        }
    }

    fn in_msix(&self, offset: u64) -> Option<u64> {
        offset.checked_sub(self.msix_at).filter(|offset| *offset < MSIX_SIZE)
    }

    /// The access that the window is set to; `None`: none that can be made.
    fn through(&self, window: BarWindow) -> Option<(u64, AccessWidth)> {
        let config = self.config.lock();
        let mut bar = [0];
        config.read(window.bar, &mut bar);
        let (offset, length) = (config.u32(window.offset), config.u32(window.length));
        let width = AccessWidth::try_from(length as usize).ok()?;
        let fits = offset.checked_add(length).is_some_and(|end| end <= self.bar_size);
        let is_good = bar == [0] && length <= 4 && offset % length == 0 && fits;
        is_good.then_some((offset.into(), width))
    }
}

impl PciFunction for Function {
    fn name(&self) -> &str {
        self.device.name()
    }

    fn registers(&self) -> RegisterMap {
        self.device.registers().repeating(self.bar_size.into())
    }

    fn places(&self) -> Vec<(usize, GuestPhysAddrRange)> {
        self.place().map(|range| (0, range)).into_iter().collect()
    }

    fn read_config(&self, offset: usize, bytes: &mut [u8]) {
        if let Some(window) = self.window.filter(|it| touches(it.data, 4, offset, bytes.len())) {
            if let Some((at, width)) = self.through(window) {
                // What the device refuses reads as from a bus.
                let value = self.read_bar(at, width).unwrap_or(width.mask());
                self.config.lock().put(window.data, &value.to_le_bytes()[..width.size()]);
            }
        }
        self.config.lock().read(offset, bytes);
    }

    fn write_config(&self, offset: usize, bytes: &[u8]) -> Effect {
        let mut config = self.config.lock();
        config.write(offset, bytes);
        let control = self.msix_capability + MSIX_CONTROL;
        if touches(control, 2, offset, bytes.len()) {
            let control = config.u16(control);
            let is = |bit| control & bit != 0;
            // Inside of the lock: what two vCPUs write comes out in that order.
            self.msix.set_control(is(MSIX_ENABLE), is(FUNCTION_MASK));
        }
        drop(config);
        let Some(window) = self.window.filter(|it| touches(it.data, 4, offset, bytes.len())) else {
            return Effect::None;
        };
        let Some((at, width)) = self.through(window) else { return Effect::None };
        let value = u64::from(self.config.lock().u32(window.data)) & width.mask();
        self.write_bar(at, width, value).unwrap_or(Effect::None)
    }

    fn read(&self, _: usize, offset: u64, width: AccessWidth) -> Result<u64, Access> {
        self.read_bar(offset, width)
    }

    fn write(
        &self,
        _: usize,
        offset: u64,
        width: AccessWidth,
        value: u64,
    ) -> Result<Effect, Access> {
        self.write_bar(offset, width, value)
    }

    fn moved(&self, _: usize, to: Option<GuestPhysAddr>) {
        self.device.moved(to);
    }

    /// Whether reading the configuration space is, somewhere, reading the BAR.
    fn reads_through(&self) -> bool {
        self.window.is_some_and(|window| self.through(window).is_some())
    }
}

impl BarWindow {
    fn at(self, capability: usize) -> Self {
        Self {
            bar: self.bar + capability,
            offset: self.offset + capability,
            length: self.length + capability,
            data: self.data + capability,
        }
    }
}

fn msix_capability(msix: &Msix, table: u32) -> Capability {
    let control = msix.vectors() - 1;
    let pending = table + PENDING as u32;
    let body = [&control.to_le_bytes()[..], &table.to_le_bytes(), &pending.to_le_bytes()].concat();
    let writable = (MSIX_ENABLE | FUNCTION_MASK).to_le_bytes().to_vec();
    Capability { id: MSIX, body, writable }
}

/// Whether an access of `width` at `offset` has a byte of the `len` bytes at `field`.
fn touches(field: usize, len: usize, offset: usize, width: usize) -> bool {
    offset < field + len && field < offset + width
}
