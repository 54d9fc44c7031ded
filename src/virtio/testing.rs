//! A driver in memory, for devices' own tests: queues in a guest memory of its own, and all that the
//! device does to them seen from the other side.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use vmm_sys_util::eventfd::EventFd;

use super::{Control, Notify, VirtioDevice};
use crate::{
    addr::{GuestPhysAddr, MappingFlags},
    addrspace::{AddrSpace, testing},
};

/// Where memory begins; the page at 0 is none.
pub const RAM: u64 = 0x1_0000;
pub const RAM_SIZE: u64 = 8 << 20;
/// Each queue has its rings in a piece of memory of this size, from `RAM` on.
const RINGS: u64 = 0x4000;
/// From here on chains have their buffers.
const BUFFERS: u64 = RAM + 16 * RINGS;

const NEXT: u16 = 1;
const WRITE: u16 = 2;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// A memory of `RAM_SIZE` bytes at `RAM`.
pub fn memory() -> Arc<AddrSpace> {
    let memory = testing::empty();
    memory.map_alloc(GuestPhysAddr(RAM), RAM_SIZE, MappingFlags::all(), true).unwrap();
    Arc::new(memory)
}

/// The same, for other processes to map too.
pub fn shared_memory() -> Arc<AddrSpace> {
    let memory = testing::empty();
    memory.map_shared(GuestPhysAddr(RAM), RAM_SIZE, MappingFlags::all()).unwrap();
    Arc::new(memory)
}

/// Counts interrupts, and has an eventfd for each queue if it is made so.
#[derive(Default)]
pub struct Interrupts {
    pub queues: Mutex<HashMap<u16, u32>>,
    pub config: AtomicU32,
    pub eventfds: Mutex<HashMap<u16, EventFd>>,
}

impl Notify for Interrupts {
    fn queue(&self, index: u16) {
        *self.queues.lock().entry(index).or_default() += 1;
    }

    fn config(&self) {
        self.config.fetch_add(1, Ordering::SeqCst);
    }

    fn queue_eventfd(&self, index: u16) -> Option<EventFd> {
        let eventfds = self.eventfds.lock();
        eventfds.get(&index).map(|eventfd| eventfd.try_clone().unwrap())
    }
}

/// A descriptor, as a driver writes it.
#[derive(Clone, Copy, Debug)]
pub struct Desc {
    pub addr: u64,
    pub len: u32,
    pub flags: u16,
    pub next: u16,
}

/// A queue from the driver's side.
#[derive(Clone, Copy)]
struct Rings {
    size: u16,
    next_desc: u16,
    available: u16,
    seen: u16,
}

/// A driver that has a device and all of its queues.
pub struct Driver {
    pub control: Control,
    pub memory: Arc<AddrSpace>,
    pub interrupts: Arc<Interrupts>,
    rings: Vec<Rings>,
    next_buffer: u64,
    /// For each queue and head, where the chain's writable bytes are.
    writable: HashMap<(u16, u16), Vec<(u64, u32)>>,
}

impl Driver {
    /// Brings the device up with all features that it offers but those in `without`.
    pub fn new(device: Arc<dyn VirtioDevice>, without: u64) -> Self {
        let mut driver = Self::before_setup(device);
        driver.begin(without);
        driver
    }

    /// Nothing is done to the device yet.
    pub fn before_setup(device: Arc<dyn VirtioDevice>) -> Self {
        Self::before_setup_in(memory(), device)
    }

    /// The same in a memory of `RAM_SIZE` bytes at `RAM` that is there already.
    pub fn before_setup_in(memory: Arc<AddrSpace>, device: Arc<dyn VirtioDevice>) -> Self {
        let interrupts = Arc::<Interrupts>::default();
        let control = Control::new(device, memory.clone(), interrupts.clone()).unwrap();
        let (rings, writable) = (Vec::new(), HashMap::new());
        Self { control, memory, interrupts, rings, next_buffer: BUFFERS, writable }
    }

