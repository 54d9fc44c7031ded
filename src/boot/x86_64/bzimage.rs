//! bzImage: Linux with its setup header and, mostly, a compressed payload.
//!
//! Linux' `Documentation/arch/x86/boot.rst`, "The Real-Mode Kernel Header".

use std::sync::Arc;

use zerocopy::{FromZeros, IntoBytes};

use crate::{
    boot::{
        Error, Fault,
        draft::{Draft, space_error},
        elf,
        error::Role,
        unpack::{self, Effort, Length, Payload},
    },
    vm::config::Unpack,
};

use super::{
    Format, Loaded, Protocol, Request,
    abi::SetupHeader,
    elf_kernel, layout,
    linux::{self, BOOT_FLAG, HDRS, HEADER, HEADER_END},
    place_initrd,
};

const SECTOR: u64 = 512;
const PARAGRAPH: u64 = 16;
/// `setup_sects` = 0 means 4, for history's sake.
const DEFAULT_SETUP_SECTS: u8 = 4;
const LOADED_HIGH: u8 = 1;
const XLF_KERNEL_64: u16 = 1;
/// From the 32-bit entry to the 64-bit one.
const ENTRY_64: u64 = 0x200;
/// Versions of the protocol that brought fields which are used here.
const V_SYSSIZE: u16 = 0x0204;
const V_RELOCATABLE: u16 = 0x0205;
const V_CMDLINE_SIZE: u16 = 0x0206;
const V_PAYLOAD: u16 = 0x0208;
const V_INIT_SIZE: u16 = 0x020a;
const V_XLOADFLAGS: u16 = 0x020c;
/// What kernels take that are too old to say so.
const OLD_CMDLINE_MAX: u32 = 255;

/// The setup header, with nothing in it that the image did not have.
pub struct Header {
    fields: SetupHeader,
    bytes: Vec<u8>,
}

impl Header {
    /// Recognises a bzImage by its two magic numbers.
    pub fn find(head: &[u8]) -> Option<Self> {
        let magic = |at: usize, magic: &[u8]| head.get(at..at + magic.len()) == Some(magic);
        if !magic(0x1fe, &BOOT_FLAG.to_le_bytes()) || !magic(0x202, &HDRS.to_le_bytes()) {
            return None;
        }
        // The header ends where the jump before the magic number leads to.
        let end = (0x202 + usize::from(*head.get(0x201)?)).min(HEADER_END);
        let mut bytes = head.get(HEADER..end.min(head.len()))?.to_vec();
        bytes.truncate(size_of::<SetupHeader>());
        let mut fields = SetupHeader::new_zeroed();
        fields.as_mut_bytes()[..bytes.len()].copy_from_slice(&bytes);
        Some(Self { fields, bytes })
    }

    /// A field's value, if the protocol's version has the field.
    fn since<T>(&self, version: u16, value: T) -> Option<T> {
        (self.fields.version >= version).then_some(value)
    }

    fn is_64bit(&self) -> bool {
        self.since(V_XLOADFLAGS, self.fields.xloadflags).is_some_and(|f| f & XLF_KERNEL_64 != 0)
    }

    fn cmdline_max(&self) -> usize {
        self.since(V_CMDLINE_SIZE, self.fields.cmdline_size).unwrap_or(OLD_CMDLINE_MAX) as usize
    }

    fn initrd_limit(&self) -> u64 {
        u64::from(self.fields.initrd_addr_max) + 1
    }
}

/// The part of the file that runs, and where it goes.
struct Kernel {
    offset: u64,
    size: u64,
    load_addr: u64,
    /// The memory that it needs from there on before it looks at the memory map.
    needs: u64,
}

