//! How much there is of each kind in a recording: exits by reason, device and register, and how long
//! they were handled.

use std::{cmp::Reverse, collections::BTreeMap};

use hdrhistogram::Histogram;

use crate::{
    cli::Failure,
    trace::{About, Event, Reason},
};

/// Who takes what nobody takes.
pub const NOBODY: &str = "(nobody)";
/// So many devices are told from each other; what a recording has beyond is one.
const MOST_DEVICES: usize = 256;
const OTHERS: &str = "(others)";
/// So many registers are kept; then those that were used least make room.
const MOST_REGISTERS: usize = 1 << 16;

/// Times of handling, in nanoseconds.
#[derive(Debug)]
pub struct Times {
    /// Each with three digits.
    pub histogram: Histogram<u64>,
    /// Of all together.
    pub sum: u64,
}

/// A device: its VM's place, and its name.
pub type Device<'a> = (usize, &'a str);

/// A register, by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Register {
    /// The VM's place.
    pub vm: usize,
    /// The window's; `None`: nobody's.
    pub window: Option<usize>,
    /// How its reasons begin: `Mmio`, `Io`, `SysReg`.
    pub space: &'static str,
    /// Its address.
    pub addr: u64,
}

/// What was done with a register.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Uses {
    /// How often it was read.
    pub reads: u64,
    /// How often it was written.
    pub writes: u64,
    /// How long reads were handled, in nanoseconds.
    pub reading: u64,
    /// How long writes were.
    pub writing: u64,
}

impl Uses {
    /// Both ways.
    pub fn count(&self) -> u64 {
        self.reads + self.writes
    }
}

/// The registers, and what was done with them.
#[derive(Debug, Default)]
pub struct Registers {
    uses: BTreeMap<Register, Uses>,
    /// Accesses to those that made room.
    pub left_out: u64,
}

/// What there is of each.
#[derive(Debug)]
pub struct Totals<'a> {
    about: &'a About,
    none: Histogram<u64>,
    /// By name.
    pub reasons: BTreeMap<&'static str, Times>,
    /// Those that took accesses.
    pub devices: BTreeMap<Device<'a>, Times>,
    /// Those that were accessed.
    pub registers: Registers,
    /// When the first record came, in nanoseconds from the recording's begin.
    pub first: Option<u64>,
    /// When the last one came.
    pub last: u64,
    /// How often a machine was started.
    pub starts: u64,
}

impl<'a> Totals<'a> {
    /// Nothing yet, of a recording about this.
    pub fn new(about: &'a About) -> Result<Self, Failure> {
        // What a record holds is no more than 32 bits.
        let none = Histogram::new_with_max(u32::MAX.into(), 3)
            .map_err(|error| Failure::failed(format!("Failed to count times: {error}")))?;
        Ok(Self {
            about,
            none,
            reasons: BTreeMap::new(),
            devices: BTreeMap::new(),
            registers: Registers::default(),
            first: None,
            last: 0,
            starts: 0,
        })
    }

    /// Adds a record. Its device, if it is an access.
    pub fn add(&mut self, event: &Event) -> Option<Device<'a>> {
        let record = &event.record;
        self.first.get_or_insert(record.time());
        self.last = self.last.max(record.time());
        let Some(reason @ Reason::Exit(_)) = record.reason() else {
            self.starts += u64::from(record.reason() == Some(Reason::Started));
            return None;
        };
        let Self { none, reasons, devices, .. } = self;
        reasons.entry(reason.name()).or_insert_with(|| Times::of(none)).add(record.took());
        if record.width() == 0 {
            return None;
        }
        let mut device = (event.vm, event.device(self.about).unwrap_or(NOBODY));
        if devices.len() >= MOST_DEVICES && !devices.contains_key(&device) {
            device = (0, OTHERS);
        }
        devices.entry(device).or_insert_with(|| Times::of(none)).add(record.took());
        self.registers.add(event, reason.name());
        Some(device)
    }

    /// How many exits there are.
    pub fn exits(&self) -> u64 {
        self.reasons.values().map(|it| it.histogram.len()).sum()
    }

    /// From the first record to the last, in nanoseconds.
    pub fn length(&self) -> u64 {
        self.last.saturating_sub(self.first.unwrap_or(self.last))
    }
}

impl Times {
    fn of(none: &Histogram<u64>) -> Self {
        Self { histogram: Histogram::new_from(none), sum: 0 }
    }

    fn add(&mut self, took: u32) {
        self.sum += u64::from(took);
        self.histogram.saturating_record(took.into());
    }

    /// What so many of all are not above, in nanoseconds.
    pub fn at(&self, quantile: f64) -> u64 {
        self.histogram.value_at_quantile(quantile)
    }
}

impl Registers {
    fn add(&mut self, event: &Event, reason: &'static str) {
        let record = &event.record;
        let is_read = reason.ends_with("Read");
        let space = reason.trim_end_matches("Read").trim_end_matches("Write");
        let window = record.window();
        let register = Register { vm: event.vm, window, space, addr: record.addr() };
        let took = u64::from(record.took());
        let uses = self.uses.entry(register).or_default();
        match is_read {
            true => (uses.reads, uses.reading) = (uses.reads + 1, uses.reading + took),
            false => (uses.writes, uses.writing) = (uses.writes + 1, uses.writing + took),
        }
        if self.uses.len() > MOST_REGISTERS {
            self.make_room();
        }
    }

    fn make_room(&mut self) {
        let kept = self.hottest(MOST_REGISTERS / 2);
        let all: u64 = self.uses.values().map(Uses::count).sum();
        self.uses = kept.into_iter().collect();
        self.left_out += all - self.uses.values().map(Uses::count).sum::<u64>();
    }

    /// Those that were used most, and how.
    pub fn hottest(&self, most: usize) -> Vec<(Register, Uses)> {
        let mut all: Vec<_> = self.uses.iter().map(|(register, uses)| (*register, *uses)).collect();
        all.sort_by_key(|(register, uses)| (Reverse(uses.count()), *register));
        all.truncate(most);
        all
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.uses.len()
    }
}

/// A device as messages have it: of several VMs, with the VM's name.
pub fn label(about: &About, (vm, device): Device<'_>) -> String {
    match about.vms.get(vm) {
        Some(vm) if about.vms.len() > 1 => format!("{} {device}", vm.name),
        _ => device.to_owned(),
    }
}
