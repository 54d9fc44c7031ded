//! Stand-ins and drills for the devices' own tests.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use super::{Access, BaseDeviceOps, IrqLine};
use crate::{
    addr::{AccessWidth, DeviceAddr, DeviceAddrRange},
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

/// Every offset with every width that fits the window and many values, both ways; and what a buggy
/// bus might let through: the offsets just behind the window. Nothing may panic, and a read has no
/// bits outside its width.
pub fn touch_everything<R: DeviceAddrRange>(device: &dyn BaseDeviceOps<R>) {
    let range = device.address_range();
    let len = range.last().number() - range.first().number() + 1;
    for offset in 0..len + 8 {
        for width in WIDTHS {
            let refused = Err(Access::NoRegister);
            for value in (0..=0xff).map(|byte| (byte * 0x0101_0101_0101_0101) & width.mask()) {
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
