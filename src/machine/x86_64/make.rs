//! From planned devices to devices.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use super::HOLE;
use crate::{
    addr::{DeviceAddrRange, PortRange},
    devices::{
        AxVmDevices, BasePortDeviceOps, IrqLine,
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
    hal::{AxVMHal, IrqSink},
    machine::{
        Error, Handles,
        plan::{DevicePlan, Model, Plan, RamArea, Window},
    },
};

/// Makes all devices of the plan but those that the host kernel emulates.
pub fn make_devices(
    plan: &Plan,
    lines: &Arc<dyn IrqSink>,
    console: &Arc<dyn ConsoleOut>,
) -> Result<(AxVmDevices, Handles), Error> {
    let line = |device: Option<&DevicePlan>| match device.and_then(|device| device.irq) {
        Some(irq) => IrqLine::new(lines.clone(), irq),
        None => IrqLine::unconnected(),
    };
    let (com1, com1_ports) = port_device(plan, Model::Uart16550)?;
    let serial = Serial::new(com1.name.clone(), com1_ports, line(Some(com1)), console.clone());
    let serial = Arc::new(serial.map_err(Error::EventFd)?);
    let keyboard = Arc::new(I8042::new(line(plan.device(Model::I8042Data))));
    let mut devices = AxVmDevices::new();
    for device in &plan.devices {
        let Window::Port(ports) = device.window else { continue };
        let first = ports.first();
        let made: Arc<dyn BasePortDeviceOps> = match device.model {
            Model::Uart16550 => serial.clone(),
            Model::I8042Data => Arc::new(keyboard.data_port(first)),
            Model::I8042Command => Arc::new(keyboard.command_port(first)),
            Model::Cmos => Arc::new(Cmos::new(first, Box::new(utc), memory_sizes(&plan.ram))),
            Model::AcpiSleep => Arc::new(SleepRegisters::new(first)),
            Model::Pm1Control => Arc::new(Pm1Control::new(first)),
            Model::ResetControl => Arc::new(ResetControl::new(first)),
            Model::Pvpanic => Arc::new(Pvpanic::new(PortRange::at(first))),
            Model::DebugConsole => Arc::new(DebugConsole::new(first, console.clone())),
            Model::PostCode => Arc::new(PostCode::new(first)),
            Model::DebugExit => Arc::new(DebugExit::new(ports)),
            Model::HostKernel => continue,
        };
        devices.add_port_dev(made)?;
    }
    let serial: Arc<dyn ConsoleIn> = serial;
    Ok((devices, Handles { serial, keyboard: Some(keyboard) }))
}

/// Has the host kernel collect what may come late. POST codes may: nobody waits for them. Text may
/// not: a guest that prints and then waits without an exit would leave its last words behind.
pub fn speed_up<H: AxVMHal>(plan: &Plan, hal: &H) -> Result<(), Error> {
    let (_, post) = port_device(plan, Model::PostCode)?;
    // On a host that cannot, each write is an exit of its own.
    let _ = hal.coalesce_port_writes(post)?;
    Ok(())
}

/// A device that every plan of this board's has.
fn port_device(plan: &Plan, model: Model) -> Result<(&DevicePlan, PortRange), Error> {
    match plan.device(model) {
        Some(device @ DevicePlan { window: Window::Port(ports), .. }) => Ok((device, *ports)),
        _ => Err(Error::NoDevice { model }),
    }
}

fn memory_sizes(ram: &[RamArea]) -> MemorySizes {
    let below = ram.iter().find(|area| area.gpa.0 == 0).map_or(0, |area| area.size);
    let above = ram.iter().filter(|area| area.gpa.0 >= super::HIGH_RAM).map(|area| area.size);
    MemorySizes { below_4g: below.min(HOLE), above_4g: above.sum() }
}

fn utc() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
