//! A device on its own, with stand-ins for all that it needs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{Clock, Device, Parts, clock::ManualClock, kinds, register};
use crate::{
    addr::{AccessWidth, GuestPhysAddr, MappingFlags},
    addrspace::{AddrSpace, testing},
    devices::{Access, Effect, IrqLine},
    hal::IrqSink,
};

/// How much memory a guest has that is not there, in bytes; it begins at 0.
const MEMORY: u64 = 1 << 20;

/// So often a device may wake in one step.
const MOST_WAKES: u32 = 1_000_000;

/// A device without a guest: time stands still until [`Self::step`], the interrupt line is looked at
/// by [`Self::interrupt`], and its memory ([`Self::memory`]) has 1 MiB from address 0 on.
pub struct Bench<D> {
    device: D,
    line: Arc<Line>,
    clock: Arc<ManualClock>,
    memory: Arc<AddrSpace>,
}

#[derive(Default)]
struct Line {
    is_high: AtomicBool,
    rises: AtomicU64,
}

impl IrqSink for Line {
    fn set_irq(&self, _: u32, high: bool) {
        let was_high = self.is_high.swap(high, Ordering::Relaxed);
        if high && !was_high {
            self.rises.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl<D: Device> Bench<D> {
    /// The device with these keys, as they would stand in its table of `guest.toml`.
    ///
    /// # Errors
    /// What is wrong with the map of registers, with the keys, and what the device says.
    pub fn new(keys: &str) -> Result<Self, String> {
        if let Some(problem) = register::problem(D::REGISTERS, D::SIZE) {
            return Err(problem);
        }
        let keys = toml::from_str(keys).map_err(|error| error.to_string())?;
        let keys = kinds::read(&keys).map_err(|problem| problem.to_string())?;
        let (line, clock) = (Arc::<Line>::default(), Arc::<ManualClock>::default());
        let memory = Arc::new(testing::empty());
        let flags = MappingFlags::READ | MappingFlags::WRITE;
        memory
            .map_alloc(GuestPhysAddr(0), MEMORY, flags, true)
            .map_err(|error| error.to_string())?;
        let parts = Parts {
            name: D::KIND.to_owned(),
            line: IrqLine::new(line.clone(), 1),
            memory: memory.clone(),
            clock: clock.clone(),
        };
        Ok(Self { device: D::new(keys, parts)?, line, clock, memory })
    }

    /// Reads as a guest does.
    ///
    /// # Errors
    /// The access is none to a register that can be read so.
    pub fn try_read(&self, offset: u64, width: AccessWidth) -> Result<u64, Access> {
        register::find(D::REGISTERS, offset, width, false)?;
        Ok(self.device.read(offset) & width.mask())
    }

    /// Writes as a guest does.
    ///
    /// # Errors
    /// The access is none to a register that can be written so.
    pub fn try_write(&self, offset: u64, width: AccessWidth, value: u64) -> Result<Effect, Access> {
        register::find(D::REGISTERS, offset, width, true)?;
        Ok(self.device.write(offset, value & width.mask()))
    }

    /// Reads the register at `offset`, as wide as it is.
    ///
    /// # Panics
    /// There is none that can be read.
    #[track_caller]
    pub fn read(&self, offset: u64) -> u64 {
        self.try_read(offset, self.width(offset))
            .unwrap_or_else(|refused| panic!("read at {offset:#x}: {refused:?}"))
    }

    /// Writes the register at `offset`, as wide as it is. What the machine is to do then is what
    /// [`Self::try_write`] tells.
    ///
    /// # Panics
    /// There is none that can be written.
    #[track_caller]
    pub fn write(&self, offset: u64, value: u64) {
        if let Err(refused) = self.try_write(offset, self.width(offset), value) {
            panic!("write at {offset:#x}: {refused:?}");
        }
    }

    fn width(&self, offset: u64) -> AccessWidth {
        let here = |it: &&super::Register| (it.offset..it.end()).contains(&offset);
        D::REGISTERS.iter().find(here).map_or(AccessWidth::Byte, |it| it.width)
    }

    /// Lets time pass, and wakes the device whenever it is to be.
    ///
    /// # Panics
    /// The device wants to be woken again and again.
    #[track_caller]
    pub fn step(&self, time: Duration) {
        let end = self.clock.now().saturating_add(time);
        let mut left = MOST_WAKES;
        while self.clock.pass_to(end) {
            left -= 1;
            assert!(left > 0, "{} wakes {MOST_WAKES} times in {time:?}", D::KIND);
            self.device.woken();
        }
    }

    /// Whether the interrupt line is up.
    pub fn interrupt(&self) -> bool {
        self.line.is_high.load(Ordering::Relaxed)
    }

    /// How often the interrupt line has gone up.
    pub fn interrupts(&self) -> u64 {
        self.line.rises.load(Ordering::Relaxed)
    }

    /// The memory that the device has for the guest's.
    pub fn memory(&self) -> &AddrSpace {
        &self.memory
    }

    /// The device itself.
    pub fn device(&self) -> &D {
        &self.device
    }
}
