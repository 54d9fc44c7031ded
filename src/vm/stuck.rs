//! A guest that does not get on: a vCPU that repeats one exit, noticed by counting, and where each
//! vCPU was when it was ended from outside.

use std::{
    fmt,
    time::{Duration, Instant},
};

use super::{AxVM, StopReason};
use crate::{
    addr::DeviceAddrRange,
    devices::AxVmDevices,
    hal::{AxVCpuExitReason as Exit, AxVMHal, VCpuId},
    vcpu::BoundVCpu,
};

/// So many repetitions between two looks at the clock: on an exit there is no time for more.
const LOOK: u64 = 1 << 10;
/// A driver that polls gives up, sleeps or succeeds before it has looked so often …
const OFTEN: u64 = 5_000;
/// … for so long.
const LONG: Duration = Duration::from_secs(1);
/// Whoever looks less often than so many times a second sleeps in between, and may do so for ever.
const EACH_SECOND: f64 = 500.0;
/// A vCPU is told of at so many places, then no more: what a guest does must not fill the log.
const TOLD_PLACES: usize = 8;

/// Counts how often a vCPU has come back with one and the same exit.
#[derive(Debug)]
pub(super) struct Repeats {
    last: Exit,
    answer: Option<u64>,
    times: u64,
    since: Option<Instant>,
    told: Vec<Exit>,
}

/// One exit, time and again.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Repeated {
    pub reason: Exit,
    /// What a read was answered, each time.
    pub answer: Option<u64>,
    pub times: u64,
    pub during: Duration,
}

impl Default for Repeats {
    fn default() -> Self {
        Self { last: Exit::Nothing, answer: None, times: 0, since: None, told: Vec::new() }
    }
}

impl Repeats {
    /// Counts an exit that was settled with this answer. `Some`, once a place: it is the same as
    /// all for a long time. `now` is asked for once in very many exits.
    #[inline]
    pub fn count(
        &mut self,
        reason: &Exit,
        answer: Option<u64>,
        now: impl FnOnce() -> Instant,
    ) -> Option<Repeated> {
        if self.answer != answer || self.last != *reason {
            (self.last, self.answer, self.times, self.since) = (*reason, answer, 1, None);
            return None;
        }
        self.times += 1;
        if self.times % LOOK == 0 { self.look(now()) } else { None }
    }

    #[cold]
    fn look(&mut self, now: Instant) -> Option<Repeated> {
        let (reason, answer) = (self.last, self.answer);
        let during = now.saturating_duration_since(*self.since.get_or_insert(now));
        let often = self.times >= OFTEN && self.times as f64 >= during.as_secs_f64() * EACH_SECOND;
        let stuck = often && during >= LONG && is_an_access(&reason);
        if !stuck || self.told.len() == TOLD_PLACES || self.told.contains(&reason) {
            return None;
        }
        self.told.push(reason);
        Some(Repeated { reason, answer, times: self.times, during })
    }
}

/// Whether the guest asked for something, and so asks for it again. A vCPU may halt or be kicked
/// as often as it likes.
const fn is_an_access(reason: &Exit) -> bool {
    use Exit::{ExternalInterrupt, Halt, Nothing, SendIPI};
    !matches!(reason, Halt | Nothing | ExternalInterrupt { .. } | SendIPI { .. })
}

impl<H: AxVMHal> AxVM<H> {
    /// Tells that a vCPU repeats itself, with where it is.
    #[cold]
    pub(super) fn tell_repeated(
        &self,
        vcpu_id: VCpuId,
        vcpu: &BoundVCpu<'_, H::VCpu>,
        repeated: &Repeated,
    ) {
        let Repeated { reason, answer, times, during } = repeated;
        let always = match (answer, written(reason)) {
            (Some(answer), _) => format!(", always answered {answer:#x}"),
            (None, Some(data)) => format!(", always of {data:#x}"),
            (None, None) => String::new(),
        };
        log::warn!(
            "VM[{}]-VCpu[{vcpu_id}] repeats one exit: {}, {} times in {:.1} s{always}; pc {:#x}",
            self.id,
            At { reason, devices: &self.devices },
            Grouped(*times),
            during.as_secs_f64(),
            vcpu.dump().pc,
        );
    }

    /// On a vCPU's way out, if it was somebody outside who ended the VM: where it was.
    pub(super) fn tell_where_it_was(&self, vcpu_id: VCpuId) {
        let level = match self.stop_reason() {
            Some(StopReason::Timeout) => log::Level::Info,
            Some(StopReason::Quit | StopReason::Signal(_)) => log::Level::Debug,
            _ => return,
        };
        if !log::log_enabled!(level) {
            return;
        }
        // What cannot be bound has failed, which is told.
        let Ok(vcpu) = self.vcpus[vcpu_id].bind() else { return };
        let exits = self.stats[vcpu_id].counts().total();
        let is_news = |reason: &Exit| !matches!(reason, Exit::Nothing);
        let last = match vcpu.recent_exits().into_iter().rfind(is_news) {
            Some(reason) => format!(
                "{} exits, the last {}",
                Grouped(exits),
                At { reason: &reason, devices: &self.devices }
            ),
            None => "no exits".to_owned(),
        };
        log::log!(level, "VM[{}]-VCpu[{vcpu_id}] was at pc {:#x}; {last}", self.id, vcpu.dump().pc);
    }
}