pub fn prepare(request: &Request<'_>, header: &Header, draft: &mut Draft) -> Result<Loaded, Error> {
    let kernel = check(request, header)?;
    draft
        .space
        .claim("the kernel", kernel.load_addr, kernel.needs)
        .map_err(|error| space_error(&request.source, error))?;
    if request.config.unpack != Unpack::Guest {
        match enter_unpacked(request, header, &kernel, draft) {
            Ok(loaded) => return Ok(loaded),
            Err(Attempt::Hopeless(error)) => return Err(error),
            Err(Attempt::Fault(fault)) if request.config.unpack == Unpack::Host => {
                return Err(request.source.fault(fault));
            }
            Err(Attempt::DoesNotPay) => {}
            Err(Attempt::Fault(fault)) => {
                draft.notes.push(format!("the guest unpacks its kernel itself ({fault})"));
            }
        }
    }
    let what = "the kernel's protected-mode part";
    let memory = (kernel.load_addr, kernel.needs);
    draft.claimed_segment(what, &request.source, (kernel.offset, kernel.size), memory);
    let (protocol, entry) = match header.is_64bit() {
        true => (Protocol::Linux64, kernel.load_addr + ENTRY_64),
        false => (Protocol::Linux32, kernel.load_addr),
    };
    enter_by_linux(request, header, draft, protocol, entry)
}

fn enter_by_linux(
    request: &Request<'_>,
    header: &Header,
    draft: &mut Draft,
    protocol: Protocol,
    entry: u64,
) -> Result<Loaded, Error> {
    elf_kernel::refuse_modules(request)?;
    let initrd = place_initrd(request.config, draft, header.initrd_limit())?;
    let long = protocol == Protocol::Linux64;
    let cmdline = request.config.cmdline.as_deref();
    let handover =
        linux::Handover::place(cmdline, header.cmdline_max(), header.bytes.clone(), long, draft)?;
    let handover = Arc::new(handover);
    Ok(Loaded {
        format: Format::BzImage,
        protocol,
        entry,
        initrd,
        unpacked: None,
        dtb: None,
        handover,
    })
}

/// Checks the header against the file.
fn check(request: &Request<'_>, header: &Header) -> Result<Kernel, Error> {
    let fault = |field: &'static str, problem: String| {
        Err(request.source.fault(Fault::new(field, problem)))
    };
    let Header { fields, .. } = header;
    let (version, file) = (fields.version, request.source.len);
    if version < V_SYSSIZE {
        let (major, minor) = (version >> 8, version & 0xff);
        return fault(
            "version",
            format!(
                "boot protocol {major}.{minor:02} is older than 2.04; a kernel from Linux 2.6.14 on will do"
            ),
        );
    }
    if fields.loadflags & LOADED_HIGH == 0 {
        return fault("loadflags", "this is a zImage, loaded below 1 MiB; build a bzImage".into());
    }
    let sects = match fields.setup_sects {
        0 => DEFAULT_SETUP_SECTS,
        sects => sects,
    };
    let offset = (u64::from(sects) + 1) * SECTOR;
    if offset >= file {
        let sects = fields.setup_sects;
        return fault(
            "setup_sects",
            format!("{sects} sectors leave nothing of the file's {file} bytes"),
        );
    }
    let size = u64::from(fields.syssize) * PARAGRAPH;
    if size <= ENTRY_64 {
        return fault("syssize", format!("{size:#x} bytes are no kernel"));
    }
    // The last paragraph need not be a whole one.
    if offset + size > file.next_multiple_of(PARAGRAPH) {
        return fault(
            "syssize",
            format!(
                "{size:#x} bytes from offset {offset:#x} on exceed the file's {file:#x} bytes; was it cut short?"
            ),
        );
    }
    let size = size.min(file - offset);
    let load_addr = load_addr(request, header)?;
    let needs = header.since(V_INIT_SIZE, fields.init_size).map_or(0, u64::from).max(size);
    Ok(Kernel { offset, size, load_addr, needs })
}

/// Where the kernel prefers to be; it would move there by itself if it were put below.
fn load_addr(request: &Request<'_>, header: &Header) -> Result<u64, Error> {
    let fault = |field: &'static str, problem: String| {
        Err(request.source.fault(Fault::new(field, problem)))
    };
    let Header { fields, .. } = header;
    let alignment = fields.kernel_alignment;
    if header.since(V_RELOCATABLE, fields.relocatable_kernel).is_some_and(|yes| yes != 0)
        && !alignment.is_power_of_two()
    {
        return fault("kernel_alignment", format!("{alignment:#x} is no power of two"));
    }
    let load_addr =
        header.since(V_INIT_SIZE, fields.pref_address).unwrap_or(fields.code32_start.into());
    if load_addr < layout::HIGH_MEMORY || load_addr % 16 != 0 {
        return fault(
            "pref_address",
            format!("{load_addr:#x} must be at least 1 MiB, and aligned"),
        );
    }
    Ok(load_addr)
}

