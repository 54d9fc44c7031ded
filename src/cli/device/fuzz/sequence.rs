//! Sequences of accesses: made by chance, written down, and made shorter.

use std::time::Duration;

use super::virtio::Driver;
use crate::{
    addr::{AccessWidth, DeviceAddrRange},
    cli::Failure,
    machine::{DevicePlan, Model, RamArea, Window},
};

/// A device, and where it is accessed.
pub struct Target {
    pub model: Model,
    pub irq: Option<u32>,
    is_port: bool,
    first: u64,
    size: u64,
    /// Where there is memory for the queues of a virtio device, which this is.
    queues: Option<u64>,
}

/// One thing that is done to a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    Read {
        offset: u64,
        width: AccessWidth,
    },
    Write {
        offset: u64,
        width: AccessWidth,
        value: u64,
    },
    Pass(Duration),
    /// Eight bytes of memory, which the device may look at.
    Store {
        addr: u64,
        value: u64,
    },
}

const WIDTHS: [AccessWidth; 4] =
    [AccessWidth::Byte, AccessWidth::Word, AccessWidth::Dword, AccessWidth::Qword];

impl Target {
    /// The device of a plan with this memory; `None`: it is behind system registers.
    pub fn of(device: &DevicePlan, ram: &[RamArea]) -> Option<Self> {
        let (is_port, first, size) = match device.window {
            Window::Port(ports) => (true, ports.first().0.into(), ports.len()),
            Window::Mmio(range) => (false, range.first().0, range.len()),
            Window::SysReg(_) => return None,
        };
        let largest = ram.iter().max_by_key(|area| area.size);
        let queues = largest.filter(|_| device.model == Model::VirtioMmio).map(|area| area.gpa.0);
        Some(Self { model: device.model, irq: device.irq, is_port, first, size, queues })
    }

    /// Whether it does things by itself once its driver has given it something to do.
    pub fn has_queues(&self) -> bool {
        self.queues.is_some()
    }

    /// So many accesses: most of them to registers that there are, as wide as they are. A device
    /// with queues has been set up before half of the times, and most of it is about them then.
    pub fn sequence(&self, random: &mut fastrand::Rng, length: usize) -> Vec<Access> {
        let Some(ram) = self.queues.filter(|_| random.bool()) else {
            return (0..length).map(|_| self.access(random)).collect();
        };
        let registers = random.usize(..8);
        let mut driver = Driver::new(random, ram);
        driver.bring_up();
        for at in 0..length {
            match registers > 0 && at % (length / registers) == 0 {
                true => driver.also(|random| self.access(random)),
                false => driver.go_on(),
            }
        }
        driver.made()
    }

    fn access(&self, random: &mut fastrand::Rng) -> Access {
        if random.u8(..) < 16 {
            return Access::Pass(Duration::from_nanos(1 << random.u32(..40)));
        }
        let (offset, width) = self.place(random);
        match random.bool() {
            true => Access::Read { offset, width },
            false => Access::Write { offset, width, value: value(random) & width.mask() },
        }
    }

    fn place(&self, random: &mut fastrand::Rng) -> (u64, AccessWidth) {
        if let (Model::Custom(about), 32..) = (self.model, random.u8(..)) {
            let register = &about.registers[random.usize(..about.registers.len())];
            let bytes = register.width.size() as u64;
            return (register.offset + bytes * random.u64(..register.count), register.width);
        }
        let widths = if self.is_port { 3 } else { 4 };
        let width = WIDTHS[random.usize(..widths)];
        // Registers are at the begin of a window, and on multiples of their width.
        let near = if random.u8(..) < 192 { self.size.min(0x100) } else { self.size };
        let offset = random.u64(..near);
        let offset = if random.u8(..) < 224 { offset & !(width.size() as u64 - 1) } else { offset };
        (offset.min(self.size.saturating_sub(width.size() as u64)), width)
    }

