use std::{fs, sync::mpsc};

use parking_lot::Mutex;
use proptest::prelude::*;
use tempfile::TempDir;
use zerocopy::FromBytes;

use super::*;
use crate::virtio::{
    fs::{
        Fs, FsConfig,
        filesystem::{Attributes, Entry, HandleId, Listed, NodeId, Opened, Statistics},
        passthrough::Passthrough,
        testing::Guest,
        wire::{OutHeader, ROOT},
    },
    testing::Driver,
};

fn share() -> (TempDir, Guest) {
    let dir = TempDir::new().unwrap();
    fs::create_dir(dir.path().join("share")).unwrap();
    fs::write(dir.path().join("share/file"), "contents").unwrap();
    fs::write(dir.path().join("outside"), "untouched").unwrap();
    let guest = Guest::new(Passthrough::new(&dir.path().join("share")).unwrap(), false);
    (dir, guest)
}

fn init(major: u32, minor: u32) -> [u8; 64] {
    let mut bytes = [0; 64];
    for (at, value) in [major, minor, 1 << 17, u32::MAX].into_iter().enumerate() {
        bytes[4 * at..][..4].copy_from_slice(&value.to_le_bytes());
    }
    bytes
}

#[test]
fn both_sides_agree_on_what_they_can_do() {
    let (_dir, guest) = share();
    let node = guest.at("file");
    let reply: wire::InitOut = guest.get(opcode::INIT, 0, &[&init(7, 41)]).unwrap();
    assert_eq!((reply.major.get(), reply.minor.get()), (7, 38));
    assert_eq!((reply.max_write.get(), reply.max_pages.get()), (1 << 20, 256));
    assert_eq!(reply.flags.get(), FEATURES);
    // What the driver before it knew is gone.
    assert_eq!(guest.contents(node), Err(libc::ESTALE));
    // A newer one asks again; an older one cannot.
    assert!(guest.get::<wire::InitOut>(opcode::INIT, 0, &[&init(8, 0)]).is_ok());
    for (major, minor) in [(7, 30), (6, 99), (0, 0)] {
        assert_eq!(guest.ask(opcode::INIT, 0, &[&init(major, minor)], 64), Err(libc::EPROTO));
    }
    assert_eq!(guest.ask(opcode::INIT, 0, &[&[7, 0, 0, 0]], 64), Err(libc::EINVAL));
}

