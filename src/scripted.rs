//! A script as the hardware: vCPUs that exit as they are told, and a record of what was asked of
//! them. For tests of the loop and of devices, on a machine with or without KVM.
//!
//! ```
//! use axvmm::{hal::AxVCpuExitReason, scripted::{ScriptedHal, Step}};
//!
//! let hal = ScriptedHal::new([vec![Step::Exit(AxVCpuExitReason::SystemDown)]]);
//! # let _ = hal;
//! ```

mod debug;

use std::{
    cell::Cell,
    collections::{BTreeMap, VecDeque},
    io, mem,
    ops::RangeInclusive,
    sync::Arc,
    time::Instant,
};

use parking_lot::{Condvar, Mutex};
use vm_memory::GuestRegionMmap;
use vmm_sys_util::eventfd::EventFd;

use crate::{
    addr::{GuestPhysAddr, GuestPhysAddrRange, MappingFlags, PortRange, SysRegAddrRange},
    hal::{
        Arch, AxArchVCpu, AxVCpuExitReason, AxVCpuHal, AxVMHal, DebugStop, DoorbellAddr, Doorbells,
        ExternalIrq, HalError, HalResult, InterruptController, IrqSink, MemorySlots, Msi, MsiSink,
        Platform, StopCause, VCpuDump, VCpuId, VCpuKick, VCpuSetup, VMId,
    },
};

/// What a vCPU does at one `run`.
#[derive(Clone, Debug)]
pub enum Step {
    /// Exits.
    Exit(AxVCpuExitReason),
    /// Exits with `SystemDown`, behind which stands this.
    Down(StopCause),
    /// Exits with `FailEntry` and this code, behind which stands this text.
    FailEntry(u64, String),
    /// Exits with `FailEntry` for an access that could not be made, as this text says.
    Unemulated(String),
    /// Fails, as a host does that refuses to run the guest.
    Fail(i32),
    /// Comes to this stop, which is a debugger's.
    Debug(DebugStop),
    /// Runs until it is kicked.
    UntilKicked,
    /// Halts, as where the host serves that itself, until its external pin is high or an interrupt
    /// has been injected, and then does the next step. A kick has it come back first.
    UntilIrq,
}

/// What was asked of the hardware, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the calls are those of the traits, and their arguments too")]
pub enum Call {
    Setup { vcpu_id: VCpuId, entry: GuestPhysAddr, setup: VCpuSetup },
    Bind(VCpuId),
    Unbind(VCpuId),
    SetGpr { vcpu_id: VCpuId, reg: usize, val: u64 },
    SetReturnValue { vcpu_id: VCpuId, val: u64 },
    SetSecondReturnValue { vcpu_id: VCpuId, val: u64 },
    RefuseSysReg(VCpuId),
    Inject { vcpu_id: VCpuId, irq: usize },
    Irq { irq: u32, high: bool },
    ExternalIrq { vcpu_id: VCpuId, high: bool },
    UseInterruptController(InterruptController),
    VCpusAreMade,
    TrapSysRegs(Vec<SysRegAddrRange>),
    Map { slot: u32, range: GuestPhysAddrRange, flags: MappingFlags },
    Unmap(u32),
    Doorbell { at: DoorbellAddr, value: Option<u32> },
    NoDoorbell { at: DoorbellAddr, value: Option<u32> },
    Msi(Msi),
    AddMsiRoute,
    ConnectMsi { route: u32, msi: Msi },
    DisconnectMsi(u32),
    ForwardHypercalls(RangeInclusive<u64>),
    Debug { vcpu_id: VCpuId, step: Option<bool> },
    PassBreakpoint(VCpuId),
}

#[derive(Debug, Default)]
struct Shared {
    calls: Mutex<Vec<Call>>,
    /// Calls that fail: how many of a kind still succeed, by the kind's name.
    failures: Mutex<BTreeMap<&'static str, usize>>,
    signals: Mutex<BTreeMap<VCpuId, Arc<Signals>>>,
}

impl Shared {
    fn record(&self, call: Call) {
        self.calls.lock().push(call);
    }

    fn signals_of(&self, vcpu_id: VCpuId) -> Arc<Signals> {
        self.signals.lock().entry(vcpu_id).or_default().clone()
    }

