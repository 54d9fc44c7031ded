//! A machine without a guest and without hardware, whose devices are told the time.

use std::{sync::Arc, time::Duration};

use crate::{
    addrspace::AddrSpace,
    cli::Failure,
    devices::{
        AxVmDevices,
        clock::{AlarmClock, Time, ToldTime},
        console::ConsoleOut,
    },
    hal::{AiaPlatform, Platform},
    machine::{Machine, Plan},
    scripted::{Call, ScriptedHal},
    vm::AxVMConfig,
};

/// Where nobody sees what devices print.
pub struct Nowhere;

impl ConsoleOut for Nowhere {
    fn put(&self, _: &[u8]) {}
}

/// The same host, with KVM's AIA where it is one for riscv64.
pub fn with_aia(mut platform: Platform) -> Platform {
    if let Platform::Riscv64(host) = &mut platform {
        host.aia = Some(AiaPlatform { ids: 255 });
    }
    platform
}

/// A machine's devices and memory.
pub struct Bare {
    machine: Machine<ScriptedHal>,
    hal: Arc<ScriptedHal>,
    time: Arc<ToldTime>,
}

impl Bare {
    /// What `config` asks for, of which the kernel means nothing, on a host like `platform`. It is
    /// `began` since 1970, and what devices print goes to `console`.
    pub fn build(
        config: &AxVMConfig,
        platform: &Platform,
        began: Duration,
        console: Arc<dyn ConsoleOut>,
    ) -> Result<Self, Failure> {
        let plan = Plan::without_guest(config, platform)?;
        let time = ToldTime::new(began);
        let hal = ScriptedHal::new(vec![Vec::new(); config.cpus.num]);
        let told = Time::Told(time.clone());
        let channels = Arc::default();
        let machine =
            Machine::build_in(&told, &plan, hal.clone(), console, &channels, |_, _| Ok(()))?;
        Ok(Self { machine, hal, time })
    }

    /// Its devices.
    pub fn devices(&self) -> &AxVmDevices {
        self.machine.vm.get_devices()
    }

    /// Its memory.
    pub fn memory(&self) -> &Arc<AddrSpace> {
        self.machine.vm.address_space()
    }

    /// Drives a line of its interrupt controller.
    pub fn set_line(&self, irq: u32, high: bool) {
        self.machine.handles.line(irq).set(high);
    }

    /// What it has asked of the hardware since this was asked last: interrupts, among all.
    pub fn calls(&self) -> Vec<Call> {
        self.hal.take_calls()
    }

    /// How long it is since it began.
    pub fn now(&self) -> Duration {
        self.time.passed()
    }

    /// It is so long since it began. What is due by then comes then.
    pub fn set_time(&self, passed: Duration) {
        self.time.set(passed);
        for alarm in self.alarms() {
            alarm.timer_expired();
        }
    }

    /// How long it is until something is due; `None`: nothing is.
    pub fn due_in(&self) -> Option<Duration> {
        self.alarms().filter_map(|alarm| alarm.due_in()).min()
    }

    fn alarms(&self) -> impl Iterator<Item = &Arc<dyn AlarmClock>> {
        self.machine.handles.alarms.iter()
    }
}
