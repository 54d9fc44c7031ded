//! All that is decided about a machine before there is one.

use std::{fmt, io, ops::Range};

use serde::{Serialize, Serializer};

use super::{
    Error,
    board::{self, Told},
    channels,
    device_tree::{self, Source},
    requests::{self, Offer, RequestOutcome},
};
use crate::{
    addr::{
        DeviceAddrRange, GuestPhysAddr, GuestPhysAddrRange, MappingFlags, PortRange,
        SysRegAddrRange,
    },
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

/// An area of guest memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RamArea {
    /// Where it begins.
    pub gpa: GuestPhysAddr,
    /// In bytes.
    pub size: u64,
    /// What the guest may do with it.
    #[serde(serialize_with = "as_text")]
    pub flags: MappingFlags,
    /// Whether it is given to the guest's hardware at the first touch, in pieces.
    pub lazy: bool,
}

impl RamArea {
    /// Its addresses.
    pub fn range(&self) -> Result<GuestPhysAddrRange, Error> {
        GuestPhysAddrRange::new(self.gpa, self.size)
            .ok_or(Error::MemoryRegion { gpa: self.gpa, size: self.size })
    }
}

/// A device and where it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DevicePlan {
    /// What messages call it.
    pub name: String,
    /// What kind of device it is.
    pub model: Model,
    /// Where it stands.
    #[serde(flatten)]
    pub window: Window,
    /// The line it drives, counted as `irq_id` is: a GSI on x86_64, an INTID on aarch64, a source on
    /// riscv64.
    pub irq: Option<u32>,
}

/// What kind of device stands in a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "each is the device of that name in `devices`")]
pub enum Model {
    Uart16550,
    I8042Data,
    I8042Command,
    Cmos,
    AcpiSleep,
    Pm1Control,
    ResetControl,
    Pvpanic,
    DebugConsole,
    PostCode,
    DebugExit,
    Pl011,
    Pl031,
    Pl061,
    GoldfishRtc,
    SifiveTest,
    Plic,
    Seed,
    Doorbell,
    /// Where inter-VM channels come to be: memory, and no device.
    IvcChannels,
    /// Of which the guest may only read.
    IvcChannelsToRead,
    /// Emulated by the host kernel, or reserved for it.
    HostKernel,
}

impl Model {
    /// Whether a device of ours answers there.
    pub fn is_device(self) -> bool {
        self != Self::HostKernel && !self.is_channels()
    }

    /// Whether it is room for inter-VM channels.
    pub fn is_channels(self) -> bool {
        matches!(self, Self::IvcChannels | Self::IvcChannelsToRead)
    }
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Uart16550 => "16550 serial port",
            Self::I8042Data => "keyboard controller (data)",
            Self::I8042Command => "keyboard controller (command)",
            Self::Cmos => "real-time clock and CMOS RAM",
            Self::AcpiSleep => "powers off (ACPI sleep registers)",
            Self::Pm1Control => "powers off (PM1 control register)",
            Self::ResetControl => "resets",
            Self::Pvpanic => "tells of a kernel panic",
            Self::DebugConsole => "prints what is written",
            Self::PostCode => "keeps the last code",
            Self::DebugExit => "writing v ends with status 2v+1",
            Self::Pl011 => "PL011 serial port",
            Self::Pl031 => "PL031 real-time clock",
            Self::Pl061 => "PL061 with the power button",
            Self::GoldfishRtc => "Goldfish real-time clock",
            Self::SifiveTest => "powers off, resets, ends with a status",
            Self::Plic => "interrupt controller (PLIC)",
            Self::Seed => "gives entropy (seed CSR)",
            Self::Doorbell => "takes hypercalls",
            Self::IvcChannels => "room for inter-VM channels",
            Self::IvcChannelsToRead => "room for inter-VM channels to read",
            Self::HostKernel => "in the host kernel",
        })
    }
}

/// The addresses that a device answers at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "bus", rename_all = "lowercase")]
pub enum Window {
    /// I/O ports.
    Port(PortRange),
    /// Guest-physical memory.
    Mmio(GuestPhysAddrRange),
    /// System registers.
    #[serde(rename = "system-register")]
    SysReg(SysRegAddrRange),
}

impl Window {
    /// The ports, if that is where it is.
    pub fn ports(&self) -> Option<PortRange> {
        match self {
            Self::Port(ports) => Some(*ports),
            _ => None,
        }
    }

    /// The addresses in memory, if that is where it is.
    pub fn mmio(&self) -> Option<GuestPhysAddrRange> {
        match self {
            Self::Mmio(range) => Some(*range),
            _ => None,
        }
    }

    /// What devices are sorted by: bus and address.
    pub(super) fn key(&self) -> (u8, u64) {
        match self {
            Self::Port(ports) => (0, ports.first().0.into()),
            Self::Mmio(range) => (1, range.first().0),
            Self::SysReg(range) => (2, range.first().0),
        }
    }

    fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Port(a), Self::Port(b)) => a.overlaps(b),
            (Self::Mmio(a), Self::Mmio(b)) => a.overlaps(b),
            (Self::SysReg(a), Self::SysReg(b)) => a.overlaps(b),
            _ => false,
        }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(ports) if ports.len() == 1 => write!(f, "port {:#x}", ports.first().0),
            Self::Port(ports) => write!(f, "ports {ports}"),
            Self::Mmio(range) => write!(f, "{range}"),
            Self::SysReg(range) => write!(f, "{}", range.first()),
        }
    }
}

/// A table that firmware would leave in memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FirmwareTable {
    /// What it is called.
    pub name: &'static str,
    /// Where it begins.
    pub gpa: GuestPhysAddr,
    /// In bytes.
    pub size: u64,
    #[serde(skip)]
    bytes: Vec<u8>,
    /// Which of the bytes are random, fresh for each machine.
    #[serde(skip)]
    seeds: Vec<Range<usize>>,
}

impl FirmwareTable {
    pub(super) fn new(name: &'static str, gpa: GuestPhysAddr, bytes: Vec<u8>) -> Self {
        Self { name, gpa, size: bytes.len() as u64, bytes, seeds: Vec::new() }
    }

    pub(super) fn seeded(mut self, seeds: Vec<Range<usize>>) -> Self {
        self.seeds = seeds;
        self
    }

    /// The table itself, with zeros for what is random.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The table for a machine: what is random is new each time.
    pub fn with_seeds(&self) -> io::Result<Vec<u8>> {
        let mut bytes = self.bytes.clone();
        for seed in &self.seeds {
            if let Some(seed) = bytes.get_mut(seed.clone()) {
                getrandom::fill(seed).map_err(io::Error::other)?;
            }
        }
        Ok(bytes)
    }
}

/// What a board has told about itself, beside its devices.
#[derive(Default)]
pub(super) struct Firmware {
    pub info: FirmwareInfo,
    /// What a kernel finds in memory: ACPI, or a device tree.
    pub tables: Vec<FirmwareTable>,
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
        let board = board::of(platform);
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

fn as_text<T: fmt::Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
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
