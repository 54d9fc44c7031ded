//! The test exit device, QEMU's `isa-debug-exit`: writing v ends the machine with the exit status
//! 2v + 1, so that 0 is no result of a test that got this far.

use super::{Access, BaseDeviceOps, Effect, RegisterMap, RegisterName};
use crate::addr::{AccessWidth, PortRange};

/// How many ports the device has.
pub const PORTS: u16 = 4;

/// Ports that end the machine with the status written to them.
#[derive(Debug)]
pub struct DebugExit {
    ports: PortRange,
}

impl DebugExit {
    /// At `ports`.
    pub fn new(ports: PortRange) -> Self {
        Self { ports }
    }
}

impl BaseDeviceOps<PortRange> for DebugExit {
    fn name(&self) -> &str {
        "debug-exit"
    }

    fn address_range(&self) -> PortRange {
        self.ports
    }

    fn registers(&self) -> RegisterMap {
        RegisterMap::of(vec![RegisterName::new("Exit status", 0, PORTS as u64)])
    }

    fn handle_read(&self, offset: u64, width: AccessWidth) -> Result<u64, Access> {
        self.check(offset, width).map(|()| 0)
    }

    /// A process's status has 8 bits: of a larger value the low ones count, as in QEMU.
    fn handle_write(&self, offset: u64, width: AccessWidth, val: u64) -> Result<Effect, Access> {
        self.check(offset, width)?;
        Ok(Effect::Exit((val << 1 | 1) as u8))
    }
}

impl DebugExit {
    fn check(&self, offset: u64, width: AccessWidth) -> Result<(), Access> {
        match (offset, width) {
            (offset, _) if offset >= self.ports.len() => Err(Access::NoRegister),
            (_, AccessWidth::Qword) => Err(Access::BadWidth),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{addr::Port, devices::testing::touch_everything};

    fn device() -> DebugExit {
        DebugExit::new(PortRange::new(Port(0x501), PORTS).unwrap())
    }

    #[test]
    fn every_offset_takes_every_width_both_ways() {
        touch_everything(&device());
    }

    #[test]
    fn the_status_is_odd_and_the_same_for_every_width() {
        let device = device();
        for width in [AccessWidth::Byte, AccessWidth::Word, AccessWidth::Dword] {
            for (value, status) in [(0, 1), (0x10, 33), (0x2a, 85), (0x7f, 255), (0x80, 1)] {
                assert_eq!(device.handle_write(0, width, value), Ok(Effect::Exit(status)));
            }
        }
        assert_eq!(device.handle_read(0, AccessWidth::Dword), Ok(0));
        assert_eq!(device.handle_write(0, AccessWidth::Qword, 0), Err(Access::BadWidth));
    }
}
