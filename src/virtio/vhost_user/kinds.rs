//! What is known of kinds of devices without asking anybody.

use crate::virtio::DeviceType;

/// A kind of device that has a name.
pub struct Kind {
    /// Its name in configurations.
    pub name: &'static str,
    /// Its number.
    pub number: DeviceType,
    /// How many bytes of configuration space backends of any age have.
    pub config_size: usize,
    /// How many queues it has if nobody says how many.
    pub queues: u16,
    /// Features of its own that need more of a VMM than passing them on.
    without: u64,
}

const fn kind(name: &'static str, number: u32, config_size: usize, queues: u16) -> Kind {
    Kind { name, number: DeviceType(number), config_size, queues, without: 0 }
}

/// VIRTIO_NET_F_CTRL_VQ to VIRTIO_NET_F_CTRL_MAC_ADDR (virtio 1.2, 5.1.3): backends leave the control
/// queue to VMMs.
const NET_CONTROL: u64 = 0x7f << 17;

/// All that have names: virtio 1.2, 5, and the sizes of what stands there under "Device configuration
/// layout".
pub const KINDS: [Kind; 14] = [
    Kind { without: NET_CONTROL, ..kind("net", 1, 12, 2) },
    kind("block", 2, 60, 1),
    kind("console", 3, 12, 2),
    kind("rng", 4, 0, 1),
    kind("scsi", 8, 36, 3),
    kind("gpu", 16, 16, 2),
    kind("input", 18, 136, 2),
    kind("vsock", 19, 8, 3),
    kind("sound", 25, 12, 4),
    kind("fs", 26, 40, 2),
    kind("scmi", 32, 0, 2),
    kind("i2c", 34, 0, 1),
    kind("can", 36, 2, 3),
    kind("gpio", 41, 8, 2),
];

/// The kind with this number, if it has a name.
pub fn of_number(number: DeviceType) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.number == number)
}

/// The kind with this name.
pub fn of_name(name: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.name == name)
}

/// Feature bits that are about the kind of device (virtio 1.2, 2.2): the rest is the transport's.
const OWN_BITS: u64 = 0x00ff_ffff | u64::MAX << 50;

/// Those of a backend's features that can be passed on to the driver.
pub fn own_features(number: DeviceType, features: u64) -> u64 {
    features & OWN_BITS & !of_number(number).map_or(0, |kind| kind.without)
}
