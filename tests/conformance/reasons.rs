//! Every reason to leave the guest, with every outcome that it can have: what the loop makes of it,
//! and what becomes of it on the vCPU's thread. One row a case.

use std::collections::BTreeSet;

use axvmm::{
    addr::{
        AccessWidth::{self, Byte, Dword, Qword, Word},
        GuestPhysAddr, MappingFlags, Port, SysRegAddr,
    },
    hal::{EXIT_REASONS, StopCause},
    scripted::{Call, Step},
    vcpu::VCpuState,
    vm::VCpuThreads,
};

use crate::fixture::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// A device, the memory or a service has done it.
    Handled,
    /// It is for the vCPU's thread to decide.
    NotHandled,
    /// Who is there refuses it or fails.
    Error,
    Nobody,
}
use Outcome::{Error, Handled, Nobody, NotHandled};

/// What becomes of it.
enum Becomes {
    /// The loop settles it, having asked this of the vCPU, and the guest goes on.
    Settled(Vec<Call>),
    /// The loop returns it; the thread asks this of the vCPU, and the guest goes on.
    GoesOn(Vec<Call>),
    /// The loop returns it, and the thread waits.
    Waits,
    /// The loop returns it, and the VM ends with this exit status.
    Ends(u8),
}
use Becomes::{Ends, GoesOn, Settled, Waits};

struct Row {
    what: &'static str,
    outcome: Outcome,
    before: Vec<Step>,
    step: Step,
    reason: Exit,
    /// What it is counted as and comes back as.
    seen_as: Exit,
    /// What the hardware refuses to do from then on.
    refused: Option<&'static str>,
    becomes: Becomes,
}

fn row(what: &'static str, outcome: Outcome, exit: Exit, becomes: Becomes) -> Row {
    let step = Step::Exit(exit);
    let (before, refused) = (Vec::new(), None);
    Row { what, outcome, before, step, reason: exit, seen_as: exit, refused, becomes }
}

impl Row {
    fn of(self, step: Step) -> Self {
        Self { step, ..self }
    }

    fn after(self, step: Step) -> Self {
        Self { before: vec![step], ..self }
    }

    fn seen_as(self, seen_as: Exit) -> Self {
        Self { seen_as, ..self }
    }

    fn refused(self, operation: &'static str) -> Self {
        Self { refused: Some(operation), ..self }
    }

    fn fixture(&self) -> Fixture {
        let mut script = self.before.clone();
        script.extend([self.step.clone(), Step::Down(StopCause::Reset)]);
        let fixture = fixture([script, vec![]]);
        if let Some(operation) = self.refused {
            fixture.hal.fail_after(operation, 0);
        }
        fixture
    }
}

fn fault(addr: GuestPhysAddr, access_flags: MappingFlags) -> Exit {
    Exit::NestedPageFault { addr, access_flags }
}

fn input(port: Port, width: AccessWidth) -> Exit {
    Exit::IoRead { port, width }
}

fn output(port: Port, width: AccessWidth, data: u64) -> Exit {
    Exit::IoWrite { port, width, data }
}

fn call(nr: u64) -> Exit {
    Exit::Hypercall { nr, args: [RAM.0, 2, 3, 4, 5, 6] }
}

fn up(target_cpu: u64) -> Exit {
    Exit::CpuUp { target_cpu, entry_point: RAM, arg: 42 }
}

fn ipi(target_cpu: u64, send_to_all: bool, send_to_self: bool) -> Exit {
    Exit::SendIPI { target_cpu, target_cpu_aux: 0, send_to_all, send_to_self, vector: 8 }
}

fn injected(vcpu_id: usize) -> Call {
    Call::Inject { vcpu_id, irq: 8 }
}

const NOWHERE: GuestPhysAddr = GuestPhysAddr(0xffff_ffff_ffff_fff8);
const NO_SYS_REG: SysRegAddr = SysRegAddr(9);
const READ: MappingFlags = MappingFlags::READ;
const WRITE: MappingFlags = MappingFlags::WRITE;
const NOT_ENTERED: Exit = Exit::FailEntry { hardware_entry_failure_reason: 0 };

