//! From planned devices to devices.

use std::sync::Arc;

use parking_lot::Mutex;

use super::{
    Button, Error, Handles, POWER_BUTTON_LINE, channels, custom,
    faults::Faults,
    parts::{DevicePlan, Model, RamArea, Window},
    plan::Plan,
    vfio_user, virtio,
};
use crate::{
    addr::{DeviceAddrRange, GuestPhysAddrRange, PortRange},
    addrspace::AddrSpace,
    devices::{
        AxVmDevices, BaseMmioDeviceOps, BasePortDeviceOps, BaseSysRegDeviceOps, HypervisorCalls,
        IrqLine, IvcWindow,
        acpi_power::{Pm1Control, SleepRegisters},
        clock::{AlarmClock, Time},
        cmos::{Cmos, MemorySizes},
        console::{ConsoleIn, ConsoleOut},
        debug_console::DebugConsole,
        debug_exit::DebugExit,
        doorbell::Doorbell,
        goldfish_rtc::GoldfishRtc,
        i8042::I8042,
        pl011::Pl011,
        pl031::Pl031,
        pl061::Pl061,
        plic::Plic,
        post::PostCode,
        pvpanic::Pvpanic,
        reset_control::ResetControl,
        sbi_console::SbiConsole,
        seed::Seed,
        serial::Serial,
        sifive_test::SifiveTest,
    },
    hal::{Arch, AxVMHal, Doorbells, ExternalIrq, IrqSink, MsiSink},
    ivc::{IvcEndpoint, IvcHub},
    pci::{Aperture, Bus, Ecam},
    virtio::{Surroundings, console::BesideSerial, fs::command::Ending},
};

/// Makes all devices of the plan but those that the host kernel emulates.
pub fn make_devices<H: AxVMHal>(
    plan: &Plan,
    hal: &Arc<H>,
    memory: &Arc<AddrSpace>,
    console: Arc<dyn ConsoleOut>,
    hub: &Arc<IvcHub>,
    time: &Time,
) -> Result<(AxVmDevices, Handles), Error> {
    let plic =
        plan.device(Model::Plic).map(|device| plic(plan, device, hal.clone())).transpose()?;
    let lines: Arc<dyn IrqSink> = match &plic {
        Some(plic) => plic.clone(),
        None => hal.clone(),
    };
    let ending = Ending::new().map_err(Error::EventFd)?;
    let mut maker = Maker {
        plan,
        plic,
        lines: lines.clone(),
        faults: Faults::new(&plan.faults),
        doorbells: hal.clone(),
        messages: hal.clone(),
        pci: None,
        surroundings: Surroundings {
            vm_name: plan.name.clone(),
            cpus: plan.cpus.num,
            memory: memory.clone(),
            ending: ending.clone(),
            console: console.clone(),
            consoles: Mutex::default(),
        },
        console,
        serial: None,
        button: None,
        alarms: Vec::new(),
        time,
    };
    let mut devices = AxVmDevices::new();
    for device in plan.devices.iter().filter(|device| device.model.is_device()) {
        match device.window {
            Window::Port(ports) => devices.add_port_dev(maker.at_ports(device, ports)?)?,
            Window::Mmio(range) => devices.add_mmio_dev(maker.in_memory(device, range)?)?,
            Window::SysReg(_) => devices.add_sys_reg_dev(system_register(device)?)?,
        }
    }
    if plan.device(Model::Doorbell).is_some() {
        devices.add_hypercalls(Arc::new(HypervisorCalls));
    }
    for device in plan.devices.iter().filter(|device| device.model.is_channels()) {
        let range = device.window.mmio().ok_or_else(|| misplaced(device))?;
        let window = Arc::new(IvcWindow::new(range).ok_or_else(|| misplaced(device))?);
        let (line, rights) = (maker.line(device), channels::rights(device.model));
        let endpoint = IvcEndpoint::new(hub.clone(), plan.id, window.clone(), line, rights);
        devices.set_ivc_window(window);
        devices.add_hypercalls(Arc::new(endpoint));
    }
    maker.faults.interpose(&mut devices);
    let mut serial = maker.serial.ok_or(Error::NoDevice { model: Model::Uart16550 })?;
    if plan.arch == Arch::Riscv64 {
        // Its firmware has a console as well, which is no device of the board's.
        let console = Arc::new(SbiConsole::new(maker.console, serial));
        devices.add_hypercalls(console.clone());
        serial = console;
    }
    let consoles = maker.surroundings.consoles.into_inner();
    for console in &consoles {
        serial = BesideSerial::join(serial, console).map_err(Error::EventFd)?;
    }
    Ok((devices, Handles { serial, button: maker.button, alarms: maker.alarms, lines, ending }))
}