    /// Records an interrupt on its way to a vCPU, and makes it pending there.
    fn inject(&self, vcpu_id: VCpuId, irq: usize) -> HalResult {
        self.may_fail("inject")?;
        self.record(Call::Inject { vcpu_id, irq });
        self.signals_of(vcpu_id).change(|pending| pending.injected += 1);
        Ok(())
    }

    fn may_fail(&self, operation: &'static str) -> HalResult {
        match self.failures.lock().get_mut(operation) {
            Some(0) => Err(HalError::failed(
                format!("{operation} (as the script has it)"),
                io::Error::from_raw_os_error(libc::EIO),
            )),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

/// Hardware whose vCPUs follow scripts.
#[derive(Debug)]
pub struct ScriptedHal {
    scripts: Mutex<Vec<VecDeque<Step>>>,
    shared: Arc<Shared>,
    started: Instant,
}

impl ScriptedHal {
    /// One script a vCPU. A vCPU at its script's end runs until it is kicked.
    pub fn new<S: Into<VecDeque<Step>>>(scripts: impl IntoIterator<Item = S>) -> Arc<Self> {
        Arc::new(Self {
            scripts: Mutex::new(scripts.into_iter().map(Into::into).collect()),
            shared: Arc::default(),
            started: Instant::now(),
        })
    }

    /// From now on `operation` succeeds `successes` times and then fails: `map_memory`,
    /// `create_vcpu`, `setup`, `vcpus_are_made`, `register_doorbell`, `signal_msi`, `connect_msi`,
    /// `trap_sys_regs`, `bind`, `unbind`, `debug` or `inject`.
    pub fn fail_after(&self, operation: &'static str, successes: usize) {
        self.shared.failures.lock().insert(operation, successes);
    }

    /// What was asked so far.
    pub fn calls(&self) -> Vec<Call> {
        self.shared.calls.lock().clone()
    }

    /// The same, which is forgotten then: for whoever asks much.
    pub fn take_calls(&self) -> Vec<Call> {
        mem::take(&mut self.shared.calls.lock())
    }
}

/// What comes to a vCPU from outside, and wakes it.
#[derive(Debug, Default)]
struct Signals {
    pending: Mutex<Pending>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Pending {
    kicked: bool,
    /// Interrupts that no step has waited for yet.
    injected: usize,
    /// The external pin is high.
    pin: bool,
}

impl Pending {
    fn is_interrupted(&self) -> bool {
        self.pin || self.injected > 0
    }
}

impl Signals {
    fn change(&self, change: impl FnOnce(&mut Pending)) {
        change(&mut self.pending.lock());
        self.changed.notify_all();
    }

    /// Waits for a kick, or for what `until` looks at as well; whether it was a kick.
    fn wait(&self, until: impl Fn(&Pending) -> bool) -> bool {
        let waiting = |pending: &mut Pending| !pending.kicked && !until(pending);
        let mut pending = self.pending.lock();
        self.changed.wait_while(&mut pending, waiting);
        let kicked = mem::take(&mut pending.kicked);
        if !kicked {
            // This one has come; the pin stays as its controller has it.
            pending.injected = pending.injected.saturating_sub(1);
        }
        kicked
    }
}

impl VCpuKick for Signals {
    fn kick(&self) {
        self.change(|pending| pending.kicked = true);
    }
}

thread_local! {
    static CURRENT: Cell<Option<(VMId, VCpuId)>> = const { Cell::new(None) };
}

/// A vCPU that follows a script.
pub struct ScriptedVCpu {
    vm_id: VMId,
    vcpu_id: VCpuId,
    script: VecDeque<Step>,
    shared: Arc<Shared>,
    entry: GuestPhysAddr,
    cause: StopCause,
    signals: Arc<Signals>,
    registers: [u64; debug::REGISTERS],
    debug_stop: Option<DebugStop>,
}

/// What a [`ScriptedVCpu`] is made of.
pub struct ScriptedConfig {
    script: VecDeque<Step>,
    shared: Arc<Shared>,
}

impl AxArchVCpu for ScriptedVCpu {
    type CreateConfig = ScriptedConfig;
    type SetupConfig = VCpuSetup;

    fn new(vm_id: VMId, vcpu_id: VCpuId, config: ScriptedConfig) -> HalResult<Self> {
        config.shared.may_fail("create_vcpu")?;
        Ok(Self {
            vm_id,
            vcpu_id,
            script: config.script,
            signals: config.shared.signals_of(vcpu_id),
            shared: config.shared,
            entry: GuestPhysAddr(0),
            cause: StopCause::Shutdown,
            registers: Default::default(),
            debug_stop: None,
        })
    }

    fn set_entry(&mut self, entry: GuestPhysAddr) -> HalResult {
        self.entry = entry;
        Ok(())
    }

    fn setup(&mut self, setup: VCpuSetup) -> HalResult {
        self.shared.may_fail("setup")?;
        self.shared.record(Call::Setup { vcpu_id: self.vcpu_id, entry: self.entry, setup });
        Ok(())
    }

    fn run(&mut self) -> HalResult<AxVCpuExitReason> {
        let step = loop {
            match self.script.pop_front().unwrap_or(Step::UntilKicked) {
                Step::UntilIrq if !self.signals.wait(Pending::is_interrupted) => {}
                step => break step,
            }
        };
        match step {
            Step::Exit(reason) => Ok(reason),
            Step::Debug(stop) => {
                self.debug_stop = Some(stop);
                Ok(AxVCpuExitReason::Nothing)
            }
            Step::Down(cause) => {
                self.cause = cause;
                Ok(AxVCpuExitReason::SystemDown)
            }
            Step::FailEntry(hardware_entry_failure_reason, text) => {
                self.cause = StopCause::Failure(text);
                Ok(AxVCpuExitReason::FailEntry { hardware_entry_failure_reason })
            }
            Step::Unemulated(text) => {
                self.cause = StopCause::Unemulated(text);
                Ok(AxVCpuExitReason::FailEntry { hardware_entry_failure_reason: 0 })
            }
            Step::Fail(errno) => {
                Err(HalError::failed("run the script", io::Error::from_raw_os_error(errno)))
            }
            Step::UntilKicked => {
                self.signals.wait(|_| false);
                Ok(AxVCpuExitReason::Nothing)
            }
            // Kicked: it halts again at the next run.
            Step::UntilIrq => {
                self.script.push_front(Step::UntilIrq);
                Ok(AxVCpuExitReason::Nothing)
            }
        }
    }

    fn bind(&mut self) -> HalResult {
        self.shared.may_fail("bind")?;
        self.shared.record(Call::Bind(self.vcpu_id));
        CURRENT.set(Some((self.vm_id, self.vcpu_id)));
        Ok(())
    }

    fn unbind(&mut self) -> HalResult {
        CURRENT.set(None);
        self.shared.record(Call::Unbind(self.vcpu_id));
        self.shared.may_fail("unbind")
    }

    fn set_gpr(&mut self, reg: usize, val: u64) {
        self.shared.record(Call::SetGpr { vcpu_id: self.vcpu_id, reg, val });
    }

    fn inject_interrupt(&mut self, irq: usize) -> HalResult {
        self.shared.inject(self.vcpu_id, irq)
    }

    fn set_return_value(&mut self, val: u64) {
        self.shared.record(Call::SetReturnValue { vcpu_id: self.vcpu_id, val });
    }

    fn set_second_return_value(&mut self, val: u64) {
        self.shared.record(Call::SetSecondReturnValue { vcpu_id: self.vcpu_id, val });
    }

    fn refuse_sys_reg(&mut self) {
        self.shared.record(Call::RefuseSysReg(self.vcpu_id));
    }

    fn stop_cause(&self) -> StopCause {
        self.cause.clone()
    }

    fn pc(&mut self) -> u64 {
        self.entry.0
    }

    fn dump(&self) -> VCpuDump {
        let pc = self.entry.0;
        VCpuDump { pc, registers: vec![("PC", pc)], pc_gpa: Some(self.entry) }
    }

    fn kicker(&self) -> Arc<dyn VCpuKick> {
        self.signals.clone()
    }
}

impl IrqSink for ScriptedHal {
    fn set_irq(&self, irq: u32, high: bool) {
        self.shared.record(Call::Irq { irq, high });
    }
}

impl ExternalIrq for ScriptedHal {
    fn set_external_irq(&self, vcpu_id: VCpuId, high: bool) {
        self.shared.record(Call::ExternalIrq { vcpu_id, high });
        self.shared.signals_of(vcpu_id).change(|pending| pending.pin = high);
    }
}

impl MemorySlots for ScriptedHal {
    fn map_memory(
        &self,
        slot: u32,
        _: &Arc<GuestRegionMmap>,
        range: GuestPhysAddrRange,
        flags: MappingFlags,
    ) -> HalResult {
        self.shared.may_fail("map_memory")?;
        self.shared.record(Call::Map { slot, range, flags });
        Ok(())
    }

    fn unmap_memory(&self, slot: u32) -> HalResult {
        self.shared.record(Call::Unmap(slot));
        Ok(())
    }
}

/// A script's write comes as an exit all the same.
impl Doorbells for ScriptedHal {
    fn register_doorbell(&self, at: DoorbellAddr, value: Option<u32>, _: &EventFd) -> HalResult {
        self.shared.may_fail("register_doorbell")?;
        self.shared.record(Call::Doorbell { at, value });
        Ok(())
    }

    fn unregister_doorbell(&self, at: DoorbellAddr, value: Option<u32>, _: &EventFd) -> HalResult {
        self.shared.record(Call::NoDoorbell { at, value });
        Ok(())
    }
}

impl MsiSink for ScriptedHal {
    fn signal_msi(&self, msi: Msi) -> HalResult {
        self.shared.may_fail("signal_msi")?;
        self.shared.record(Call::Msi(msi));
        Ok(())
    }

    fn add_msi_route(&self) -> HalResult<u32> {
        self.shared.record(Call::AddMsiRoute);
        let made = self.shared.calls.lock().iter().filter(|it| **it == Call::AddMsiRoute).count();
        Ok(made as u32 - 1)
    }

    fn connect_msi(&self, route: u32, _: &EventFd, msi: Msi) -> HalResult {
        self.shared.may_fail("connect_msi")?;
        self.shared.record(Call::ConnectMsi { route, msi });
        Ok(())
    }

    fn disconnect_msi(&self, route: u32, _: &EventFd) -> HalResult {
        self.shared.record(Call::DisconnectMsi(route));
        Ok(())
    }
}

impl AxVCpuHal for ScriptedHal {}

impl AxVMHal for ScriptedHal {
    type VCpu = ScriptedVCpu;

    const STARTS_SECONDARIES: bool = false;

    /// That of a usual host of this program's architecture.
    fn platform(&self) -> HalResult<Platform> {
        let arch = Arch::host().ok_or_else(|| HalError::host_cannot("run guests of its kind"))?;
        Ok(Platform::usual(arch))
    }

    fn use_interrupt_controller(&self, controller: &InterruptController) -> HalResult {
        self.shared.record(Call::UseInterruptController(controller.clone()));
        Ok(())
    }

    fn vcpus_are_made(&self) -> HalResult {
        self.shared.may_fail("vcpus_are_made")?;
        self.shared.record(Call::VCpusAreMade);
        Ok(())
    }

    fn vcpu_create_config(&self, vcpu_id: VCpuId, _: usize, _: usize) -> HalResult<ScriptedConfig> {
        let script = self.scripts.lock().get_mut(vcpu_id).map(mem::take).unwrap_or_default();
        Ok(ScriptedConfig { script, shared: self.shared.clone() })
    }

    fn register_irqfd(&self, _: u32, _: &EventFd) -> HalResult {
        Ok(())
    }

    fn coalesce_port_writes(&self, _: PortRange) -> HalResult<bool> {
        Ok(false)
    }

    fn inject_irq_to_vcpu(&self, vcpu_id: VCpuId, irq: usize) -> HalResult {
        self.shared.inject(vcpu_id, irq)
    }

    fn forward_hypercalls(&self, numbers: RangeInclusive<u64>) -> HalResult<bool> {
        self.shared.record(Call::ForwardHypercalls(numbers));
        Ok(true)
    }

    fn trap_sys_regs(&self, ranges: &[SysRegAddrRange]) -> HalResult {
        self.shared.may_fail("trap_sys_regs")?;
        self.shared.record(Call::TrapSysRegs(ranges.to_vec()));
        Ok(())
    }

    fn current_time_nanos(&self) -> u64 {
        self.started.elapsed().as_nanos() as u64
    }

    fn current_vcpu() -> Option<(VMId, VCpuId)> {
        CURRENT.get()
    }

    fn current_pcpu_id() -> usize {
        nix::sched::sched_getcpu().unwrap_or(0)
    }
}
