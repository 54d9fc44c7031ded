//! MSI-X (PCI Local Bus 3.0, 6.8.2): a table of messages that the guest writes, masks for one and for
//! all of them, and a bit for each that waits until its mask is gone.

use std::{mem, sync::Arc, time::Duration};

use parking_lot::{Mutex, RwLock};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::{
    addr::{AccessWidth, GuestPhysAddr},
    hal::{HalResult, Msi, MsiSink},
    ratelimit::RateLimit,
};

/// The most vectors of a function: as many as the table has room for.
pub const MSIX_VECTORS: u16 = (PENDING as usize / ENTRY) as u16;
/// How many bytes of the BAR the table and the pending bits have together.
pub const MSIX_SIZE: u64 = 0x1000;
/// Where the pending bits are, behind the table.
pub const PENDING: u64 = 0x800;

/// An entry: address, data, control (6.8.2.6 to 6.8.2.9).
const ENTRY: usize = 16;
const DATA: usize = 8;
const CONTROL: usize = 12;
const MASKED: u8 = 1;

/// A function's interrupts.
pub struct Msix {
    name: String,
    sink: Arc<dyn MsiSink>,
    requester: u32,
    /// Held for reading while a vector is: who changes it does so between interrupts.
    control: RwLock<Control>,
    vectors: Vec<Mutex<Vector>>,
    trouble: RateLimit,
}

/// What concerns all vectors.
#[derive(Clone, Copy, Default)]
struct Control {
    is_enabled: bool,
    is_masked: bool,
}

struct Vector {
    entry: [u8; ENTRY],
    is_pending: bool,
    route: Option<Route>,
}

/// The way of an eventfd's signals.
struct Route {
    number: u32,
    fd: EventFd,
    /// What they become just now; `None`: they stay in the eventfd.
    connected: Option<Msi>,
}

impl Msix {
    /// `vectors` of them, at most [`MSIX_VECTORS`], all masked, for the function with this requester
    /// id. `name` is for messages.
    pub fn new(name: &str, vectors: u16, sink: Arc<dyn MsiSink>, requester: u32) -> Self {
        let vector = |_| Mutex::new(Vector::new());
        Self {
            name: name.to_owned(),
            sink,
            requester,
            control: RwLock::default(),
            vectors: (0..vectors.clamp(1, MSIX_VECTORS)).map(vector).collect(),
            trouble: RateLimit::new(1, Duration::from_secs(10)),
        }
    }

    /// How many there are; at least one.
    pub fn vectors(&self) -> u16 {
        self.vectors.len() as u16
    }

    /// Whether the guest uses them.
    pub fn is_enabled(&self) -> bool {
        self.control().is_enabled
    }

    /// Interrupts by a vector; later, if it is masked.
    pub fn signal(&self, vector: u16) {
        let control = self.control.read();
        let Some(vector) = self.vectors.get(usize::from(vector)) else { return };
        if control.is_enabled {
            let mut vector = vector.lock();
            vector.is_pending = true;
            self.settle(*control, &mut vector);
        }
    }

