//! ELF files as kernels: the headers, checked against the file before anything trusts them.
//!
//! System V ABI, chapters 4 and 5; the Xen note is Xen's `xen/include/public/elfnote.h`.

use super::{
    error::{Error, Fault},
    file::ImageSource,
};

/// All that a kernel's program headers ever take, many times over.
const MAX_HEADERS: u16 = 512;
/// Linux has about 500 bytes of notes.
const MAX_NOTES: u64 = 64 * 1024;

pub const EM_386: u16 = 3;
pub const EM_X86_64: u16 = 62;
pub const EM_AARCH64: u16 = 183;
pub const EM_RISCV: u16 = 243;

const EI_CLASS: usize = 4;
const EI_DATA: usize = 5;
const ELFDATA2LSB: u8 = 1;
const ET_EXEC: u16 = 2;
const ET_DYN: u16 = 3;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const XEN_ELFNOTE_PHYS32_ENTRY: u32 = 18;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Elf32,
    Elf64,
}

/// What to put where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadSegment {
    /// Its program header's number.
    pub index: usize,
    pub offset: u64,
    pub file_size: u64,
    pub vaddr: u64,
    pub paddr: u64,
    /// In bytes; what exceeds `file_size` is zero.
    pub mem_size: u64,
}

/// An ELF file whose headers are in order. That segments lie in RAM and apart from each other is
/// for the one who places them to check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elf {
    pub class: Class,
    /// `e_entry` as a physical address.
    pub entry: u64,
    pub segments: Vec<LoadSegment>,
    /// The physical entry point of the Xen note for PVH.
    pub pvh_entry: Option<u64>,
    /// Whether a note says that this is Linux.
    pub is_linux: bool,
}

/// Whether a file that begins so is an ELF file.
pub fn is_elf(head: &[u8]) -> bool {
    head.starts_with(b"\x7fELF")
}

/// Reads and checks the headers of an ELF file for one of `machines`.
pub fn parse(source: &ImageSource, machines: &[(Class, u16)]) -> Result<Elf, Error> {
    let head = source.head(64)?;
    let fault = |field, problem: String| Err(source.fault(Fault::new(field, problem)));
    if !is_elf(&head) {
        return fault("e_ident", "this is no ELF file".into());
    }
    let class = match head.get(EI_CLASS) {
        Some(1) => Class::Elf32,
        Some(2) => Class::Elf64,
        other => return fault("EI_CLASS", format!("{} is no known class", shown(other))),
    };
    match head.get(EI_DATA) {
        Some(&ELFDATA2LSB) => {}
        Some(2) => {
            return fault(
                "EI_DATA",
                "this is a big-endian image; the machine is little-endian".into(),
            );
        }
        other => return fault("EI_DATA", format!("{} is no known byte order", shown(other))),
    }
    let header = Fields { bytes: &head, class };
    if head.len() < header.size(52, 64) {
        return fault(
            "e_ident",
            format!("the file ends inside the header, after {} bytes", head.len()),
        );
    }
    let machine = header.u16(18, 18);
    if !machines.contains(&(class, machine)) {
        return fault("e_machine", format!("this is {}", machine_name(class, machine)));
    }
    let kind = header.u16(16, 16);
    if kind != ET_EXEC && kind != ET_DYN {
        let problem = "is neither an executable (2) nor a shared object (3); was it linked?";
        return fault("e_type", format!("{kind} {problem}"));
    }
    let headers = program_headers(source, &header)?;
    let mut elf = Elf {
        class,
        entry: header.word(24, 24),
        segments: vec![],
        pvh_entry: None,
        is_linux: false,
    };
    for (index, bytes) in headers.chunks_exact(header.size(32, 56)).enumerate() {
        let fields = Fields { bytes, class };
        match fields.u32(0, 0) {
            PT_LOAD => elf.segments.extend(load_segment(source, index, &fields)?),
            PT_NOTE => read_notes(source, index, &fields, &mut elf)?,
            _ => {}
        }
    }
    if elf.segments.is_empty() {
        return fault("e_phnum", "no program header is PT_LOAD: there is nothing to load".into());
    }
    apart(source, &elf.segments)?;
    elf.entry = physical(&elf.segments, elf.entry);
    Ok(elf)
}

