//! All that is decided about a machine before there is one.

use std::fmt;

use serde::Serialize;

use super::{
    Error, aarch64,
    board::{Board, Hardware, Told},
    channels, custom,
    device_tree::{self, Source},
    faults,
    parts::{DevicePlan, Firmware, FirmwareTable, Model, RamArea, Window},
    requests::{self, Offer, RequestOutcome},
    riscv64,
    vfio_user::{self, VfioUserPlan},
    virtio::{self, VirtioPlan},
    x86_64,
};
use crate::{
    addr::{GuestPhysAddr, GuestPhysAddrRange, PortRange},
    boot::{BootPlan, FirmwareInfo, Placed},
    devices::BusError,
    hal::{Arch, InterruptController, Platform, VMId},
    vm::config::{AxVMConfig, CpuConfig, CustomConfig, FaultRow},
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
    /// Whether other processes get it too: the backends of devices.
    pub shares_memory: bool,
    /// Ascending by bus and address; those that the host kernel emulates are among them.
    pub devices: Vec<DevicePlan>,
    /// virtio devices, in the order that they are asked for.
    pub virtio: Vec<VirtioPlan>,
    /// Devices of the program's own kinds, in the order that they are asked for; their windows are
    /// those of the [`DevicePlan`]s of their names.
    pub custom: Vec<CustomConfig>,
    /// Devices that are another process, in the order that they are asked for; the windows of those
    /// with a place are those of the [`DevicePlan`]s of their names.
    pub vfio_user: Vec<VfioUserPlan>,
    /// Faults that devices are to have.
    pub faults: Vec<FaultRow>,
    /// Which, and where.
    pub interrupt_controller: InterruptController,
    /// Writes to these ports may come late, as nobody waits for them.
    pub late_writes: Vec<PortRange>,
    /// How the kernel is loaded and entered; `None`: there is no guest.
    pub boot: Option<BootPlan>,
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

/// What a machine is before it has a guest.
struct Bare<'a> {
    board: Box<dyn Board + 'a>,
    arch: Arch,
    cpus: CpuConfig,
    ram: Vec<RamArea>,
    ranges: Vec<GuestPhysAddrRange>,
    hardware: Hardware,
    virtio: Vec<VirtioPlan>,
    vfio_user: Vec<VfioUserPlan>,
    shares_memory: bool,
    requests: Vec<RequestOutcome>,
    notes: Vec<String>,
}

impl Plan {
    /// Decides on everything for a guest on a host like `platform`: opens the kernel and what goes
    /// with it, touches no hardware.
    pub fn new(config: &AxVMConfig, platform: &Platform) -> Result<Self, Error> {
        let mut bare = Bare::new(config, platform)?;
        let Bare { board, arch, cpus, ranges, hardware, notes, .. } = &mut bare;
        let kernel = &config.kernel;
        let mut told = Told {
            cpus,
            ram: ranges,
            hardware,
            cmdline: kernel.cmdline.as_deref(),
            initrd: kernel.ramdisk.as_ref().map(|_| SOMEWHERE),
        };
        let source = Source::open(&**board, kernel, &told)?;
        // Numbers have one size wherever things are, and so has the tree.
        let room = source.blob(&**board, &told)?.map_or(0, |blob| blob.len() as u64);
        let boot = BootPlan::prepare(*arch, kernel, ranges, room)?;
        (told.cmdline, told.initrd) = (boot.cmdline.as_deref(), boot.initrd);
        let Firmware { info, mut tables } = board.firmware(&told, notes)?;
        if let Some(blob) = source.blob(&**board, &told)? {
            source.check(&blob, &told, notes)?;
            let place = boot.dtb.ok_or(Error::NoPlaceForDeviceTree)?;
            tables.push(source.table(blob, place)?);
        }
        let plan = bare.into_plan(config);
        Ok(Self { boot: Some(boot), firmware: info, tables, ..plan })
    }

    /// As [`Self::new`], but with nothing in memory and nothing to boot: for devices alone.
    pub fn without_guest(config: &AxVMConfig, platform: &Platform) -> Result<Self, Error> {
        Ok(Bare::new(config, platform)?.into_plan(config))
    }

    /// All that the user should be told at the start.
    pub fn all_notes(&self) -> impl Iterator<Item = String> {
        let notes = self.notes.iter().chain(self.boot.iter().flat_map(|boot| &boot.notes)).cloned();
        self.requests.iter().filter_map(RequestOutcome::note).chain(notes)
    }

