//! All that is decided about a machine before there is one.

use std::fmt;

use serde::Serialize;

use super::{
    Error, aarch64,
    board::{Board, Told},
    channels,
    device_tree::{self, Source},
    parts::{DevicePlan, Firmware, FirmwareTable, Model, RamArea, Window},
    requests::{self, Offer, RequestOutcome},
    riscv64, x86_64,
};
use crate::{
    addr::{GuestPhysAddr, GuestPhysAddrRange, PortRange},
    boot::{BootPlan, FirmwareInfo, Placed},
    devices::BusError,
    hal::{Arch, InterruptController, Platform, VMId},
    vm::config::{AxVMConfig, CpuConfig},
};

/// A machine as it will be: what `axvmm check` prints, and all that building one needs.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// Which VM of the process.
    pub id: VMId,
    /// The guest's name.
    pub name: String,
    /// Which board: that of this architecture.
    pub arch: Arch,
    /// The vCPUs, with the ids that they get.
    pub cpus: CpuConfig,
    /// The guest's memory.
    pub ram: Vec<RamArea>,
    /// Ascending by bus and address; those that the host kernel emulates are among them.
    pub devices: Vec<DevicePlan>,
    /// Which, and where.
    pub interrupt_controller: InterruptController,
    /// Writes to these ports may come late, as nobody waits for them.
    pub late_writes: Vec<PortRange>,
    /// How the kernel is loaded and entered.
    pub boot: BootPlan,
    /// What the kernel is told about the machine.
    pub firmware: FirmwareInfo,
    /// What a kernel finds in memory: ACPI, or a device tree.
    pub tables: Vec<FirmwareTable>,
    /// What became of each row of an AxVisor file, in its order.
    pub requests: Vec<RequestOutcome>,
    /// What else was asked for and is done in another way here, each a sentence for the user. The
    /// boot plan has its own.
    pub notes: Vec<String>,
}

/// Where an initrd may come to be, before that is known.
const SOMEWHERE: Placed = Placed { gpa: GuestPhysAddr(0), size: 1 };

impl Plan {
    /// Decides on everything for a guest on a host like `platform`: opens the kernel and what goes
    /// with it, touches no hardware.
    pub fn new(config: &AxVMConfig, platform: &Platform) -> Result<Self, Error> {
        if config.cpus.num == 0 {
            return Err(Error::NoCpu);
        }
        let board = board_of(platform);
        let mut notes = config.notes.clone();
        let told_by_tree = match platform {
            Platform::X86_64 => None,
            _ => device_tree::memory(&config.memory, &config.kernel)?,
        };
        let ram = board.ram(told_by_tree.as_ref().unwrap_or(&config.memory))?;
        let ranges = ram.iter().map(RamArea::range).collect::<Result<Vec<_>, _>>()?;
        let mut hardware = board.hardware(config.cpus.num, &config.devices, &mut notes)?;
        requests::place_console(&mut hardware, &config.devices, &ranges, board.address_bits());
        channels::place(&mut hardware, &config.devices);
        check_overlaps(&ranges, &hardware.devices)?;
        let arch = platform.arch();
        let offer = Offer { arch, board: &*board, hardware: &hardware, ram: &ranges };
        let requests = requests::answer(config, &offer)?;
        let cpus = board.cpus(&config.cpus, &mut notes);
        let kernel = &config.kernel;
        let mut told = Told {
            cpus: &cpus,
            ram: &ranges,
            hardware: &hardware,
            cmdline: kernel.cmdline.as_deref(),
            initrd: kernel.ramdisk.as_ref().map(|_| SOMEWHERE),
        };
        let source = Source::open(&*board, kernel, &told)?;
        // Numbers have one size wherever things are, and so has the tree.
        let room = source.blob(&*board, &told)?.map_or(0, |blob| blob.len() as u64);
        let boot = BootPlan::prepare(arch, kernel, &ranges, room)?;
        (told.cmdline, told.initrd) = (boot.cmdline.as_deref(), boot.initrd);
        let Firmware { info, mut tables } = board.firmware(&told, &mut notes)?;
        if let Some(blob) = source.blob(&*board, &told)? {
            source.check(&blob, &told, &mut notes)?;
            let place = boot.dtb.ok_or(Error::NoPlaceForDeviceTree)?;
            tables.push(source.table(blob, place)?);
        }
        Ok(Self {
            id: config.id,
            name: config.name.clone(),
            arch,
            cpus,
            ram,
            devices: hardware.devices,
            interrupt_controller: hardware.interrupt_controller,
            late_writes: hardware.late_writes,
            boot,
            firmware: info,
            tables,
            requests,
            notes,
        })
    }

    /// All that the user should be told at the start.
    pub fn all_notes(&self) -> impl Iterator<Item = String> {
        let notes = self.notes.iter().chain(&self.boot.notes).cloned();
        self.requests.iter().filter_map(RequestOutcome::note).chain(notes)
    }

    /// The device of this model, if the board has one: the first of several.
    pub fn device(&self, model: Model) -> Option<&DevicePlan> {
        self.devices.iter().find(|device| device.model == model)
    }
}

/// The board of a host like this.
fn board_of(platform: &Platform) -> Box<dyn Board + '_> {
    match platform {
        Platform::X86_64 => Box::new(x86_64::Pc),
        Platform::Aarch64(host) => Box::new(aarch64::Virt(host)),
        Platform::Riscv64(host) => Box::new(riscv64::Virt(host)),
    }
}

/// No two things at the same addresses.
fn check_overlaps(ram: &[GuestPhysAddrRange], devices: &[DevicePlan]) -> Result<(), BusError> {
    let memory = ram.iter().map(|range| ("guest memory", Window::Mmio(*range)));
    let windows = devices.iter().map(|device| (device.name.as_str(), device.window));
    let all: Vec<_> = memory.chain(windows).collect();
    for (i, (new, window)) in all.iter().enumerate() {
        if let Some((old, at)) = all[..i].iter().find(|(_, other)| other.overlaps(window)) {
            return Err(BusError {
                new: (*new).to_owned(),
                new_range: window.to_string(),
                old: (*old).to_owned(),
                old_range: at.to_string(),
            });
        }
    }
    Ok(())
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.cpus.num == 1 { "" } else { "s" };
        writeln!(f, "machine   {}: {}, {} vCPU{plural}", self.name, self.arch, self.cpus.num)?;
        for RamArea { gpa, size, flags, lazy } in &self.ram {
            let gpa = gpa.to_string();
            let lazy = if *lazy { ", on first touch" } else { "" };
            writeln!(f, "memory    {gpa:>12} {size:>#12x}  {flags}, {} MiB{lazy}", size >> 20)?;
        }
        for DevicePlan { name, model, window, irq } in &self.devices {
            let window = window.to_string();
            let irq = irq.map_or(String::new(), |irq| format!(", interrupt {irq}"));
            writeln!(f, "device    {window:>22}  {name}: {model}{irq}")?;
        }
        writeln!(f, "interrupts by {}", self.interrupt_controller)?;
        for FirmwareTable { name, gpa, size, .. } in &self.tables {
            let gpa = gpa.to_string();
            writeln!(f, "table     {gpa:>12} {size:>#12x}  {name}")?;
        }
        write!(f, "{}", self.boot)?;
        for request in &self.requests {
            writeln!(f, "asked     {request}")?;
        }
        for note in &self.notes {
            writeln!(f, "note      {note}")?;
        }
        Ok(())
    }
}
