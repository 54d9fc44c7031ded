//! Multiboot 1: how hobby kernels and hypervisors are booted, with modules.
//!
//! The multiboot specification, version 0.6.96, chapter 3.

use std::sync::Arc;

use crate::{
    addr::{DeviceAddrRange, GuestPhysAddr},
    addrspace::AddrSpace,
    boot::{BootPlan, Error, Fault, FirmwareInfo, MemKind, draft::Draft, request::HandOver},
    hal::{DescriptorTable, EntryMode, VCpuSetup},
};

use super::{
    Format, Loaded, Protocol, RAX, RBX, Request, layout,
    linux::e820_type,
    modules::{self, Module},
    place_cmdline, place_initrd, tables, write_string,
};

const HEADER_MAGIC: u32 = 0x1bad_b002;
/// In EAX at the entry.
const BOOTED_MAGIC: u64 = 0x2bad_b002;
/// The header lies within so many bytes, all of it.
const SEARCH: usize = 8192;

/// Flags of the header.
const PAGE_ALIGN: u32 = 1 << 0;
const MEMORY_INFO: u32 = 1 << 1;
const VIDEO_MODE: u32 = 1 << 2;
/// What a loader must understand, or refuse to load.
const REQUIRED: u32 = 0xffff;
const ADDRESSES: u32 = 1 << 16;

/// Flags of the information structure, and the structure's size.
const HAS_MEM: u32 = 1 << 0;
const HAS_CMDLINE: u32 = 1 << 2;
const HAS_MODS: u32 = 1 << 3;
const HAS_MMAP: u32 = 1 << 6;
const HAS_LOADER_NAME: u32 = 1 << 9;
const INFO_LEN: usize = 88;

const MODULE_LEN: usize = 16;
const MMAP_LEN: usize = 24;
const MMAP_MAX: usize = 128;
const LOADER_NAME: &str = "axvmm";
/// There is no rule; this is more than anybody uses.
const CMDLINE_MAX: usize = 65535;

/// A multiboot header (3.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Where in the file it begins.
    offset: u64,
    flags: u32,
    addresses: Addresses,
}

/// The fields that stand for the ELF headers where flag 16 is set (3.1.3).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Addresses {
    header_addr: u64,
    load_addr: u64,
    load_end_addr: u64,
    bss_end_addr: u64,
    entry_addr: u64,
}

impl Header {
    pub fn find(head: &[u8]) -> Option<Self> {
        let head = &head[..head.len().min(SEARCH)];
        (0..head.len()).step_by(4).find_map(|offset| {
            let word = |i: usize| {
                let bytes = head.get(offset + 4 * i..)?.first_chunk()?;
                Some(u32::from_le_bytes(*bytes))
            };
            let (magic, flags, checksum) = (word(0)?, word(1)?, word(2)?);
            if magic != HEADER_MAGIC || magic.wrapping_add(flags).wrapping_add(checksum) != 0 {
                return None;
            }
            let mut addresses = Addresses::default();
            if flags & ADDRESSES != 0 {
                addresses = Addresses {
                    header_addr: word(3)?.into(),
                    load_addr: word(4)?.into(),
                    load_end_addr: word(5)?.into(),
                    bss_end_addr: word(6)?.into(),
                    entry_addr: word(7)?.into(),
                };
            }
            Some(Self { offset: offset as u64, flags, addresses })
        })
    }

    /// Whether the header says itself what goes where, so that the file need not be ELF.
    pub fn has_addresses(&self) -> bool {
        self.flags & ADDRESSES != 0
    }
}

