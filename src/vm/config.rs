//! What a VM is made from, after all files are read and all defaults are filled in.

mod axvisor;

use std::path::PathBuf;

use serde::Serialize;

use crate::{
    addr::{GuestPhysAddr, MappingFlags, Port},
    devices::{EmuDeviceType, custom::Recipe, fault::FaultConfig},
    hal::{VCpuId, VMId},
    vfio_user::{Kept, Server},
    virtio::{DeviceConfig, TransportKind},
};

pub use axvisor::{
    ExcludedDevicesConfig, InterruptModeConfig, PassThroughAddressConfig, PassThroughDeviceConfig,
    VMInterruptMode, VmMemMappingType, WrittenAt,
};

/// A guest's configuration, resolved: paths are usable as they stand, sizes are bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AxVMConfig {
    /// Its number in this process.
    pub id: VMId,
    /// Its name, for messages.
    pub name: String,
    /// Its vCPUs.
    pub cpus: CpuConfig,
    /// Its memory.
    pub memory: MemoryConfig,
    /// What it boots.
    pub kernel: KernelConfig,
    /// Its devices beside the board's.
    pub devices: DevicesConfig,
    /// What was asked for and is done in another way here, each a sentence for the user.
    pub notes: Vec<String>,
    /// Files and directories that the configuration names, in no order.
    #[serde(skip)]
    pub files: Vec<PathBuf>,
}

/// A guest's vCPUs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CpuConfig {
    /// How many vCPUs; at least 1.
    pub num: usize,
    /// The architectural id of each vCPU; the vCPU's number where not given. Empty, or `num` long.
    pub phys_cpu_ids: Vec<usize>,
    /// The host CPUs that each vCPU may run on, as a bit mask. Empty, or `num` long.
    pub phys_cpu_sets: Vec<usize>,
}

impl CpuConfig {
    /// For each vCPU: its id, the mask of host CPUs, and its architectural id.
    pub fn affinities(&self) -> impl Iterator<Item = (VCpuId, Option<usize>, usize)> {
        (0..self.num).map(|id| {
            let phys = self.phys_cpu_ids.get(id).copied().unwrap_or(id);
            (id, self.phys_cpu_sets.get(id).copied(), phys)
        })
    }
}

/// How much memory a guest has, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum MemoryConfig {
    /// So many bytes, where the board has its RAM.
    Size(u64),
    /// The same, given to the guest's hardware at the first touch, in pieces.
    LazySize(u64),
    /// Nothing is said but by the user's device tree: what that tells of.
    OfDeviceTree {
        /// Whether it is given to the guest's hardware at the first touch, in pieces.
        lazy: bool,
    },
    /// Just these areas.
    Regions(Vec<MemoryRegion>),
}

impl MemoryConfig {
    /// What a guest gets if nothing is said anywhere, in bytes.
    pub const DEFAULT: u64 = 512 << 20;
}

/// A row of AxVisor's `memory_regions`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MemoryRegion {
    /// Where it begins.
    pub gpa: GuestPhysAddr,
    /// In bytes.
    pub size: u64,
    /// What the guest may do with it.
    #[serde(serialize_with = "flags_as_letters")]
    pub flags: MappingFlags,
    /// Whether it is given to the guest's hardware at the first touch, in pieces.
    pub lazy: bool,
    /// Where AxVisor takes it from.
    pub map_type: VmMemMappingType,
    /// Where it is written.
    pub at: WrittenAt,
}

fn flags_as_letters<S: serde::Serializer>(
    flags: &MappingFlags,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(flags)
}

/// A file and, where it matters, its place in guest memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ImageFile {
    /// The file.
    pub path: PathBuf,
    /// Where it goes; the loader chooses if not given.
    pub load_addr: Option<GuestPhysAddr>,
}

/// What a guest boots, with all that goes along.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct KernelConfig {
    /// The kernel.
    pub image: ImageFile,
    /// Where execution begins, for formats that do not say so themselves.
    pub entry_point: Option<GuestPhysAddr>,
    /// `None`: the guest gets no command line at all.
    pub cmdline: Option<String>,
    /// The initrd.
    pub ramdisk: Option<ImageFile>,
    /// Firmware that is put beside the kernel (AxVisor's `bios_path`).
    pub bios: Option<ImageFile>,
    /// A device tree instead of the board's own.
    pub dtb: Option<ImageFile>,
    /// What of the machine is put into it.
    pub dtb_patch: Vec<DtbPatch>,
    /// Multiboot modules.
    pub modules: Vec<Module>,
    /// Who unpacks a compressed kernel.
    pub unpack: Unpack,
}

/// A part of a user's device tree that is replaced by what the machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DtbPatch {
    /// The memory nodes.
    Memory,
    /// `/cpus`, and what is connected to each of them.
    Cpus,
    /// The command line and the random seeds in `/chosen`.
    Chosen,
    /// Where `/chosen` has the initrd.
    Initrd,
}

