mod faults;
mod images;
mod model;
mod requests;

use std::{
    fs::File,
    os::fd::BorrowedFd,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::{
    Block, BlockConfig,
    image::{Image, ImageFormat},
    open,
};
use crate::{
    addrspace::GuestBuffer,
    virtio::{VirtioDevice, testing::Driver},
};

pub const OK: u8 = 0;
pub const IOERR: u8 = 1;
pub const UNSUPP: u8 = 2;

pub const IN: u32 = 0;
pub const OUT: u32 = 1;
pub const FLUSH: u32 = 4;
pub const GET_ID: u32 = 8;
pub const DISCARD: u32 = 11;
pub const WRITE_ZEROES: u32 = 13;

/// How many bytes the disks have.
pub const SIZE: u64 = 4 << 20;

/// What does a disk's operations.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Way {
    /// A raw image, by io_uring where the host has it.
    Raw,
    /// The same by threads.
    RawByThreads,
    /// A qcow2 image.
    Qcow2,
}

pub const WAYS: [Way; 3] = [Way::Raw, Way::RawByThreads, Way::Qcow2];

/// An image that does not tell of its file, so that threads have to do.
struct Opaque(Box<dyn Image>);

impl Image for Opaque {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn file(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn read(&self, offset: u64, to: GuestBuffer) -> std::io::Result<()> {
        self.0.read(offset, to)
    }

    fn write(&self, offset: u64, from: GuestBuffer) -> std::io::Result<()> {
        self.0.write(offset, from)
    }

    fn flush(&self) -> std::io::Result<()> {
        self.0.flush()
    }

    fn discard(&self, offset: u64, len: u64) -> std::io::Result<()> {
        self.0.discard(offset, len)
    }

    fn write_zeroes(&self, offset: u64, len: u64, unmap: bool) -> std::io::Result<()> {
        self.0.write_zeroes(offset, len, unmap)
    }
}

/// A folder with images in it.
pub struct Images(TempDir);

impl Images {
    pub fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn raw(&self, name: &str, size: u64) -> PathBuf {
        let path = self.path(name);
        File::create(&path).unwrap().set_len(size).unwrap();
        path
    }

    /// A qcow2 image, which names what backs it, if anything, and the format of that.
    pub fn qcow2(&self, name: &str, size: u64, backing: Option<(&str, &str)>) -> PathBuf {
        use imago::{FormatCreateBuilder, Storage, StorageCreateOptions, qcow2::Qcow2};
        let path = self.path(name);
        let options = StorageCreateOptions::new().filename(&path).overwrite(true);
        let file = imago::file::File::create_open(options).unwrap();
        let mut builder = Qcow2::<imago::file::File>::create_builder(file).size(size);
        if let Some((name, format)) = backing {
            builder = builder.backing(name.to_owned(), format.to_owned());
        }
        builder.create().unwrap();
        path
    }

    pub fn config(&self, way: Way) -> BlockConfig {
        let (path, format) = match way {
            Way::Raw | Way::RawByThreads => (self.raw("disk.raw", SIZE), ImageFormat::Raw),
            Way::Qcow2 => (self.qcow2("disk.qcow2", SIZE, None), ImageFormat::Qcow2),
        };
        BlockConfig::new(path, format)
    }

    /// A fresh disk of this kind.
    pub fn disk(&self, way: Way) -> Block {
        disk(way, &self.config(way))
    }
}

/// A disk called `disk0`.
pub fn disk(way: Way, config: &BlockConfig) -> Block {
    let mut block = Block::new("disk0".to_owned(), config, 1).unwrap();
    if way == Way::RawByThreads {
        // Its lock must be free first.
        block.image = Arc::new(Nothing);
        block.image = Arc::new(Opaque(open(config).unwrap()));
    }
    block
}

/// An image of nothing.
pub struct Nothing;

impl Image for Nothing {
    fn size(&self) -> u64 {
        SIZE
    }