/// Why the kernel inside was not entered.
enum Attempt {
    /// It cannot be unpacked here; the guest may know how.
    Fault(Fault),
    /// The guest is faster at it.
    DoesNotPay,
    /// It would be in vain to try the guest's way.
    Hopeless(Error),
}

fn enter_unpacked(
    request: &Request<'_>,
    header: &Header,
    kernel: &Kernel,
    draft: &mut Draft,
) -> Result<Loaded, Attempt> {
    let Header { fields, .. } = header;
    let payload = header
        .since(V_PAYLOAD, (fields.payload_offset, fields.payload_length))
        .filter(|(_, length)| *length > 0)
        .ok_or_else(|| Fault::new("payload_length", "there is no compressed payload in it"))
        .map_err(Attempt::Fault)?;
    let (offset, len) = (u64::from(payload.0), u64::from(payload.1));
    if offset + len > kernel.size {
        let size = kernel.size;
        let problem = format!("{len:#x} bytes at {offset:#x} exceed the kernel's {size:#x} bytes");
        return Err(Attempt::Fault(Fault::new("payload_length", problem)));
    }
    let payload = Payload {
        offset: kernel.offset + offset,
        len,
        max_size: kernel.needs,
        length: Length::Behind,
    };
    let effort = match request.config.unpack {
        Unpack::Host => Effort::Always,
        Unpack::Auto | Unpack::Guest => Effort::IfItPays,
    };
    let unpack = || {
        unpack::unpack(&request.source, payload, request.cache, effort)
            .map_err(Attempt::Fault)?
            .ok_or(Attempt::DoesNotPay)
    };
    let (mut image, mut unpacked) = unpack()?;
    let mut parsed = elf::parse(&image, elf_kernel::MACHINES);
    if let (Err(error), Some(path), true) = (&parsed, &unpacked.cache, unpacked.cache_hit) {
        log::warn!("{error}; it is unpacked again");
        if let Some(cache) = request.cache {
            cache.remove(path);
        }
        (image, unpacked) = unpack()?;
        parsed = elf::parse(&image, elf_kernel::MACHINES);
    }
    let elf = parsed.map_err(|error| inside(&error))?;
    // Its segments must stay in what was claimed for the kernel by init_size.
    let claimed = kernel.load_addr..kernel.load_addr.saturating_add(kernel.needs);
    let stray = elf
        .segments
        .iter()
        .find(|s| s.paddr < claimed.start || s.paddr.saturating_add(s.mem_size) > claimed.end);
    if let Some(segment) = stray {
        let problem = format!(
            "segment {} at {:#x} is not within {:#x}-{:#x}, the kernel's memory by init_size",
            segment.index, segment.paddr, claimed.start, claimed.end
        );
        return Err(Attempt::Fault(Fault::new("the kernel inside", problem)));
    }
    let entry = elf_kernel::choose(&image, &elf).map_err(|error| inside(&error))?;
    for segment in &elf.segments {
        let what = format!("segment {} of the kernel", segment.index);
        let memory = (segment.paddr, segment.mem_size);
        draft.claimed_segment(what, &image, (segment.offset, segment.file_size), memory);
    }
    let loaded = match entry {
        elf_kernel::Entry::Pvh(entry) => elf_kernel::enter_by_pvh(
            request,
            draft,
            entry,
            header.initrd_limit(),
            header.cmdline_max(),
        ),
        elf_kernel::Entry::Linux64(entry) => {
            enter_by_linux(request, header, draft, Protocol::Linux64, entry)
        }
    };
    let loaded = loaded.map_err(Attempt::Hopeless)?;
    Ok(Loaded { format: Format::BzImage, unpacked: Some(unpacked), ..loaded })
}

fn inside(error: &Error) -> Attempt {
    let problem = match error {
        Error::Image { role: Role::Kernel, fault, .. } => fault.to_string(),
        other => other.to_string(),
    };
    Attempt::Fault(Fault::new("the kernel inside", problem))
}
