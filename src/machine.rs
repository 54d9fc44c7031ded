//! The board: first a [`Plan`] (memory map, devices, boot, firmware tables: a plain value that needs
//! no hardware), then a [`Machine`], as many times as the guest resets.
//!
//! Each architecture is a file that answers the same questions (`board::Board`). Plans can be made for
//! any of them on any host.

mod aarch64;
mod board;
mod channels;
mod custom;
mod describe;
mod device_tree;
mod error;
mod faults;
mod fdt;
mod make;
mod memory;
mod parts;
mod pci;
mod plan;
mod requests;
mod riscv64;
mod run;
#[cfg(test)]
mod testing;
mod vfio_user;
mod virtio;
mod x86_64;

use std::{fmt, sync::Arc};

pub use error::{Blame, Error};
pub use parts::{DevicePlan, FirmwareTable, Model, RamArea, Window};
pub use plan::Plan;
pub use requests::{Outcome, RequestKind, RequestOutcome};
pub use vfio_user::VfioUserPlan;
pub use virtio::VirtioPlan;

use crate::{
    addrspace::AddrSpace,
    boot::Entry,
    devices::{
        AxVmDevices, BusError, HyperCallCode, IrqLine,
        clock::{AlarmClock, Time},
        console::{ConsoleIn, ConsoleOut},
        i8042::I8042,
        pl061::Pl061,
    },
    hal::{AxVMHal, IrqSink, MemorySlots},
    ivc::IvcHub,
    virtio::fs::command::Ending,
    vm::{AxVM, AxVMParts, AxVMRef},
};

/// The line of a GPIO controller that boards have their power button on.
const POWER_BUTTON_LINE: u8 = 3;

/// What the host keeps of a board's devices, to act on the guest.
pub struct Handles {
    /// Input for the guest's console.
    pub serial: Arc<dyn ConsoleIn>,
    /// How a user asks the guest to end.
    pub button: Option<Button>,
    /// Clocks with an alarm: whoever waits for events wakes them.
    pub alarms: Vec<Arc<dyn AlarmClock>>,
    /// The lines of the board's interrupt controller.
    pub lines: Arc<dyn IrqSink>,
    /// How the guest asks for its end, where it has a device for that.
    pub ending: Arc<Ending>,
}

impl Handles {
    /// A line of the board's interrupt controller, for a device: the GSI on x86_64, the INTID on
    /// aarch64 (an SPI: 32 and up), the source on riscv64. A [`Plan`] says which ones are taken.
    pub fn line(&self, irq: u32) -> IrqLine {
        IrqLine::new(self.lines.clone(), irq)
    }
}

/// What a board has for a user to press, so that the guest ends or restarts in good order.
#[derive(Clone)]
pub enum Button {
    /// Ctrl-Alt-Del on a keyboard.
    CtrlAltDel(Arc<I8042>),
    /// A power button on a line of a GPIO controller.
    Power(Arc<Pl061>, u8),
}

impl Button {
    /// Presses it; `false`: the guest does not look at it (yet).
    pub fn press(&self) -> bool {
        match self {
            Self::CtrlAltDel(keyboard) => keyboard.send_ctrl_alt_del(),
            Self::Power(gpio, line) => gpio.press(*line),
        }
    }
}

impl fmt::Display for Button {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CtrlAltDel(_) => "Ctrl-Alt-Del",
            Self::Power(..) => "power button",
        })
    }
}

/// A VM with its board, loaded and ready to run.
pub struct Machine<H: AxVMHal> {
    /// The VM, `Loaded`.
    pub vm: AxVMRef<H>,
    /// What the host acts on it by.
    pub handles: Handles,
}

impl<H: AxVMHal> Machine<H> {
    /// Builds what `plan` says on the hardware `hal`, which must be fresh: memory with everything
    /// loaded, devices on their buses, vCPUs set up. The guest prints to `console` and has channels
    /// with those of the same hub.
    ///
    /// # Errors
    /// What the host lacks or refuses, a file that is not what it was when the plan was made, and
    /// addresses that two want; [`Error::blame`] says who has to act.
    pub fn build(
        plan: &Plan,
        hal: Arc<H>,
        console: Arc<dyn ConsoleOut>,
        channels: &Arc<IvcHub>,
    ) -> Result<Self, Error> {
        Self::build_with(plan, hal, console, channels, |_, _| Ok(()))
    }

    /// As [`Self::build`], with devices of the caller's own: `add` puts them on the buses after the
    /// board's, and takes interrupt lines for them from the handles.
    ///
    /// # Errors
    /// As [`Self::build`], and what `add` answers, such as an overlap with a device of the board's.
    pub fn build_with(
        plan: &Plan,
        hal: Arc<H>,
        console: Arc<dyn ConsoleOut>,
        channels: &Arc<IvcHub>,
        add: impl FnOnce(&mut AxVmDevices, &Handles) -> Result<(), BusError>,
    ) -> Result<Self, Error> {
        Self::build_in(&Time::Host, plan, hal, console, channels, add)
    }

    /// As [`Self::build_with`], with devices that have their time from there.
    ///
    /// # Errors
    /// As [`Self::build_with`].
    pub fn build_in(
        time: &Time,
        plan: &Plan,
        hal: Arc<H>,
        console: Arc<dyn ConsoleOut>,
        channels: &Arc<IvcHub>,
        add: impl FnOnce(&mut AxVmDevices, &Handles) -> Result<(), BusError>,
    ) -> Result<Self, Error> {
        hal.use_interrupt_controller(&plan.interrupt_controller)?;
        if plan.device(Model::Doorbell).is_some() {
            // Where the host hands none out, the doorbell is the way.
            let _ = hal.forward_hypercalls(HyperCallCode::NUMBERS)?;
        }
        let slots: Arc<dyn MemorySlots> = hal.clone();
        let address_space = Arc::new(AddrSpace::new_empty(slots));
        for area in &plan.ram {
            match plan.shares_memory {
                true => address_space.map_shared(area.gpa, area.size, area.flags)?,
                false => address_space.map_alloc(area.gpa, area.size, area.flags, !area.lazy)?,
            }
        }
        for table in &plan.tables {
            address_space.write(table.gpa, &table.with_seeds().map_err(Error::Entropy)?)?;
        }
        let start = match &plan.boot {
            Some(boot) => boot.load(&address_space, &plan.firmware)?,
            None => Entry::default(),
        };
        let (mut devices, handles) =
            make::make_devices(plan, &hal, &address_space, console, channels, time)?;
        add(&mut devices, &handles)?;
        for ports in &plan.late_writes {
            // On a host that cannot, each write is an exit of its own.
            let _ = hal.coalesce_port_writes(*ports)?;
        }
        let vm = AxVM::new(AxVMParts {
            id: plan.id,
            name: plan.name.clone(),
            cpus: plan.cpus.clone(),
            hal,
            address_space,
            devices,
            entry: start.entry,
            setup: start.setup,
        })?;
        Ok(Self { vm, handles })
    }
}

impl<H: AxVMHal> fmt::Debug for Machine<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Machine").field(&self.vm).finish()
    }
}
