//! A share without a directory: what the program that is PID 1 of a guest with one command reads and
//! writes (`resources/command-init`). The command, its input and output, and its status.
//!
//! Input and output are streams through files, byte for byte, and not a console's. Where the command
//! has a terminal, that is a console, and its size comes this way.

mod window;

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::eventfd::{EfdFlags, EventFd},
};
use parking_lot::Mutex;
use rustix::io::Errno;
use serde::Serialize;

pub use self::window::Window;

use super::{
    filesystem::{
        Attributes, Changes, Entry, FileSystem, HandleId, Listed, Name, NodeId, Opened, Result,
        Statistics, errno,
    },
    wire::{FOPEN_DIRECT_IO, FOPEN_STREAM, ROOT},
};
use crate::addrspace::GuestBuffer;

/// The tag by which PID 1 knows it.
pub const TAG: &str = "axvmm.command";
/// The tag of the share that is to be the command's root.
pub const ROOT_TAG: &str = "axvmm.root";

/// Bytes that a pipe takes or refuses as a whole, so that a write to one that has room never waits.
const PIPE_BUF: usize = 4096;

/// A command for a guest to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CommandConfig {
    /// The command and its arguments; at least one.
    pub arguments: Vec<String>,
    /// Its environment, each `NAME=VALUE`.
    pub environment: Vec<String>,
    /// Where it begins.
    pub directory: String,
    /// The terminal that is its input and output; `None`: our stdin, stdout and stderr are, as streams.
    pub terminal: Option<Window>,
}

impl CommandConfig {
    /// As PID 1 reads it: strings, each ended by a 0.
    fn text(&self) -> Vec<u8> {
        let (rows, columns) = self.terminal.as_ref().map(Window::size).unwrap_or_default();
        let first = [
            if self.terminal.is_some() { "t" } else { "p" }.to_owned(),
            rows.to_string(),
            columns.to_string(),
            self.directory.clone(),
            self.arguments.len().to_string(),
        ];
        let all = first.iter().chain(&self.arguments).chain(&self.environment);
        all.flat_map(|word| word.bytes().filter(|byte| *byte != 0).chain([0])).collect()
    }
}

/// How a guest asks for its end, with a status.
pub struct Ending {
    status: Mutex<Option<u8>>,
    asked: EventFd,
}

impl Ending {
    /// Nobody has asked yet.
    ///
    /// # Errors
    /// The host has no file descriptor left.
    pub fn new() -> io::Result<Arc<Self>> {
        let asked = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?;
        Ok(Arc::new(Self { status: Mutex::default(), asked }))
    }

    /// Becomes readable when there is a status.
    pub fn asked(&self) -> &EventFd {
        &self.asked
    }

    /// The first status that was asked for.
    pub fn status(&self) -> Option<u8> {
        *self.status.lock()
    }

    fn ask(&self, status: u8) {
        self.status.lock().get_or_insert(status);
        // It stays readable until somebody has read it.
        let _ = self.asked.write(1);
    }
}

/// The files, by their nodes; a node is also its own handle.
const NAMES: [(NodeId, &str, u32); 6] = [
    (COMMAND, "command", 0o400),
    (STDIN, "stdin", 0o400),
    (STDOUT, "stdout", 0o200),
    (STDERR, "stderr", 0o200),
    (EXIT, "exit", 0o200),
    (SIZE, "size", 0o400),
];
const COMMAND: NodeId = 2;
const STDIN: NodeId = 3;
const STDOUT: NodeId = 4;
const STDERR: NodeId = 5;
const EXIT: NodeId = 6;
const SIZE: NodeId = 7;

/// The share.
pub struct CommandFiles {
    command: Vec<u8>,
    ending: Arc<Ending>,
    terminal: Option<Window>,
    /// The size that PID 1 has been told of last.
    told: Mutex<(u16, u16)>,
    /// Readable while nobody is to wait.
    hurry: EventFd,
}

