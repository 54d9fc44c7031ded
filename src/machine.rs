//! The board: first a [`Plan`] (memory map, devices, boot, firmware tables: a plain value that needs
//! no hardware), then a [`Machine`], as many times as the guest resets.
//!
//! Each architecture is a file that answers the same questions ([`board::Board`]). Plans can be made
//! for any of them on any host.

mod board;
mod error;
mod make;
mod memory;
mod plan;
mod x86_64;

use std::{fmt, sync::Arc};

pub use error::{Blame, Error};
pub use plan::{DevicePlan, FirmwareTable, Model, Plan, RamArea, Window};

use crate::{
    addrspace::AddrSpace,
    devices::{
        console::{ConsoleIn, ConsoleOut},
        i8042::I8042,
    },
    hal::{AxVMHal, IrqSink, MemorySlots},
    vm::{AxVM, AxVMParts, AxVMRef},
};

/// What the host keeps of a board's devices, to act on the guest.
pub struct Handles {
    /// Input for the guest's console.
    pub serial: Arc<dyn ConsoleIn>,
    /// The keyboard, on boards that have one.
    pub keyboard: Option<Arc<I8042>>,
}

/// A VM with its board, loaded and ready to run.
pub struct Machine<H: AxVMHal> {
    pub vm: AxVMRef<H>,
    pub handles: Handles,
}

impl<H: AxVMHal> Machine<H> {
    /// Builds what `plan` says on the hardware `hal`, which must be fresh: memory with everything
    /// loaded, devices on their buses, vCPUs set up. The guest prints to `console`.
    pub fn build(plan: &Plan, hal: Arc<H>, console: Arc<dyn ConsoleOut>) -> Result<Self, Error> {
        hal.use_interrupt_controller(&plan.interrupt_controller)?;
        let slots: Arc<dyn MemorySlots> = hal.clone();
        let mut address_space = AddrSpace::new_empty(slots);
        for area in &plan.ram {
            address_space.map_alloc(area.gpa, area.size, area.flags, true)?;
        }
        for table in &plan.tables {
            address_space.write(table.gpa, table.bytes())?;
        }
        let start = plan.boot.load(&address_space, &plan.firmware)?;
        let lines: Arc<dyn IrqSink> = hal.clone();
        let (devices, handles) = make::make_devices(plan, lines, console)?;
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

    /// Presses Ctrl-Alt-Del on the guest's keyboard; `false` if it has none or does not read it.
    pub fn send_ctrl_alt_del(&self) -> bool {
        self.handles.keyboard.as_ref().is_some_and(|keyboard| keyboard.send_ctrl_alt_del())
    }
}

impl<H: AxVMHal> fmt::Debug for Machine<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Machine").field(&self.vm).finish()
    }
}