    /// An eventfd whose signals interrupt by a vector, without anybody in this process. `None`: the
    /// host cannot, or there is no such vector.
    pub fn eventfd(&self, vector: u16) -> Option<EventFd> {
        let control = self.control.read();
        let mut vector = self.vectors.get(usize::from(vector))?.lock();
        if vector.route.is_none() {
            let number = self.tell(self.sink.add_msi_route())?;
            let fd = EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK).ok()?;
            vector.route = Some(Route { number, fd, connected: None });
            self.settle(*control, &mut vector);
        }
        vector.route.as_ref()?.fd.try_clone().ok()
    }

    /// The guest writes the capability's control: whether they are used, and all masked.
    pub(crate) fn set_control(&self, is_enabled: bool, is_masked: bool) {
        let mut control = self.control.write();
        *control = Control { is_enabled, is_masked };
        for vector in &self.vectors {
            self.settle(*control, &mut vector.lock());
        }
    }

    /// Reads the table or the pending bits; zeros where there are none.
    pub(crate) fn read(&self, offset: u64, width: AccessWidth) -> u64 {
        let mut bytes = [0; 8];
        for (at, byte) in (offset as usize..).zip(&mut bytes[..width.size()]) {
            *byte = match at.checked_sub(PENDING as usize) {
                Some(at) => self.pending(at),
                None => self.vectors.get(at / ENTRY).map_or(0, |it| it.lock().entry[at % ENTRY]),
            };
        }
        u64::from_le_bytes(bytes)
    }

    /// Writes the table; the pending bits are to be read only.
    pub(crate) fn write(&self, offset: u64, width: AccessWidth, value: u64) {
        let control = self.control();
        let (first, bytes) = (offset as usize, value.to_le_bytes());
        for entry in first / ENTRY..=(first + width.size() - 1) / ENTRY {
            let Some(vector) = self.vectors.get(entry) else { break };
            let mut vector = vector.lock();
            for (at, byte) in (first..).zip(&bytes[..width.size()]) {
                if at / ENTRY == entry {
                    vector.entry[at % ENTRY] = *byte;
                }
            }
            vector.entry[0] &= !3;
            vector.entry[CONTROL] &= MASKED;
            vector.entry[CONTROL + 1..].fill(0);
            self.settle(control, &mut vector);
        }
    }

    /// Eight pending bits.
    fn pending(&self, byte: usize) -> u8 {
        let of_byte = self.vectors.iter().skip(byte.saturating_mul(8)).take(8);
        (0..).zip(of_byte).fold(0, |bits, (bit, vector)| {
            let mut vector = vector.lock();
            vector.take_signals();
            bits | u8::from(vector.is_pending) << bit
        })
    }

    /// Has a vector do what its masks allow now: sends what waits, and connects its eventfd or not.
    fn settle(&self, control: Control, vector: &mut Vector) {
        let is_open = control.is_enabled && !control.is_masked && !vector.is_masked();
        let message = vector.message(self.requester);
        if is_open && mem::take(&mut vector.is_pending) {
            self.tell(self.sink.signal_msi(message));
        }
        let wanted = is_open.then_some(message);
        let Some(route) = &mut vector.route else { return };
        if route.connected == wanted {
            return;
        }
        if route.connected.take().is_some() {
            self.tell(self.sink.disconnect_msi(route.number, &route.fd));
        }
        if let Some(message) = wanted {
            let done = self.tell(self.sink.connect_msi(route.number, &route.fd, message));
            route.connected = done.map(|()| message);
        }
    }

    fn control(&self) -> Control {
        *self.control.read()
    }

    /// What a guest makes of its messages is its business, so that trouble ends in the log.
    fn tell<T>(&self, result: HalResult<T>) -> Option<T> {
        result
            .inspect_err(|error| {
                if self.trouble.pass().is_some() {
                    log::warn!("{}: {error}", self.name);
                }
            })
            .ok()
    }
}

impl Vector {
    fn new() -> Self {
        let mut entry = [0; ENTRY];
        entry[CONTROL] = MASKED;
        Self { entry, is_pending: false, route: None }
    }

    fn is_masked(&self) -> bool {
        self.entry[CONTROL] & MASKED != 0
    }

    fn message(&self, requester: u32) -> Msi {
        let [a, b, c, d, e, f, g, h, data @ .., _, _, _, _] = self.entry;
        let addr = GuestPhysAddr(u64::from_le_bytes([a, b, c, d, e, f, g, h]));
        Msi { addr, data: u32::from_le_bytes(data), requester }
    }

    /// What waits in an eventfd that is not connected becomes the pending bit.
    fn take_signals(&mut self) {
        if let Some(Route { fd, connected: None, .. }) = &self.route {
            self.is_pending |= fd.read().is_ok();
        }
    }
}

const _: () = assert!(DATA + 4 == CONTROL && MSIX_VECTORS as u64 / 8 <= MSIX_SIZE - PENDING);