    /// The driver's side of initialization (3.1), after a reset.
    pub fn begin(&mut self, without: u64) {
        self.control.set_status(0);
        self.control.set_status(1 | 2);
        for half in [0, 1] {
            let without = (without >> (32 * half)) as u32;
            self.control.set_driver_features(half, self.control.offered_features(half) & !without);
        }
        self.control.set_status(8);
        assert_eq!(self.control.status(), 1 | 2 | 8);
        self.rings.clear();
        self.writable.clear();
        self.next_buffer = BUFFERS;
        for index in 0..self.control.queue_count() {
            let size = self.control.queue(index).unwrap().max.min(256);
            let rings = Rings { size, next_desc: 0, available: 0, seen: 0 };
            self.memory.write(at(rings_at(index)), &[0; RINGS as usize]).unwrap();
            self.control.set_up_queue(index, |queue| {
                queue.size = size;
                queue.descriptors = rings_at(index);
                queue.available = rings_at(index) + 0x2000;
                queue.used = rings_at(index) + 0x3000;
            });
            self.control.enable_queue(index);
            assert!(self.control.queue(index).unwrap().is_enabled);
            self.rings.push(rings);
        }
        self.control.set_status(4);
    }

    /// How many descriptors a queue has.
    pub fn size(&self, queue: u16) -> u16 {
        self.rings[usize::from(queue)].size
    }

    /// Room for `len` bytes that nobody else has.
    pub fn room(&mut self, len: u64) -> u64 {
        let here = self.next_buffer;
        self.next_buffer = (here + len).next_multiple_of(16);
        // Chains that are done are not given back: a test has few.
        assert!(self.next_buffer < RAM + RAM_SIZE, "a test with more buffers than there is memory");
        here
    }

    /// Makes a chain available: what the device reads, each in a descriptor of its own, and room for
    /// it to write to, likewise. Its head.
    pub fn push(&mut self, queue: u16, readable: &[&[u8]], writable: &[u32]) -> u16 {
        let mut descriptors = Vec::new();
        for bytes in readable {
            let addr = self.room(bytes.len() as u64);
            self.memory.write(at(addr), bytes).unwrap();
            descriptors.push(Desc { addr, len: bytes.len() as u32, flags: 0, next: 0 });
        }
        let mut places = Vec::new();
        for len in writable {
            let addr = self.room((*len).into());
            places.push((addr, *len));
            descriptors.push(Desc { addr, len: *len, flags: WRITE, next: 0 });
        }
        let head = self.push_raw(queue, &descriptors);
        self.writable.insert((queue, head), places);
        head
    }

    /// Makes a chain of just these available, linked in their order.
    pub fn push_raw(&mut self, queue: u16, descriptors: &[Desc]) -> u16 {
        let rings = &mut self.rings[usize::from(queue)];
        let (size, head) = (rings.size, rings.next_desc);
        rings.next_desc = (head + descriptors.len() as u16) % size;
        for (i, desc) in descriptors.iter().enumerate() {
            let index = (head + i as u16) % size;
            let is_last = i + 1 == descriptors.len();
            let next = if is_last { desc.next } else { (index + 1) % size };
            let flags = if is_last { desc.flags } else { desc.flags | NEXT };
            self.write_desc(queue, index, Desc { flags, next, ..*desc });
        }
        self.publish(queue, head);
        head
    }

    pub fn write_desc(&self, queue: u16, index: u16, desc: Desc) {
        self.write_desc_at(rings_at(queue) + 16 * u64::from(index), desc);
    }

    pub fn write_desc_at(&self, place: u64, desc: Desc) {
        let mut bytes = desc.addr.to_le_bytes().to_vec();
        bytes.extend(desc.len.to_le_bytes());
        bytes.extend(desc.flags.to_le_bytes());
        bytes.extend(desc.next.to_le_bytes());
        self.memory.write(at(place), &bytes).unwrap();
    }

    /// Puts a head into the available ring.
    pub fn publish(&mut self, queue: u16, head: u16) {
        let rings = &mut self.rings[usize::from(queue)];
        let slot = u64::from(rings.available % rings.size);
        rings.available = rings.available.wrapping_add(1);
        let available = rings.available;
        let ring = rings_at(queue) + 0x2000;
        self.memory.write(at(ring + 4 + 2 * slot), &head.to_le_bytes()).unwrap();
        self.set_available(queue, available);
    }

