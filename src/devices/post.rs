//! The POST code port, 0x80: firmware and kernels leave a byte there to tell how far they got, or
//! write to it just to pass the time. The last code is kept; nobody waits for it, so writes may
//! come late and together.

use std::sync::atomic::{AtomicU8, Ordering};

use log::trace;

use super::{Access, BaseDeviceOps, Effect, RegisterMap, RegisterName, byte_wide};
use crate::addr::{AccessWidth, Port, PortRange};

/// A port that takes a byte that tells how far a firmware has come.
#[derive(Debug)]
pub struct PostCode {
    port: Port,
    last: AtomicU8,
}

impl PostCode {
    /// At `port`.
    pub fn new(port: Port) -> Self {
        Self { port, last: AtomicU8::new(0) }
    }

    /// The code that was written last; 0 before the first.
    pub fn last(&self) -> u8 {
        self.last.load(Ordering::Relaxed)
    }
}

impl BaseDeviceOps<PortRange> for PostCode {
    fn name(&self) -> &str {
        "post-code"
    }

    fn address_range(&self) -> PortRange {
        PortRange::at(self.port)
    }

    fn registers(&self) -> RegisterMap {
        RegisterMap::of(vec![RegisterName::byte("POST code", 0)])
    }

    fn handle_read(&self, offset: u64, width: AccessWidth) -> Result<u64, Access> {
        byte_wide::only(offset, width)?;
        Ok(self.last().into())
    }

    fn handle_write(&self, offset: u64, width: AccessWidth, val: u64) -> Result<Effect, Access> {
        byte_wide::only(offset, width)?;
        self.last.store(val as u8, Ordering::Relaxed);
        trace!("POST code {val:#04x}");
        Ok(Effect::None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::testing::touch_everything;

    #[test]
    fn every_offset_takes_every_width_both_ways() {
        touch_everything(&PostCode::new(Port(0x80)));
    }

    #[test]
    fn the_last_code_is_kept() {
        let post = PostCode::new(Port(0x80));
        for code in [0x11, 0x55] {
            assert_eq!(post.handle_write(0, AccessWidth::Byte, code), Ok(Effect::None));
        }
        assert_eq!((post.last(), post.handle_read(0, AccessWidth::Byte)), (0x55, Ok(0x55)));
    }
}