#[test]
fn lengths_that_do_not_fit_are_errors() {
    let (_dir, guest) = share();
    let (_, fh) = guest.create(ROOT, "new", libc::O_RDWR).unwrap();
    guest.write(fh, 0, &[1; 5000]).unwrap();
    // As much as there is room for, whatever the request says.
    assert_eq!(guest.read(fh, 0, u32::MAX, 4096).unwrap().len(), 4096);
    assert_eq!(guest.read(fh, 0, 10, 4096).unwrap().len(), 10);
    assert_eq!(guest.read(fh, u64::MAX, 10, 4096), Err(libc::EIO));
    // More to write than was sent.
    let write = wire::WriteIn { fh: fh.into(), size: 11.into(), ..FromZeros::new_zeroed() };
    let bytes = zerocopy::IntoBytes::as_bytes(&write);
    assert_eq!(guest.ask(opcode::WRITE, 0, &[bytes, &[0; 10]], 64), Err(libc::EINVAL));
    assert_eq!(guest.ask(opcode::WRITE, 0, &[&bytes[..39]], 64), Err(libc::EINVAL));
    // No room for the reply: an error if there is room for that.
    let lookup = |room| guest.ask(opcode::LOOKUP, ROOT, &[b"file\0"], room);
    assert_eq!(lookup(127), Err(libc::EOVERFLOW));
    assert!(lookup(128).is_ok());
    assert!(guest.raw(&[0; 39], 4096).is_empty());
    assert!(guest.raw(&[0; 40], 15).is_empty());
    // Names that nothing ends, and a body that is too long for any request.
    assert_eq!(guest.ask(opcode::LOOKUP, ROOT, &[b"file"], 128), Err(libc::EINVAL));
    assert_eq!(guest.ask(opcode::SYMLINK, ROOT, &[b"name\0target"], 128), Err(libc::EINVAL));
    assert_eq!(guest.ask(opcode::LOOKUP, ROOT, &[&[b'x'; 9000]], 128), Err(libc::E2BIG));
    for code in [0, 7, 21, 25, 34, 39, 48, 52, 4096, u32::MAX] {
        assert_eq!(guest.ask(code, ROOT, &[&[0; 64]], 64), Err(libc::ENOSYS));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// No message hurts: each gets a reply that is one, or none.
    #[test]
    fn any_message_gets_a_reply_or_none(
        requests in prop::collection::vec(
            (0_u32..56, 0_u64..4, any::<u32>(), prop::collection::vec(any::<u8>(), 0..140),
             prop::collection::vec(prop::sample::select(&b"file\0..\0/a\xff"[..]), 0..24),
             0_usize..6000),
            1..12,
        ),
    ) {
        let (dir, guest) = share();
        for (code, node, len, value, name, room) in requests {
            let mut header = InHeader {
                opcode: code.into(), nodeid: node.into(), ..FromZeros::new_zeroed()
            };
            // Often right, sometimes short, sometimes anything.
            let right = (40 + value.len() + name.len()) as u32;
            header.len = match len % 4 { 0 => len, 1 => right.min(len % 256), _ => right }.into();
            let request = [zerocopy::IntoBytes::as_bytes(&header), &value, &name].concat();
            let reply = guest.raw(&request, room);
            if let Ok((out, rest)) = OutHeader::read_from_prefix(&reply) {
                prop_assert_eq!(out.len.get() as usize, reply.len());
                prop_assert!((-511..=0).contains(&out.error.get()));
                prop_assert!(out.error.get() == 0 || rest.is_empty());
            } else {
                prop_assert!(reply.is_empty());
            }
        }
        let mut names: Vec<_> = fs::read_dir(dir.path()).unwrap()
            .map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        prop_assert_eq!(names, ["outside", "share"]);
        prop_assert_eq!(fs::read(dir.path().join("outside")).unwrap(), b"untouched");
    }
}

/// A request's bytes.
fn request(code: u32, node: u64, body: &[u8]) -> Vec<u8> {
    let header = InHeader {
        len: ((40 + body.len()) as u32).into(),
        opcode: code.into(),
        nodeid: node.into(),
        unique: 5.into(),
        ..FromZeros::new_zeroed()
    };
    [zerocopy::IntoBytes::as_bytes(&header), body].concat()
}

#[test]
fn a_device_serves_both_queues_and_again_after_a_reset() {
    let (dir, _) = share();
    let (path, tag) = (dir.path().join("share"), "a tag".to_owned());
    let config = FsConfig { path, tag, readonly: false, discard: false };
    let device = Arc::new(Fs::new("fs0".to_owned(), &config).unwrap());
    let mut driver = Driver::new(device, 0);
    for _ in 0..3 {
        let reply = driver.request(1, &[&request(opcode::LOOKUP, ROOT, b"file\0")], &[16, 128]);
        assert_eq!(reply.len(), 144);
        let entry = wire::EntryOut::read_from_bytes(&reply[16..]).unwrap();
        let forget = request(opcode::FORGET, entry.nodeid.get(), &1_u64.to_le_bytes());
        assert!(driver.request(0, &[&forget[..40], &forget[40..]], &[]).is_empty());
        driver.control.set_status(0);
        driver.begin(0);
    }
}

/// A file system with one file, whose attributes take as long as somebody says.
struct Slow(Mutex<mpsc::Receiver<()>>);

impl FileSystem for Slow {
    fn lookup(&self, _: NodeId, _: crate::virtio::fs::filesystem::Name<'_>) -> Result<Entry> {
        Ok(Entry { node: 2, attributes: Attributes::default() })
    }
    fn attributes(&self, _: NodeId, _: Option<HandleId>) -> Result<Attributes> {
        self.0.lock().recv().map_err(|_| Errno::IO)?;
        Ok(Attributes::default())
    }
    fn forget(&self, _: NodeId, _: u64) {}
    fn forget_all(&self) {}
    fn open(&self, _: NodeId, _: u32) -> Result<Opened> {
        Err(Errno::IO)
    }
    fn read(&self, _: HandleId, _: u64, _: &GuestBuffer) -> Result<usize> {
        Err(Errno::IO)
    }
    fn close(&self, _: HandleId) {}
    fn open_dir(&self, _: NodeId) -> Result<HandleId> {
        Err(Errno::IO)
    }
    fn read_dir(
        &self,
        _: HandleId,
        _: u64,
        _: usize,
        _: &mut dyn FnMut(&Listed<'_>) -> bool,
    ) -> Result {
        Err(Errno::IO)
    }
    fn close_dir(&self, _: HandleId) {}
    fn statistics(&self) -> Result<Statistics> {
        Err(Errno::IO)
    }
}

#[test]
fn a_slow_file_keeps_nobody_else_waiting_and_a_reset_waits_for_it() {
    let (done, wait) = mpsc::channel();
    let files = Arc::new(Slow(Mutex::new(wait)));
    let device = Arc::new(Fs::of("fs0", "slow", Server::new(files, false)));
    let mut driver = Driver::new(device, 0);
    let slow = driver.push(1, &[&request(opcode::GETATTR, 2, &[0; 16])], &[16, 104]);
    driver.kick(1);
    for _ in 0..10 {
        let reply = driver.request(1, &[&request(opcode::LOOKUP, ROOT, b"file\0")], &[16, 128]);
        assert_eq!(reply.len(), 144);
    }
    done.send(()).unwrap();
    assert_eq!(driver.wait_used(1), (slow, 120));
    // The next one ends only with its file system's answer, and so does the reset.
    driver.push(1, &[&request(opcode::GETATTR, 2, &[0; 16])], &[16, 104]);
    driver.kick(1);
    std::thread::scope(|scope| {
        let reset = scope.spawn(|| driver.control.set_status(0));
        done.send(()).unwrap();
        reset.join().unwrap();
    });
}
