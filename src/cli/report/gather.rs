//! All that the page tells, gathered in one pass over the recording and in bounded memory.

use std::collections::BTreeMap;

use super::{
    lines::Lines,
    story::{Known, Stories},
    timeline::{Bins, Timeline},
};
use crate::{
    cli::{
        Failure,
        trace::{
            Recording,
            names::Names,
            totals::{Device, Totals},
        },
    },
    trace::{About, Event, Reader, Reason},
};

/// Of more vCPUs there is one sum.
const MOST_VCPUS: usize = 256;

/// What is counted over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind<'a> {
    /// Exits for this reason.
    Reason(&'static str),
    /// Accesses that this device took.
    Device(Device<'a>),
}

/// What a vCPU did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vcpu {
    /// How often it came back.
    pub exits: u64,
    /// How long that was handled, in nanoseconds.
    pub handled: u64,
}

/// What there is to tell.
#[derive(Debug)]
pub struct Gathered<'a> {
    /// What the recording is about.
    pub about: &'a About,
    /// What registers are called.
    pub names: &'a Names,
    /// How many records of the run it has not.
    pub lost: u64,
    /// By reason, device and register.
    pub totals: Totals<'a>,
    /// The same over time.
    pub bins: Bins<Kind<'a>>,
    /// By VM and vCPU.
    pub vcpus: BTreeMap<(usize, usize), Vcpu>,
    /// Exits of those that there was no room for.
    pub other_vcpus: u64,
    /// What was printed.
    pub lines: Lines,
    /// What happened when.
    pub stories: Stories<'a>,
    /// The last exit, if there is any.
    pub last: Option<Event>,
}

/// Reads all that is wanted of a recording.
///
/// # Errors
/// It cannot be read to its end.
pub fn gather<'a>(
    recording: &'a Recording,
    reader: &'a Reader,
    names: &'a Names,
) -> Result<Gathered<'a>, Failure> {
    let about = reader.about();
    let mut totals = Totals::new(about)?;
    let mut timeline = None;
    let mut vcpus: BTreeMap<_, Vcpu> = BTreeMap::new();
    let (mut other_vcpus, mut last) = (0, None);
    let (mut lines, mut stories) = (Lines::default(), Stories::default());
    for event in recording.events(reader) {
        let event = event?;
        let (record, reason) = (&event.record, event.record.reason());
        let is_start = reason == Some(Reason::Started);
        // A run begins with its recording; of the middle of one, time counts from there.
        let origin = if is_start { 0 } else { record.time() };
        let timeline = timeline.get_or_insert_with(|| Timeline::new(origin));
        let device = totals.add(&event);
        let prints = lines.add(&event, names);
        stories.add(&event, &Known { about, names, device, prints });
        let Some(reason @ Reason::Exit(_)) = reason else { continue };
        timeline.add(Kind::Reason(reason.name()), record.time());
        if let Some(device) = device {
            timeline.add(Kind::Device(device), record.time());
        }
        let who = (event.vm, event.vcpu);
        if vcpus.len() < MOST_VCPUS || vcpus.contains_key(&who) {
            let vcpu = vcpus.entry(who).or_default();
            vcpu.exits += 1;
            vcpu.handled += u64::from(record.took());
        } else {
            other_vcpus += 1;
        }
        last = Some(event);
    }
    lines.finish();
    let bins = timeline.unwrap_or_else(|| Timeline::new(0)).bins();
    let lost = reader.lost();
    Ok(Gathered { about, names, lost, totals, bins, vcpus, other_vcpus, lines, stories, last })
}