impl Elf {
    /// Whether `gpa` lies in what is loaded.
    pub fn holds(&self, gpa: u64) -> bool {
        self.segments.iter().any(|s| gpa.checked_sub(s.paddr).is_some_and(|at| at < s.mem_size))
    }

    /// The first segment's address, if all are such as only kernels have, in the upper half of the
    /// address space, and were not given physical ones beside them.
    pub fn virtual_address(&self) -> Option<u64> {
        let is_virtual = |s: &LoadSegment| s.paddr == s.vaddr && s.paddr >> 63 == 1;
        self.segments.first().filter(|_| self.segments.iter().all(is_virtual)).map(|s| s.paddr)
    }
}

fn shown(byte: Option<&u8>) -> String {
    byte.map_or_else(|| "nothing".into(), u8::to_string)
}

fn program_headers(source: &ImageSource, header: &Fields<'_>) -> Result<Vec<u8>, Error> {
    let fault = |field, problem: String| Err(source.fault(Fault::new(field, problem)));
    let expected = header.size(32, 56);
    let (entry_size, count) = (header.u16(42, 54), header.u16(44, 56));
    if usize::from(entry_size) != expected {
        return fault("e_phentsize", format!("{entry_size} must be {expected}"));
    }
    if count == 0 || count > MAX_HEADERS {
        return fault("e_phnum", format!("{count} must be from 1 to {MAX_HEADERS}"));
    }
    source.read(header.word(28, 32), expected * usize::from(count), "e_phoff")
}

fn load_segment(
    source: &ImageSource,
    index: usize,
    fields: &Fields<'_>,
) -> Result<Option<LoadSegment>, Error> {
    let fault = |field: &str, problem: String| {
        Err(source.fault(Fault::new(format!("{field} of segment {index}"), problem)))
    };
    let segment = LoadSegment {
        index,
        offset: fields.word(4, 8),
        file_size: fields.word(16, 32),
        vaddr: fields.word(8, 16),
        paddr: fields.word(12, 24),
        mem_size: fields.word(20, 40),
    };
    let LoadSegment { offset, file_size, paddr, mem_size, .. } = segment;
    if file_size > mem_size {
        return fault("p_filesz", format!("{file_size:#x} exceeds p_memsz, {mem_size:#x}"));
    }
    if offset.checked_add(file_size).is_none_or(|end| end > source.len) {
        let len = source.len;
        return fault(
            "p_offset",
            format!("{file_size:#x} bytes at offset {offset:#x} exceed the file's {len:#x} bytes"),
        );
    }
    if paddr.checked_add(mem_size).is_none() {
        return fault("p_paddr", format!("{paddr:#x} and p_memsz {mem_size:#x} exceed 64 bits"));
    }
    Ok((mem_size > 0).then_some(segment))
}

/// No two segments may want the same memory.
fn apart(source: &ImageSource, segments: &[LoadSegment]) -> Result<(), Error> {
    let mut sorted: Vec<_> = segments.iter().collect();
    sorted.sort_by_key(|segment| segment.paddr);
    for pair in sorted.windows(2) {
        let (low, high) = (pair[0], pair[1]);
        if low.paddr + low.mem_size > high.paddr {
            let field = format!("p_paddr of segment {}", high.index);
            let (at, other) = (high.paddr, low.index);
            let problem = format!("{at:#x} lies within segment {other}");
            return Err(source.fault(Fault::new(field, problem)));
        }
    }
    Ok(())
}

/// Looks for the notes that matter. A note segment that makes no sense is no reason to refuse the
/// kernel, except where the note that is wanted is itself damaged.
fn read_notes(
    source: &ImageSource,
    index: usize,
    fields: &Fields<'_>,
    elf: &mut Elf,
) -> Result<(), Error> {
    let size = fields.word(16, 32);
    if size == 0 {
        return Ok(());
    }
    if size > MAX_NOTES {
        let field = format!("p_filesz of segment {index}");
        let problem = format!("{size:#x} bytes of notes are more than {MAX_NOTES:#x}");
        return Err(source.fault(Fault::new(field, problem)));
    }
    let align = if fields.word(28, 48) == 8 { 8 } else { 4 };
    let notes = source.read(fields.word(4, 8), size as usize, "p_offset of a note segment")?;
    let notes = Notes { rest: &notes, align };
    for note in notes {
        match (note.name, note.kind) {
            (b"Xen\0", XEN_ELFNOTE_PHYS32_ENTRY) => {
                elf.pvh_entry = Some(match *note.value {
                    [a, b, c, d] => u32::from_le_bytes([a, b, c, d]).into(),
                    [a, b, c, d, e, f, g, h] => u64::from_le_bytes([a, b, c, d, e, f, g, h]),
                    _ => {
                        let len = note.value.len();
                        let problem = format!("its {len} bytes must be 4 or 8");
                        let fault = Fault::new("XEN_ELFNOTE_PHYS32_ENTRY", problem);
                        return Err(source.fault(fault));
                    }
                });
            }
            (b"Linux\0", _) => elf.is_linux = true,
            _ => {}
        }
    }
    Ok(())
}

