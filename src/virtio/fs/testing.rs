//! A guest's side of the protocol, for tests: requests to a server through guest memory.

use std::sync::Arc;

use parking_lot::Mutex;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

use super::{
    filesystem::FileSystem,
    server::Server,
    wire::{self, EntryOut, InHeader, OutHeader, opcode},
};
use crate::{
    addr::GuestPhysAddr,
    addrspace::{AddrSpace, GuestBuffer},
    virtio::testing::{RAM, RAM_SIZE, memory},
};

/// Where replies go; requests are before it.
const REPLY: u64 = RAM + RAM_SIZE / 2;

/// A guest with one server.
pub struct Guest {
    memory: Arc<AddrSpace>,
    pub server: Server,
    /// Held for one request at a time, as there is room for one.
    turn: Mutex<()>,
}

impl Guest {
    pub fn new(files: impl FileSystem + 'static, readonly: bool) -> Self {
        let server = Server::new(Arc::new(files), readonly);
        Self { memory: memory(), server, turn: Mutex::default() }
    }

    /// A buffer in two pieces.
    pub fn buffer(&self, gpa: u64, len: usize) -> GuestBuffer {
        let mut buffer = self.memory.device_memory().buffer();
        let first = len / 3;
        for (at, len) in [(0, first), (first, len - first)].into_iter().filter(|it| it.1 > 0) {
            buffer.push(GuestPhysAddr(gpa + at as u64), len as u32).unwrap();
        }
        buffer.build()
    }

    /// The reply to these bytes, for which there is so much room.
    pub fn raw(&self, request: &[u8], room: usize) -> Vec<u8> {
        let _turn = self.turn.lock();
        self.memory.write(GuestPhysAddr(RAM), request).unwrap();
        let (readable, writable) = (self.buffer(RAM, request.len()), self.buffer(REPLY, room));
        let len = self.server.answer(readable, writable);
        let mut reply = vec![0; len as usize];
        self.memory.read(GuestPhysAddr(REPLY), &mut reply).unwrap();
        reply
    }

    /// What comes behind the reply's header, or its error.
    pub fn ask(&self, code: u32, node: u64, body: &[&[u8]], room: usize) -> Result<Vec<u8>, i32> {
        let body = body.concat();
        let header = InHeader {
            len: ((size_of::<InHeader>() + body.len()) as u32).into(),
            opcode: code.into(),
            unique: 77.into(),
            nodeid: node.into(),
            ..FromZeros::new_zeroed()
        };
        let reply = self.raw(&[header.as_bytes(), &body].concat(), size_of::<OutHeader>() + room);
        let (header, rest) = OutHeader::read_from_prefix(&reply).unwrap();
        assert_eq!((header.len.get() as usize, header.unique.get()), (reply.len(), 77));
        match header.error.get() {
            0 => Ok(rest.to_vec()),
            error => {
                assert!(rest.is_empty());
                Err(-error)
            }
        }
    }

    /// The reply as a value.
    pub fn get<T: FromBytes>(&self, code: u32, node: u64, body: &[&[u8]]) -> Result<T, i32> {
        self.ask(code, node, body, 4096).map(|bytes| T::read_from_bytes(&bytes).ok().unwrap())
    }

    pub fn look(&self, dir: u64, name: &str) -> Result<EntryOut, i32> {
        self.get(opcode::LOOKUP, dir, &[name.as_bytes(), &[0]])
    }

    /// The node at a path.
    #[track_caller]
    pub fn at(&self, path: &str) -> u64 {
        let step = |dir, name: &str| self.look(dir, name).unwrap().nodeid.get();
        path.split('/').fold(wire::ROOT, step)
    }

    /// A request of a value and names.
    pub fn with(
        &self,
        code: u32,
        node: u64,
        value: &(impl IntoBytes + Immutable),
        names: &[&str],
    ) -> Result<Vec<u8>, i32> {
        let mut body = value.as_bytes().to_vec();
        for name in names {
            body.extend(name.as_bytes());
            body.push(0);
        }
        self.ask(code, node, &[&body], 4096)
    }

