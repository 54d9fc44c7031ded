//! Faults on purpose, for drivers that are to be tested: a device that fails, is slow, answers other
//! bits or loses interrupts, at the times that its user says.

mod config;

use std::{sync::Arc, thread, time::Duration};

use parking_lot::Mutex;
use vmm_sys_util::eventfd::EventFd;

pub use self::config::{FaultAccess, FaultAction, FaultConfig, FaultWhen};
use super::{Access, BaseDeviceOps, Effect, EmuDeviceType, RegisterMap};
use crate::{
    addr::{AccessWidth, DeviceAddr, DeviceAddrRange},
    hal::{HalResult, IrqSink, Msi, MsiSink},
    ratelimit::RateLimit,
};

/// A fault, and how often it could have happened.
pub struct Fault {
    config: FaultConfig,
    chances: Mutex<Chances>,
    told: RateLimit,
}

struct Chances {
    seen: u64,
    random: fastrand::Rng,
}

impl Fault {
    /// The fault that is asked for.
    pub fn new(config: FaultConfig) -> Arc<Self> {
        let seed = match config.when {
            FaultWhen::OneIn { seed, .. } => seed,
            _ => 0,
        };
        let random = fastrand::Rng::with_seed(seed);
        Arc::new(Self {
            config,
            chances: Mutex::new(Chances { seen: 0, random }),
            told: RateLimit::new(3, Duration::from_secs(10)),
        })
    }

    /// What was asked for.
    pub fn config(&self) -> &FaultConfig {
        &self.config
    }

    /// Whether it happens this time, which could be one.
    fn happens(&self) -> bool {
        let mut chances = self.chances.lock();
        chances.seen += 1;
        let happens = match self.config.when {
            FaultWhen::Always => true,
            FaultWhen::Nth(nth) => chances.seen == nth,
            FaultWhen::Every(every) => chances.seen % every == 0,
            FaultWhen::OneIn { times, .. } => chances.random.u64(..times) == 0,
        };
        if happens {
            if let Some(untold) = self.told.pass() {
                let more = if untold > 0 {
                    format!(" ({untold} more were not told)")
                } else {
                    String::new()
                };
                log::info!("fault on purpose: {}{more}", self.config);
            }
        }
        happens
    }

    /// Whether an access at this address of its bus is one that it is about.
    fn is_about(&self, addr: u64, is_write: bool) -> bool {
        let is_in = |(first, last)| (first..=last).contains(&addr);
        self.config.addresses.is_none_or(is_in)
            && match self.config.access {
                FaultAccess::Read => !is_write,
                FaultAccess::Write => is_write,
                FaultAccess::Any => true,
            }
            && self.config.action != FaultAction::LoseInterrupt
    }
}

/// A device whose accesses go wrong.
pub struct Faulty<D: ?Sized> {
    device: Arc<D>,
    /// Each with the part of the window that it is about, if that is not all.
    faults: Vec<(Option<usize>, Arc<Fault>)>,
}

impl<D: ?Sized> Faulty<D> {
    /// `device` with these faults, each of a part of it ([`BaseDeviceOps::parts`]) or of all.
    pub fn new(device: Arc<D>, faults: Vec<(Option<usize>, Arc<Fault>)>) -> Self {
        Self { device, faults }
    }

    /// What happens to an access: it may fail, come late, or have other bits.
    fn strike<R: DeviceAddrRange>(&self, offset: u64, is_write: bool) -> Result<Bits, Access>
    where
        D: BaseDeviceOps<R>,
    {
        let addr = self.device.address_range().first().number().wrapping_add(offset);
        let part = self.device.part_at(offset);
        let mut bits = Bits { value: 0, mask: 0 };
        for (of, fault) in &self.faults {
            if (of.is_some() && *of != part) || !fault.is_about(addr, is_write) || !fault.happens()
            {
                continue;
            }
            match fault.config.action {
                FaultAction::Fail => return Err(Access::OnPurpose),
                FaultAction::Delay(time) => thread::sleep(time),
                FaultAction::Bits { value, mask } => {
                    bits.value = bits.value & !mask | value & mask;
                    bits.mask |= mask;
                }
                FaultAction::LoseInterrupt => {}
            }
        }
        Ok(bits)
    }
}

/// Bits that are given.
struct Bits {
    value: u64,
    mask: u64,
}

impl Bits {
    fn put_into(&self, value: u64) -> u64 {
        value & !self.mask | self.value
    }
}

impl<R: DeviceAddrRange, D: BaseDeviceOps<R> + ?Sized> BaseDeviceOps<R> for Faulty<D> {
    fn name(&self) -> &str {
        self.device.name()
    }

    fn emu_type(&self) -> EmuDeviceType {
        self.device.emu_type()
    }

    fn address_range(&self) -> R {
        self.device.address_range()
    }

    fn parts(&self) -> Vec<String> {
        self.device.parts()
    }

    fn part_at(&self, offset: u64) -> Option<usize> {
        self.device.part_at(offset)
    }

    fn registers(&self) -> RegisterMap {
        self.device.registers()
    }

    fn part_registers(&self) -> Vec<RegisterMap> {
        self.device.part_registers()
    }

    fn handle_read(&self, offset: u64, width: AccessWidth) -> Result<u64, Access> {
        let bits = self.strike(offset, false)?;
        let value = self.device.handle_read(offset, width)?;
        Ok(bits.put_into(value) & width.mask())
    }

    fn handle_write(&self, offset: u64, width: AccessWidth, val: u64) -> Result<Effect, Access> {
        let bits = self.strike(offset, true)?;
        self.device.handle_write(offset, width, bits.put_into(val) & width.mask())
    }
}

/// Interrupts of which some do not come.
pub struct Losing<S: ?Sized> {
    sink: Arc<S>,
    faults: Vec<Arc<Fault>>,
}

impl<S: ?Sized> Losing<S> {
    /// `sink`, but for what these faults lose.
    pub fn new(sink: Arc<S>, faults: Vec<Arc<Fault>>) -> Self {
        Self { sink, faults }
    }

    fn loses(&self) -> bool {
        // Each of them counts.
        self.faults.iter().filter(|fault| fault.happens()).count() > 0
    }
}

impl IrqSink for Losing<dyn IrqSink> {
    fn set_irq(&self, irq: u32, high: bool) {
        if !high || !self.loses() {
            self.sink.set_irq(irq, high);
        }
    }

    fn pulse_irq(&self, irq: u32) {
        if !self.loses() {
            self.sink.pulse_irq(irq);
        }
    }
}

impl MsiSink for Losing<dyn MsiSink> {
    fn signal_msi(&self, msi: Msi) -> HalResult {
        if self.loses() { Ok(()) } else { self.sink.signal_msi(msi) }
    }

    fn add_msi_route(&self) -> HalResult<u32> {
        self.sink.add_msi_route()
    }

    fn connect_msi(&self, route: u32, fd: &EventFd, msi: Msi) -> HalResult {
        self.sink.connect_msi(route, fd, msi)
    }

    fn disconnect_msi(&self, route: u32, fd: &EventFd) -> HalResult {
        self.sink.disconnect_msi(route, fd)
    }
}

#[cfg(test)]
mod tests;