/// Loads by the addresses in the header.
pub fn prepare_flat(
    request: &Request<'_>,
    header: &Header,
    draft: &mut Draft,
) -> Result<Loaded, Error> {
    let source = &request.source;
    let fault =
        |field: &'static str, problem: String| Err(source.fault(Fault::new(field, problem)));
    let Addresses { header_addr, load_addr, load_end_addr, bss_end_addr, entry_addr } =
        header.addresses;
    let before = header_addr.checked_sub(load_addr).filter(|before| *before <= header.offset);
    let Some(before) = before else {
        return fault(
            "load_addr",
            format!(
                "{load_addr:#x} must be at most header_addr, {header_addr:#x}, and not before the \
                 file's first byte"
            ),
        );
    };
    let offset = header.offset - before;
    let in_file = source.len - offset;
    let file_size = match load_end_addr {
        0 => in_file,
        end => end.saturating_sub(load_addr),
    };
    if file_size == 0 || file_size > in_file {
        return fault(
            "load_end_addr",
            format!(
                "{load_end_addr:#x} must be above load_addr, {load_addr:#x}, by no more than the \
                 {in_file:#x} bytes that the file has"
            ),
        );
    }
    let size = match bss_end_addr {
        0 => file_size,
        end => end.saturating_sub(load_addr),
    };
    if size < file_size {
        return fault("bss_end_addr", format!("{bss_end_addr:#x} is below the loaded bytes' end"));
    }
    if entry_addr.checked_sub(load_addr).is_none_or(|at| at >= size) {
        return fault("entry_addr", format!("{entry_addr:#x} lies outside of what is loaded"));
    }
    draft.segment("the kernel", source, (offset, file_size), (load_addr, size))?;
    enter(request, header, draft, entry_addr)
}

/// Enters a kernel whose segments are in place.
pub fn enter(
    request: &Request<'_>,
    header: &Header,
    draft: &mut Draft,
    entry: u64,
) -> Result<Loaded, Error> {
    let unknown = header.flags & REQUIRED & !(PAGE_ALIGN | MEMORY_INFO | VIDEO_MODE);
    if unknown != 0 {
        let problem = format!("the kernel requires {unknown:#x}, which no loader knows");
        return Err(request.source.fault(Fault::new("multiboot flags", problem)));
    }
    if header.flags & VIDEO_MODE != 0 {
        draft.notes.push("the kernel asks for a video mode; there is no video".into());
    }
    // Modules begin at whole pages whether the kernel asks for it or not.
    let initrd = place_initrd(request.config, draft, layout::LIMIT_32BIT)?;
    let handover = Handover::place(request, initrd, draft)?;
    Ok(Loaded {
        format: Format::Flat,
        protocol: Protocol::Multiboot,
        entry,
        initrd,
        unpacked: None,
        dtb: None,
        handover: Arc::new(handover),
    })
}

#[derive(Clone, Debug)]
pub struct Handover {
    info: GuestPhysAddr,
    loader_name: GuestPhysAddr,
    cmdline: Option<GuestPhysAddr>,
    module_list: GuestPhysAddr,
    modules: Vec<Module>,
    memory_map: GuestPhysAddr,
    gdt: DescriptorTable,
}

impl Handover {
    fn place(
        request: &Request<'_>,
        initrd: Option<crate::boot::Placed>,
        draft: &mut Draft,
    ) -> Result<Self, Error> {
        let window = layout::STRUCTURES;
        let gdt = tables::place_gdt(draft)?;
        let info = draft.structure("multiboot information", INFO_LEN as u64, 8, window)?;
        let name_len = LOADER_NAME.len() as u64 + 1;
        let loader_name = draft.structure("boot loader name", name_len, 1, window)?;
        let cmdline = place_cmdline(request.config.cmdline.as_deref(), CMDLINE_MAX, draft)?;
        let modules = modules::place(&request.config.modules, initrd, draft)?;
        let module_list = match modules.len() * MODULE_LEN {
            0 => GuestPhysAddr(0),
            len => draft.structure("module list", len as u64, 8, window)?,
        };
        let map_len = (MMAP_MAX * MMAP_LEN) as u64;
        let memory_map = draft.structure("memory map", map_len, 8, window)?;
        Ok(Self { info, loader_name, cmdline, module_list, modules, memory_map, gdt })
    }

