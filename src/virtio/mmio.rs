//! virtio over MMIO (virtio 1.2, 4.2): a window of registers and an interrupt line.

use std::{io, sync::Arc};

use parking_lot::Mutex;

use super::{Control, Notify, QueueSetup, VirtioDevice};
use crate::{
    addr::{AccessWidth, DeviceAddrRange, GuestPhysAddr, GuestPhysAddrRange},
    addrspace::AddrSpace,
    devices::{Access, BaseDeviceOps, Effect, EmuDeviceType, IrqLine, RegisterMap, RegisterName},
    hal::{DoorbellAddr, Doorbells, HalResult},
};

/// How many bytes a window has, as QEMU's boards have it: registers, and 256 bytes of configuration.
pub const SIZE: u64 = 0x200;

/// The registers (4.2.2); all are 32 bits wide, and some read or write only.
pub(crate) mod reg {
    pub const MAGIC_VALUE: u64 = 0x000;
    pub const VERSION: u64 = 0x004;
    pub const DEVICE_ID: u64 = 0x008;
    pub const VENDOR_ID: u64 = 0x00c;
    pub const DEVICE_FEATURES: u64 = 0x010;
    pub const DEVICE_FEATURES_SEL: u64 = 0x014;
    pub const DRIVER_FEATURES: u64 = 0x020;
    pub const DRIVER_FEATURES_SEL: u64 = 0x024;
    pub const QUEUE_SEL: u64 = 0x030;
    pub const QUEUE_SIZE_MAX: u64 = 0x034;
    pub const QUEUE_SIZE: u64 = 0x038;
    pub const QUEUE_READY: u64 = 0x044;
    pub const QUEUE_NOTIFY: u64 = 0x050;
    pub const INTERRUPT_STATUS: u64 = 0x060;
    pub const INTERRUPT_ACK: u64 = 0x064;
    pub const STATUS: u64 = 0x070;
    pub const QUEUE_DESC_LOW: u64 = 0x080;
    pub const QUEUE_DESC_HIGH: u64 = 0x084;
    pub const QUEUE_DRIVER_LOW: u64 = 0x090;
    pub const QUEUE_DRIVER_HIGH: u64 = 0x094;
    pub const QUEUE_DEVICE_LOW: u64 = 0x0a0;
    pub const QUEUE_DEVICE_HIGH: u64 = 0x0a4;
    /// No shared memory regions: whichever is selected, its length and place say so.
    pub const SHM_SEL: u64 = 0x0ac;
    pub const SHM_LEN_LOW: u64 = 0x0b0;
    pub const SHM_BASE_HIGH: u64 = 0x0bc;
    pub const CONFIG_GENERATION: u64 = 0x0fc;
    pub const CONFIG: u64 = 0x100;
}

/// Their names.
const NAMES: &[RegisterName] = &[
    RegisterName::dword("MagicValue", reg::MAGIC_VALUE),
    RegisterName::dword("Version", reg::VERSION),
    RegisterName::dword("DeviceID", reg::DEVICE_ID),
    RegisterName::dword("VendorID", reg::VENDOR_ID),
    RegisterName::dword("DeviceFeatures", reg::DEVICE_FEATURES),
    RegisterName::dword("DeviceFeaturesSel", reg::DEVICE_FEATURES_SEL),
    RegisterName::dword("DriverFeatures", reg::DRIVER_FEATURES),
    RegisterName::dword("DriverFeaturesSel", reg::DRIVER_FEATURES_SEL),
    RegisterName::dword("QueueSel", reg::QUEUE_SEL),
    RegisterName::dword("QueueSizeMax", reg::QUEUE_SIZE_MAX),
    RegisterName::dword("QueueSize", reg::QUEUE_SIZE),
    RegisterName::dword("QueueReady", reg::QUEUE_READY),
    RegisterName::dword("QueueNotify", reg::QUEUE_NOTIFY),
    RegisterName::dword("InterruptStatus", reg::INTERRUPT_STATUS),
    RegisterName::dword("InterruptACK", reg::INTERRUPT_ACK),
    RegisterName::dword("Status", reg::STATUS),
    RegisterName::dword("QueueDescLow", reg::QUEUE_DESC_LOW),
    RegisterName::dword("QueueDescHigh", reg::QUEUE_DESC_HIGH),
    RegisterName::dword("QueueDriverLow", reg::QUEUE_DRIVER_LOW),
    RegisterName::dword("QueueDriverHigh", reg::QUEUE_DRIVER_HIGH),
    RegisterName::dword("QueueDeviceLow", reg::QUEUE_DEVICE_LOW),
    RegisterName::dword("QueueDeviceHigh", reg::QUEUE_DEVICE_HIGH),
    RegisterName::dword("SHMSel", reg::SHM_SEL),
    RegisterName::dword("SHMLenLow", reg::SHM_LEN_LOW),
    RegisterName::dword("ConfigGeneration", reg::CONFIG_GENERATION),
    RegisterName::new("Config", reg::CONFIG, SIZE - reg::CONFIG),
];