    /// Sets the available ring's index.
    pub fn set_available(&self, queue: u16, index: u16) {
        self.memory.write(at(rings_at(queue) + 0x2002), &index.to_le_bytes()).unwrap();
    }

    /// Notifies the device.
    pub fn kick(&self, queue: u16) {
        self.control.notify(queue);
    }

    /// How many chains the device has given back so far, modulo 2^16.
    pub fn used_index(&self, queue: u16) -> u16 {
        let mut bytes = [0; 2];
        self.memory.read(at(rings_at(queue) + 0x3002), &mut bytes).unwrap();
        u16::from_le_bytes(bytes)
    }

    /// The next chain that the device has given back, and how many bytes it says to have written.
    pub fn used(&mut self, queue: u16) -> Option<(u16, u32)> {
        let (rings, used) = (self.rings[usize::from(queue)], self.used_index(queue));
        if used == rings.seen {
            return None;
        }
        let slot = u64::from(rings.seen % rings.size);
        let mut bytes = [0; 8];
        self.memory.read(at(rings_at(queue) + 0x3004 + 8 * slot), &mut bytes).unwrap();
        self.rings[usize::from(queue)].seen = rings.seen.wrapping_add(1);
        let head = u32::from_le_bytes(bytes[..4].try_into().unwrap());
        Some((head as u16, u32::from_le_bytes(bytes[4..].try_into().unwrap())))
    }

    /// Waits for the next chain that the device gives back.
    #[track_caller]
    pub fn wait_used(&mut self, queue: u16) -> (u16, u32) {
        let since = Instant::now();
        loop {
            if let Some(used) = self.used(queue) {
                return used;
            }
            assert!(since.elapsed() < PATIENCE, "nothing comes back in queue {queue}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits until the device says that it needs a reset.
    #[track_caller]
    pub fn wait_broken(&self) {
        let since = Instant::now();
        // It says so first, and then that there is something to look at.
        let told = || self.interrupts.config.load(Ordering::SeqCst) > 0;
        while self.control.status() & 0x40 == 0 || !told() {
            assert!(since.elapsed() < PATIENCE, "the device does not need a reset");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits until the device has told the driver of a queue's used buffers `times` times; it does so
    /// after they are seen.
    #[track_caller]
    pub fn wait_told(&self, queue: u16, times: u32) {
        let since = Instant::now();
        let told = || self.interrupts.queues.lock().get(&queue).copied().unwrap_or(0);
        while told() < times {
            assert!(since.elapsed() < PATIENCE, "queue {queue}: told {} times of {times}", told());
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(told(), times, "queue {queue}");
    }

    /// What is in the room for writing of the chain with this head.
    pub fn written(&self, queue: u16, head: u16) -> Vec<u8> {
        let mut all = Vec::new();
        for (addr, len) in &self.writable[&(queue, head)] {
            let mut bytes = vec![0; *len as usize];
            self.memory.read(at(*addr), &mut bytes).unwrap();
            all.extend(bytes);
        }
        all
    }

    /// Pushes a chain, and waits for its end: what the device has written, cut to what it says.
    #[track_caller]
    pub fn request(&mut self, queue: u16, readable: &[&[u8]], writable: &[u32]) -> Vec<u8> {
        let head = self.push(queue, readable, writable);
        self.kick(queue);
        let (used, len) = self.wait_used(queue);
        assert_eq!(used, head);
        let mut written = self.written(queue, head);
        assert!(len as usize <= written.len(), "{len} bytes in room for {}", written.len());
        written.truncate(len as usize);
        written
    }
}

/// Where a queue has its rings: descriptors, available 0x2000 further, used 0x3000 further.
pub const fn rings_at(queue: u16) -> u64 {
    RAM + RINGS * queue as u64
}

pub const fn at(addr: u64) -> GuestPhysAddr {
    GuestPhysAddr(addr)
}
