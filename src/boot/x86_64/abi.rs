//! The structures that x86 kernels are handed, byte for byte, on hosts of any architecture.
//!
//! The zero page: Linux' `Documentation/arch/x86/{boot,zero-page}.rst`. PVH: Xen's
//! `xen/include/public/arch-x86/hvm/start_info.h`. The fields have the specifications' names. All
//! numbers are little-endian, as on every host that axvmm knows.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `struct setup_header`, at 0x1f1 of the image's first sector and of the zero page alike.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, packed)]
pub struct SetupHeader {
    pub setup_sects: u8,
    pub root_flags: u16,
    pub syssize: u32,
    pub ram_size: u16,
    pub vid_mode: u16,
    pub root_dev: u16,
    pub boot_flag: u16,
    pub jump: u16,
    pub header: u32,
    pub version: u16,
    pub realmode_swtch: u32,
    pub start_sys_seg: u16,
    pub kernel_version: u16,
    pub type_of_loader: u8,
    pub loadflags: u8,
    pub setup_move_size: u16,
    pub code32_start: u32,
    pub ramdisk_image: u32,
    pub ramdisk_size: u32,
    pub bootsect_kludge: u32,
    pub heap_end_ptr: u16,
    pub ext_loader_ver: u8,
    pub ext_loader_type: u8,
    pub cmd_line_ptr: u32,
    pub initrd_addr_max: u32,
    pub kernel_alignment: u32,
    pub relocatable_kernel: u8,
    pub min_alignment: u8,
    pub xloadflags: u16,
    pub cmdline_size: u32,
    pub hardware_subarch: u32,
    pub hardware_subarch_data: u64,
    pub payload_offset: u32,
    pub payload_length: u32,
    pub setup_data: u64,
    pub pref_address: u64,
    pub init_size: u32,
    pub handover_offset: u32,
    pub kernel_info_offset: u32,
}

/// `struct boot_e820_entry`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, packed)]
pub struct E820Entry {
    pub addr: u64,
    pub size: u64,
    pub kind: u32,
}

/// `struct boot_params`, the zero page, as far as a loader fills it.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, packed)]
pub struct BootParams {
    _screen_to_tboot: [u8; 0x70],
    pub acpi_rsdp_addr: u64,
    _disks_to_olpc: [u8; 0xc0 - 0x78],
    pub ext_ramdisk_image: u32,
    pub ext_ramdisk_size: u32,
    pub ext_cmd_line_ptr: u32,
    _edid_to_alt_mem: [u8; 0x1e8 - 0xcc],
    pub e820_entries: u8,
    _eddbuf_to_sentinel: [u8; 0x1f1 - 0x1e9],
    pub hdr: SetupHeader,
    _edd_mbr_signatures: [u8; 0x2d0 - 0x26c],
    pub e820_table: [E820Entry; E820_MAX],
    _eddbuf: [u8; 0x1000 - 0xcd0],
}

/// `E820_MAX_ENTRIES_ZEROPAGE`.
pub const E820_MAX: usize = 128;

/// `struct hvm_start_info`, version 1.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct StartInfo {
    pub magic: u32,
    pub version: u32,
    pub flags: u32,
    pub nr_modules: u32,
    pub modlist_paddr: u64,
    pub cmdline_paddr: u64,
    pub rsdp_paddr: u64,
    pub memmap_paddr: u64,
    pub memmap_entries: u32,
    pub reserved: u32,
}

/// `struct hvm_modlist_entry`.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ModlistEntry {
    pub paddr: u64,
    pub size: u64,
    pub cmdline_paddr: u64,
    pub reserved: u64,
}

