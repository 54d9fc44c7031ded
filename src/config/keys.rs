//! The keys of `guest.toml`. What is written here is all there is: names, kinds and meaning.
//!
//! The tables and rows are those of AxVisor's `axvmconfig` 0.1 and 0.2, with the same names; a key
//! may be left out where upstream wants it, and those marked *axvmm* are ours.

use std::path::PathBuf;

use super::{
    custom::CustomRow,
    fault::FaultKeys,
    node::{Node, Table, Value},
    report::Report,
    schema::{self, FromNode, Key, Shape, row, table, words},
    source::At,
    test_table::TestKeys,
    values::{Integer, Size},
    vfio_user::VfioUserKeys,
    virtio::VirtioRow,
};
use crate::{
    devices::EmuDeviceType,
    vm::config::{self, DtbPatch, Unpack},
};

/// The most vCPUs that a VM can be asked for.
pub const MAX_CPUS: u64 = 512;

table! {
    /// A file.
    pub struct AxVMCrateConfig {
        /// The VM as a whole.
        base: VMBaseConfig,
        /// What runs in it, and the memory for that.
        kernel: VMKernelConfig,
        /// What it finds on its buses.
        devices: VMDevicesConfig,
        /// *axvmm:* what `axvmm test` wants to see of it. Other commands pass over it.
        test: TestKeys,
    }
}

table! {
    /// `[base]`: the VM as a whole.
    pub struct VMBaseConfig {
        /// The VM's number, as thread names and messages show it. Default: 1.
        id: Integer,
        /// The VM's name. Default: that of the file, without its extension.
        name: String,
        /// AxVisor's kind of guest: 0 host VM, 1 RTOS, 2 Linux. Nothing depends on it.
        vm_type: Integer,
        /// How many vCPUs. Default: 1.
        cpu_num: Integer<1, MAX_CPUS>,
        /// The architectural id of each vCPU (APIC id, MPIDR affinity, hart id). Default: its
        /// number, from 0.
        phys_cpu_ids: Vec<At<Integer>>,
        /// The host CPUs that each vCPU may run on, as a bit mask. Default: all.
        phys_cpu_sets: Vec<At<Integer>>,
        /// *axvmm:* how much memory, placed where the board has it, such as `"512M"`. Default:
        /// `memory_regions`, or what the device tree of `dtb_path` tells of, or 512M.
        memory: Size,
        /// *axvmm:* memory is given to the guest's hardware at the first touch, in pieces; for
        /// guests with much more memory than they use. Of `memory_regions`, those of map_type 0.
        /// Default: false.
        lazy_memory: bool,
    }
}

table! {
    /// `[kernel]`: what runs in the VM, and the memory for that.
    pub struct VMKernelConfig {
        /// Where execution begins, for images that do not say so themselves.
        entry_point: Integer,
        /// The kernel's file. Its format is recognised.
        kernel_path: PathBuf,
        /// Where the kernel goes in guest memory. Default: where its format says.
        kernel_load_addr: Integer,
        /// Firmware that is put beside the kernel.
        bios_path: PathBuf,
        /// Where the firmware goes.
        bios_load_addr: Integer,
        /// A device tree to use instead of the board's own.
        dtb_path: PathBuf,
        /// Where the device tree goes.
        dtb_load_addr: Integer,
        /// *axvmm:* what of the guest is put into that device tree. Default: nothing, the guest
        /// gets it as it is.
        dtb_patch: Vec<At<DtbPatchWord>>,
        /// An initial RAM disk (initrd).
        ramdisk_path: PathBuf,
        /// Where the RAM disk goes. Default: the loader chooses.
        ramdisk_load_addr: Integer,
        /// Where AxVisor finds the images. Both mean a file of the host here.
        image_location: ImageLocation,
        /// The kernel's command line. Default: the guest gets none at all.
        cmdline: String,
        /// A raw disk image, for the first row of `emu_devices` of type 0xe1, or a disk of its own.
        disk_path: PathBuf,
        /// The guest's memory, area by area, instead of `memory`.
        memory_regions: Vec<At<VmMemConfig>>,
        /// *axvmm:* the same as `memory` in `[base]`.
        memory: Size,
        /// *axvmm:* multiboot modules, each `"path arguments"` or `{ path, cmdline }`.
        modules: Vec<At<ModuleConfig>>,
        /// *axvmm:* who decompresses a compressed kernel. Default: `"auto"`.
        unpack: UnpackWord,
    }
}

