//! Linux' own protocols: the zero page (`struct boot_params`), for the 64-bit and the 32-bit entry.
//!
//! Linux' `Documentation/arch/x86/{boot,zero-page}.rst`.

use zerocopy::{FromZeros, IntoBytes};

use crate::{
    addr::{DeviceAddrRange, GuestPhysAddr},
    addrspace::AddrSpace,
    boot::{BootPlan, Error, FirmwareInfo, MemKind, draft::Draft, request::HandOver},
    hal::{DescriptorTable, EntryMode, VCpuSetup},
};

use super::{
    RSI,
    abi::{BootParams, E820_MAX, E820Entry},
    layout, place_cmdline, tables,
    tables::PageTables,
    write_string,
};

/// `setup_header`'s place in the image and in the zero page alike.
pub const HEADER: usize = 0x1f1;
/// Where `setup_header` ends at the latest: what follows in the zero page is not the header's.
pub const HEADER_END: usize = 0x290;
pub const HDRS: u32 = u32::from_le_bytes(*b"HdrS");
pub const BOOT_FLAG: u16 = 0xaa55;
/// x86's `COMMAND_LINE_SIZE` without the NUL: what a kernel without a setup header takes.
pub const CMDLINE_MAX: usize = 2047;
/// The highest address that an initrd's bytes may have, for a kernel without a setup header.
pub const INITRD_ADDR_MAX: u64 = 0x7fff_ffff;

/// "A boot loader without an assigned number".
const LOADER_UNDEFINED: u8 = 0xff;
const LOADED_HIGH: u8 = 1;

/// What is written once the firmware's data is known.
#[derive(Clone, Debug)]
pub struct Handover {
    /// `setup_header` as the image has it; empty for an ELF kernel.
    header: Vec<u8>,
    zero_page: GuestPhysAddr,
    cmdline: GuestPhysAddr,
    gdt: DescriptorTable,
    /// `None`: the 32-bit entry.
    page_tables: Option<PageTables>,
}

impl Handover {
    /// Finds room for all of it. Segments and initrd are in the draft already.
    pub fn place(
        cmdline: Option<&str>,
        cmdline_max: usize,
        header: Vec<u8>,
        long: bool,
        draft: &mut Draft,
    ) -> Result<Self, Error> {
        let gdt = tables::place_gdt(draft)?;
        // The protocol has no way to say "none" but an empty one.
        let at = place_cmdline(Some(cmdline.unwrap_or_default()), cmdline_max, draft)?;
        let zero_page = draft.structure("zero page", 4096, 4096, layout::STRUCTURES)?;
        let page_tables = long.then(|| PageTables::place(draft)).transpose()?;
        Ok(Self { header, zero_page, cmdline: at.unwrap_or_default(), gdt, page_tables })
    }

    fn boot_params(&self, plan: &BootPlan, firmware: &FirmwareInfo) -> Result<BootParams, Error> {
        let mut params = BootParams::new_zeroed();
        if self.header.is_empty() {
            params.hdr.boot_flag = BOOT_FLAG;
            params.hdr.header = HDRS;
            params.hdr.version = 0x020f;
            params.hdr.loadflags = LOADED_HIGH;
            params.hdr.kernel_alignment = 0x100_0000;
            params.hdr.cmdline_size = CMDLINE_MAX as u32;
            params.hdr.initrd_addr_max = INITRD_ADDR_MAX as u32;
        } else {
            let end = HEADER + self.header.len();
            params.as_mut_bytes()[HEADER..end].copy_from_slice(&self.header);
        }
        params.hdr.type_of_loader = LOADER_UNDEFINED;
        (params.hdr.cmd_line_ptr, params.ext_cmd_line_ptr) = halves(self.cmdline.0);
        if let Some(initrd) = &plan.initrd {
            (params.hdr.ramdisk_image, params.ext_ramdisk_image) = halves(initrd.gpa.0);
            (params.hdr.ramdisk_size, params.ext_ramdisk_size) = halves(initrd.size);
        }
        params.acpi_rsdp_addr = firmware.rsdp.map_or(0, |rsdp| rsdp.0);
        let len = firmware.memory_map.len();
        if len > E820_MAX {
            return Err(Error::MemoryMap { len, max: E820_MAX });
        }
        params.e820_entries = len as u8;
        let mut table = params.e820_table;
        for (slot, entry) in table.iter_mut().zip(&firmware.memory_map) {
            *slot = E820Entry {
                addr: entry.range.first().0,
                size: entry.range.len(),
                kind: e820_type(entry.kind),
            };
        }
        params.e820_table = table;
        Ok(params)
    }
}

impl HandOver for Handover {
    fn write(
        &self,
        plan: &BootPlan,
        mem: &AddrSpace,
        firmware: &FirmwareInfo,
    ) -> Result<VCpuSetup, Error> {
        write_string(mem, self.cmdline, plan.cmdline.as_deref().unwrap_or_default())?;
        mem.write(self.zero_page, self.boot_params(plan, firmware)?.as_bytes())?;
        tables::write_gdt(mem, self.gdt, self.page_tables.is_some())?;
        let gdt = self.gdt;
        let mode = match &self.page_tables {
            Some(tables) => {
                tables.write(mem)?;
                EntryMode::Long64 { gdt, page_table: tables.root() }
            }
            None => EntryMode::Protected32 { gdt },
        };
        Ok(VCpuSetup { mode, gprs: vec![(RSI, self.zero_page.0)] })
    }
}

/// A memory kind as ACPI's "Address Range Types" (ACPI 6.5, table 15.6) count it; PVH and
/// multiboot use the same numbers.
pub fn e820_type(kind: MemKind) -> u32 {
    match kind {
        MemKind::Ram => 1,
        MemKind::Reserved => 2,
        MemKind::Acpi => 3,
        MemKind::Nvs => 4,
    }
}

/// The lower and the upper 32 bits.
fn halves(value: u64) -> (u32, u32) {
    (value as u32, (value >> 32) as u32)
}
