//! A machine's whole life, for programs that have nothing else to wait for.

use std::{os::fd::AsRawFd, sync::Arc};

use vmm_sys_util::{
    epoll::{ControlOperation, Epoll, EpollEvent, EventSet},
    eventfd::{EFD_CLOEXEC, EventFd},
};

use super::{Error, Machine};
use crate::{
    hal::AxVMHal,
    vm::{StopReason, VCpuThreads},
};

impl<H: AxVMHal> Machine<H> {
    /// Boots the guest, lets it run on a thread per vCPU until it ends, and says why it did.
    /// Meanwhile the calling thread wakes the board's clocks. Whoever wants to act on the guest
    /// takes [`Self::vm`] or what is in [`Self::handles`] along to a thread before. A guest that
    /// resets itself ends as well, with [`StopReason::Reset`].
    ///
    /// # Errors
    /// The host has no file descriptor or thread left, or refuses the vCPUs' affinity.
    pub fn run(self) -> Result<StopReason, Error> {
        let stopped = Arc::new(EventFd::new(EFD_CLOEXEC).map_err(Error::EventFd)?);
        let epoll = Epoll::new().map_err(Error::EventFd)?;
        let watch = |fd: &dyn AsRawFd, data| {
            let event = EpollEvent::new(EventSet::IN, data);
            epoll.ctl(ControlOperation::Add, fd.as_raw_fd(), event).map_err(Error::EventFd)
        };
        let alarms = &self.handles.alarms;
        for (data, alarm) in (0..).zip(alarms) {
            watch(alarm.timer(), data)?;
        }
        watch(&*stopped, alarms.len() as u64)?;
        let signal = stopped.clone();
        // The counter cannot overflow: there is one last thread.
        let threads = VCpuThreads::spawn(&self.vm, move || drop(signal.write(1)))?;
        if let Err(error) = self.vm.boot() {
            self.vm.stop(StopReason::Failed(error.to_string()));
        }
        let mut events = [EpollEvent::default()];
        loop {
            // An interrupted wait is waited again; no other error is left to a valid epoll.
            let came = epoll.wait(-1, &mut events).unwrap_or(0);
            match alarms.get(events[0].data() as usize) {
                _ if came == 0 => {}
                Some(alarm) => alarm.timer_expired(),
                None => return Ok(threads.join()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        addr::{AccessWidth, DeviceAddrRange, GuestPhysAddr, GuestPhysAddrRange},
        devices::{Access, BaseDeviceOps, Effect, IrqLine, console::RecordingConsole},
        hal::{Arch, AxVCpuExitReason as Exit, Platform, StopCause},
        machine::{Model, Plan, testing},
        scripted::{Call, ScriptedHal, Step},
    };

    /// Beyond the little RAM of these boards, and beside their devices.
    const OWN: GuestPhysAddr = GuestPhysAddr(0xd000_0000);

    /// A device that drives its line as it is told, and reads as something.
    struct Bell(IrqLine);

    impl BaseDeviceOps<GuestPhysAddrRange> for Bell {
        fn name(&self) -> &str {
            "bell"
        }

        fn address_range(&self) -> GuestPhysAddrRange {
            GuestPhysAddrRange::new(OWN, 4).unwrap()
        }

        fn handle_read(&self, _: u64, _: AccessWidth) -> Result<u64, Access> {
            Ok(0x0be1)
        }

        fn handle_write(&self, _: u64, _: AccessWidth, val: u64) -> Result<Effect, Access> {
            self.0.set(val != 0);
            Ok(Effect::None)
        }
    }

    fn plan(arch: Arch) -> (Plan, tempfile::NamedTempFile) {
        let (config, file) = testing::config_for(arch, 16 * testing::MIB);
        (Plan::new(&config, &Platform::usual(arch)).unwrap(), file)
    }

    /// The board with a bell on the line `irq`.
    fn with_bell(plan: &Plan, hal: &Arc<ScriptedHal>, irq: u32) -> Machine<ScriptedHal> {
        let console = Arc::<RecordingConsole>::default();
        let built =
            Machine::build_with(plan, hal.clone(), console, &Arc::default(), |devices, board| {
                devices.add_mmio_dev(Arc::new(Bell(board.line(irq))))
            });
        built.unwrap()
    }

    #[test]
    fn a_device_of_ones_own_is_reached_and_reaches_the_boards_interrupt_controller() {
        const IRQ: u32 = 35;
        let width = AccessWidth::Dword;
        for arch in Arch::ALL {
            let (plan, _file) = plan(arch);
            let script = [
                Step::Exit(Exit::MmioRead {
                    addr: OWN,
                    width,
                    reg: 1,
                    reg_width: width,
                    signed_ext: false,
                }),
                Step::Exit(Exit::MmioWrite { addr: OWN, width, data: 1 }),
                Step::Down(StopCause::Shutdown),
            ];
            let hal = ScriptedHal::new([script.to_vec(), vec![]]);
            let machine = with_bell(&plan, &hal, IRQ);
            let vm = machine.vm.clone();
            let ended = machine.run().unwrap();
            assert!(matches!(ended, StopReason::Shutdown), "{arch}: {ended}");
            let answer = Call::SetGpr { vcpu_id: 0, reg: 1, val: 0x0be1 };
            assert!(hal.calls().contains(&answer), "{arch}: {:?}", hal.calls());
            match plan.device(Model::Plic) {
                // The lines are the PLIC's, which shows them as pending from 0x1000 on.
                Some(plic) => {
                    let at =
                        plic.window.mmio().unwrap().first().0 + 0x1000 + u64::from(IRQ / 32 * 4);
                    let pending = vm.get_devices().handle_mmio_read(GuestPhysAddr(at), width);
                    assert_eq!(pending, 1 << (IRQ % 32));
                }
                None => {
                    assert!(hal.calls().contains(&Call::Irq { irq: IRQ, high: true }), "{arch}")
                }
            }
        }
    }

    #[test]
    fn a_device_of_ones_own_where_one_is_already_is_refused() {
        let (plan, _file) = plan(Arch::Riscv64);
        let hal = ScriptedHal::new([vec![], vec![]]);
        let console = Arc::<RecordingConsole>::default();
        let built = Machine::build_with(&plan, hal, console, &Arc::default(), |devices, board| {
            devices.add_mmio_dev(Arc::new(Bell(board.line(1))))?;
            devices.add_mmio_dev(Arc::new(Bell(board.line(2))))
        });
        let error = built.unwrap_err().to_string();
        assert!(error.contains("bell at 0xd0000000"), "{error}");
    }

    #[test]
    fn a_machine_runs_until_somebody_stops_it() {
        let (plan, _file) = plan(Arch::Aarch64);
        let machine = with_bell(&plan, &ScriptedHal::new([vec![], vec![]]), 33);
        let vm = machine.vm.clone();
        let stopper = std::thread::spawn(move || {
            while !vm.running() {
                std::thread::yield_now();
            }
            vm.stop(StopReason::Timeout)
        });
        assert!(matches!(machine.run().unwrap(), StopReason::Timeout));
        assert!(stopper.join().unwrap());
    }

    #[test]
    fn a_machine_that_is_stopped_before_it_runs_does_not_run() {
        let (plan, _file) = plan(Arch::X86_64);
        let hal = ScriptedHal::new([vec![Step::Down(StopCause::Crash)], vec![]]);
        let machine = with_bell(&plan, &hal, 33);
        machine.vm.stop(StopReason::Quit);
        assert!(matches!(machine.run().unwrap(), StopReason::Quit));
        assert!(!hal.calls().contains(&Call::Bind(0)), "{:?}", hal.calls());
    }
}