const MAGIC: u32 = u32::from_le_bytes(*b"virt");
const VERSION: u32 = 2;
/// `axvm` as those read it who look.
const VENDOR: u32 = u32::from_le_bytes(*b"axvm");

/// INTERRUPT_STATUS.
const USED_BUFFERS: u32 = 1;
const CONFIG_CHANGED: u32 = 2;

/// A device behind a window of registers.
pub struct MmioTransport {
    name: String,
    emu_type: EmuDeviceType,
    window: GuestPhysAddrRange,
    control: Control,
    line: Arc<StatusLine>,
    selected: Mutex<Selected>,
}

/// What the selector registers hold.
#[derive(Clone, Copy, Default)]
struct Selected {
    device_features: u32,
    driver_features: u32,
    queue: u32,
}

impl MmioTransport {
    /// Puts `device` into `window`, with `line` as its interrupt. The guest's notifications come by
    /// doorbells, without an exit, where the host has them.
    ///
    /// # Errors
    /// The host has no file descriptors left.
    pub fn new(
        device: Arc<dyn VirtioDevice>,
        window: GuestPhysAddrRange,
        line: IrqLine,
        memory: Arc<AddrSpace>,
    ) -> io::Result<Self> {
        let name = device.name().to_owned();
        let emu_type = super::emu_type(device.device_type());
        let line = Arc::new(StatusLine { line, status: Mutex::new(0) });
        let control = Control::new(device, memory, line.clone())?;
        Ok(Self { name, emu_type, window, control, line, selected: Mutex::default() })
    }

    /// Has the guest's notifications come without exits.
    ///
    /// # Errors
    /// The host refuses.
    pub fn register_doorbells(&self, doorbells: &dyn Doorbells) -> HalResult {
        let at = DoorbellAddr::Mmio(GuestPhysAddr(self.window.first().0 + reg::QUEUE_NOTIFY));
        (0..self.control.queue_count()).try_for_each(|index| match self.control.doorbell(index) {
            Some(fd) => doorbells.register_doorbell(at, Some(index.into()), fd),
            None => Ok(()),
        })
    }

    fn selected(&self) -> Selected {
        *self.selected.lock()
    }

    fn select(&self, change: impl FnOnce(&mut Selected)) {
        change(&mut self.selected.lock());
    }

    fn queue(&self) -> Option<QueueSetup> {
        self.control.queue(u16::try_from(self.selected().queue).ok()?)
    }

    fn set_up_queue(&self, change: impl FnOnce(&mut QueueSetup)) {
        if let Ok(index) = u16::try_from(self.selected().queue) {
            self.control.set_up_queue(index, change);
        }
    }

    fn read_register(&self, offset: u64) -> Result<u32, Access> {
        Ok(match offset {
            reg::MAGIC_VALUE => MAGIC,
            reg::VERSION => VERSION,
            reg::DEVICE_ID => self.control.device_type().0,
            reg::VENDOR_ID => VENDOR,
            reg::DEVICE_FEATURES => self.control.offered_features(self.selected().device_features),
            reg::QUEUE_SIZE_MAX => self.queue().map_or(0, |queue| queue.max.into()),
            reg::QUEUE_READY => self.queue().map_or(0, |queue| queue.is_enabled.into()),
            reg::INTERRUPT_STATUS => self.line.status(),
            reg::STATUS => self.control.status(),
            reg::SHM_LEN_LOW..=reg::SHM_BASE_HIGH => u32::MAX,
            reg::CONFIG_GENERATION => self.control.generation(),
            reg::DEVICE_FEATURES_SEL
            | reg::DRIVER_FEATURES
            | reg::DRIVER_FEATURES_SEL
            | reg::QUEUE_SEL
            | reg::QUEUE_SIZE
            | reg::QUEUE_NOTIFY
            | reg::SHM_SEL
            | reg::INTERRUPT_ACK
            | reg::QUEUE_DESC_LOW
            | reg::QUEUE_DESC_HIGH
            | reg::QUEUE_DRIVER_LOW
            | reg::QUEUE_DRIVER_HIGH
            | reg::QUEUE_DEVICE_LOW
            | reg::QUEUE_DEVICE_HIGH => return Err(Access::WriteOnly),
            _ => return Err(Access::NoRegister),
        })
    }

