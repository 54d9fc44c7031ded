//! Servers that are not what they should be, and one that somebody else has written.

mod hostile;
mod peer;

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    thread::{self, JoinHandle},
};

use zerocopy::{FromBytes, IntoBytes};

use super::{
    session::Session,
    wire::{Command, DeviceInfo, HEADER, Header, IrqInfo, REPLY, RegionAccess, RegionInfo},
};

/// A message of a client's.
struct Asked {
    header: Header,
    body: Vec<u8>,
}

fn next(stream: &mut UnixStream) -> Option<Asked> {
    let mut header = [0; HEADER];
    stream.read_exact(&mut header).ok()?;
    let header = Header::read_from_bytes(&header).unwrap();
    let mut body = vec![0; header.size as usize - HEADER];
    stream.read_exact(&mut body).ok()?;
    Some(Asked { header, body })
}

/// A whole message.
fn message(id: u16, command: u16, flags: u32, error: u32, body: &[u8]) -> Vec<u8> {
    let size = (HEADER + body.len()) as u32;
    [Header { id, command, size, flags, error }.as_bytes(), body].concat()
}

impl Asked {
    fn is(&self, command: Command) -> bool {
        self.header.command == command as u16
    }

    /// What a good server answers: one region of 16 bytes, each of which is its number; one MSI-X.
    fn body_of_answer(&self) -> Vec<u8> {
        let index = || u32::from_ne_bytes(self.body[8..12].try_into().unwrap());
        if self.is(Command::Version) {
            [&[0, 0, 1, 0][..], b"{\"capabilities\":{\"max_msg_fds\":2}}\0"].concat()
        } else if self.is(Command::GetInfo) {
            DeviceInfo { argsz: 16, flags: 3, regions: 9, irqs: 5 }.as_bytes().to_vec()
        } else if self.is(Command::GetRegionInfo) {
            let (index, size) = (index(), if index() == 0 { 16 } else { 0 });
            let info = RegionInfo { argsz: 32, flags: 3, index, capabilities: 0, size, offset: 0 };
            info.as_bytes().to_vec()
        } else if self.is(Command::GetIrqInfo) {
            let count = u32::from(index() == 2);
            IrqInfo { argsz: 16, flags: 1, index: index(), count }.as_bytes().to_vec()
        } else if self.is(Command::RegionRead) {
            let access = RegionAccess::read_from_bytes(&self.body).unwrap();
            let data = (access.offset..).take(access.count as usize).map(|byte| byte as u8);
            [access.as_bytes(), &data.collect::<Vec<_>>()].concat()
        } else if self.is(Command::RegionWrite) {
            self.body[..16].to_vec()
        } else {
            Vec::new()
        }
    }

    fn answer(&self) -> Vec<u8> {
        let Header { id, command, .. } = self.header;
        message(id, command, REPLY, 0, &self.body_of_answer())
    }
}

/// What a server does with a message.
enum Reaction {
    Says(Vec<u8>),
    Leaves,
}

/// A session with a server that does so with each message, until one side has enough.
fn against(
    mut react: impl FnMut(&Asked, &UnixStream) -> Reaction + Send + 'static,
) -> (Session, JoinHandle<()>) {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let server = thread::spawn(move || {
        while let Some(asked) = next(&mut theirs) {
            match react(&asked, &theirs) {
                Reaction::Says(bytes) => {
                    let _ = theirs.write_all(&bytes);
                }
                Reaction::Leaves => return,
            }
        }
    });
    (Session::new(ours).unwrap(), server)
}
