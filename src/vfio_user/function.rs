//! A device on PCI: BARs are the server's regions, interrupts are MSI-X, whose table is ours.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
};

use parking_lot::{Mutex, MutexGuard};

use super::{
    attached::{Attached, Signal},
    config_space::{Bar, InBar, MEMORY_SPACE, MSIX_ENABLE, MSIX_MASK, MsixPlace, Owned, SIZE},
    device::{self, CONFIG, Description},
    link::Link,
    relay::{Relay, eventfd},
};
use crate::{
    addr::{AccessWidth, GuestPhysAddr, GuestPhysAddrRange},
    addrspace::AddrSpace,
    devices::{Access, Effect},
    hal::MsiSink,
    pci::{MSIX_PENDING, MSIX_VECTORS, Msix, PciFunction, reg},
};

/// An entry of a table of MSI-X, in bytes.
const ENTRY: u64 = 16;

/// A function whose registers are a server's.
pub struct ServedFunction {
    name: String,
    owned: Mutex<Owned>,
    description: Description,
    msix: Option<(Arc<Msix>, MsixPlace)>,
    /// What the guest has in COMMAND.
    command: Arc<AtomicU16>,
    link: Arc<Link>,
    /// The machine, as the link counts them.
    machine: u64,
    _relay: Option<Relay>,
}

impl ServedFunction {
    /// The device that `link` leads to, which sends its messages to `sink` as `requester`; `room` has
    /// places for its BARs.
    ///
    /// # Errors
    /// The server's device is no PCI device that can be had, or the host has nothing left.
    pub fn new(
        name: &str,
        link: Arc<Link>,
        memory: Arc<AddrSpace>,
        sink: Arc<dyn MsiSink>,
        requester: u32,
        room: &mut dyn FnMut(u64) -> Option<u64>,
    ) -> Result<Self, String> {
        let description = link.description();
        if !description.is_pci || description.region(CONFIG) < SIZE as u64 {
            return Err(
                "its server is no PCI device: write addr = … for one at fixed addresses".into()
            );
        }
        let mut bytes = [0xff; SIZE];
        for (at, word) in (0..).step_by(4).zip(bytes.chunks_exact_mut(4)) {
            let value = link.read(CONFIG, at, AccessWidth::Dword).unwrap_or(0) as u32;
            word.copy_from_slice(&value.to_le_bytes());
        }
        if bytes[..2] == [0xff; 2] {
            return Err("its server does not tell who made the device".to_owned());
        }
        let region = |index| description.region(index as u32);
        let vectors = description.irqs(device::MSIX);
        let mut owned = Owned::new(&bytes, region, vectors, MSIX_VECTORS);
        for bar in owned.bars.clone() {
            let place = room(bar.size).ok_or_else(|| {
                format!("there is no room for BAR {} of {:#x} bytes", bar.index, bar.size)
            })?;
            owned.set_place(&bar, place);
        }
        let msix = owned
            .msix
            .map(|place| (Arc::new(Msix::new(name, place.vectors, sink, requester)), place));
        let of_host = |error: io::Error| format!("this host has nothing left for it: {error}");
        let (fds, relay) = match &msix {
            Some((msix, place)) => interrupts(msix, place.vectors).map_err(of_host)?,
            None => (Vec::new(), None),
        };
        let command = Arc::<AtomicU16>::default();
        let irqs = (!fds.is_empty()).then_some((device::MSIX, fds));
        let machine = link.attach(Attached { memory, irqs, command: Some(command.clone()) });
        Ok(Self {
            name: name.to_owned(),
            owned: Mutex::new(owned),
            description,
            msix,
            command,
            link,
            machine,
            _relay: relay,
        })
    }

