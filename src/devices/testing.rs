//! Stand-ins and drills for the devices' own tests.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use super::{Access, BaseDeviceOps, Effect, IrqLine};
use crate::{
    addr::{AccessWidth, DeviceAddr, DeviceAddrRange, GuestPhysAddr, GuestPhysAddrRange},
    hal::IrqSink,
};

pub const WIDTHS: [AccessWidth; 4] =
    [AccessWidth::Byte, AccessWidth::Word, AccessWidth::Dword, AccessWidth::Qword];

/// Counts edges.
#[derive(Default)]
pub struct CountingSink(AtomicU32);

impl CountingSink {
    pub fn line() -> (Arc<Self>, IrqLine) {
        let sink = Arc::new(Self::default());
        (sink.clone(), IrqLine::new(sink, 4))
    }

    /// How many edges there were since the last call.
    pub fn take(&self) -> u32 {
        self.0.swap(0, Ordering::Relaxed)
    }
}

impl IrqSink for CountingSink {
    fn set_irq(&self, _: u32, high: bool) {
        self.0.fetch_add(high.into(), Ordering::Relaxed);
    }
}

/// Remembers a line's level, and counts how often it is driven.
#[derive(Default)]
pub struct LevelSink {
    high: AtomicBool,
    driven: AtomicU32,
}

impl LevelSink {
    pub fn line() -> (Arc<Self>, IrqLine) {
        let sink = Arc::new(Self::default());
        (sink.clone(), IrqLine::new(sink, 33))
    }

    pub fn high(&self) -> bool {
        self.high.load(Ordering::Relaxed)
    }

    /// How often the line was driven since the last call.
    pub fn take_driven(&self) -> u32 {
        self.driven.swap(0, Ordering::Relaxed)
    }
}

impl IrqSink for LevelSink {
    fn set_irq(&self, _: u32, high: bool) {
        self.high.store(high, Ordering::Relaxed);
        self.driven.fetch_add(1, Ordering::Relaxed);
    }
}

/// Reads 32 bits, which the device must take.
#[track_caller]
pub fn read32<R: DeviceAddrRange>(device: &dyn BaseDeviceOps<R>, offset: u64) -> u32 {
    device.handle_read(offset, AccessWidth::Dword).unwrap() as u32
}

/// Writes 32 bits, which the device must take, and with no effect on the machine.
#[track_caller]
pub fn write32<R: DeviceAddrRange>(device: &dyn BaseDeviceOps<R>, offset: u64, value: u32) {
    let effect = device.handle_write(offset, AccessWidth::Dword, value.into());
    assert_eq!(effect, Ok(Effect::None), "{offset:#x}");
}

/// `size` bytes at an address that matters to nobody.
pub fn window(size: u64) -> GuestPhysAddrRange {
    GuestPhysAddrRange::new(GuestPhysAddr(0x900_0000), size).unwrap()
}

/// Every offset with every width that fits the window and many values, both ways; and what a buggy
/// bus might let through: the offsets just behind the window. Nothing may panic, and a read has no
/// bits outside its width. Of large windows fewer values, and 64 KiB at either end.
pub fn touch_everything<R: DeviceAddrRange>(device: &dyn BaseDeviceOps<R>) {
    let range = device.address_range();
    let len = range.last().number() - range.first().number() + 1;
    let values: &[u64] = match len {
        0..=256 => &std::array::from_fn::<_, 256, _>(|i| i as u64),
        _ => &[0, 1, 0x0f, 0x55, 0xff],
    };
    let offsets = (0..len.min(0x1_0000)).chain(len.saturating_sub(0x1_0000).max(0x1_0000)..len);
    for offset in offsets.chain(len..len + 8) {
        for width in WIDTHS {
            let refused = Err(Access::NoRegister);
            for value in values.iter().map(|byte| (byte * 0x0101_0101_0101_0101) & width.mask()) {
                let read = device.handle_read(offset, width);
                assert!(read.is_err() || read.unwrap() & !width.mask() == 0, "{offset:#x}");
                let wrote = device.handle_write(offset, width, value);
                if offset >= len {
                    assert_eq!((read.map(drop), wrote.map(drop)), (refused, refused));
                }
            }
        }
    }
}