impl CommandFiles {
    /// With what PID 1 is to do, and whom it tells the status.
    ///
    /// # Errors
    /// The host has no file descriptor left.
    pub fn new(command: &CommandConfig, ending: Arc<Ending>) -> io::Result<Self> {
        let hurry = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?;
        let terminal = command.terminal.clone();
        let told = Mutex::new(terminal.as_ref().map(Window::size).unwrap_or_default());
        Ok(Self { command: command.text(), ending, terminal, told, hurry })
    }

    /// Waits until something can be read or written. EINTR: nobody is to wait.
    fn wait(&self, fd: BorrowedFd<'_>, what: PollFlags) -> Result {
        loop {
            let mut fds =
                [PollFd::new(self.hurry.as_fd(), PollFlags::POLLIN), PollFd::new(fd, what)];
            match poll(&mut fds, PollTimeout::NONE) {
                Err(nix::errno::Errno::EINTR) => {}
                Err(error) => return Err(Errno::from_raw_os_error(error as i32)),
                Ok(_) if fds[0].any() == Some(true) => return Err(Errno::INTR),
                Ok(_) => return Ok(()),
            }
        }
    }

    /// The terminal's rows and columns, as soon as they are not those that were told last, as
    /// `struct winsize` begins.
    fn read_size(&self, into: &GuestBuffer) -> Result<usize> {
        let terminal = self.terminal.as_ref().ok_or(Errno::BADF)?;
        let mut told = self.told.lock();
        let size = terminal.size_after(*told).ok_or(Errno::INTR)?;
        let bytes: Vec<u8> = [size.0, size.1].iter().flat_map(|it| it.to_le_bytes()).collect();
        into.write_at(0, &bytes).ok_or(Errno::INVAL)?;
        *told = size;
        Ok(bytes.len())
    }