    /// The information structure (3.3). Everything it points at is below 4 GiB.
    fn info(&self, firmware: &FirmwareInfo, map_len: usize) -> [u8; INFO_LEN] {
        let mut flags = HAS_MEM | HAS_MMAP | HAS_LOADER_NAME;
        let mut info = [0; INFO_LEN];
        let mut put = |at: usize, value: u64| {
            info[at..at + 4].copy_from_slice(&(value as u32).to_le_bytes());
        };
        put(4, ram_from(firmware, 0) >> 10);
        put(8, ram_from(firmware, layout::HIGH_MEMORY) >> 10);
        if let Some(cmdline) = self.cmdline {
            flags |= HAS_CMDLINE;
            put(16, cmdline.0);
        }
        if !self.modules.is_empty() {
            flags |= HAS_MODS;
            put(20, self.modules.len() as u64);
            put(24, self.module_list.0);
        }
        put(44, map_len as u64);
        put(48, self.memory_map.0);
        put(64, self.loader_name.0);
        put(0, flags.into());
        info
    }
}

impl HandOver for Handover {
    fn write(
        &self,
        plan: &BootPlan,
        mem: &AddrSpace,
        firmware: &FirmwareInfo,
    ) -> Result<VCpuSetup, Error> {
        let map = memory_map(firmware)?;
        mem.write(self.info, &self.info(firmware, map.len()))?;
        if !map.is_empty() {
            mem.write(self.memory_map, &map)?;
        }
        write_string(mem, self.loader_name, LOADER_NAME)?;
        if let (Some(at), Some(line)) = (self.cmdline, &plan.cmdline) {
            write_string(mem, at, line)?;
        }
        modules::write_strings(&self.modules, mem)?;
        let list: Vec<u8> = self.modules.iter().flat_map(module_entry).collect();
        if !list.is_empty() {
            mem.write(self.module_list, &list)?;
        }
        tables::write_gdt(mem, self.gdt, false)?;
        let mode = EntryMode::Protected32 { gdt: self.gdt };
        Ok(VCpuSetup { mode, gprs: vec![(RAX, BOOTED_MAGIC), (RBX, self.info.0)] })
    }
}

/// How many bytes of RAM there are from `start` on without a gap; at most what a field of 32 bits
/// holds in KiB.
fn ram_from(firmware: &FirmwareInfo, start: u64) -> u64 {
    let mut end = start;
    for entry in firmware.memory_map.iter().filter(|entry| entry.kind == MemKind::Ram) {
        if entry.range.first().0 <= end && entry.range.last().0 >= end {
            end = entry.range.last().0.saturating_add(1);
        }
    }
    (end - start).min(u64::from(u32::MAX) << 10)
}

fn module_entry(module: &Module) -> impl Iterator<Item = u8> {
    let start = module.placed.gpa.0;
    let string = module.string.as_ref().map_or(0, |(at, _)| at.0);
    [start, start + module.placed.size, string, 0]
        .into_iter()
        .flat_map(|word| (word as u32).to_le_bytes())
}

/// The memory map: each entry begins with the size of what follows it.
fn memory_map(firmware: &FirmwareInfo) -> Result<Vec<u8>, Error> {
    let len = firmware.memory_map.len();
    if len > MMAP_MAX {
        return Err(Error::MemoryMap { len, max: MMAP_MAX });
    }
    let mut bytes = Vec::with_capacity(len * MMAP_LEN);
    for entry in &firmware.memory_map {
        bytes.extend(((MMAP_LEN - 4) as u32).to_le_bytes());
        bytes.extend(entry.range.first().0.to_le_bytes());
        bytes.extend(entry.range.len().to_le_bytes());
        bytes.extend(e820_type(entry.kind).to_le_bytes());
    }
    Ok(bytes)
}