    fn owned(&self) -> MutexGuard<'_, Owned> {
        self.owned.lock()
    }

    /// Whether an access is one to MSI-X, and where in what [`Msix`] has.
    fn in_msix(&self, bar: usize, offset: u64) -> Option<(&Msix, u64)> {
        let (msix, place) = self.msix.as_ref()?;
        let vectors = u64::from(place.vectors);
        let within = |it: InBar, len: u64| {
            offset.checked_sub(it.offset).filter(|at| it.bar == bar && *at < len)
        };
        let table = within(place.table, vectors * ENTRY);
        let pending = || within(place.pending, vectors.div_ceil(64) * 8);
        let at = table.or_else(|| pending().map(|at| MSIX_PENDING + at))?;
        Some((msix, at))
    }

    /// Whether the server has all of an access.
    fn check(&self, bar: usize, offset: u64, width: AccessWidth) -> Result<&Link, Access> {
        let end = offset.checked_add(width.size() as u64).ok_or(Access::NoRegister)?;
        match end <= self.description.region(bar as u32) {
            true => Ok(&self.link),
            false => Err(Access::NoRegister),
        }
    }

    /// What was written is so from now on.
    fn follow(&self, owned: &Owned) {
        self.command.store(owned.u16(reg::COMMAND), Ordering::Relaxed);
        if let Some((msix, place)) = &self.msix {
            let control = owned.u16(place.at + 2);
            msix.set_control(control & MSIX_ENABLE != 0, control & MSIX_MASK != 0);
        }
    }

    /// Tells the server what it has to know of a write.
    fn tell(&self, offset: usize, bytes: &[u8], is_for_server: impl Fn(usize) -> bool) {
        let for_server: Vec<bool> = (offset..).take(bytes.len()).map(is_for_server).collect();
        // All of it, as it is written, or what is left byte by byte.
        let width = AccessWidth::try_from(bytes.len()).ok();
        if let (Some(width), true) = (width, for_server.iter().all(|it| *it)) {
            let mut value = [0; 8];
            value[..bytes.len()].copy_from_slice(bytes);
            let _ = self.link.write(CONFIG, offset as u64, width, u64::from_le_bytes(value));
            return;
        }
        for ((at, byte), _) in (offset..).zip(bytes).zip(for_server).filter(|(_, it)| *it) {
            let _ = self.link.write(CONFIG, at as u64, AccessWidth::Byte, (*byte).into());
        }
    }
}

/// Eventfds for all vectors: of those that the host cannot have become messages, a thread does.
fn interrupts(msix: &Arc<Msix>, vectors: u16) -> io::Result<(Vec<Signal>, Option<Relay>)> {
    let (mut fds, mut relayed, mut numbers) = (Vec::<Signal>::new(), Vec::new(), Vec::new());
    for vector in 0..vectors {
        match msix.eventfd(vector) {
            Some(fd) => fds.push(Arc::new(fd)),
            None => {
                let fd = Arc::new(eventfd()?);
                relayed.push(fd.clone());
                numbers.push(vector);
                fds.push(fd);
            }
        }
    }
    let msix = msix.clone();
    let relay = (!relayed.is_empty())
        .then(|| Relay::new(relayed, move |index| msix.signal(numbers[index])))
        .transpose()?;
    Ok((fds, relay))
}

impl PciFunction for ServedFunction {
    fn name(&self) -> &str {
        &self.name
    }

    fn places(&self) -> Vec<(usize, GuestPhysAddrRange)> {
        let owned = self.owned();
        if owned.u16(reg::COMMAND) & MEMORY_SPACE == 0 {
            return Vec::new();
        }
        let range = |bar: &Bar| {
            let first = GuestPhysAddr(owned.place(bar));
            Some((bar.index, GuestPhysAddrRange::new(first, bar.size)?))
        };
        owned.bars.iter().filter_map(range).collect()
    }

    fn read_config(&self, offset: usize, bytes: &mut [u8]) {
        bytes.fill(0xff);
        // An access of the guest's has one of these widths.
        if let Ok(width) = AccessWidth::try_from(bytes.len()) {
            if offset + bytes.len() <= SIZE {
                let value = self.link.read(CONFIG, offset as u64, width).unwrap_or(u64::MAX);
                bytes.copy_from_slice(&value.to_le_bytes()[..bytes.len()]);
            }
        }
        self.owned().read(offset, bytes);
    }

    fn write_config(&self, offset: usize, bytes: &[u8]) -> Effect {
        let for_server: Vec<bool> = {
            let mut owned = self.owned();
            owned.write(offset, bytes);
            // Inside of the lock: what two vCPUs write comes out in that order.
            self.follow(&owned);
            (offset..).take(bytes.len()).map(|at| owned.is_for_server(at)).collect()
        };
        self.tell(offset, bytes, |at| for_server[at - offset]);
        Effect::None
    }

    fn read(&self, bar: usize, offset: u64, width: AccessWidth) -> Result<u64, Access> {
        match self.in_msix(bar, offset) {
            Some((msix, at)) => Ok(msix.read(at, width)),
            None => self.check(bar, offset, width)?.read(bar as u32, offset, width),
        }
    }

    fn write(
        &self,
        bar: usize,
        offset: u64,
        width: AccessWidth,
        value: u64,
    ) -> Result<Effect, Access> {
        match self.in_msix(bar, offset) {
            Some((msix, at)) => msix.write(at, width, value),
            None => self.check(bar, offset, width)?.write(bar as u32, offset, width, value)?,
        }
        Ok(Effect::None)
    }

    /// What the server has there, it may change by itself.
    fn reads_through(&self) -> bool {
        true
    }
}

impl Drop for ServedFunction {
    fn drop(&mut self) {
        self.link.detach(self.machine);
    }
}