row! {
    /// A row of `memory_regions`.
    pub struct VmMemConfig, 2 required {
        /// Where the area begins in guest memory.
        gpa: Integer,
        /// Its size.
        size: Size,
        /// What the guest may do there: 1 read, 2 write, 4 execute, added up. Default: 7, all.
        flags: Integer<1, 0x3f>,
        /// 0 MapAlloc, 1 MapIdentical, 2 MapReserved. Default: 0.
        map_type: Integer<0, 2>,
    }
}

table! {
    /// `[devices]`: what the VM finds on its buses beside what its board always has.
    pub struct VMDevicesConfig {
        /// Emulated devices.
        emu_devices: Vec<At<EmulatedDeviceConfig>>,
        /// Devices of the host. These cannot be given to a guest: `axvmm check` tells what it finds
        /// in the place of each.
        passthrough_devices: Vec<At<PassThroughDeviceConfig>>,
        /// How interrupts come to the guest. They are always emulated here, most by the host kernel.
        interrupt_mode: VMInterruptMode,
        /// Paths in the host's device tree that are not passed through.
        excluded_devices: Vec<At<Vec<At<String>>>>,
        /// Address ranges of the host. These cannot be given to a guest either.
        passthrough_addresses: Vec<At<PassThroughAddressConfig>>,
        /// *axvmm:* x86_64: the first of the four ports of each `isa-debug-exit`; false for none.
        /// Default: the board's, 0xf4 and 0x501.
        debug_exit: DebugExitPorts,
        /// *axvmm:* virtio devices, each a table `[[devices.virtio]]` with a `kind`.
        virtio: Vec<At<VirtioRow>>,
        /// *axvmm:* devices of the program's own kinds, each a table `[[devices.custom]]`.
        custom: Vec<At<CustomRow>>,
        /// *axvmm:* devices that are another process, each a table `[[devices.vfio_user]]`.
        vfio_user: Vec<At<VfioUserKeys>>,
        /// *axvmm:* what is to go wrong with devices, each a table `[[devices.fault]]`.
        fault: Vec<At<FaultKeys>>,
        /// *axvmm:* whether the guest has the doorbell for hypercalls. Default: if there is an
        /// inter-VM channel (0x0a) among `emu_devices`.
        hypercalls: bool,
    }
}

row! {
    /// A row of `emu_devices`.
    pub struct EmulatedDeviceConfig, 5 required {
        /// A name for messages.
        name: String,
        /// Where its window begins in guest memory.
        base_gpa: Integer,
        /// The window's length in bytes.
        length: Integer,
        /// Its interrupt: GSI on x86_64, INTID on aarch64, source on riscv64; 0 for none.
        irq_id: Integer<0, 0xffff_ffff>,
        /// AxVisor's number for the kind of device.
        emu_type: EmuType,
        /// What else the kind needs to know.
        cfg_list: Vec<At<Integer>>,
    }
}

row! {
    /// A row of `passthrough_devices`.
    pub struct PassThroughDeviceConfig, 1 required {
        /// Its name, or its path in the host's device tree.
        name: String,
        /// Where its window begins in guest memory.
        base_gpa: Integer,
        /// Where its window begins on the host.
        base_hpa: Integer,
        /// The window's length in bytes.
        length: Integer,
        /// Its interrupt, counted as an emulated device's.
        irq_id: Integer<0, 0xffff_ffff>,
    }
}

row! {
    /// A row of `passthrough_addresses`.
    pub struct PassThroughAddressConfig, 2 required {
        /// Where the range begins, in guest and host memory alike.
        base_gpa: Integer,
        /// Its length in bytes.
        length: Integer,
    }
}

row! {
    /// A multiboot module as a table.
    pub struct ModuleTable, 1 required {
        /// The module's file.
        path: PathBuf,
        /// The string that the guest is given with it. Default: the empty one.
        cmdline: String,
    }
}

words! {
    /// Where AxVisor finds the images.
    pub enum ImageLocation {
        /// In a file system.
        Fs = "fs",
        /// In the hypervisor's own image.
        Memory = "memory",
    }
}

words! {
    /// How interrupts come to the guest.
    pub enum VMInterruptMode {
        /// Not at all.
        NoIrq = "no_irq" | "no" | "none",
        /// From emulated controllers.
        Emulated = "emu" | "emulated",
        /// From the host's controllers.
        Passthrough = "passthrough" | "pt",
    }
}

words! {
    /// Who decompresses a compressed kernel.
    pub enum UnpackWord {
        /// The host from the second start of a kernel on, where it can; else the guest.
        Auto = "auto",
        /// The host, or it is an error.
        Host = "host",
        /// The guest, by the image's own code.
        Guest = "guest",
    }
}