/// The interrupt controller of a board whose host kernel has none.
fn plic(plan: &Plan, device: &DevicePlan, harts: Arc<dyn ExternalIrq>) -> Result<Arc<Plic>, Error> {
    let range = device.window.mmio().ok_or_else(|| misplaced(device))?;
    Ok(Arc::new(Plic::new(range, harts, plan.cpus.num)))
}

struct Maker<'a> {
    plan: &'a Plan,
    plic: Option<Arc<Plic>>,
    lines: Arc<dyn IrqSink>,
    faults: Faults,
    doorbells: Arc<dyn Doorbells>,
    messages: Arc<dyn MsiSink>,
    /// What the two windows of PCI lead to.
    pci: Option<Arc<Bus>>,
    /// What virtio devices find about them.
    surroundings: Surroundings,
    console: Arc<dyn ConsoleOut>,
    /// What the host's input goes to: the first that is made.
    serial: Option<Arc<dyn ConsoleIn>>,
    button: Option<Button>,
    alarms: Vec<Arc<dyn AlarmClock>>,
    time: &'a Time,
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
            Model::Cmos => {
                let clock = self.time.wall();
                let seconds = Box::new(move || clock().as_secs());
                Arc::new(Cmos::new(first, seconds, memory_sizes(&self.plan.ram)))
            }
            Model::AcpiSleep => Arc::new(SleepRegisters::new(first)),
            Model::Pm1Control => Arc::new(Pm1Control::new(first)),
            Model::ResetControl => Arc::new(ResetControl::new(first)),
            Model::Pvpanic => Arc::new(Pvpanic::new(ports)),
            Model::DebugConsole => Arc::new(DebugConsole::new(first, self.console.clone())),
            Model::PostCode => Arc::new(PostCode::new(first)),
            Model::DebugExit => Arc::new(DebugExit::new(ports)),
            _ => return Err(misplaced(device)),
        })
    }

    fn in_memory(
        &mut self,
        device: &DevicePlan,
        range: GuestPhysAddrRange,
    ) -> Result<Arc<dyn BaseMmioDeviceOps>, Error> {
        let line = self.line(device);
        Ok(match device.model {
            Model::Uart16550 => self.serial(device, range)?,
            Model::Pl011 => {
                let console = self.console.clone();
                let uart = Pl011::new(device.name.clone(), range, line, console);
                self.console_of(uart.map_err(Error::EventFd)?)
            }
            Model::Pl031 => {
                self.alarm_of(Pl031::new(range, line, self.time.wall()).map_err(Error::EventFd)?)
            }
            Model::GoldfishRtc => self
                .alarm_of(GoldfishRtc::new(range, line, self.time.wall()).map_err(Error::EventFd)?),
            Model::Pl061 => {
                let gpio = Arc::new(Pl061::new(range, line));
                self.button = Some(Button::Power(gpio.clone(), POWER_BUTTON_LINE));
                gpio
            }
            Model::Pvpanic => Arc::new(Pvpanic::new(range)),
            Model::SifiveTest => Arc::new(SifiveTest::new(range)),
            Model::Doorbell => Arc::new(Doorbell::new(range)),
            Model::VirtioMmio => {
                let mut plans = self.plan.virtio.iter();
                let plan = plans.find(|plan| plan.name == device.name);
                let plan = plan.ok_or_else(|| misplaced(device))?;
                virtio::make_mmio(plan, range, line, &self.surroundings, &*self.doorbells)?
            }
            Model::PciEcam => {
                let memory = self.surroundings.memory.clone();
                Arc::new(Ecam::new(self.pci()?, range, memory))
            }
            Model::Custom(_) => {
                let device = custom::make(
                    &self.plan.custom,
                    device,
                    range,
                    line,
                    &self.surroundings,
                    self.time,
                )?;
                self.alarms.push(device.clone());
                device
            }
            Model::VfioUser => {
                let memory = self.surroundings.memory.clone();
                let line = device.irq.map(|_| line);
                vfio_user::make_fixed(&self.plan.vfio_user, device, range, line, memory)?
            }
            Model::PciMemory => Arc::new(Aperture::new(self.pci()?)),
            Model::Plic => self.plic.clone().ok_or_else(|| misplaced(device))?,
            _ => return Err(misplaced(device)),
        })
    }

    /// A 16550.
    fn serial<R: DeviceAddrRange>(
        &mut self,
        device: &DevicePlan,
        range: R,
    ) -> Result<Arc<Serial<R>>, Error> {
        let (line, console) = (self.line(device), self.console.clone());
        let serial = Serial::new(device.name.clone(), range, line, console);
        Ok(self.console_of(serial.map_err(Error::EventFd)?))
    }

    /// Gives the host's input to a device, if it is the first that takes it.
    fn console_of<C: ConsoleIn + 'static>(&mut self, device: C) -> Arc<C> {
        let device = Arc::new(device);
        self.serial.get_or_insert(device.clone());
        device
    }

    fn alarm_of<C: AlarmClock + 'static>(&mut self, device: C) -> Arc<C> {
        let device = Arc::new(device);
        self.alarms.push(device.clone());
        device
    }

    /// The PCI bus, whose two windows are devices of their own.
    fn pci(&mut self) -> Result<Arc<Bus>, Error> {
        if let Some(bus) = &self.pci {
            return Ok(bus.clone());
        }
        let no_device = Error::NoDevice { model: Model::PciMemory };
        let memory = self.plan.device(Model::PciMemory).and_then(|device| device.window.mmio());
        let memory = memory.ok_or(no_device)?;
        let messages = |device: &str| self.faults.messages(device, &self.messages);
        let plans = &self.plan.virtio;
        let mut functions =
            virtio::make_pci(plans, memory, &self.surroundings, messages, &self.doorbells)?;
        let guest = &self.surroundings.memory;
        functions.extend(vfio_user::make_pci(&self.plan.vfio_user, memory, guest, messages)?);
        Ok(self.pci.insert(Bus::new(functions, memory)).clone())
    }

    /// The keyboard controller, whose two ports are devices of their own.
    fn keyboard(&mut self) -> Arc<I8042> {
        if let Some(Button::CtrlAltDel(keyboard)) = &self.button {
            return keyboard.clone();
        }
        let data = self.plan.device(Model::I8042Data);
        let line = data.map_or_else(IrqLine::unconnected, |device| self.line(device));
        let keyboard = Arc::new(I8042::new(line));
        self.button = Some(Button::CtrlAltDel(keyboard.clone()));
        keyboard
    }

    fn line(&self, device: &DevicePlan) -> IrqLine {
        match device.irq {
            Some(irq) => IrqLine::new(self.faults.lines(&device.name, &self.lines), irq),
            None => IrqLine::unconnected(),
        }
    }
}

fn system_register(device: &DevicePlan) -> Result<Arc<dyn BaseSysRegDeviceOps>, Error> {
    match device.model {
        Model::Seed => Ok(Arc::new(Seed::new())),
        _ => Err(misplaced(device)),
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