/// What a write writes.
const fn written(reason: &Exit) -> Option<u64> {
    match *reason {
        Exit::MmioWrite { data, .. } | Exit::IoWrite { data, .. } => Some(data),
        Exit::SysRegWrite { value, .. } => Some(value),
        _ => None,
    }
}

/// An exit in a line for people: what the guest accessed, and whose that is.
struct At<'a> {
    reason: &'a Exit,
    devices: &'a AxVmDevices,
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { reason, devices } = self;
        f.write_str(reason.name())?;
        let owner = match **reason {
            Exit::MmioRead { addr, .. } | Exit::MmioWrite { addr, .. } => {
                write!(f, " of {addr}")?;
                let mut devices = devices.iter_mmio_dev();
                devices.find(|it| it.address_range().contains(addr)).map(|it| it.name())
            }
            Exit::IoRead { port, .. } | Exit::IoWrite { port, .. } => {
                write!(f, " of {port}")?;
                let mut devices = devices.iter_port_dev();
                devices.find(|it| it.address_range().contains(port)).map(|it| it.name())
            }
            Exit::SysRegRead { addr, .. } | Exit::SysRegWrite { addr, .. } => {
                write!(f, " of {addr}")?;
                let mut devices = devices.iter_sys_reg_dev();
                devices.find(|it| it.address_range().contains(addr)).map(|it| it.name())
            }
            Exit::NestedPageFault { addr, access_flags } => {
                return write!(f, " at {addr} ({access_flags})");
            }
            Exit::Hypercall { nr, .. } => return write!(f, " {nr:#x}"),
            _ => return Ok(()),
        };
        write!(f, " ({})", owner.unwrap_or("nobody there"))
    }
}

/// A number with its thousands apart.
struct Grouped(u64);

impl fmt::Display for Grouped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        for (i, digit) in digits.chars().enumerate() {
            if i > 0 && (digits.len() - i) % 3 == 0 {
                f.write_str(",")?;
            }
            write!(f, "{digit}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::{AccessWidth, Port};

    const POLL: Exit = Exit::IoRead { port: Port(0x3fd), width: AccessWidth::Byte };
    const OTHER: Exit = Exit::IoRead { port: Port(0x60), width: AccessWidth::Byte };

    /// `times` exits over a span of time; what was told of them.
    fn exits(
        repeats: &mut Repeats,
        reason: Exit,
        answer: u64,
        times: u64,
        span: Duration,
    ) -> Vec<Repeated> {
        let start = Instant::now();
        let at = |i| start + span.mul_f64(i as f64 / times as f64);
        (0..times).filter_map(|i| repeats.count(&reason, Some(answer), || at(i))).collect()
    }

    #[test]
    fn the_same_exit_often_and_for_long_is_told_once() {
        let mut repeats = Repeats::default();
        let told = exits(&mut repeats, POLL, 0x60, 4_000_000, Duration::from_secs(8));
        let [told] = &told[..] else { panic!("{told:?}") };
        assert_eq!((told.reason, told.answer), (POLL, Some(0x60)));
        assert!(told.during >= LONG && told.during < LONG * 2, "{told:?}");
        assert!(told.times >= 500_000 && told.times < 1_000_000, "{told:?}");
    }

    #[test]
    fn polling_that_is_short_or_slow_is_nobodys_business() {
        let mut repeats = Repeats::default();
        // A million looks in less than a second, then an answer; an hour of a hundred a second.
        for (times, span) in [(1_000_000, 900), (360_000, 3_600_000)] {
            let told = exits(&mut repeats, POLL, 0x60, times, Duration::from_millis(span));
            assert_eq!(told, []);
            assert_eq!(repeats.count(&POLL, Some(0x61), Instant::now), None);
        }
    }

    #[test]
    fn an_answer_that_changes_is_progress() {
        let mut repeats = Repeats::default();
        let start = Instant::now();
        for i in 0..100_000 {
            let now = || start + Duration::from_millis(i);
            assert_eq!(repeats.count(&POLL, Some(i / 5_000), now), None);
        }
    }

    #[test]
    fn halts_and_kicks_are_no_repetition() {
        let mut repeats = Repeats::default();
        for reason in [Exit::Halt, Exit::Nothing, Exit::ExternalInterrupt { vector: 32 }] {
            assert_eq!(exits(&mut repeats, reason, 0, 1_000_000, LONG * 10), []);
        }
    }

    #[test]
    fn each_place_is_told_once_and_not_too_many_of_them() {
        let mut repeats = Repeats::default();
        let mut told = 0;
        for _ in 0..2 {
            for place in [POLL, OTHER] {
                told += exits(&mut repeats, place, 0, 100_000, LONG * 2).len();
            }
        }
        assert_eq!(told, 2);
        for port in 0..1000 {
            let place = Exit::IoRead { port: Port(port), width: AccessWidth::Word };
            told += exits(&mut repeats, place, 0, 20_000, LONG * 2).len();
        }
        assert_eq!(told, TOLD_PLACES);
    }

    #[test]
    fn numbers_are_grouped() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_048_576, "1,048,576")] {
            assert_eq!(Grouped(number).to_string(), text);
        }
    }
}
