//! Stand-ins and image generators for the tests of this part.

use std::{fs, path::PathBuf};

use tempfile::TempDir;

use crate::{
    addr::{GuestPhysAddr, GuestPhysAddrRange, MappingFlags},
    addrspace::{AddrSpace, testing},
    hal::Arch,
    vm::config::{ImageFile, KernelConfig, Unpack},
};

use super::{BootPlan, Error, FirmwareInfo, MemKind, MemMapEntry, cache::Cache};

/// The guest's RAM in tests.
pub const RAM: u64 = 64 << 20;
/// What a device tree may have, where there is one.
pub const DTB_ROOM: u64 = 0x1_0000;

pub fn range(first: u64, size: u64) -> GuestPhysAddrRange {
    GuestPhysAddrRange::new(GuestPhysAddr(first), size).unwrap()
}

/// Fresh guest memory.
pub fn memory() -> AddrSpace {
    memory_at(0)
}

/// The same with RAM from `base` on.
pub fn memory_at(base: u64) -> AddrSpace {
    let mem = testing::empty();
    let flags = MappingFlags::READ | MappingFlags::WRITE | MappingFlags::EXECUTE;
    mem.map_alloc(GuestPhysAddr(base), RAM, flags, true).unwrap();
    mem
}

pub fn firmware() -> FirmwareInfo {
    let entry = |first, size, kind| MemMapEntry { range: range(first, size), kind };
    FirmwareInfo {
        rsdp: Some(GuestPhysAddr(0xe_0000)),
        memory_map: vec![
            entry(0, 0x9_fc00, MemKind::Ram),
            entry(0x9_fc00, 0x6_0400, MemKind::Reserved),
            entry(0x10_0000, RAM - 0x10_0000, MemKind::Ram),
        ],
    }
}

pub fn bytes_at(mem: &AddrSpace, gpa: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    mem.read(GuestPhysAddr(gpa), &mut bytes).unwrap();
    bytes
}

pub fn u32_at(mem: &AddrSpace, gpa: u64) -> u32 {
    u32::from_le_bytes(bytes_at(mem, gpa, 4).try_into().unwrap())
}

pub fn u64_at(mem: &AddrSpace, gpa: u64) -> u64 {
    u64::from_le_bytes(bytes_at(mem, gpa, 8).try_into().unwrap())
}

pub fn string_at(mem: &AddrSpace, gpa: u64) -> String {
    let bytes = bytes_at(mem, gpa, 4096);
    String::from_utf8(bytes.split(|byte| *byte == 0).next().unwrap().to_vec()).unwrap()
}

/// A directory with files to boot from, and a configuration that names them.
pub struct Bench {
    pub dir: TempDir,
    pub config: KernelConfig,
    pub arch: Arch,
    pub ram: Vec<GuestPhysAddrRange>,
}

impl Bench {
    pub fn new(kernel: &[u8]) -> Self {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("kernel");
        fs::write(&path, kernel).unwrap();
        let config = KernelConfig {
            image: ImageFile { path, load_addr: None },
            entry_point: None,
            cmdline: None,
            ramdisk: None,
            bios: None,
            dtb: None,
            dtb_patch: vec![],
            modules: vec![],
            unpack: Unpack::Auto,
        };
        Self { dir, config, arch: Arch::X86_64, ram: vec![range(0, RAM)] }
    }

    pub fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    pub fn initrd(mut self, bytes: &[u8]) -> Self {
        self.config.ramdisk = Some(ImageFile { path: self.file("initrd", bytes), load_addr: None });
        self
    }

    pub fn cmdline(mut self, cmdline: &str) -> Self {
        self.config.cmdline = Some(cmdline.into());
        self
    }

    /// For a guest of `arch`, with its RAM where `virt` boards have it.
    pub fn arch(mut self, arch: Arch) -> Self {
        let base = match arch {
            Arch::X86_64 => 0,
            Arch::Aarch64 => 0x4000_0000,
            Arch::Riscv64 => 0x8000_0000,
        };
        self.arch = arch;
        self.ram = vec![range(base, RAM)];
        self
    }

    pub fn load_addr(mut self, gpa: u64) -> Self {
        self.config.image.load_addr = Some(GuestPhysAddr(gpa));
        self
    }

    pub fn unpack(mut self, unpack: Unpack) -> Self {
        self.config.unpack = unpack;
        self
    }

    pub fn cache(&self) -> Cache {
        Cache::at(&self.dir.path().join("cache"))
    }

    pub fn prepare(&self) -> Result<BootPlan, Error> {
        self.prepare_with(None)
    }

    pub fn prepare_cached(&self) -> Result<BootPlan, Error> {
        self.prepare_with(Some(&self.cache()))
    }

    fn prepare_with(&self, cache: Option<&Cache>) -> Result<BootPlan, Error> {
        BootPlan::prepare_with(self.arch, &self.config, &self.ram, DTB_ROOM, cache)
    }