    /// The device of this model, if the board has one: the first of several.
    pub fn device(&self, model: Model) -> Option<&DevicePlan> {
        self.devices.iter().find(|device| device.model == model)
    }
}

impl<'a> Bare<'a> {
    fn new(config: &AxVMConfig, platform: &'a Platform) -> Result<Self, Error> {
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
        let mut virtio =
            virtio::place(&*board, &mut hardware, &config.devices, config.kernel.dtb.is_some())?;
        custom::place(&*board, &mut hardware, &config.devices.custom)?;
        let vfio_user =
            vfio_user::place(&*board, &mut hardware, &virtio, &config.devices.vfio_user)?;
        let (asked, bits) = (&config.devices, board.address_bits());
        virtio::place_in_memory(&mut virtio, asked, &mut hardware, &ranges, bits)?;
        let shares_memory =
            !vfio_user.is_empty() || virtio.iter().any(|plan| plan.device.needs_shared_memory());
        if shares_memory && ram.iter().any(|area| area.lazy) {
            notes.push(
                "the guest has all of its memory from the start, as a device's backend shares it"
                    .into(),
            );
        }
        check_overlaps(&ranges, &hardware.devices)?;
        let on_pci =
            virtio.iter().filter(|plan| plan.slot.is_some()).map(|plan| plan.name.as_str());
        let on_pci: Vec<_> = on_pci.chain(vfio_user::on_pci(&vfio_user)).collect();
        faults::check(&config.devices.faults, &hardware.devices, &on_pci)?;
        let arch = platform.arch();
        let offer = Offer { arch, board: &*board, hardware: &hardware, ram: &ranges };
        let requests = requests::answer(config, &offer)?;
        let cpus = board.cpus(&config.cpus, &mut notes);
        Ok(Self {
            board,
            arch,
            cpus,
            ram,
            ranges,
            hardware,
            virtio,
            vfio_user,
            shares_memory,
            requests,
            notes,
        })
    }

    fn into_plan(self, config: &AxVMConfig) -> Plan {
        Plan {
            id: config.id,
            name: config.name.clone(),
            arch: self.arch,
            cpus: self.cpus,
            ram: self.ram,
            shares_memory: self.shares_memory,
            devices: self.hardware.devices,
            virtio: self.virtio,
            vfio_user: self.vfio_user,
            custom: config.devices.custom.clone(),
            faults: config.devices.faults.clone(),
            interrupt_controller: self.hardware.interrupt_controller,
            late_writes: self.hardware.late_writes,
            boot: None,
            firmware: FirmwareInfo::default(),
            tables: Vec::new(),
            requests: self.requests,
            notes: self.notes,
        }
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
            let how = match (self.shares_memory, *lazy) {
                (true, _) => ", shared with backends",
                (false, true) => ", on first touch",
                (false, false) => "",
            };
            writeln!(f, "memory    {gpa:>12} {size:>#12x}  {flags}, {} MiB{how}", size >> 20)?;
        }
        for DevicePlan { name, model, window, irq, compatible } in &self.devices {
            let window = window.to_string();
            let irq = irq.map_or(String::new(), |irq| format!(", interrupt {irq}"));
            // Of a kind of the program's own it is the kind that says it.
            let known = compatible.as_ref().filter(|_| *model == Model::VfioUser);
            let known = known.map_or(String::new(), |name| format!(", {name}"));
            writeln!(f, "device    {window:>22}  {name}: {model}{known}{irq}")?;
        }
        for VirtioPlan { name, device, transport, .. } in &self.virtio {
            writeln!(f, "virtio    {name}: {}, by {transport}", device.describe())?;
        }
        for plan in &self.vfio_user {
            writeln!(f, "vfio-user {plan}")?;
        }
        for row in &self.faults {
            writeln!(f, "fault     {}", row.fault)?;
        }
        writeln!(f, "interrupts by {}", self.interrupt_controller)?;
        for FirmwareTable { name, gpa, size, .. } in &self.tables {
            let gpa = gpa.to_string();
            writeln!(f, "table     {gpa:>12} {size:>#12x}  {name}")?;
        }
        if let Some(boot) = &self.boot {
            write!(f, "{boot}")?;
        }
        for request in &self.requests {
            writeln!(f, "asked     {request}")?;
        }
        for note in &self.notes {
            writeln!(f, "note      {note}")?;
        }
        Ok(())
    }
}