words! {
    /// What of the guest is put into a device tree.
    pub enum DtbPatchWord {
        /// Its memory.
        Memory = "memory",
        /// Its vCPUs.
        Cpus = "cpus",
        /// Its command line, and random seeds.
        Chosen = "chosen",
        /// Where its initrd is.
        Initrd = "initrd",
    }
}

impl From<VMInterruptMode> for config::VMInterruptMode {
    fn from(word: VMInterruptMode) -> Self {
        match word {
            VMInterruptMode::NoIrq => Self::NoIrq,
            VMInterruptMode::Emulated => Self::Emulated,
            VMInterruptMode::Passthrough => Self::Passthrough,
        }
    }
}

impl From<DtbPatchWord> for DtbPatch {
    fn from(word: DtbPatchWord) -> Self {
        match word {
            DtbPatchWord::Memory => Self::Memory,
            DtbPatchWord::Cpus => Self::Cpus,
            DtbPatchWord::Chosen => Self::Chosen,
            DtbPatchWord::Initrd => Self::Initrd,
        }
    }
}

impl From<UnpackWord> for Unpack {
    fn from(word: UnpackWord) -> Self {
        match word {
            UnpackWord::Auto => Self::Auto,
            UnpackWord::Host => Self::Host,
            UnpackWord::Guest => Self::Guest,
        }
    }
}

/// A multiboot module: `"path arguments"`, split at the first blank, or a table.
#[derive(Clone, Debug, PartialEq)]
pub struct ModuleConfig {
    /// The file.
    pub path: PathBuf,
    /// The string that the guest is given with it.
    pub cmdline: String,
}

impl FromNode for ModuleConfig {
    const SHAPE: Shape = Shape::Either(&[Shape::String, Shape::Table(ModuleTable::KEYS)]);

    fn from_node(node: &Node, report: &mut Report) -> Option<Self> {
        match &node.value {
            Value::String(text) => {
                let (path, cmdline) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
                let path = Node { value: Value::String(path.into()), place: node.place };
                let path = PathBuf::from_node(&path, report)?;
                Some(Self { path, cmdline: cmdline.trim_start().into() })
            }
            Value::Table(_) => {
                let table = ModuleTable::from_node(node, report)?;
                let cmdline = table.cmdline.map(|cmdline| cmdline.value).unwrap_or_default();
                Some(Self { path: table.path?.value, cmdline })
            }
            _ => schema::unexpected(Self::SHAPE, node, report),
        }
    }
}

/// The kind of an emulated device, by its number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EmuType(pub EmuDeviceType);

impl FromNode for EmuType {
    const SHAPE: Shape = Integer::<0, 0xff>::SHAPE;

    fn from_node(node: &Node, report: &mut Report) -> Option<Self> {
        let number = Integer::<0, 0xff>::from_node(node, report)?.0;
        let kind = EmuDeviceType::from_number(number).map(Self);
        if kind.is_none() {
            let known = EmuDeviceType::ALL.map(|kind| format!("{:#x} {kind}", kind as u8));
            let message = format!("there is no kind of device with the number {number:#x}");
            report.bad_value(node.place, message).help(format!("known: {}", known.join(", ")));
        }
        kind
    }
}

/// Where `isa-debug-exit` devices stand.
#[derive(Clone, Debug, PartialEq)]
pub enum DebugExitPorts {
    /// Where the board has them.
    Board,
    /// At these ports only.
    At(Vec<At<Integer<0, LAST_DEBUG_EXIT>>>),
}

/// The device has four ports.
const LAST_DEBUG_EXIT: u64 = 0xfffc;

impl FromNode for DebugExitPorts {
    const SHAPE: Shape = Shape::Either(&[
        Integer::<0, LAST_DEBUG_EXIT>::SHAPE,
        Vec::<At<Integer<0, LAST_DEBUG_EXIT>>>::SHAPE,
        Shape::Boolean,
    ]);

    fn from_node(node: &Node, report: &mut Report) -> Option<Self> {
        match &node.value {
            Value::Boolean(true) => Some(Self::Board),
            Value::Boolean(false) => Some(Self::At(Vec::new())),
            Value::Integer(_) => Some(Self::At(vec![schema::located(node, report)?])),
            Value::Array(_) => Vec::from_node(node, report).map(Self::At),
            _ => schema::unexpected(Self::SHAPE, node, report),
        }
    }
}