    /// The command of qtest for it.
    pub fn command(&self, access: &Access) -> String {
        let letter = |width: &AccessWidth| ['b', 'w', 'l', 'q'][*width as usize];
        let (read, write) = if self.is_port { ("in", "out") } else { ("read", "write") };
        match access {
            Access::Read { offset, width } => {
                format!("{read}{} {:#x}", letter(width), self.first + offset)
            }
            Access::Write { offset, width, value } => {
                format!("{write}{} {:#x} {value:#x}", letter(width), self.first + offset)
            }
            Access::Pass(time) => format!("clock_step {}", time.as_nanos()),
            Access::Store { addr, value } => format!("writeq {addr:#x} {value:#x}"),
        }
    }

    /// The line of a test with a `Bench` for it.
    pub fn test(&self, access: &Access) -> String {
        match access {
            Access::Read { offset, width } => {
                format!("let _ = bench.try_read({offset:#x}, AccessWidth::{width:?});")
            }
            Access::Write { offset, width, value } => {
                format!("let _ = bench.try_write({offset:#x}, AccessWidth::{width:?}, {value:#x});")
            }
            Access::Pass(time) => {
                format!("bench.step(Duration::from_nanos({}));", time.as_nanos())
            }
            Access::Store { addr, value } => {
                let bytes = format!("&{value:#x}_u64.to_le_bytes()");
                format!("let _ = bench.memory().write(GuestPhysAddr({addr:#x}), {bytes});")
            }
        }
    }

    /// What takes back any interrupt: all registers that there may be become ones, or zeros.
    pub fn quiet(&self, value: u64) -> Vec<Access> {
        let write = |offset, width: AccessWidth| Access::Write {
            offset,
            width,
            value: value & width.mask(),
        };
        match self.model {
            Model::Custom(about) => about
                .registers
                .iter()
                .flat_map(|it| {
                    let bytes = it.width.size() as u64;
                    (0..it.count.min(0x100)).map(move |n| write(it.offset + n * bytes, it.width))
                })
                .collect(),
            _ if self.is_port => (0..self.size).map(|it| write(it, AccessWidth::Byte)).collect(),
            _ => (0..self.size.min(0x1000) / 4).map(|n| write(4 * n, AccessWidth::Dword)).collect(),
        }
    }
}

/// Values that devices care about: few bits, all bits, ends of ranges, anything.
pub fn value(random: &mut fastrand::Rng) -> u64 {
    match random.u8(..6) {
        0 => 1 << random.u32(..64),
        1 => (1_u64 << random.u32(..64)).wrapping_sub(1),
        2 => !(1 << random.u32(..64)),
        3 => random.u64(..256),
        4 => {
            if random.bool() {
                0
            } else {
                u64::MAX
            }
        }
        _ => random.u64(..),
    }
}

/// The fewest accesses of a sequence that still do it: pieces are left out, ever smaller ones, as
/// long as that changes nothing.
pub fn shrink(
    mut sequence: Vec<Access>,
    mut does_it: impl FnMut(&[Access]) -> Result<bool, Failure>,
) -> Result<Vec<Access>, Failure> {
    let mut piece = sequence.len().div_ceil(2);
    while piece > 0 {
        let mut at = 0;
        let before = sequence.len();
        while at < sequence.len() {
            let end = (at + piece).min(sequence.len());
            let fewer = [&sequence[..at], &sequence[end..]].concat();
            if does_it(&fewer)? {
                sequence = fewer;
            } else {
                at = end;
            }
        }
        if piece > 1 || sequence.len() == before {
            piece /= 2;
        }
    }
    Ok(sequence)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(nanoseconds: u64) -> Access {
        Access::Pass(Duration::from_nanos(nanoseconds))
    }

    #[test]
    fn what_is_left_is_what_it_takes() {
        let all: Vec<_> = (0..100).map(pass).collect();
        let wanted = [pass(3), pass(50), pass(99)];
        let mut tries = 0;
        let fewest = shrink(all, |fewer| {
            tries += 1;
            Ok(wanted.iter().all(|it| fewer.contains(it)))
        });
        assert_eq!(fewest.unwrap(), wanted);
        assert!(tries < 150, "{tries}");
        assert_eq!(shrink(vec![pass(1)], |_| Ok(true)).unwrap(), []);
    }
}
