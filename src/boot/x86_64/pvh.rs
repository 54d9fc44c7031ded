//! PVH: Xen's direct boot ABI, which Linux, FreeBSD and many small kernels have a note for.
//!
//! Xen's `xen/include/public/arch-x86/hvm/start_info.h`, version 1.

use zerocopy::{Immutable, IntoBytes};

use crate::{
    addr::{DeviceAddrRange, GuestPhysAddr},
    addrspace::AddrSpace,
    boot::{BootPlan, Error, FirmwareInfo, Placed, draft::Draft, request::HandOver},
    hal::{DescriptorTable, EntryMode, VCpuSetup},
    vm::config::KernelConfig,
};

use super::{
    RBX,
    abi::{MemmapEntry, ModlistEntry, StartInfo},
    layout,
    linux::e820_type,
    modules::{self, Module},
    place_cmdline, tables, write_string,
};

const START_MAGIC: u32 = 0x336e_c578;
/// The version that has the memory map.
const START_VERSION: u32 = 1;
const MEMMAP_MAX: usize = 128;

#[derive(Clone, Debug)]
pub struct Handover {
    start_info: GuestPhysAddr,
    cmdline: Option<GuestPhysAddr>,
    module_list: GuestPhysAddr,
    modules: Vec<Module>,
    memory_map: GuestPhysAddr,
    gdt: DescriptorTable,
}

impl Handover {
    pub fn place(
        config: &KernelConfig,
        initrd: Option<Placed>,
        cmdline_max: usize,
        draft: &mut Draft,
    ) -> Result<Self, Error> {
        let window = layout::STRUCTURES;
        let gdt = tables::place_gdt(draft)?;
        let start_info = draft.structure("start info", size_of::<StartInfo>() as u64, 8, window)?;
        let cmdline = place_cmdline(config.cmdline.as_deref(), cmdline_max, draft)?;
        let modules = modules::place(&config.modules, initrd, draft)?;
        let list = modules.len() * size_of::<ModlistEntry>();
        let module_list = match modules.is_empty() {
            true => GuestPhysAddr(0),
            false => draft.structure("module list", list as u64, 8, window)?,
        };
        let map = MEMMAP_MAX * size_of::<MemmapEntry>();
        let memory_map = draft.structure("memory map", map as u64, 8, window)?;
        Ok(Self { start_info, cmdline, module_list, modules, memory_map, gdt })
    }
}

fn write_table<T: IntoBytes + Immutable>(
    mem: &AddrSpace,
    at: GuestPhysAddr,
    rows: impl Iterator<Item = T>,
) -> Result<(), Error> {
    let bytes: Vec<u8> = rows.flat_map(|row| row.as_bytes().to_vec()).collect();
    match bytes.is_empty() {
        true => Ok(()),
        false => Ok(mem.write(at, &bytes)?),
    }
}

impl HandOver for Handover {
    fn write(
        &self,
        plan: &BootPlan,
        mem: &AddrSpace,
        firmware: &FirmwareInfo,
    ) -> Result<VCpuSetup, Error> {
        let len = firmware.memory_map.len();
        if len > MEMMAP_MAX {
            return Err(Error::MemoryMap { len, max: MEMMAP_MAX });
        }
        let start_info = StartInfo {
            magic: START_MAGIC,
            version: START_VERSION,
            flags: 0,
            nr_modules: self.modules.len() as u32,
            modlist_paddr: self.module_list.0,
            cmdline_paddr: self.cmdline.map_or(0, |at| at.0),
            rsdp_paddr: firmware.rsdp.map_or(0, |at| at.0),
            memmap_paddr: self.memory_map.0,
            memmap_entries: len as u32,
            reserved: 0,
        };
        mem.write(self.start_info, start_info.as_bytes())?;
        if let (Some(at), Some(line)) = (self.cmdline, &plan.cmdline) {
            write_string(mem, at, line)?;
        }
        modules::write_strings(&self.modules, mem)?;
        let list = self.modules.iter().map(|module| ModlistEntry {
            paddr: module.placed.gpa.0,
            size: module.placed.size,
            cmdline_paddr: module.string.as_ref().map_or(0, |(at, _)| at.0),
            reserved: 0,
        });
        write_table(mem, self.module_list, list)?;
        let map = firmware.memory_map.iter().map(|entry| MemmapEntry {
            addr: entry.range.first().0,
            size: entry.range.len(),
            kind: e820_type(entry.kind),
            reserved: 0,
        });
        write_table(mem, self.memory_map, map)?;
        tables::write_gdt(mem, self.gdt, false)?;
        let mode = EntryMode::Protected32 { gdt: self.gdt };
        Ok(VCpuSetup { mode, gprs: vec![(RBX, self.start_info.0)] })
    }
}
