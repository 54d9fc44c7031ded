//! Files that are no kernel format at all: put into memory as they are and entered in real mode.

use std::sync::Arc;

use crate::{
    addr::GuestPhysAddr,
    addrspace::AddrSpace,
    boot::{
        BootPlan, Error, FirmwareInfo, draft::Draft, error::Role, file::ImageSource,
        request::HandOver,
    },
    hal::VCpuSetup,
};

use super::{Format, Loaded, Protocol, Request, layout};

/// With segment bases of 0, IP reaches no further.
const REAL_MODE_END: u64 = 0x1_0000;

/// Loads the kernel at its `load_addr`, and firmware beside it if there is some; execution begins
/// at `entry_point`, else at the firmware, else at the kernel.
pub fn prepare(request: &Request<'_>, draft: &mut Draft) -> Result<Loaded, Error> {
    let Request { config, source, .. } = request;
    let wrong = |problem: String| Error::Config { path: source.path.clone(), problem };
    let Some(load_addr) = config.image.load_addr else {
        return Err(wrong("beside firmware (bios_path) it needs a kernel_load_addr".into()));
    };
    draft.whole_file("the kernel", source, Some(load_addr), (0, u64::MAX))?;
    let mut default_entry = load_addr;
    if let Some(bios) = &config.bios {
        let firmware = ImageSource::open(Role::Bios, &bios.path)?;
        let Some(at) = bios.load_addr else {
            return Err(wrong("its firmware (bios_path) needs a bios_load_addr".into()));
        };
        draft.whole_file("the firmware", &firmware, Some(at), (0, u64::MAX))?;
        default_entry = at;
    }
    let entry = config.entry_point.unwrap_or(default_entry);
    if entry.0 >= REAL_MODE_END {
        return Err(wrong(format!(
            "it is of no known format, hence entered in real mode, where entry_point = {entry} \
             cannot be reached: it must be below {REAL_MODE_END:#x}"
        )));
    }
    let holds_entry = |gpa: GuestPhysAddr, size: u64| (gpa.0..gpa.0 + size).contains(&entry.0);
    if !draft.segments.iter().any(|segment| holds_entry(segment.gpa, segment.size)) {
        return Err(wrong(format!("entry_point = {entry} lies outside of what is loaded")));
    }
    if !config.modules.is_empty() {
        return Err(wrong("it has no multiboot header, hence no use for modules".into()));
    }
    let initrd = match &config.ramdisk {
        Some(ramdisk) => {
            let source = ImageSource::open(Role::Initrd, &ramdisk.path)?;
            let window = (layout::HIGH_MEMORY, layout::LIMIT_32BIT);
            Some(draft.whole_file("the initrd", &source, ramdisk.load_addr, window)?)
        }
        None => None,
    };
    if config.cmdline.is_some() {
        let note = "cmdline is not passed on: a guest that begins in real mode is given none";
        draft.notes.push(note.into());
    }
    Ok(Loaded {
        format: Format::Flat,
        protocol: Protocol::Real,
        entry: entry.0,
        initrd,
        unpacked: None,
        dtb: None,
        handover: Arc::new(RealMode),
    })
}

/// Nothing is handed over.
#[derive(Debug)]
struct RealMode;

impl HandOver for RealMode {
    fn write(&self, _: &BootPlan, _: &AddrSpace, _: &FirmwareInfo) -> Result<VCpuSetup, Error> {
        Ok(VCpuSetup::default())
    }
}
