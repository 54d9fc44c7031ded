//! What goes over the socket ("vfio-user Protocol Specification", version 0.9.1 of the text and 0.0 to
//! 0.1 of the protocol): a header of 16 bytes, then a structure of the command's own. The byte order
//! is the host's.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The most bytes of data that a message has, as this end has it told: the protocol's default.
pub const MOST_DATA: usize = 1 << 20;
/// The most bytes that a message has, with all that goes with its data.
pub const MOST_MESSAGE: usize = MOST_DATA + 4096;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Command {
    Version = 1,
    DmaMap = 2,
    DmaUnmap = 3,
    GetInfo = 4,
    GetRegionInfo = 5,
    GetIrqInfo = 7,
    SetIrqs = 8,
    RegionRead = 9,
    RegionWrite = 10,
    DmaRead = 11,
    DmaWrite = 12,
    DeviceReset = 13,
}

/// "Header".
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Header {
    pub id: u16,
    pub command: u16,
    /// Of the whole message, in bytes.
    pub size: u32,
    pub flags: u32,
    /// An errno, if [`FAILED`] says that there is one.
    pub error: u32,
}

pub const HEADER: usize = size_of::<Header>();

/// Flags: what kind of message it is, in the lowest four bits.
pub const KIND: u32 = 0xf;
pub const REPLY: u32 = 1;
/// Flags: nobody waits for a reply.
pub const NO_REPLY: u32 = 1 << 4;
/// Flags: it could not be done.
pub const FAILED: u32 = 1 << 5;

/// "VFIO_USER_VERSION", before its text.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Version {
    pub major: u16,
    pub minor: u16,
}

/// "VFIO_USER_DMA_MAP".
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DmaMap {
    pub argsz: u32,
    /// 1 for reading, 2 for writing.
    pub flags: u32,
    /// Where in the file it begins.
    pub offset: u64,
    pub address: u64,
    pub size: u64,
}

/// "VFIO_USER_DMA_UNMAP".
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DmaUnmap {
    pub argsz: u32,
    pub flags: u32,
    pub address: u64,
    pub size: u64,
}

/// "VFIO_USER_DEVICE_GET_INFO".
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DeviceInfo {
    pub argsz: u32,
    pub flags: u32,
    pub regions: u32,
    pub irqs: u32,
}

/// [`DeviceInfo::flags`]: DEVICE_RESET can be done.
pub const CAN_RESET: u32 = 1;
/// [`DeviceInfo::flags`]: regions and interrupts have the numbers of a PCI device's.
pub const IS_PCI: u32 = 2;

/// "VFIO_USER_DEVICE_GET_REGION_INFO", without the capabilities behind it.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RegionInfo {
    pub argsz: u32,
    pub flags: u32,
    pub index: u32,
    pub capabilities: u32,
    pub size: u64,
    pub offset: u64,
}

/// "VFIO_USER_DEVICE_GET_IRQ_INFO".
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct IrqInfo {
    pub argsz: u32,
    pub flags: u32,
    pub index: u32,
    pub count: u32,
}

/// "VFIO_USER_DEVICE_SET_IRQS".
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SetIrqs {
    pub argsz: u32,
    pub flags: u32,
    pub index: u32,
    pub start: u32,
    pub count: u32,
}

/// [`SetIrqs::flags`]: there are no data.
pub const NO_DATA: u32 = 1;
/// [`SetIrqs::flags`]: an eventfd for each comes with the message.
pub const EVENTFDS: u32 = 1 << 2;
/// [`SetIrqs::flags`]: it is about making interrupts, not about masking them.
pub const TRIGGER: u32 = 1 << 5;

/// "VFIO_USER_REGION_READ" and "VFIO_USER_REGION_WRITE", before the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RegionAccess {
    pub offset: u64,
    pub region: u32,
    pub count: u32,
}

/// "VFIO_USER_DMA_READ" and "VFIO_USER_DMA_WRITE", before the data.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DmaAccess {
    pub address: u64,
    pub count: u64,
}

/// The size of a structure, as it has to say it itself.
pub const fn argsz<T>() -> u32 {
    size_of::<T>() as u32
}
