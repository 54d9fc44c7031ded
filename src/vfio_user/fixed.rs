//! A device at addresses of its own: the server's region 0, and one interrupt.

use std::{io, sync::Arc};

use super::{
    attached::{Attached, Signal},
    device::{LINE, MSIX},
    link::Link,
    relay::{Relay, eventfd},
};
use crate::{
    addr::{AccessWidth, GuestPhysAddrRange},
    addrspace::AddrSpace,
    devices::{Access, BaseDeviceOps, Effect, IrqLine},
};

/// The region that is seen.
const REGION: u32 = 0;

/// A server's region 0 in a window.
pub struct FixedDevice {
    name: String,
    range: GuestPhysAddrRange,
    /// How many bytes of the window there are registers in.
    size: u64,
    link: Arc<Link>,
    /// The machine, as the link counts them.
    machine: u64,
    _relay: Option<Relay>,
}

impl FixedDevice {
    /// The device that `link` leads to in its window, with its first interrupt on `line`, an edge
    /// each time.
    ///
    /// # Errors
    /// It has no such region or interrupt, or the host has nothing left.
    pub fn new(
        name: &str,
        range: GuestPhysAddrRange,
        line: Option<IrqLine>,
        memory: Arc<AddrSpace>,
        link: Arc<Link>,
    ) -> Result<Self, String> {
        let device = link.description();
        let size = device.region(REGION);
        if size == 0 {
            return Err("its server has no region 0, which would be seen there".to_owned());
        }
        if size > range.len() {
            return Err(format!(
                "its server's region 0 has {size:#x} bytes, and its window {:#x}: write size = \
                 {size:#x}",
                range.len()
            ));
        }
        let (mut irqs, mut relay) = (None, None);
        if let Some(line) = line {
            let index = [LINE, MSIX].into_iter().find(|index| device.irqs(*index) > 0);
            let index = index.ok_or("its server has no interrupt: leave irq out")?;
            let of_host =
                |error: io::Error| format!("this host has nothing left for its interrupt: {error}");
            let signal = Arc::new(eventfd().map_err(of_host)?);
            irqs = Some((index, vec![signal.clone() as Signal]));
            relay = Some(Relay::new(vec![signal], move |_| line.pulse()).map_err(of_host)?);
        }
        let machine = link.attach(Attached { memory, irqs, command: None });
        Ok(Self { name: name.to_owned(), range, size, link, machine, _relay: relay })
    }

    /// Where an access goes.
    fn link(&self, offset: u64, width: AccessWidth) -> Result<&Link, Access> {
        let end = offset.checked_add(width.size() as u64);
        match end.is_some_and(|end| end <= self.size) {
            true => Ok(&self.link),
            false => Err(Access::NoRegister),
        }
    }
}

impl BaseDeviceOps<GuestPhysAddrRange> for FixedDevice {
    fn name(&self) -> &str {
        &self.name
    }

    fn address_range(&self) -> GuestPhysAddrRange {
        self.range
    }

    fn handle_read(&self, offset: u64, width: AccessWidth) -> Result<u64, Access> {
        self.link(offset, width)?.read(REGION, offset, width)
    }

    fn handle_write(&self, offset: u64, width: AccessWidth, val: u64) -> Result<Effect, Access> {
        self.link(offset, width)?.write(REGION, offset, width, val)?;
        Ok(Effect::None)
    }
}

impl Drop for FixedDevice {
    fn drop(&mut self) {
        self.link.detach(self.machine);
    }
}