    /// What there is, and at the end nothing.
    fn read_stream(&self, from: BorrowedFd<'_>, into: &GuestBuffer) -> Result<usize> {
        loop {
            self.wait(from, PollFlags::POLLIN)?;
            match into.read_from(from, None).map_err(|error| errno(&error)) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                done => return done,
            }
        }
    }

    /// All of it.
    fn write_stream(&self, to: BorrowedFd<'_>, from: &GuestBuffer) -> Result<usize> {
        let mut done = 0;
        while done < from.len() {
            let len = (from.len() - done).min(PIPE_BUF);
            let piece = from.part(done, len).ok_or(Errno::IO)?;
            let written = self
                .wait(to, PollFlags::POLLOUT)
                .and_then(|()| piece.write_to(to, None).map_err(|error| errno(&error)));
            match written {
                Ok(written) => done += written,
                Err(Errno::AGAIN) => {}
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }
}

impl FileSystem for CommandFiles {
    fn lookup(&self, dir: NodeId, name: Name<'_>) -> Result<Entry> {
        if dir != ROOT {
            return Err(Errno::NOTDIR);
        }
        let is_it = |known: &&str| name.as_c_str().to_bytes() == known.as_bytes();
        let node = NAMES.iter().find(|(_, known, _)| is_it(known)).ok_or(Errno::NOENT)?.0;
        Ok(Entry { node, attributes: self.attributes(node, None)? })
    }

    fn forget(&self, _: NodeId, _: u64) {}

    fn forget_all(&self) {}

    fn hurry(&self, on: bool) {
        self.terminal.iter().for_each(|terminal| terminal.hurry(on));
        // Either fails only if it is so already.
        let _ = if on { self.hurry.write(1).map(|_| ()) } else { self.hurry.read().map(|_| ()) };
    }

    fn attributes(&self, node: NodeId, _: Option<HandleId>) -> Result<Attributes> {
        let mode = match NAMES.iter().find(|(known, ..)| *known == node) {
            Some((.., mode)) => libc::S_IFREG | mode,
            None if node == ROOT => libc::S_IFDIR | 0o500,
            None => return Err(Errno::STALE),
        };
        let size = if node == COMMAND { self.command.len() as u64 } else { 0 };
        Ok(Attributes { ino: node, size, mode, nlink: 1, blksize: 65536, ..Attributes::default() })
    }

    /// They have no size to change, but programs begin their output so.
    fn set_attributes(&self, node: NodeId, _: Option<HandleId>, _: &Changes) -> Result<Attributes> {
        self.attributes(node, None)
    }

    fn open(&self, node: NodeId, _: u32) -> Result<Opened> {
        match node {
            COMMAND | EXIT => Ok(Opened { handle: node, flags: FOPEN_DIRECT_IO }),
            STDIN..=STDERR | SIZE => {
                Ok(Opened { handle: node, flags: FOPEN_DIRECT_IO | FOPEN_STREAM })
            }
            _ => Err(Errno::ISDIR),
        }
    }

    fn read(&self, handle: HandleId, offset: u64, into: &GuestBuffer) -> Result<usize> {
        match handle {
            COMMAND => {
                let offset = usize::try_from(offset).unwrap_or(usize::MAX);
                let rest = self.command.get(offset..).unwrap_or_default();
                let len = rest.len().min(into.len());
                into.write_at(0, &rest[..len]).ok_or(Errno::IO)?;
                Ok(len)
            }
            STDIN => self.read_stream(io::stdin().as_fd(), into),
            SIZE => self.read_size(into),
            _ => Err(Errno::BADF),
        }
    }

    fn write(&self, handle: HandleId, _: u64, from: &GuestBuffer) -> Result<usize> {
        match handle {
            STDOUT => self.write_stream(io::stdout().as_fd(), from),
            STDERR => self.write_stream(io::stderr().as_fd(), from),
            EXIT => {
                let status = from.read_obj_at(0).ok_or(Errno::INVAL)?;
                self.ending.ask(status);
                Ok(from.len())
            }
            _ => Err(Errno::BADF),
        }
    }

    fn close(&self, _: HandleId) {}

    fn open_dir(&self, node: NodeId) -> Result<HandleId> {
        if node == ROOT { Ok(ROOT) } else { Err(Errno::NOTDIR) }
    }

    fn read_dir(
        &self,
        _: HandleId,
        offset: u64,
        _: usize,
        take: &mut dyn FnMut(&Listed<'_>) -> bool,
    ) -> Result {
        for (next, (ino, name, _)) in (1..).zip(NAMES).skip(offset.min(99) as usize) {
            let name = std::ffi::CString::new(name).map_err(|_| Errno::IO)?;
            if !take(&Listed { ino, kind: libc::DT_REG.into(), next, name: &name }) {
                break;
            }
        }
        Ok(())
    }

    fn close_dir(&self, _: HandleId) {}

    fn statistics(&self) -> Result<Statistics> {
        Ok(Statistics { bsize: 4096, frsize: 4096, namelen: 255, ..Statistics::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::virtio::fs::{
        testing::Guest,
        wire::{self, opcode},
    };

    fn config() -> CommandConfig {
        CommandConfig {
            arguments: ["sh", "-c", "exit\x007", ""].map(str::to_owned).to_vec(),
            environment: vec!["A=b c".to_owned()],
            directory: "/".to_owned(),
            terminal: Some(Window::new(24, 80)),
        }
    }

    #[test]
    fn a_command_is_read_as_it_was_given() {
        let guest =
            Guest::new(CommandFiles::new(&config(), Ending::new().unwrap()).unwrap(), false);
        let node = guest.at("command");
        let expect = b"t\x0024\x0080\0/\x004\0sh\0-c\0exit7\0\0A=b c\0";
        assert_eq!(guest.contents(node).unwrap(), expect);
        assert_eq!(guest.look(ROOT, "command").unwrap().attr.size.get(), expect.len() as u64);
        assert_eq!(guest.read(COMMAND, u64::MAX, 10, 10).unwrap(), b"");
        let names = guest.list(ROOT, true, 400);
        assert_eq!(names, ["command", "stdin", "stdout", "stderr", "exit", "size"]);
        assert_eq!(guest.look(ROOT, "other").unwrap_err(), libc::ENOENT);
        assert_eq!(guest.look(node, "command").unwrap_err(), libc::ENOTDIR);
        for bad in [0, ROOT, STDOUT, EXIT, 8, u64::MAX] {
            assert_eq!(guest.read(bad, 0, 1, 1), Err(libc::EBADF));
        }
        for bad in [0, ROOT, COMMAND, STDIN, SIZE, 8, u64::MAX] {
            assert_eq!(guest.write(bad, 0, b"x"), Err(libc::EBADF));
        }
        assert_eq!(guest.ask(opcode::MKDIR, ROOT, &[&[0; 8], b"x\0"], 128), Err(libc::EROFS));
    }

    #[test]
    fn a_terminals_size_is_told_when_it_changes() {
        let config = config();
        let window = config.terminal.clone().unwrap();
        let files = CommandFiles::new(&config, Ending::new().unwrap()).unwrap();
        let guest = Guest::new(files, false);
        window.resize(25, 90);
        assert_eq!(guest.read(SIZE, 0, 4, 4).unwrap(), [25, 0, 90, 0]);
        window.resize(24, 300);
        window.resize(0x102, 0x304);
        assert_eq!(guest.read(SIZE, 4, 4, 4).unwrap(), [2, 1, 4, 3]);
        // Whoever waits is told of the next, or sent away.
        let files = CommandFiles::new(&config, Ending::new().unwrap()).unwrap();
        let read = |files: &CommandFiles| files.read_size(&guest.buffer(4 << 16, 4));
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| read(&files));
            window.resize(1, 2);
            assert_eq!(reader.join().unwrap(), Ok(4));
            let reader = scope.spawn(|| read(&files));
            files.hurry(true);
            assert_eq!(reader.join().unwrap(), Err(Errno::INTR));
        });
        let without = CommandConfig { terminal: None, ..config };
        let files = CommandFiles::new(&without, Ending::new().unwrap()).unwrap();
        assert_eq!(read(&files), Err(Errno::BADF));
    }

    #[test]
    fn the_first_status_is_the_one() {
        let ending = Ending::new().unwrap();
        let guest = Guest::new(CommandFiles::new(&config(), ending.clone()).unwrap(), false);
        let fh = guest.open(guest.at("exit"), libc::O_WRONLY).unwrap();
        assert_eq!(fh.open_flags.get(), wire::FOPEN_DIRECT_IO);
        assert_eq!(guest.write(fh.fh.get(), 0, b""), Err(libc::EINVAL));
        assert_eq!((ending.status(), ending.asked().read().is_err()), (None, true));
        assert_eq!(guest.write(fh.fh.get(), 0, &[7]), Ok(1));
        assert_eq!(guest.write(fh.fh.get(), 0, &[8, 9]), Ok(2));
        assert_eq!((ending.status(), ending.asked().read()), (Some(7), Ok(2)));
    }

    #[test]
    fn streams_are_whole_and_nobody_waits_in_a_hurry() {
        let files = CommandFiles::new(&config(), Ending::new().unwrap()).unwrap();
        let guest = Guest::new(files, false);
        let files = CommandFiles::new(&config(), Ending::new().unwrap()).unwrap();
        let (from, to) = nix::unistd::pipe().unwrap();
        let bytes: Vec<u8> = (0..10_000_u32).map(|i| i as u8).collect();
        let buffer = guest.buffer(crate::virtio::testing::RAM, bytes.len());
        buffer.write_at(0, &bytes).unwrap();
        assert_eq!(files.write_stream(to.as_fd(), &buffer), Ok(bytes.len()));
        buffer.zero_at(0, bytes.len()).unwrap();
        let mut read = 0;
        while read < bytes.len() {
            let rest = buffer.part(read, bytes.len() - read).unwrap();
            read += files.read_stream(from.as_fd(), &rest).unwrap();
        }
        let mut back = vec![0; bytes.len()];
        buffer.read_at(0, &mut back).unwrap();
        assert_eq!(back, bytes);
        // Nothing more comes for now, but whoever waits is sent away.
        std::thread::scope(|scope| {
            let reader = || files.read_stream(from.as_fd(), &guest.buffer(4 << 16, 10));
            let reader = scope.spawn(reader);
            files.hurry(true);
            assert_eq!(reader.join().unwrap(), Err(Errno::INTR));
        });
        files.hurry(false);
        drop(to);
        assert_eq!(files.read_stream(from.as_fd(), &buffer), Ok(0));
    }
}