/// `struct hvm_memmap_table_entry`.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MemmapEntry {
    pub addr: u64,
    pub size: u64,
    pub kind: u32,
    pub reserved: u32,
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use super::*;

    #[test]
    fn fields_are_where_the_specifications_have_them() {
        assert_eq!(size_of::<BootParams>(), 0x1000);
        assert_eq!(offset_of!(BootParams, acpi_rsdp_addr), 0x070);
        assert_eq!(offset_of!(BootParams, ext_ramdisk_image), 0x0c0);
        assert_eq!(offset_of!(BootParams, ext_cmd_line_ptr), 0x0c8);
        assert_eq!(offset_of!(BootParams, e820_entries), 0x1e8);
        assert_eq!(offset_of!(BootParams, e820_table), 0x2d0);
        let header = |offset: usize| offset_of!(BootParams, hdr) + offset;
        assert_eq!(header(offset_of!(SetupHeader, boot_flag)), 0x1fe);
        assert_eq!(header(offset_of!(SetupHeader, header)), 0x202);
        assert_eq!(header(offset_of!(SetupHeader, type_of_loader)), 0x210);
        assert_eq!(header(offset_of!(SetupHeader, ramdisk_image)), 0x218);
        assert_eq!(header(offset_of!(SetupHeader, cmd_line_ptr)), 0x228);
        assert_eq!(header(offset_of!(SetupHeader, kernel_alignment)), 0x230);
        assert_eq!(header(offset_of!(SetupHeader, xloadflags)), 0x236);
        assert_eq!(header(offset_of!(SetupHeader, payload_offset)), 0x248);
        assert_eq!(header(offset_of!(SetupHeader, pref_address)), 0x258);
        assert_eq!(header(size_of::<SetupHeader>()), 0x26c);
        assert_eq!(size_of::<E820Entry>(), 20);
        assert_eq!(offset_of!(StartInfo, memmap_paddr), 40);
        assert_eq!(size_of::<StartInfo>(), 56);
        assert_eq!((size_of::<ModlistEntry>(), size_of::<MemmapEntry>()), (32, 24));
    }

    /// linux-loader's own are made from the kernel's headers; it has them on x86_64 only.
    #[cfg(target_arch = "x86_64")]
    #[test]
    fn linux_loader_reads_what_is_written() {
        use linux_loader::loader::{bootparam::boot_params, start_info::hvm_start_info};
        use vm_memory::ByteValued;
        use zerocopy::FromZeros;

        let mut ours = BootParams::new_zeroed();
        ours.acpi_rsdp_addr = 0x1122_3344_5566_7788;
        (ours.ext_ramdisk_image, ours.ext_ramdisk_size, ours.ext_cmd_line_ptr) = (1, 2, 3);
        ours.e820_entries = 128;
        ours.hdr.boot_flag = 0xaa55;
        ours.hdr.type_of_loader = 0xff;
        (ours.hdr.ramdisk_image, ours.hdr.ramdisk_size) = (4, 5);
        (ours.hdr.cmd_line_ptr, ours.hdr.cmdline_size) = (6, 7);
        (ours.hdr.pref_address, ours.hdr.init_size) = (8, 9);
        ours.hdr.kernel_info_offset = 10;
        ours.e820_table[127] = E820Entry { addr: 11, size: 12, kind: 13 };
        let theirs = boot_params::from_slice(ours.as_bytes()).unwrap();
        let (header, last) = (theirs.hdr, theirs.e820_table[127]);
        assert_eq!({ theirs.acpi_rsdp_addr }, 0x1122_3344_5566_7788);
        assert_eq!(({ theirs.ext_ramdisk_image }, { theirs.ext_ramdisk_size }), (1, 2));
        assert_eq!(({ theirs.ext_cmd_line_ptr }, { theirs.e820_entries }), (3, 128));
        assert_eq!(({ header.boot_flag }, { header.type_of_loader }), (0xaa55, 0xff));
        assert_eq!(({ header.ramdisk_image }, { header.ramdisk_size }), (4, 5));
        assert_eq!(({ header.cmd_line_ptr }, { header.cmdline_size }), (6, 7));
        assert_eq!(({ header.pref_address }, { header.init_size }), (8, 9));
        assert_eq!({ header.kernel_info_offset }, 10);
        assert_eq!(({ last.addr }, { last.size }, { last.r#type }), (11, 12, 13));

        let ours = StartInfo { rsdp_paddr: 14, memmap_entries: 15, ..StartInfo::new_zeroed() };
        let theirs = hvm_start_info::from_slice(ours.as_bytes()).unwrap();
        assert_eq!((theirs.rsdp_paddr, theirs.memmap_entries), (14, 15));
    }
}
