//! What a driver does until a virtio device does what its queues say, and while it does: chance alone
//! would take hours to come so far. What is in the queues is chance again, and most of it is right.

use super::sequence::{Access, value};
use crate::{addr::AccessWidth, virtio::mmio::reg};

/// How far from the begin of memory the first queue is.
const RINGS: u64 = 0x10_0000;
/// How far the parts of a queue are from its begin, and its end.
const DRIVER: u64 = 0x1000;
const DEVICE: u64 = 0x2000;
const BUFFERS: u64 = 0x3000;
const NEXT_QUEUE: u64 = 0x1_0000;
/// Buffers are so far from each other, and each queue has so many.
const BUFFER: u64 = 0x400;
const BUFFER_COUNT: u64 = 4;
/// How many queues are set up, and of what size: small ones are soon full of all that there can be.
const QUEUES: usize = 3;
const SIZE: u64 = 4;

/// The features of queues (6): indirect descriptors, indices of events.
const RING_FEATURES: [u64; 4] = [0, 1 << 28, 1 << 29, 3 << 28];
/// Bit 32 of the features.
const VERSION_1: u64 = 1;
/// The flags of descriptors (2.7.5).
const NEXT: u64 = 1;
const WRITE: u64 = 2;
const INDIRECT: u64 = 4;

/// A driver by chance, whose queues are in the memory from `ram` on.
pub struct Driver<'a> {
    random: &'a mut fastrand::Rng,
    ram: u64,
    /// How many chains each queue has been given.
    given: [u64; QUEUES],
    made: Vec<Access>,
}

impl<'a> Driver<'a> {
    pub fn new(random: &'a mut fastrand::Rng, ram: u64) -> Self {
        Self { random, ram, given: [0; QUEUES], made: Vec::new() }
    }

    /// All that it has done.
    pub fn made(self) -> Vec<Access> {
        self.made
    }

    /// Something that is none of its own.
    pub fn also(&mut self, access: impl FnOnce(&mut fastrand::Rng) -> Access) {
        self.made.push(access(self.random));
    }

    /// Brings the device up (3.1), and has something in its queues.
    pub fn bring_up(&mut self) {
        let features = RING_FEATURES[self.random.usize(..RING_FEATURES.len())];
        // One of the device's own, now and then: one that it has not is refused, and that is all.
        let own = if self.random.u8(..4) == 0 { 1 << self.random.u32(..12) } else { 0 };
        for status in [0, 1, 3] {
            self.write(reg::STATUS, status);
        }
        for (half, features) in [(0, features | own), (1, VERSION_1)] {
            self.write(reg::DRIVER_FEATURES_SEL, half);
            self.write(reg::DRIVER_FEATURES, features);
        }
        self.write(reg::STATUS, 0xb);
        for queue in 0..QUEUES {
            self.write(reg::QUEUE_SEL, queue as u64);
            self.write(reg::QUEUE_SIZE, SIZE);
            for (low, part) in [
                (reg::QUEUE_DESC_LOW, 0),
                (reg::QUEUE_DRIVER_LOW, DRIVER),
                (reg::QUEUE_DEVICE_LOW, DEVICE),
            ] {
                let at = self.queue(queue) + part;
                self.write(low, at & 0xffff_ffff);
                self.write(low + 4, at >> 32);
            }
            self.write(reg::QUEUE_READY, 1);
        }
        self.write(reg::STATUS, 0xf);
        for queue in 0..QUEUES {
            for index in 0..SIZE {
                self.descriptor(queue, index);
            }
            for buffer in 0..BUFFER_COUNT {
                self.fill_in(queue, buffer, 0);
                self.fill_in(queue, buffer, 1);
            }
            self.give(queue);
        }
    }

    /// Does what drivers do while the device runs.
    pub fn go_on(&mut self) {
        let queue = self.random.usize(..QUEUES);
        match self.random.u8(..8) {
            0 | 1 => {
                let index = self.random.u64(..SIZE);
                self.descriptor(queue, index);
            }
            2..=4 => {
                let (buffer, word) = (self.random.u64(..BUFFER_COUNT), self.random.u64(..6));
                self.fill_in(queue, buffer, word);
            }
            _ => self.give(queue),
        }
    }

    fn queue(&self, queue: usize) -> u64 {
        self.ram + RINGS + queue as u64 * NEXT_QUEUE
    }

    fn buffer(&self, queue: usize, buffer: u64) -> u64 {
        self.queue(queue) + BUFFERS + BUFFER * buffer
    }

    fn write(&mut self, offset: u64, value: u64) {
        self.made.push(Access::Write { offset, width: AccessWidth::Dword, value });
    }

    fn store(&mut self, addr: u64, value: u64) {
        self.made.push(Access::Store { addr, value });
    }

    /// A descriptor (2.7.5).
    fn descriptor(&mut self, queue: usize, index: u64) {
        let addr = match self.random.u8(..32) {
            0 => value(self.random),
            1 => self.queue(queue) + self.random.u64(..BUFFERS),
            _ => {
                let buffer = self.random.u64(..BUFFER_COUNT);
                self.buffer(queue, buffer)
            }
        };
        let len = match self.random.u8(..32) {
            0 => value(self.random) & 0xffff_ffff,
            1 => 0,
            2..=5 => 1,
            6..=9 => 0x1000,
            _ => 8 << self.random.u32(..7),
        };
        let flags = match self.random.u8(..64) {
            0 => value(self.random) & 0xffff,
            1 => INDIRECT,
            // What the device reads comes before what it writes, and at last nothing comes.
            _ => match index {
                0 => NEXT,
                1 | 2 if self.random.bool() => NEXT | WRITE,
                1 | 2 => NEXT,
                _ => WRITE,
            },
        };
        let next = if self.random.u8(..64) == 0 {
            self.random.u64(..0x1_0000)
        } else {
            (index + 1) % SIZE
        };
        let at = self.queue(queue) + 16 * index;
        self.store(at, addr);
        self.store(at + 8, len | flags << 32 | next << 48);
    }

    /// Changes a word at the begin of a buffer, where requests say what they are.
    fn fill_in(&mut self, queue: usize, buffer: u64, word: u64) {
        let at = self.buffer(queue, buffer) + 8 * word;
        let value = match self.random.u8(..8) {
            0 => value(self.random),
            // Two numbers: kinds, lengths.
            1 => self.random.u64(..64) | self.random.u64(..64) << 32,
            2 => (8 << self.random.u32(..8)) | self.random.u64(..64) << 32,
            _ => self.random.u64(..8),
        };
        self.store(at, value);
    }

    /// Makes one or two chains available (2.7.6), or any number of them, and tells the device.
    fn give(&mut self, queue: usize) {
        let more = match self.random.u8(..64) {
            0 => self.random.u64(..0x1_0000),
            _ => self.random.u64(1..=2),
        };
        self.given[queue] = self.given[queue].wrapping_add(more) & 0xffff;
        let at = self.queue(queue) + DRIVER;
        // The index and the first two heads, then the others.
        let heads = [(); 4].map(|()| self.random.u64(..SIZE) & !self.random.u64(..SIZE));
        self.store(at + 8, heads[2] | heads[3] << 16);
        self.store(at, self.given[queue] << 16 | heads[0] << 32 | heads[1] << 48);
        self.write(reg::QUEUE_NOTIFY, queue as u64);
    }
}
