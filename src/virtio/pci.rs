//! virtio over PCI (virtio 1.2, 4.1): a function with MSI-X, whose only BAR has all the registers.
//!
//! ```text
//! 0x3000  notifications: 4 bytes a queue
//! 0x2000  MSI-X: table, pending bits
//! 0x1000  the device's configuration
//! 0x0800  interrupt status
//! 0x0000  common configuration
//! ```

mod common;
mod identity;
mod interrupts;

use std::{io, sync::Arc, time::Duration};

use common::Register;
use interrupts::Interrupts;
use parking_lot::Mutex;

use super::{Control, QueueSetup, VirtioDevice};
use crate::{
    addr::{AccessWidth, GuestPhysAddr},
    addrspace::AddrSpace,
    devices::{Access, Effect, RegisterMap, RegisterName},
    hal::{DoorbellAddr, Doorbells, HalResult, MsiSink},
    pci::{FunctionParts, MSIX_SIZE, MSIX_VECTORS, Msix, PciDevice, requester_id},
    ratelimit::RateLimit,
};

/// How many bytes the BAR has.
pub const BAR_SIZE: u32 = 0x4000;
const COMMON: u32 = 0;
const ISR: u32 = 0x800;
const DEVICE: u32 = 0x1000;
const DEVICE_SIZE: u32 = 0x1000;
const MSIX: u32 = 0x2000;
const NOTIFY: u32 = 0x3000;
/// From the address for one queue's notifications to that for the next one's, in bytes.
const NOTIFY_MULTIPLIER: u32 = 4;

const _: () = assert!(MSIX + MSIX_SIZE as u32 <= NOTIFY);

/// A device behind a BAR.
pub struct PciTransport {
    name: String,
    control: Control,
    interrupts: Arc<Interrupts>,
    selected: Mutex<Selected>,
    doorbells: Arc<dyn Doorbells>,
    /// The queues' doorbells that are registered just now, each at its place.
    registered: Mutex<Vec<(DoorbellAddr, u16)>>,
    trouble: RateLimit,
}

/// What the selector registers hold.
#[derive(Clone, Copy, Default)]
struct Selected {
    device_features: u32,
    driver_features: u32,
    queue: u16,
}

impl PciTransport {
    /// A function for the slot `slot` that is `device`, which works in `memory`. It interrupts by
    /// `messages`; the guest's notifications come by `doorbells`, without an exit.
    ///
    /// # Errors
    /// The host has no file descriptors left.
    pub fn function(
        device: Arc<dyn VirtioDevice>,
        slot: u8,
        memory: Arc<AddrSpace>,
        messages: Arc<dyn MsiSink>,
        doorbells: Arc<dyn Doorbells>,
    ) -> io::Result<FunctionParts> {
        let name = device.name().to_owned();
        let queues = device.queue_sizes().len() as u16;
        let has_config = !device.config().is_empty();
        let vectors = queues.saturating_add(1).min(MSIX_VECTORS);
        let msix = Arc::new(Msix::new(&name, vectors, messages, requester_id(slot)));
        let interrupts = Arc::new(Interrupts::new(msix.clone(), queues));
        let control = Control::new(device, memory, interrupts.clone())?;
        let identity = identity::of(control.device_type());
        let (capabilities, bar_window) = identity::capabilities(queues, has_config);
        let device = Arc::new(Self {
            name,
            control,
            interrupts,
            selected: Mutex::default(),
            doorbells,
            registered: Mutex::default(),
            trouble: RateLimit::new(1, Duration::from_secs(10)),
        });
        Ok(FunctionParts {
            identity,
            bar_size: BAR_SIZE,
            msix,
            msix_at: MSIX,
            capabilities,
            bar_window: Some(bar_window),
            device,
        })
    }

    fn selected(&self) -> Selected {
        *self.selected.lock()
    }

    fn queue(&self) -> Option<QueueSetup> {
        self.control.queue(self.selected().queue)
    }

    fn set_up_queue(&self, change: impl FnOnce(&mut QueueSetup)) {
        self.control.set_up_queue(self.selected().queue, change);
    }

    /// All of them are there; a queue that is not reads as one of no size.
    fn read_common(&self, register: Register) -> u64 {
        let (selected, queue) = (self.selected(), self.queue());
        let of_queue = |value: fn(QueueSetup) -> u64| queue.map_or(0, value);
        match register {
            Register::DeviceFeatureSelect => selected.device_features.into(),
            Register::DeviceFeature => {
                self.control.offered_features(selected.device_features).into()
            }
            Register::DriverFeatureSelect => selected.driver_features.into(),
            Register::DriverFeature => {
                self.control.driver_features(selected.driver_features).into()
            }
            Register::ConfigMsixVector => self.interrupts.config_vector().into(),
            Register::NumQueues => self.control.queue_count().into(),
            Register::DeviceStatus => self.control.status().into(),
            Register::ConfigGeneration => self.control.generation().into(),
            Register::QueueSelect => selected.queue.into(),
            Register::QueueSize => of_queue(|queue| queue.size.into()),
            Register::QueueMsixVector => self.interrupts.queue_vector(selected.queue).into(),
            Register::QueueEnable => of_queue(|queue| queue.is_enabled.into()),
            Register::QueueNotifyOff => selected.queue.into(),
            Register::QueueDesc(part) => part.of(of_queue(|queue| queue.descriptors)),
            Register::QueueDriver(part) => part.of(of_queue(|queue| queue.available)),
            Register::QueueDevice(part) => part.of(of_queue(|queue| queue.used)),
        }
    }