    fn write_register(&self, offset: u64, value: u32) -> Result<(), Access> {
        match offset {
            reg::DEVICE_FEATURES_SEL => self.select(|it| it.device_features = value),
            reg::DRIVER_FEATURES => {
                self.control.set_driver_features(self.selected().driver_features, value);
            }
            reg::DRIVER_FEATURES_SEL => self.select(|it| it.driver_features = value),
            reg::QUEUE_SEL => self.select(|it| it.queue = value),
            // A size that 16 bits cannot hold is none.
            reg::QUEUE_SIZE => {
                self.set_up_queue(|queue| queue.size = u16::try_from(value).unwrap_or(0));
            }
            reg::QUEUE_READY => self.enable_queue(value),
            reg::QUEUE_NOTIFY => {
                if let Ok(index) = u16::try_from(value) {
                    self.control.notify(index);
                }
            }
            reg::INTERRUPT_ACK => self.line.acknowledge(value),
            reg::STATUS => {
                self.control.set_status(value);
                if value == 0 {
                    self.line.acknowledge(u32::MAX);
                }
            }
            reg::QUEUE_DESC_LOW => self.set_up_queue(|it| set_low(&mut it.descriptors, value)),
            reg::QUEUE_DESC_HIGH => self.set_up_queue(|it| set_high(&mut it.descriptors, value)),
            reg::QUEUE_DRIVER_LOW => self.set_up_queue(|it| set_low(&mut it.available, value)),
            reg::QUEUE_DRIVER_HIGH => self.set_up_queue(|it| set_high(&mut it.available, value)),
            reg::QUEUE_DEVICE_LOW => self.set_up_queue(|it| set_low(&mut it.used, value)),
            reg::QUEUE_DEVICE_HIGH => self.set_up_queue(|it| set_high(&mut it.used, value)),
            reg::SHM_SEL => {}
            reg::MAGIC_VALUE
            | reg::VERSION
            | reg::DEVICE_ID
            | reg::VENDOR_ID
            | reg::DEVICE_FEATURES
            | reg::QUEUE_SIZE_MAX
            | reg::INTERRUPT_STATUS
            | reg::SHM_LEN_LOW..=reg::SHM_BASE_HIGH
            | reg::CONFIG_GENERATION => return Err(Access::ReadOnly),
            _ => return Err(Access::NoRegister),
        }
        Ok(())
    }

    fn enable_queue(&self, value: u32) {
        let Ok(index) = u16::try_from(self.selected().queue) else { return };
        match value {
            1 => self.control.enable_queue(index),
            0 => self.control.disable_queue(index),
            _ => {}
        }
    }
}

impl BaseDeviceOps<GuestPhysAddrRange> for MmioTransport {
    fn name(&self) -> &str {
        &self.name
    }

    fn emu_type(&self) -> EmuDeviceType {
        self.emu_type
    }

    fn address_range(&self) -> GuestPhysAddrRange {
        self.window
    }

    fn registers(&self) -> RegisterMap {
        RegisterMap::of(NAMES)
    }

    fn handle_read(&self, offset: u64, width: AccessWidth) -> Result<u64, Access> {
        if offset >= SIZE {
            return Err(Access::NoRegister);
        }
        if let Some(offset) = offset.checked_sub(reg::CONFIG) {
            return Ok(self.control.read_config(offset, width));
        }
        match width {
            AccessWidth::Dword => self.read_register(offset).map(u64::from),
            _ => Err(Access::BadWidth),
        }
    }

    fn handle_write(&self, offset: u64, width: AccessWidth, val: u64) -> Result<Effect, Access> {
        match (offset.checked_sub(reg::CONFIG), width) {
            _ if offset >= SIZE => return Err(Access::NoRegister),
            (Some(offset), _) => self.control.write_config(offset, width, val),
            (None, AccessWidth::Dword) => self.write_register(offset, val as u32)?,
            _ => return Err(Access::BadWidth),
        }
        Ok(Effect::None)
    }
}

/// The interrupt: a status whose bits the driver acknowledges, and a line that is high as long as
/// one is set.
struct StatusLine {
    line: IrqLine,
    /// Around the line as well: what two threads do comes out in that order.
    status: Mutex<u32>,
}

impl StatusLine {
    fn status(&self) -> u32 {
        *self.status.lock()
    }

    fn raise(&self, bit: u32) {
        let mut status = self.status.lock();
        if *status == 0 {
            self.line.set(true);
        }
        *status |= bit;
    }

    fn acknowledge(&self, bits: u32) {
        let mut status = self.status.lock();
        if *status == 0 {
            return;
        }
        *status &= !bits;
        self.line.set(false);
        // Up again for what is left: who waits for an edge gets one.
        if *status != 0 {
            self.line.set(true);
        }
    }
}

impl Notify for StatusLine {
    fn queue(&self, _: u16) {
        self.raise(USED_BUFFERS);
    }

    fn config(&self) {
        self.raise(CONFIG_CHANGED);
    }
}

fn set_low(address: &mut u64, low: u32) {
    *address = *address & !0xffff_ffff | u64::from(low);
}

fn set_high(address: &mut u64, high: u32) {
    *address = *address & 0xffff_ffff | u64::from(high) << 32;
}

#[cfg(test)]
mod tests;