fn at(first: GuestPhysAddr, offset: usize) -> GuestPhysAddr {
    GuestPhysAddr(first.0 + offset as u64)
}

fn accesses_to_memory() -> Vec<Row> {
    let mut rows = vec![
        row("device", Handled, load(MMIO, Qword), Settled(vec![gpr(5, VALUE)])),
        row("memory", Handled, load(LAZY, Dword), Settled(vec![gpr(5, 0)]))
            .seen_as(fault(LAZY, READ)),
        row("unreadable memory", NotHandled, load(SECRET, Dword), Ends(33))
            .seen_as(fault(SECRET, READ)),
        row("nobody", Nobody, load(NOWHERE, Word), Settled(vec![gpr(5, 0xffff)])),
        row(
            "past a device's end",
            Nobody,
            load(at(MMIO, 5), Dword),
            Settled(vec![gpr(5, 0xffff_ffff)]),
        ),
        row("device", Handled, store(MMIO, Word, 0x1_22), Settled(vec![])),
        row("memory that may be read", NotHandled, store(LAZY, Byte, 1), Ends(33))
            .seen_as(fault(LAZY, WRITE)),
        row("nobody", Nobody, store(NOWHERE, Qword, 0xf0), Settled(vec![])),
        row("past a device's end", Nobody, store(at(MMIO, 1), Qword, 0xf0), Settled(vec![])),
        row("lazy", Handled, fault(LAZY, READ), Settled(vec![])),
        row("against its flags", NotHandled, fault(LAZY, WRITE), Ends(33)),
        row("memory that is there", NotHandled, fault(RAM, READ), Ends(33)),
        row("the host refuses", Error, fault(LAZY, READ), Ends(33)).refused("map_memory"),
        row("nobody", Nobody, fault(GuestPhysAddr(u64::MAX), READ), Ends(33)),
    ];
    for offset in 0..REFUSALS.len() {
        let addr = at(MMIO_REFUSES, offset);
        rows.push(row("refused", Error, load(addr, Byte), Settled(vec![gpr(5, 0xff)])));
        rows.push(row("refused", Error, store(addr, Byte, 0xf0), Settled(vec![])));
    }
    for (data, status) in EFFECTS {
        rows.push(row("ends", NotHandled, store(MMIO, Byte, data), Ends(status)));
    }
    rows
}

/// What a register makes of these values: the exit status that the VM ends with.
const EFFECTS: [(u64, u8); 4] = [(0xf0, 0), (0xf1, 32), (0xf2, 34), (0xf3, 7)];

fn accesses_to_ports() -> Vec<Row> {
    let mut rows = vec![
        row("device", Handled, input(PORT, Byte), Settled(vec![gpr(0, 0xff)])),
        row("nobody", Nobody, input(Port(0xffff), Word), Settled(vec![gpr(0, 0xffff)])),
        row("device", Handled, output(PORT, Dword, 0x122), Settled(vec![])),
        row("nobody", Nobody, output(Port(1), Byte, 0xf0), Settled(vec![])),
    ];
    for offset in 0..REFUSALS.len() {
        let port = Port(PORT_REFUSES.0 + offset as u16);
        rows.push(row("refused", Error, input(port, Byte), Settled(vec![gpr(0, 0xff)])));
        rows.push(row("refused", Error, output(port, Byte, 0xf0), Settled(vec![])));
    }
    for (data, status) in EFFECTS {
        rows.push(row("ends", NotHandled, output(PORT, Byte, data), Ends(status)));
    }
    rows
}

