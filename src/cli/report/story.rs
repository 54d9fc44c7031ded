//! What happened when, by rules that the page states: marks, and the phases between some of them.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    cli::trace::{
        names::Names,
        totals::{Device, label},
    },
    trace::{About, Event, Reason},
};

/// Of more VMs nothing is told.
const MOST_VMS: usize = 16;
/// So many marks, and as many phases, are kept of a VM.
const MOST_MARKS: usize = 40;
/// Pauses are told of that are at least such a part of the whole length.
pub const LEAST_PAUSE: u64 = 20;

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A machine was started, for the so manieth time.
    Started(u64),
    /// The recording begins with something else.
    Begins,
    /// A device printed for the first time since the machine was started.
    Prints(String),
    /// A device was used for the first time since the machine was started.
    Uses(String),
    /// The same, of a virtio device, which is the first one.
    UsesVirtio(String),
    /// Nothing for so long, in nanoseconds.
    Pause(u64),
    /// The last record.
    Ends,
}

impl What {
    /// Whether a phase begins with it.
    fn divides(&self) -> bool {
        match self {
            Self::Started(_) | Self::Begins | Self::Prints(_) | Self::UsesVirtio(_) => true,
            Self::Uses(_) | Self::Pause(_) | Self::Ends => false,
        }
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// When, in nanoseconds.
    pub time: u64,
    /// What.
    pub what: What,
}

/// From a mark to the next one that divides.
#[derive(Clone, Debug)]
pub struct Phase<'a> {
    /// The mark that it begins with.
    pub begins: Mark,
    /// When it ends, in nanoseconds.
    pub ends: u64,
    /// How many exits it has.
    pub exits: u64,
    /// How long these were handled, in nanoseconds.
    pub handled: u64,
    devices: BTreeMap<Device<'a>, u64>,
}

impl<'a> Phase<'a> {
    fn new(begins: Mark) -> Self {
        let ends = begins.time;
        Self { begins, ends, exits: 0, handled: 0, devices: BTreeMap::new() }
    }

    /// How long it lasts, in nanoseconds.
    pub fn length(&self) -> u64 {
        self.ends.saturating_sub(self.begins.time)
    }

    /// The device with the most accesses, and how many.
    pub fn busiest(&self) -> Option<(Device<'a>, u64)> {
        let busiest = self.devices.iter().max_by_key(|(device, count)| (**count, **device));
        busiest.map(|(device, count)| (*device, *count))
    }
}

/// What happened to a VM.
#[derive(Debug, Default)]
pub struct Story<'a> {
    marks: Vec<Mark>,
    /// The phases, in their order.
    pub phases: Vec<Phase<'a>>,
    /// How many marks there was no room for.
    pub left_out: u64,
    starts: u64,
    last: Option<u64>,
    /// The longest times with nothing, and when they began.
    pauses: BTreeSet<(u64, u64)>,
    prints: BTreeSet<Device<'a>>,
    used: BTreeSet<Device<'a>>,
    uses_virtio: bool,
}

/// The stories of all VMs, by their places.
#[derive(Debug, Default)]
pub struct Stories<'a>(pub BTreeMap<usize, Story<'a>>);

/// What is known of a record beyond itself.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// What the recording is about.
    pub about: &'a About,
    /// What its registers are called.
    pub names: &'a Names,
    /// The device that it is an access to.
    pub device: Option<Device<'a>>,
    /// It was printed.
    pub prints: bool,
}

impl<'a> Stories<'a> {
    /// Adds a record.
    pub fn add(&mut self, event: &Event, known: &Known<'a>) {
        if self.0.len() >= MOST_VMS && !self.0.contains_key(&event.vm) {
            return;
        }
        self.0.entry(event.vm).or_default().add(event, known);
    }
}

impl<'a> Story<'a> {
    fn add(&mut self, event: &Event, known: &Known<'a>) {
        let time = event.record.time();
        if let Some(last) = self.last.replace(time) {
            self.pauses.insert((time.saturating_sub(last), last));
            if self.pauses.len() as u64 > LEAST_PAUSE {
                self.pauses.pop_first();
            }
        }
        match event.record.reason() {
            Some(Reason::Started) => {
                self.starts += 1;
                (self.prints, self.used) = (BTreeSet::new(), BTreeSet::new());
                self.uses_virtio = false;
                self.mark(time, What::Started(self.starts));
                return;
            }
            None => return,
            Some(Reason::Exit(_)) => {}
        }
        if self.phases.is_empty() {
            self.mark(time, What::Begins);
        }
        if let Some(device) = known.device {
            self.device(event, device, known);
        }
        let Some(phase) = self.phases.last_mut() else { return };
        phase.exits += 1;
        phase.handled += u64::from(event.record.took());
        phase.ends = phase.ends.max(time);
        if let Some(device) = known.device {
            *phase.devices.entry(device).or_default() += 1;
        }
    }

    fn device(&mut self, event: &Event, device: Device<'a>, known: &Known<'a>) {
        let (time, name) = (event.record.time(), || label(known.about, device));
        if self.used.insert(device) {
            let is_virtio = known.names.is_virtio(event.vm, event.record.window());
            let what = match is_virtio && !std::mem::replace(&mut self.uses_virtio, true) {
                true => What::UsesVirtio(name()),
                false => What::Uses(name()),
            };
            self.mark(time, what);
        }
        if known.prints && self.prints.insert(device) {
            self.mark(time, What::Prints(name()));
        }
    }

    fn mark(&mut self, time: u64, what: What) {
        if self.marks.len() >= MOST_MARKS {
            self.left_out += 1;
            return;
        }
        let mark = Mark { time, what };
        if mark.what.divides() {
            if let Some(phase) = self.phases.last_mut() {
                phase.ends = time;
            }
            self.phases.push(Phase::new(mark.clone()));
        }
        self.marks.push(mark);
    }

    /// All marks by their times, in a recording of such a length in nanoseconds.
    pub fn marks(&self, length: u64) -> Vec<Mark> {
        let mut marks = self.marks.clone();
        let long = |pause: &&(u64, u64)| pause.0 > 0 && pause.0 >= length / LEAST_PAUSE;
        let pauses = self.pauses.iter().filter(long);
        marks.extend(pauses.map(|&(pause, time)| Mark { time, what: What::Pause(pause) }));
        marks.extend(self.last.map(|time| Mark { time, what: What::Ends }));
        marks.sort_by_key(|mark| mark.time);
        marks
    }
}