    /// The error's text; panics if there is none.
    #[track_caller]
    pub fn refused(&self) -> String {
        self.prepare().unwrap_err().to_string()
    }
}

/// Puts `value` into `bytes` at `offset`.
pub fn put(bytes: &mut [u8], offset: usize, value: &[u8]) {
    bytes[offset..offset + value.len()].copy_from_slice(value);
}

/// xorshift64*: the same damage in every run.
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    /// A few bytes, words or lengths that are not what they were.
    pub fn damage(&mut self, image: &[u8], headers: usize) -> Vec<u8> {
        let mut image = image.to_vec();
        for _ in 0..1 + self.below(4) {
            // Headers are where decisions are made.
            let limit = if self.below(4) > 0 { headers.min(image.len()) } else { image.len() };
            let at = self.below(limit);
            let extreme = [0, 1, 0x7fff_ffff, 0x8000_0000, u64::MAX, u64::MAX - 0xfff];
            match self.below(4) {
                0 => image[at] ^= 1 << self.below(8),
                1 => image[at] = self.next() as u8,
                2 => {
                    let value = extreme[self.below(extreme.len())].to_le_bytes();
                    let len = [2, 4, 8][self.below(3)].min(image.len() - at);
                    put(&mut image, at, &value[..len]);
                }
                _ if self.below(8) == 0 => image.truncate(at.max(1)),
                _ => image[at] = image[at].wrapping_add(1),
            }
        }
        image
    }
}

/// A Xen note: the PVH entry point if `kind` is 18.
pub fn xen_note(kind: u32, value: &[u8]) -> Vec<u8> {
    let mut note = Vec::new();
    for word in [4, value.len() as u32, kind] {
        note.extend(word.to_le_bytes());
    }
    note.extend(b"Xen\0");
    note.extend(value);
    note
}

/// A program header for [`elf64`]: type, physical address, content, what follows in memory.
pub struct Part {
    pub kind: u32,
    pub paddr: u64,
    pub content: Vec<u8>,
    pub zeros: u64,
}

impl Part {
    pub fn load(paddr: u64, content: &[u8], zeros: u64) -> Self {
        Self { kind: 1, paddr, content: content.to_vec(), zeros }
    }

    /// Where a PC's kernels are linked; other machines' run where they are.
    fn vaddr(&self) -> u64 {
        let high = if self.paddr < 0x4000_0000 { 0xffff_ffff_8000_0000 } else { 0 };
        high | self.paddr
    }

    pub fn note(content: Vec<u8>) -> Self {
        Self { kind: 4, paddr: 0, content, zeros: 0 }
    }
}

/// An ELF64 executable for x86_64: each part's content at the next page of the file, virtual
/// addresses 2 GiB below the top as Linux has them.
pub fn elf64(entry: u64, parts: &[Part]) -> Vec<u8> {
    let mut elf = vec![0; 64 + 56 * parts.len()];
    put(&mut elf, 0, b"\x7fELF\x02\x01\x01");
    put(&mut elf, 16, &2u16.to_le_bytes());
    put(&mut elf, 18, &62u16.to_le_bytes());
    put(&mut elf, 20, &1u32.to_le_bytes());
    put(&mut elf, 24, &entry.to_le_bytes());
    put(&mut elf, 32, &64u64.to_le_bytes());
    put(&mut elf, 52, &64u16.to_le_bytes());
    put(&mut elf, 54, &56u16.to_le_bytes());
    put(&mut elf, 56, &(parts.len() as u16).to_le_bytes());
    for (i, part) in parts.iter().enumerate() {
        elf.resize(elf.len().next_multiple_of(4096), 0);
        let (header, len) = (64 + 56 * i, part.content.len() as u64);
        put(&mut elf, header, &part.kind.to_le_bytes());
        let offset = elf.len() as u64;
        let words = [offset, part.vaddr(), part.paddr, len, len + part.zeros, 4];
        for (n, word) in words.into_iter().enumerate() {
            put(&mut elf, header + 8 + 8 * n, &word.to_le_bytes());
        }
        elf.extend(&part.content);
    }
    elf
}

/// An ELF32 executable for x86 with one segment.
pub fn elf32(entry: u32, paddr: u32, content: &[u8]) -> Vec<u8> {
    let mut elf = vec![0; 52 + 32];
    put(&mut elf, 0, b"\x7fELF\x01\x01\x01");
    put(&mut elf, 16, &2u16.to_le_bytes());
    put(&mut elf, 18, &3u16.to_le_bytes());
    put(&mut elf, 24, &entry.to_le_bytes());
    put(&mut elf, 28, &52u32.to_le_bytes());
    put(&mut elf, 42, &32u16.to_le_bytes());
    put(&mut elf, 44, &1u16.to_le_bytes());
    let len = content.len() as u32;
    for (n, word) in [1, 84, paddr, paddr, len, len + 64, 5, 4].into_iter().enumerate() {
        put(&mut elf, 52 + 4 * n, &word.to_le_bytes());
    }
    elf.extend(content);
    elf
}

