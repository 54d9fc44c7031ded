//! What an exit costs axvmm itself, from a vCPU's return to its next run: with no hardware below, and
//! with and without a recording, and with times counted as for `axvmm top`.
//!
//!     cargo bench --bench dispatch
//!
//! A scripted vCPU reads and writes a device of one register. Rounds of each take turns, and of each
//! the best is told.

use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use axvmm::{
    addr::{AccessWidth, GuestPhysAddr, GuestPhysAddrRange},
    config::{OneOff, from_args},
    devices::{Access, BaseDeviceOps, Effect, console::RecordingConsole},
    hal::{Arch, AxVCpuExitReason, Platform, StopCause},
    machine::{Machine, Plan},
    scripted::{ScriptedHal, Step},
    trace::{About, AboutVm, Recorder},
};

const EXITS: usize = 500_000;
const ROUNDS: usize = 10;
const AT: GuestPhysAddr = GuestPhysAddr(0xd000_0000);

#[derive(Default)]
struct Register(AtomicU64);

impl BaseDeviceOps<GuestPhysAddrRange> for Register {
    fn name(&self) -> &str {
        "register"
    }

    fn address_range(&self) -> GuestPhysAddrRange {
        GuestPhysAddrRange::inclusive(AT, GuestPhysAddr(AT.0 + 7)).expect("8 bytes are a range")
    }

    fn handle_read(&self, _: u64, _: AccessWidth) -> Result<u64, Access> {
        Ok(self.0.load(Ordering::Relaxed))
    }

    fn handle_write(&self, _: u64, _: AccessWidth, value: u64) -> Result<Effect, Access> {
        self.0.store(value, Ordering::Relaxed);
        Ok(Effect::None)
    }
}

/// What else is done at each exit.
#[derive(Clone, Copy, PartialEq)]
enum With {
    Nothing,
    Recording,
    Times,
}

/// How long a run takes, in nanoseconds an exit.
fn run(with: With) -> Result<f64, Box<dyn Error>> {
    let width = AccessWidth::Dword;
    let read =
        AxVCpuExitReason::MmioRead { addr: AT, width, reg: 0, reg_width: width, signed_ext: false };
    let write = AxVCpuExitReason::MmioWrite { addr: AT, width, data: 1 };
    let pair = [Step::Exit(read), Step::Exit(write)];
    let mut script: Vec<_> = pair.into_iter().cycle().take(EXITS).collect();
    script.push(Step::Down(StopCause::Shutdown));
    let kernel = "/proc/self/exe".to_owned();
    let memory = Some("16M".to_owned());
    let config = from_args(&OneOff { kernel, memory, ..OneOff::default() }, &[])?;
    let plan = Plan::without_guest(&config, &Platform::usual(Arch::X86_64))?;
    let console = Arc::<RecordingConsole>::default();
    let hal = ScriptedHal::new([script]);
    let machine = Machine::build_with(&plan, hal, console, &Arc::default(), |devices, _| {
        devices.add_mmio_dev(Arc::<Register>::default())
    })?;
    let vm = &machine.vm;
    let dir = tempfile::tempdir()?;
    vm.time_exits(with == With::Times);
    if with == With::Recording {
        let about = About {
            axvmm: String::new(),
            arch: "x86_64".to_owned(),
            began: 0,
            vms: vec![AboutVm {
                id: vm.id(),
                name: vm.name().to_owned(),
                vcpus: 1,
                memory: 0,
                windows: vm.get_devices().windows(),
                registers: vec![],
            }],
        };
        let recorder = Recorder::create(&dir.path().join("t.axt"), &about, Some(1 << 30))?;
        vm.record_to(Arc::new(recorder.for_vm(0, 1)));
    }
    vm.boot()?;
    let begun = Instant::now();
    vm.run_vcpu(0)?;
    Ok(begun.elapsed().as_nanos() as f64 / EXITS as f64)
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        rounds.push([run(With::Nothing)?, run(With::Recording)?, run(With::Times)?]);
    }
    let best = |of: usize| rounds.iter().map(|it| it[of]).fold(f64::INFINITY, f64::min);
    let [alone, recorded, timed] = [0, 1, 2].map(best);
    println!("{EXITS} exits, best of {ROUNDS}: {alone:.1} ns each");
    println!("recorded {recorded:.1} ns: {:.1} ns more an exit", recorded - alone);
    println!("timed {timed:.1} ns: {:.1} ns more an exit", timed - alone);
    Ok(())
}