    fn read(&self, _: u64, _: GuestBuffer) -> std::io::Result<()> {
        Err(std::io::ErrorKind::Unsupported.into())
    }

    fn write(&self, _: u64, _: GuestBuffer) -> std::io::Result<()> {
        Err(std::io::ErrorKind::Unsupported.into())
    }

    fn flush(&self) -> std::io::Result<()> {
        Err(std::io::ErrorKind::Unsupported.into())
    }

    fn discard(&self, _: u64, _: u64) -> std::io::Result<()> {
        Err(std::io::ErrorKind::Unsupported.into())
    }

    fn write_zeroes(&self, _: u64, _: u64, _: bool) -> std::io::Result<()> {
        Err(std::io::ErrorKind::Unsupported.into())
    }
}

/// A driver of a disk.
pub struct DiskDriver(pub Driver);

impl DiskDriver {
    pub fn new(block: Block) -> Self {
        Self::without(block, 0)
    }

    /// It does not take these features.
    pub fn without(block: Block, features: u64) -> Self {
        Self(Driver::new(Arc::new(block), features))
    }

    /// A request whose data lies in one piece: the data that comes back, and the status.
    #[track_caller]
    pub fn request(&mut self, kind: u32, sector: u64, out: &[u8], room: u32) -> (Vec<u8>, u8) {
        let header = header(kind, sector);
        let head = self.0.push(0, &[&header, out], &[room, 1]);
        self.0.kick(0);
        let (used, len) = self.0.wait_used(0);
        assert_eq!(used, head);
        let mut written = self.0.written(0, head);
        let status = written.pop().unwrap();
        match status {
            OK if kind != GET_ID => assert_eq!(len, room + 1),
            OK => {}
            _ => assert_eq!(len, 1),
        }
        (written, status)
    }

    #[track_caller]
    pub fn write(&mut self, sector: u64, data: &[u8]) -> u8 {
        self.request(OUT, sector, data, 0).1
    }

    #[track_caller]
    pub fn read(&mut self, sector: u64, len: u32) -> (Vec<u8>, u8) {
        self.request(IN, sector, &[], len)
    }

    #[track_caller]
    pub fn flush(&mut self) -> u8 {
        self.request(FLUSH, 0, &[], 0).1
    }
}

pub fn header(kind: u32, sector: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&kind.to_le_bytes());
    bytes[8..].copy_from_slice(&sector.to_le_bytes());
    bytes
}

/// What a discard or a write of zeroes is about.
pub fn range(sector: u64, sectors: u32, flags: u32) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&sector.to_le_bytes());
    bytes[8..12].copy_from_slice(&sectors.to_le_bytes());
    bytes[12..].copy_from_slice(&flags.to_le_bytes());
    bytes
}

/// How many threads have a name that begins so.
pub fn threads(name: &str) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.flatten().flat_map(|it| std::fs::read_to_string(it.path().join("comm")));
    names.filter(|comm| comm.starts_with(name)).count()
}

/// They are all gone; one that has been joined may still be listed for a moment.
#[track_caller]
pub fn wait_for_no_threads(name: &str) {
    let since = Instant::now();
    while threads(name) != 0 {
        assert!(since.elapsed() < Duration::from_secs(20), "{} of {name}", threads(name));
        thread::sleep(Duration::from_millis(1));
    }
}

/// How many of our file descriptors are this file.
pub fn descriptors(path: &Path) -> usize {
    let all = std::fs::read_dir("/proc/self/fd").unwrap();
    all.flatten().filter(|fd| std::fs::read_link(fd.path()).is_ok_and(|it| it == path)).count()
}

#[test]
fn the_host_of_these_tests_has_io_uring() {
    // Else half of them would test the other half's engine.
    let images = Images::new();
    let block = images.disk(Way::Raw);
    let engine = super::Engine::new("disk0", &block.image, 64).unwrap();
    assert!(matches!(engine, super::Engine::Uring(_)));
    assert_eq!(block.queue_sizes(), [256]);
}