    pub fn open(&self, node: u64, flags: i32) -> Result<wire::OpenOut, i32> {
        let open = wire::OpenIn { flags: (flags as u32).into(), open_flags: 0.into() };
        self.get(opcode::OPEN, node, &[open.as_bytes()])
    }

    /// Makes a file; its node and handle.
    pub fn create(&self, dir: u64, name: &str, flags: i32) -> Result<(u64, u64), i32> {
        let create = wire::CreateIn {
            flags: (flags as u32).into(),
            mode: 0o644.into(),
            ..FromZeros::new_zeroed()
        };
        let reply = self.with(opcode::CREATE, dir, &create, &[name])?;
        let (entry, rest) = EntryOut::read_from_prefix(&reply).unwrap();
        let opened = wire::OpenOut::read_from_bytes(rest).unwrap();
        Ok((entry.nodeid.get(), opened.fh.get()))
    }

    pub fn read(&self, fh: u64, offset: u64, size: u32, room: usize) -> Result<Vec<u8>, i32> {
        let read = read_in(fh, offset, size);
        self.ask(opcode::READ, 0, &[read.as_bytes()], room)
    }

    pub fn write(&self, fh: u64, offset: u64, bytes: &[u8]) -> Result<u32, i32> {
        let write = wire::WriteIn {
            fh: fh.into(),
            offset: offset.into(),
            size: (bytes.len() as u32).into(),
            ..FromZeros::new_zeroed()
        };
        let reply: wire::WriteOut = self.get(opcode::WRITE, 0, &[write.as_bytes(), bytes])?;
        Ok(reply.size.get())
    }

    /// All of a file.
    pub fn contents(&self, node: u64) -> Result<Vec<u8>, i32> {
        let fh = self.open(node, libc::O_RDONLY)?.fh.get();
        let read = self.read(fh, 0, 1 << 20, 1 << 20);
        self.release(opcode::RELEASE, fh);
        read
    }

    pub fn release(&self, code: u32, fh: u64) {
        let release = wire::ReleaseIn { fh: fh.into(), ..FromZeros::new_zeroed() };
        assert_eq!(self.ask(code, 0, &[release.as_bytes()], 0), Ok(vec![]));
    }

    pub fn forget(&self, node: u64, times: u64) {
        let request = InHeader {
            len: 48.into(),
            opcode: opcode::FORGET.into(),
            nodeid: node.into(),
            ..FromZeros::new_zeroed()
        };
        let reply = self.raw(&[request.as_bytes(), &times.to_le_bytes()].concat(), 0);
        assert!(reply.is_empty());
    }

    /// All names of a directory in the listing's order, read in pieces.
    pub fn list(&self, dir: u64, plus: bool, room: u32) -> Vec<String> {
        let opened: wire::OpenOut = self.get(opcode::OPENDIR, dir, &[&[0; 8]]).unwrap();
        let code = if plus { opcode::READDIRPLUS } else { opcode::READDIR };
        let (mut names, mut offset) = (Vec::new(), 0);
        loop {
            let read = read_in(opened.fh.get(), offset, room);
            let reply = self.ask(code, dir, &[read.as_bytes()], room as usize).unwrap();
            let mut rest = &reply[..];
            if rest.is_empty() {
                break;
            }
            while !rest.is_empty() {
                if plus {
                    rest = &rest[size_of::<EntryOut>()..];
                }
                let (entry, behind) = wire::DirentWire::read_from_prefix(rest).unwrap();
                let len = entry.namelen.get() as usize;
                names.push(String::from_utf8(behind[..len].to_vec()).unwrap());
                offset = entry.off.get();
                rest = &rest[(size_of::<wire::DirentWire>() + len).next_multiple_of(8)..];
            }
        }
        self.release(opcode::RELEASEDIR, opened.fh.get());
        names
    }
}

fn read_in(fh: u64, offset: u64, size: u32) -> wire::ReadIn {
    wire::ReadIn {
        fh: fh.into(),
        offset: offset.into(),
        size: size.into(),
        ..FromZeros::new_zeroed()
    }
}
