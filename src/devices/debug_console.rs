//! The debug console at port 0xe9, known from Bochs and QEMU's `isa-debugcon`: a byte written is a
//! byte printed, with nothing to set up.

use std::{fmt, sync::Arc};

use super::{
    Access, BaseDeviceOps, Effect, EmuDeviceType, RegisterMap, RegisterName, byte_wide,
    console::ConsoleOut,
};
use crate::addr::{AccessWidth, Port, PortRange};

/// What a read gives, so that a guest can tell whether the console is there.
pub const READBACK: u8 = 0xe9;

/// A port that prints what is written to it.
pub struct DebugConsole {
    port: Port,
    out: Arc<dyn ConsoleOut>,
}

impl DebugConsole {
    /// At `port`, printing to `out`.
    pub fn new(port: Port, out: Arc<dyn ConsoleOut>) -> Self {
        Self { port, out }
    }
}

impl BaseDeviceOps<PortRange> for DebugConsole {
    fn name(&self) -> &str {
        "debug-console"
    }

    fn emu_type(&self) -> EmuDeviceType {
        EmuDeviceType::Console
    }

    fn address_range(&self) -> PortRange {
        PortRange::at(self.port)
    }

    fn registers(&self) -> RegisterMap {
        RegisterMap::of(vec![RegisterName::byte("Data", 0)]).printing(0, &[])
    }

    fn handle_read(&self, offset: u64, width: AccessWidth) -> Result<u64, Access> {
        byte_wide::only(offset, width)?;
        Ok(READBACK.into())
    }

    fn handle_write(&self, offset: u64, width: AccessWidth, val: u64) -> Result<Effect, Access> {
        byte_wide::only(offset, width)?;
        self.out.put(&[val as u8]);
        Ok(Effect::None)
    }
}

impl fmt::Debug for DebugConsole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DebugConsole({})", self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::{console::RecordingConsole, testing::touch_everything};

    #[test]
    fn every_offset_takes_every_width_both_ways() {
        touch_everything(&DebugConsole::new(Port(0xe9), Arc::<RecordingConsole>::default()));
    }

    #[test]
    fn bytes_are_printed_and_it_says_that_it_is_there() {
        let out = Arc::<RecordingConsole>::default();
        let console = DebugConsole::new(Port(0xe9), out.clone());
        for byte in *b"e9\x1b\0" {
            let effect = console.handle_write(0, AccessWidth::Byte, byte.into());
            assert_eq!(effect, Ok(Effect::None));
        }
        assert_eq!(out.bytes(), b"e9\x1b\0");
        assert_eq!(console.handle_read(0, AccessWidth::Byte), Ok(0xe9));
        assert_eq!(console.handle_write(0, AccessWidth::Word, 0), Err(Access::BadWidth));
    }
}