/// A bzImage of boot protocol 2.15: 4 KiB of setup, then `code` from its 32-bit entry on, then the
/// payload. It prefers 16 MiB and needs 8 MiB there.
pub fn bzimage(payload: &[u8]) -> Vec<u8> {
    const CODE: usize = 0x1000;
    let mut image = vec![0; 0x1000 + CODE];
    image[0x1f1] = 7;
    put(&mut image, 0x1fe, &[0x55, 0xaa, 0xeb, 0x6a]);
    put(&mut image, 0x202, b"HdrS\x0f\x02");
    image[0x211] = 1;
    put(&mut image, 0x214, &0x10_0000u32.to_le_bytes());
    put(&mut image, 0x22c, &0x7fff_ffffu32.to_le_bytes());
    put(&mut image, 0x230, &0x20_0000u32.to_le_bytes());
    image[0x234] = 1;
    put(&mut image, 0x236, &1u16.to_le_bytes());
    put(&mut image, 0x238, &2047u32.to_le_bytes());
    put(&mut image, 0x248, &(CODE as u32).to_le_bytes());
    put(&mut image, 0x24c, &(payload.len() as u32).to_le_bytes());
    put(&mut image, 0x258, &0x100_0000u64.to_le_bytes());
    put(&mut image, 0x260, &0x80_0000u32.to_le_bytes());
    put(&mut image, 0x1000 + 0x200, b"64-bit entry");
    image.extend(payload);
    image.resize(image.len().next_multiple_of(16), 0);
    let syssize = (image.len() - 0x1000) as u32 / 16;
    put(&mut image, 0x1f4, &syssize.to_le_bytes());
    image
}

/// The kernel inside of a bzImage as [`bzimage`] makes it, with a PVH note if wanted.
pub fn inner_elf(pvh: bool) -> Vec<u8> {
    let code: Vec<u8> = (0..200_000u32).flat_map(|i| (i / 7).to_le_bytes()).collect();
    let mut parts = vec![Part::load(0x100_0000, &code, 0x1000), Part::load(0x120_0000, b"data", 0)];
    if pvh {
        parts.push(Part::note(xen_note(18, &0x100_0040u64.to_le_bytes())));
    }
    elf64(0x100_0000, &parts)
}

/// Packs as xz does, in chunks that are stored (the .xz file format 1.2.1).
pub fn xz(bytes: &[u8]) -> Vec<u8> {
    fn with_crc(mut bytes: Vec<u8>, covered: &[u8]) -> Vec<u8> {
        let mut crc = flate2::Crc::new();
        crc.update(covered);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes.extend(crc.sum().to_le_bytes());
        bytes
    }
    fn multibyte(to: &mut Vec<u8>, mut value: usize) {
        while value >= 0x80 {
            to.push(value as u8 | 0x80);
            value >>= 7;
        }
        to.push(value as u8);
    }
    const CRC32: [u8; 2] = [0, 1];
    let header = vec![2, 0, 0x21, 1, 0x16, 0, 0, 0]; // 12 bytes, LZMA2, a dictionary of 8 MiB
    let mut block = with_crc(header.clone(), &header);
    for (i, chunk) in bytes.chunks(1 << 16).enumerate() {
        block.push(if i == 0 { 1 } else { 2 });
        block.extend((chunk.len() as u16).wrapping_sub(1).to_be_bytes());
        block.extend(chunk);
    }
    block.push(0);
    let mut index = vec![0, 1];
    multibyte(&mut index, block.len() + 4);
    multibyte(&mut index, bytes.len());
    index.resize(index.len().next_multiple_of(4), 0);
    let index = with_crc(index.clone(), &index);
    let backward = (index.len() as u32 / 4 - 1).to_le_bytes();
    let mut footer = with_crc(Vec::new(), &[&backward[..], &CRC32].concat());
    footer.extend(backward);
    footer.extend(CRC32);
    footer.extend(b"YZ");
    let start = with_crc([b"\xfd7zXZ\0", &CRC32[..]].concat(), &CRC32);
    [start, with_crc(block, bytes), index, footer].concat()
}

fn with_size(mut packed: Vec<u8>, size: usize) -> Vec<u8> {
    packed.extend((size as u32).to_le_bytes());
    packed
}

/// Packs as Linux does: the legacy frame of LZ4, blocks of 8 MiB.
pub fn lz4(bytes: &[u8]) -> Vec<u8> {
    let mut packed = 0x184c_2102u32.to_le_bytes().to_vec();
    for block in bytes.chunks(8 << 20) {
        let block = lz4_flex::block::compress(block);
        packed.extend((block.len() as u32).to_le_bytes());
        packed.extend(block);
    }
    with_size(packed, bytes.len())
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    let level = ruzstd::encoding::CompressionLevel::Fastest;
    with_size(ruzstd::encoding::compress_to_vec(bytes, level), bytes.len())
}
