//! From planned devices to devices.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use super::{
    Error, Handles,
    plan::{DevicePlan, Model, Plan, RamArea, Window},
};
use crate::{
    addr::{DeviceAddrRange, GuestPhysAddrRange, PortRange},
    devices::{
        AxVmDevices, BaseMmioDeviceOps, BasePortDeviceOps, IrqLine,
        acpi_power::{Pm1Control, SleepRegisters},
        cmos::{Cmos, MemorySizes},
        console::{ConsoleIn, ConsoleOut},
        debug_console::DebugConsole,
        debug_exit::DebugExit,
        i8042::I8042,
        post::PostCode,
        pvpanic::Pvpanic,
        reset_control::ResetControl,
        serial::Serial,
    },
    hal::IrqSink,
};

/// Makes all devices of the plan but those that the host kernel emulates.
pub fn make_devices(
    plan: &Plan,
    lines: Arc<dyn IrqSink>,
    console: Arc<dyn ConsoleOut>,
) -> Result<(AxVmDevices, Handles), Error> {
    let mut maker = Maker { plan, lines, console, serial: None, keyboard: None };
    let mut devices = AxVmDevices::new();
    for device in plan.devices.iter().filter(|device| device.model != Model::HostKernel) {
        match device.window {
            Window::Port(ports) => devices.add_port_dev(maker.at_ports(device, ports)?)?,
            Window::Mmio(range) => devices.add_mmio_dev(maker.in_memory(device, range)?)?,
        }
    }
    let serial = maker.serial.ok_or(Error::NoDevice { model: Model::Uart16550 })?;
    Ok((devices, Handles { serial, keyboard: maker.keyboard }))
}

struct Maker<'a> {
    plan: &'a Plan,
    lines: Arc<dyn IrqSink>,
    console: Arc<dyn ConsoleOut>,
    /// What the host's input goes to: the first that is made.
    serial: Option<Arc<dyn ConsoleIn>>,
    keyboard: Option<Arc<I8042>>,
}

impl Maker<'_> {
    fn at_ports(
        &mut self,
        device: &DevicePlan,
        ports: PortRange,
    ) -> Result<Arc<dyn BasePortDeviceOps>, Error> {
        let first = ports.first();
        Ok(match device.model {
            Model::Uart16550 => self.serial(device, ports)?,
            Model::I8042Data => Arc::new(self.keyboard().data_port(first)),
            Model::I8042Command => Arc::new(self.keyboard().command_port(first)),
            Model::Cmos => Arc::new(Cmos::new(first, Box::new(utc), memory_sizes(&self.plan.ram))),
            Model::AcpiSleep => Arc::new(SleepRegisters::new(first)),
            Model::Pm1Control => Arc::new(Pm1Control::new(first)),
            Model::ResetControl => Arc::new(ResetControl::new(first)),
            Model::Pvpanic => Arc::new(Pvpanic::new(ports)),
            Model::DebugConsole => Arc::new(DebugConsole::new(first, self.console.clone())),
            Model::PostCode => Arc::new(PostCode::new(first)),
            Model::DebugExit => Arc::new(DebugExit::new(ports)),
            Model::HostKernel => return Err(misplaced(device)),
        })
    }

    fn in_memory(
        &mut self,
        device: &DevicePlan,
        range: GuestPhysAddrRange,
    ) -> Result<Arc<dyn BaseMmioDeviceOps>, Error> {
        Ok(match device.model {
            Model::Uart16550 => self.serial(device, range)?,
            Model::Pvpanic => Arc::new(Pvpanic::new(range)),
            _ => return Err(misplaced(device)),
        })
    }

    /// A 16550, which the host's input goes to if it is the first.
    fn serial<R: DeviceAddrRange>(
        &mut self,
        device: &DevicePlan,
        range: R,
    ) -> Result<Arc<Serial<R>>, Error> {
        let line = self.line(Some(device));
        let serial = Serial::new(device.name.clone(), range, line, self.console.clone());
        let serial = Arc::new(serial.map_err(Error::EventFd)?);
        self.serial.get_or_insert(serial.clone());
        Ok(serial)
    }

    /// The keyboard controller, whose two ports are devices of their own.
    fn keyboard(&mut self) -> Arc<I8042> {
        let line = self.line(self.plan.device(Model::I8042Data));
        self.keyboard.get_or_insert_with(|| Arc::new(I8042::new(line))).clone()
    }

    fn line(&self, device: Option<&DevicePlan>) -> IrqLine {
        match device.and_then(|device| device.irq) {
            Some(irq) => IrqLine::new(self.lines.clone(), irq),
            None => IrqLine::unconnected(),
        }
    }
}

/// A plan that no board makes.
fn misplaced(device: &DevicePlan) -> Error {
    Error::Misplaced { name: device.name.clone(), model: device.model, window: device.window }
}

fn memory_sizes(ram: &[RamArea]) -> MemorySizes {
    const FOUR_GIB: u64 = 1 << 32;
    let below = ram.iter().find(|area| area.gpa.0 == 0).map_or(0, |area| area.size);
    let above = ram.iter().filter(|area| area.gpa.0 >= FOUR_GIB).map(|area| area.size);
    MemorySizes { below_4g: below.min(FOUR_GIB), above_4g: above.sum() }
}

fn utc() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