struct Note<'a> {
    name: &'a [u8],
    kind: u32,
    value: &'a [u8],
}

/// The notes of a segment, up to the first that exceeds it.
struct Notes<'a> {
    rest: &'a [u8],
    align: usize,
}

impl<'a> Iterator for Notes<'a> {
    type Item = Note<'a>;

    fn next(&mut self) -> Option<Note<'a>> {
        let word = |at: usize| {
            let bytes = self.rest.get(at..at + 4)?;
            Some(u32::from_le_bytes(bytes.try_into().ok()?))
        };
        let (name_len, value_len, kind) = (word(0)? as usize, word(4)? as usize, word(8)?);
        let name = self.rest.get(12..12usize.checked_add(name_len)?)?;
        let value_at = (12 + name_len).checked_next_multiple_of(self.align)?;
        let value = self.rest.get(value_at..value_at.checked_add(value_len)?)?;
        let next = (value_at + value_len).checked_next_multiple_of(self.align)?;
        self.rest = self.rest.get(next..).unwrap_or(&[]);
        Some(Note { name, kind, value })
    }
}

/// An entry point as a physical address: kernels that are linked at a virtual address say so there.
fn physical(segments: &[LoadSegment], entry: u64) -> u64 {
    let inside = |base: u64, size| entry.checked_sub(base).filter(|at| *at < size);
    if segments.iter().any(|s| inside(s.paddr, s.mem_size).is_some()) {
        return entry;
    }
    let translated = |s: &LoadSegment| Some(s.paddr + inside(s.vaddr, s.mem_size)?);
    segments.iter().find_map(translated).unwrap_or(entry)
}

/// Little-endian fields at the offsets that they have in the 32-bit and in the 64-bit format.
struct Fields<'a> {
    bytes: &'a [u8],
    class: Class,
}

impl Fields<'_> {
    fn size(&self, in32: usize, in64: usize) -> usize {
        match self.class {
            Class::Elf32 => in32,
            Class::Elf64 => in64,
        }
    }

    fn u16(&self, in32: usize, in64: usize) -> u16 {
        u16::from_le_bytes(self.at(self.size(in32, in64)))
    }

    fn u32(&self, in32: usize, in64: usize) -> u32 {
        u32::from_le_bytes(self.at(self.size(in32, in64)))
    }

    /// A field that is as wide as an address of the class.
    fn word(&self, in32: usize, in64: usize) -> u64 {
        match self.class {
            Class::Elf32 => u32::from_le_bytes(self.at(in32)).into(),
            Class::Elf64 => u64::from_le_bytes(self.at(in64)),
        }
    }

    /// Bytes behind the end are 0; the callers have checked the length of what they read from.
    fn at<const N: usize>(&self, offset: usize) -> [u8; N] {
        let found = self.bytes.get(offset..).and_then(|rest| rest.first_chunk::<N>());
        found.copied().unwrap_or([0; N])
    }
}

fn machine_name(class: Class, machine: u16) -> String {
    let name = match machine {
        3 => "x86",
        8 => "MIPS",
        20 => "PowerPC",
        21 => "64-bit PowerPC",
        22 => "s390",
        40 => "Arm",
        43 => "SPARC",
        62 => "x86_64",
        183 => "aarch64",
        243 => "RISC-V",
        258 => "LoongArch",
        _ => return format!("an image for machine {machine}, which this guest is not"),
    };
    let bits = if class == Class::Elf32 { "32" } else { "64" };
    format!("a {bits}-bit image for {name}, which this guest is not")
}