fn accesses_to_system_registers() -> Vec<Row> {
    let read = |addr| Exit::SysRegRead { addr, reg: 3 };
    let write = |addr, value| Exit::SysRegWrite { addr, value };
    let fault = || Settled(vec![Call::RefuseSysReg(0)]);
    let mut rows = vec![
        row("device", Handled, read(SYS_REG), Settled(vec![gpr(3, VALUE)])),
        row("nobody", Nobody, read(NO_SYS_REG), fault()),
        row("device", Handled, write(SYS_REG, VALUE), Settled(vec![])),
        row("nobody", Nobody, write(NO_SYS_REG, 0xf0), fault()),
    ];
    for offset in 0..REFUSALS.len() {
        let addr = SysRegAddr(SYS_REG_REFUSES.0 + offset as u64);
        rows.push(row("refused", Error, read(addr), fault()));
        rows.push(row("refused", Error, write(addr, 0xf0), fault()));
    }
    for (data, status) in EFFECTS {
        rows.push(row("ends", NotHandled, write(SYS_REG, data), Ends(status)));
    }
    rows
}

fn calls_and_cpus() -> Vec<Row> {
    let second = Call::SetSecondReturnValue { vcpu_id: 0, val: 9 };
    let off = Exit::CpuDown { _state: 0 };
    vec![
        row("two answers", Handled, call(3), Settled(vec![answer(RAM.0 + 20), second])),
        row("one answer", Handled, call(5), Settled(vec![answer(55)])),
        row("the service fails", Error, call(6), Settled(vec![answer(u64::MAX)])),
        row("nobody", Nobody, call(0xdead), GoesOn(vec![answer(u64::MAX)])),
        row("the other", NotHandled, up(1), GoesOn(vec![answer(0)])),
        row("itself", NotHandled, up(0), GoesOn(vec![answer(u64::MAX)])),
        row("it cannot be set up", Error, up(1), GoesOn(vec![answer(u64::MAX)])).refused("setup"),
        row("no such CPU", Nobody, up(9), GoesOn(vec![answer(u64::MAX)])),
        row("the other", NotHandled, ipi(1, false, false), GoesOn(vec![injected(1)])),
        row("all but itself", NotHandled, ipi(0, true, false), GoesOn(vec![injected(1)])),
        row("itself", NotHandled, ipi(1, false, true), GoesOn(vec![injected(0)])),
        row("the host refuses", Error, ipi(1, false, false), GoesOn(vec![])).refused("inject"),
        row("no such CPU", Nobody, ipi(9, false, false), GoesOn(vec![])),
        row("off line", NotHandled, off, Waits),
        row("halt", NotHandled, Exit::Halt, Waits),
        row("kick", NotHandled, Exit::Nothing, GoesOn(vec![])),
        row("the host's", NotHandled, Exit::ExternalInterrupt { vector: 3 }, GoesOn(vec![])),
    ]
}

fn ends() -> Vec<Row> {
    let failed = || StopCause::Failure("it would not".to_owned());
    let unemulated = || Step::Unemulated("no such instruction".to_owned());
    let code = Exit::FailEntry { hardware_entry_failure_reason: 0x21 };
    let down = |cause, status| {
        row("down", NotHandled, Exit::SystemDown, Ends(status)).of(Step::Down(cause))
    };
    vec![
        down(StopCause::Shutdown, 0),
        down(StopCause::Reset, 32),
        down(StopCause::Crash, 34),
        down(StopCause::TripleFault, 33),
        down(failed(), 33),
        row("not entered", NotHandled, code, Ends(33)).of(Step::FailEntry(0x21, "no".to_owned())),
        row("memory was missing", Handled, NOT_ENTERED, Settled(vec![])).of(unemulated()),
        row("it was not that", NotHandled, NOT_ENTERED, Ends(33))
            .of(unemulated())
            .after(unemulated()),
        row("nor can it come", Error, NOT_ENTERED, Ends(33)).of(unemulated()).refused("map_memory"),
    ]
}