/// A multiboot module: a file and the string that the guest is given with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Module {
    /// The file.
    pub path: PathBuf,
    /// The string.
    pub cmdline: String,
}

/// Who decompresses a compressed kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Unpack {
    /// The host where that pays: when the same kernel is started again, and from then on. Else the
    /// guest.
    #[default]
    Auto,
    /// The host, or it is an error.
    Host,
    /// The guest, as the image's own code does.
    Guest,
}

/// What a guest has beside its board's devices.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DevicesConfig {
    /// Devices beside those that the board always has.
    pub emulated: Vec<EmulatedDeviceConfig>,
    /// Devices of the host's, in whose places a board has its own, or nothing.
    pub passthrough: Vec<PassThroughDeviceConfig>,
    /// Addresses of the host's, likewise.
    pub passthrough_addresses: Vec<PassThroughAddressConfig>,
    /// Devices of the host's that a guest is not to have.
    pub excluded: Vec<ExcludedDevicesConfig>,
    /// `None`: nothing is said.
    pub interrupt_mode: Option<InterruptModeConfig>,
    /// x86_64: ports of `isa-debug-exit`. `None`: the board's usual ones.
    pub debug_exit_ports: Option<Vec<Port>>,
    /// virtio devices.
    pub virtio: Vec<VirtioConfig>,
    /// Devices of the program's own kinds.
    pub custom: Vec<CustomConfig>,
    /// Devices that are another process.
    pub vfio_user: Vec<VfioUserConfig>,
    /// Faults that devices are to have.
    pub faults: Vec<FaultRow>,
    /// Whether the guest has a doorbell for hypercalls, also if no device needs one.
    pub hypercalls: bool,
}

impl DevicesConfig {
    /// Whether the guest has a doorbell for hypercalls: inter-VM channels are used by these.
    pub fn wants_hypercalls(&self) -> bool {
        let needs_them = |row: &EmulatedDeviceConfig| row.emu_type == EmuDeviceType::IVCChannel;
        self.hypercalls || self.emulated.iter().any(needs_them)
    }
}

/// A device of a kind of the program's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CustomConfig {
    /// Its name, for messages: no other such device of the guest's has it.
    pub name: String,
    /// What it is.
    #[serde(flatten)]
    pub recipe: Recipe,
    /// Where its window is to be; `None`: where the board has room.
    pub place: Option<GuestPhysAddr>,
    /// Its interrupt, if its kind has one; `None`: one that is free.
    pub irq: Option<u32>,
    /// Where it is written.
    pub at: WrittenAt,
}

/// A device that is another process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VfioUserConfig {
    /// Its name, for messages: no other such device of the guest's has it.
    pub name: String,
    /// The process.
    #[serde(flatten)]
    pub server: Server,
    /// Where it is to be; `None`: on PCI.
    #[serde(flatten)]
    pub place: Option<VfioUserPlace>,
    /// The server between two devices for it.
    #[serde(skip)]
    pub kept: Kept,
    /// Where it is written.
    pub at: WrittenAt,
}

/// Where a device that is another process is, if not on PCI.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VfioUserPlace {
    /// Where its window begins.
    pub addr: GuestPhysAddr,
    /// In bytes.
    pub size: u64,
    /// Its interrupt.
    pub irq: Option<u32>,
    /// What drivers know it by.
    pub compatible: Option<String>,
}

/// A fault that a device is to have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FaultRow {
    /// What.
    #[serde(flatten)]
    pub fault: FaultConfig,
    /// Where it is written.
    pub at: WrittenAt,
}

/// A virtio device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VirtioConfig {
    /// Its name, for messages: no other virtio device of the guest's has it.
    pub name: String,
    /// What it is.
    #[serde(flatten)]
    pub device: DeviceConfig,
    /// What carries it; `None`: whatever is best on the board.
    pub transport: Option<TransportKind>,
    /// Where its window is to be, and its interrupt; `None`: where the board has room. Only for
    /// devices over MMIO.
    pub place: Option<(GuestPhysAddr, u32)>,
    /// Where it is written.
    pub at: WrittenAt,
}

/// A row of AxVisor's `emu_devices`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EmulatedDeviceConfig {
    /// Its name, for messages.
    pub name: String,
    /// Where it begins.
    pub base_gpa: GuestPhysAddr,
    /// In bytes.
    pub length: u64,
    /// Its interrupt: GSI, INTID or source, as the architecture has it; 0 for none.
    pub irq_id: u32,
    /// What kind of device it is.
    pub emu_type: EmuDeviceType,
    /// What else a device of this kind is told.
    pub cfg_list: Vec<u64>,
    /// Where it is written.
    pub at: WrittenAt,
}