    fn write_common(&self, register: Register, value: u64) -> Result<(), Access> {
        let queue = self.selected().queue;
        match register {
            Register::DeviceFeatureSelect => {
                self.selected.lock().device_features = value as u32;
            }
            Register::DriverFeatureSelect => {
                self.selected.lock().driver_features = value as u32;
            }
            Register::DriverFeature => {
                self.control.set_driver_features(self.selected().driver_features, value as u32);
            }
            Register::ConfigMsixVector => self.interrupts.set_config_vector(value as u16),
            Register::DeviceStatus => {
                self.control.set_status(value as u32);
                if value == 0 {
                    self.interrupts.reset();
                }
            }
            Register::QueueSelect => self.selected.lock().queue = value as u16,
            Register::QueueSize => self.set_up_queue(|queue| queue.size = value as u16),
            Register::QueueMsixVector => self.interrupts.set_queue_vector(queue, value as u16),
            // A driver must not write anything else (4.1.4.3.2).
            Register::QueueEnable if value == 1 => self.control.enable_queue(queue),
            Register::QueueEnable => {}
            Register::QueueDesc(part) => {
                self.set_up_queue(|it| part.set(&mut it.descriptors, value))
            }
            Register::QueueDriver(part) => {
                self.set_up_queue(|it| part.set(&mut it.available, value))
            }
            Register::QueueDevice(part) => self.set_up_queue(|it| part.set(&mut it.used, value)),
            Register::DeviceFeature
            | Register::NumQueues
            | Register::ConfigGeneration
            | Register::QueueNotifyOff => return Err(Access::ReadOnly),
        }
        Ok(())
    }

    /// The queue that a write in the notifications' part is for.
    fn notified(offset: u32) -> Option<u16> {
        let queue = offset.checked_sub(NOTIFY)? / NOTIFY_MULTIPLIER;
        u16::try_from(queue).ok()
    }

    fn tell(&self, result: HalResult) -> bool {
        if let Err(error) = &result {
            if self.trouble.pass().is_some() {
                log::warn!("{}: its notifications will be exits: {error}", self.name);
            }
        }
        result.is_ok()
    }
}

impl PciDevice for PciTransport {
    fn name(&self) -> &str {
        &self.name
    }

    fn registers(&self) -> RegisterMap {
        let behind = [
            RegisterName::byte("ISR status", ISR.into()),
            RegisterName::new("device config", DEVICE.into(), DEVICE_SIZE.into()),
            RegisterName::new("MSI-X", MSIX.into(), MSIX_SIZE),
            RegisterName::dword("notify", NOTIFY.into())
                .times(u64::from(BAR_SIZE - NOTIFY) / 4, NOTIFY_MULTIPLIER.into()),
        ];
        RegisterMap::of(common::NAMES.into_iter().chain(behind).collect::<Vec<_>>())
    }

    fn read(&self, offset: u64, width: AccessWidth) -> Result<u64, Access> {
        let offset = u32::try_from(offset).map_err(|_| Access::NoRegister)?;
        match offset {
            COMMON..ISR => Ok(self.read_common(Register::at(offset - COMMON, width)?)),
            ISR => match width {
                AccessWidth::Byte => Ok(self.interrupts.take_status().into()),
                _ => Err(Access::BadWidth),
            },
            DEVICE..MSIX => Ok(self.control.read_config((offset - DEVICE).into(), width)),
            NOTIFY..BAR_SIZE => Err(Access::WriteOnly),
            _ => Err(Access::NoRegister),
        }
    }

    fn write(&self, offset: u64, width: AccessWidth, value: u64) -> Result<Effect, Access> {
        let offset = u32::try_from(offset).map_err(|_| Access::NoRegister)?;
        match offset {
            COMMON..ISR => self.write_common(Register::at(offset - COMMON, width)?, value)?,
            ISR => return Err(Access::ReadOnly),
            DEVICE..MSIX => self.control.write_config((offset - DEVICE).into(), width, value),
            NOTIFY..BAR_SIZE => {
                if let Some(queue) = Self::notified(offset) {
                    self.control.notify(queue);
                }
            }
            _ => return Err(Access::NoRegister),
        }
        Ok(Effect::None)
    }

    fn moved(&self, to: Option<GuestPhysAddr>) {
        let mut registered = self.registered.lock();
        for (at, queue) in registered.drain(..) {
            if let Some(fd) = self.control.doorbell(queue) {
                self.tell(self.doorbells.unregister_doorbell(at, None, fd));
            }
        }
        let Some(bar) = to else { return };
        for queue in 0..self.control.queue_count() {
            let offset = u64::from(NOTIFY) + u64::from(queue) * u64::from(NOTIFY_MULTIPLIER);
            let at = DoorbellAddr::Mmio(GuestPhysAddr(bar.0 + offset));
            let Some(fd) = self.control.doorbell(queue) else { continue };
            if self.tell(self.doorbells.register_doorbell(at, None, fd)) {
                registered.push((at, queue));
            }
        }
    }
}

#[cfg(test)]
mod tests;
