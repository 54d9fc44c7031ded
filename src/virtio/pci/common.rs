//! The common configuration (virtio 1.2, 4.1.4.3): which register an access is to.

use crate::{
    addr::AccessWidth,
    devices::{Access, RegisterName},
};

/// How many bytes it has, without what belongs to features that are not offered.
pub const SIZE: u32 = 56;

/// Where each is (4.1.4.3).
mod at {
    pub const DEVICE_FEATURE_SELECT: u32 = 0;
    pub const DEVICE_FEATURE: u32 = 4;
    pub const DRIVER_FEATURE_SELECT: u32 = 8;
    pub const DRIVER_FEATURE: u32 = 12;
    pub const CONFIG_MSIX_VECTOR: u32 = 16;
    pub const NUM_QUEUES: u32 = 18;
    pub const DEVICE_STATUS: u32 = 20;
    pub const CONFIG_GENERATION: u32 = 21;
    pub const QUEUE_SELECT: u32 = 22;
    pub const QUEUE_SIZE: u32 = 24;
    pub const QUEUE_MSIX_VECTOR: u32 = 26;
    pub const QUEUE_ENABLE: u32 = 28;
    pub const QUEUE_NOTIFY_OFF: u32 = 30;
    pub const QUEUE_DESC: u32 = 32;
    pub const QUEUE_DESC_END: u32 = QUEUE_DESC + 8;
    pub const QUEUE_DRIVER: u32 = 40;
    pub const QUEUE_DRIVER_END: u32 = QUEUE_DRIVER + 8;
    pub const QUEUE_DEVICE: u32 = 48;
    pub const QUEUE_DEVICE_END: u32 = QUEUE_DEVICE + 8;
}

/// Their names.
pub const NAMES: [RegisterName; 16] = [
    RegisterName::new("device_feature_select", at::DEVICE_FEATURE_SELECT as u64, 4),
    RegisterName::new("device_feature", at::DEVICE_FEATURE as u64, 4),
    RegisterName::new("driver_feature_select", at::DRIVER_FEATURE_SELECT as u64, 4),
    RegisterName::new("driver_feature", at::DRIVER_FEATURE as u64, 4),
    RegisterName::new("config_msix_vector", at::CONFIG_MSIX_VECTOR as u64, 2),
    RegisterName::new("num_queues", at::NUM_QUEUES as u64, 2),
    RegisterName::new("device_status", at::DEVICE_STATUS as u64, 1),
    RegisterName::new("config_generation", at::CONFIG_GENERATION as u64, 1),
    RegisterName::new("queue_select", at::QUEUE_SELECT as u64, 2),
    RegisterName::new("queue_size", at::QUEUE_SIZE as u64, 2),
    RegisterName::new("queue_msix_vector", at::QUEUE_MSIX_VECTOR as u64, 2),
    RegisterName::new("queue_enable", at::QUEUE_ENABLE as u64, 2),
    RegisterName::new("queue_notify_off", at::QUEUE_NOTIFY_OFF as u64, 2),
    RegisterName::new("queue_desc", at::QUEUE_DESC as u64, 8),
    RegisterName::new("queue_driver", at::QUEUE_DRIVER as u64, 8),
    RegisterName::new("queue_device", at::QUEUE_DEVICE as u64, 8),
];

/// A register. Those of 64 bits can be accessed in halves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    DeviceFeatureSelect,
    DeviceFeature,
    DriverFeatureSelect,
    DriverFeature,
    ConfigMsixVector,
    NumQueues,
    DeviceStatus,
    ConfigGeneration,
    QueueSelect,
    QueueSize,
    QueueMsixVector,
    QueueEnable,
    QueueNotifyOff,
    QueueDesc(Part),
    QueueDriver(Part),
    QueueDevice(Part),
}

/// How much of a register of 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    All,
    Low,
    High,
}

impl Register {
    /// The register at `offset`.
    ///
    /// # Errors
    /// None begins there, or it does not take this width.
    pub fn at(offset: u32, width: AccessWidth) -> Result<Self, Access> {
        let (register, takes) = match offset {
            at::DEVICE_FEATURE_SELECT => (Self::DeviceFeatureSelect, AccessWidth::Dword),
            at::DEVICE_FEATURE => (Self::DeviceFeature, AccessWidth::Dword),
            at::DRIVER_FEATURE_SELECT => (Self::DriverFeatureSelect, AccessWidth::Dword),
            at::DRIVER_FEATURE => (Self::DriverFeature, AccessWidth::Dword),
            at::CONFIG_MSIX_VECTOR => (Self::ConfigMsixVector, AccessWidth::Word),
            at::NUM_QUEUES => (Self::NumQueues, AccessWidth::Word),
            at::DEVICE_STATUS => (Self::DeviceStatus, AccessWidth::Byte),
            at::CONFIG_GENERATION => (Self::ConfigGeneration, AccessWidth::Byte),
            at::QUEUE_SELECT => (Self::QueueSelect, AccessWidth::Word),
            at::QUEUE_SIZE => (Self::QueueSize, AccessWidth::Word),
            at::QUEUE_MSIX_VECTOR => (Self::QueueMsixVector, AccessWidth::Word),
            at::QUEUE_ENABLE => (Self::QueueEnable, AccessWidth::Word),
            at::QUEUE_NOTIFY_OFF => (Self::QueueNotifyOff, AccessWidth::Word),
            at::QUEUE_DESC..at::QUEUE_DESC_END => {
                return Part::at(offset - at::QUEUE_DESC, width).map(Self::QueueDesc);
            }
            at::QUEUE_DRIVER..at::QUEUE_DRIVER_END => {
                return Part::at(offset - at::QUEUE_DRIVER, width).map(Self::QueueDriver);
            }
            at::QUEUE_DEVICE..at::QUEUE_DEVICE_END => {
                return Part::at(offset - at::QUEUE_DEVICE, width).map(Self::QueueDevice);
            }
            _ => return Err(Access::NoRegister),
        };
        if width == takes { Ok(register) } else { Err(Access::BadWidth) }
    }
}

impl Part {
    fn at(offset: u32, width: AccessWidth) -> Result<Self, Access> {
        match (offset, width) {
            (0, AccessWidth::Qword) => Ok(Self::All),
            (0, AccessWidth::Dword) => Ok(Self::Low),
            (4, AccessWidth::Dword) => Ok(Self::High),
            _ => Err(Access::BadWidth),
        }
    }

    /// This much of `value`.
    pub const fn of(self, value: u64) -> u64 {
        match self {
            Self::All => value,
            Self::Low => value & 0xffff_ffff,
            Self::High => value >> 32,
        }
    }

    /// Writes this much of `value`.
    pub const fn set(self, value: &mut u64, new: u64) {
        match self {
            Self::All => *value = new,
            Self::Low => *value = *value & !0xffff_ffff | new & 0xffff_ffff,
            Self::High => *value = *value & 0xffff_ffff | new << 32,
        }
    }
}