fn rows() -> Vec<Row> {
    [
        accesses_to_memory(),
        accesses_to_ports(),
        accesses_to_system_registers(),
        calls_and_cpus(),
        ends(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The outcomes that a reason can have at all.
fn outcomes(index: usize) -> &'static [Outcome] {
    match Exit::name_of(index) {
        "MmioRead" | "MmioWrite" | "NestedPageFault" => &[Handled, NotHandled, Error, Nobody],
        "IoWrite" | "SysRegWrite" => &[Handled, NotHandled, Error, Nobody],
        "Hypercall" | "IoRead" | "SysRegRead" => &[Handled, Error, Nobody],
        "CpuUp" | "SendIPI" => &[NotHandled, Error, Nobody],
        "FailEntry" => &[Handled, NotHandled, Error],
        "ExternalInterrupt" | "Halt" | "CpuDown" | "SystemDown" | "Nothing" => &[NotHandled],
        other => panic!("what can become of {other}?"),
    }
}

#[test]
fn every_reason_has_a_row_for_each_of_its_outcomes() {
    let found: BTreeSet<_> = rows().iter().map(|row| (row.reason.index(), row.outcome)).collect();
    let all = (0..EXIT_REASONS).flat_map(|i| outcomes(i).iter().map(move |outcome| (i, *outcome)));
    assert_eq!(found, all.collect());
}

#[test]
fn the_loop_settles_a_reason_or_returns_it() {
    for row in rows() {
        let fixture = row.fixture();
        fixture.vm.boot().unwrap();
        let what = format!("{} of {:x?}", row.what, row.reason);
        let returned = fixture.vm.run_vcpu(0).unwrap();
        let counts = fixture.vm.stats()[0].counts();
        assert_eq!(counts.0[row.seen_as.index()], 1 + row.before.len() as u64, "{what}");
        assert_eq!(fixture.state(0), VCpuState::Free, "{what}");
        match &row.becomes {
            Settled(asked) => {
                assert_eq!(returned, Exit::SystemDown, "{what}");
                assert_eq!(fixture.asked(), *asked, "{what}");
            }
            _ => {
                assert_eq!(returned, row.seen_as, "{what}");
                assert_eq!(fixture.asked(), [], "{what}");
            }
        }
    }
}

#[test]
fn the_thread_goes_on_waits_or_ends_the_vm() {
    for row in rows() {
        let fixture = row.fixture();
        let what = format!("{} of {:x?}", row.what, row.reason);
        let threads = VCpuThreads::spawn(&fixture.vm, || ()).unwrap();
        fixture.vm.boot().unwrap();
        let (status, asked) = match &row.becomes {
            Settled(asked) | GoesOn(asked) => (32, &**asked),
            Ends(status) => (*status, &[][..]),
            Waits => {
                fixture.wait_for(0, VCpuState::Blocked);
                fixture.vm.shutdown();
                (0, &[][..])
            }
        };
        let reason = threads.join();
        assert_eq!(reason.exit_status(), status, "{what}: {reason}");
        assert_eq!(fixture.asked(), asked, "{what}");
    }
}

#[test]
fn what_a_device_is_told_has_the_width_of_the_access() {
    let written = |exit| check_settled(exit, &[]).written.lock().unwrap().clone();
    assert_eq!(written(store(MMIO, Byte, 0x1_22)), [(Byte, 0x22)]);
    assert_eq!(written(store(MMIO, Qword, VALUE)), [(Qword, VALUE)]);
    assert_eq!(written(output(PORT, Word, 0x1_22)), [(Word, 0x122)]);
    let write = Exit::SysRegWrite { addr: SYS_REG, value: VALUE };
    assert_eq!(written(write), [(Qword, VALUE)]);
    assert_eq!(written(store(NOWHERE, Byte, 1)), []);
}

#[test]
fn what_nobody_takes_or_its_owner_refuses_is_counted() {
    for addr in [NOWHERE, MMIO_REFUSES] {
        let counts = check_settled(load(addr, Byte), &[gpr(5, 0xff)]).vm.get_devices().unowned();
        assert_eq!((counts.reads, counts.writes), (1, 0));
        let counts = check_settled(store(addr, Byte, 1), &[]).vm.get_devices().unowned();
        assert_eq!((counts.reads, counts.writes), (0, 1));
    }
}
