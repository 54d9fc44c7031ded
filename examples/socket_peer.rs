//! Tries the stream connections of a guest's vsock, on either side of them:
//!
//! - `socket_peer echo ADDRESS`: gives back what comes in, for one connection.
//! - `socket_peer send ADDRESS MIB`: sends so much, and checks what comes back.
//!
//! An ADDRESS is, in the guest, `vsock:PORT`: of the host to send, its own to listen. On the host it
//! is `unix:PATH`: to listen for connections to port P, PATH ends with `_P`; to send, `PATH:PORT`.

use std::{
    env,
    error::Error,
    fs::File,
    io::{self, Read, Write},
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
    process::ExitCode,
    thread,
};

use nix::sys::socket::{
    AddressFamily, Backlog, Shutdown, SockFlag, SockType, VsockAddr, accept4, bind, connect,
    listen, shutdown, socket,
};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// VMADDR_CID_ANY and VMADDR_CID_HOST of vsock(7).
const ANY: u32 = u32::MAX;
const HOST: u32 = 2;

fn main() -> ExitCode {
    let args: Vec<_> = env::args().skip(1).collect();
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let done = match args[..] {
        ["echo", address] => echo(address),
        ["send", address, mib] => send(address, mib),
        _ => Err("Usage: socket_peer echo ADDRESS | send ADDRESS MIB".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("socket_peer: {error}");
            ExitCode::FAILURE
        }
    }
}

fn vsock() -> nix::Result<OwnedFd> {
    socket(AddressFamily::Vsock, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)
}

/// The first connection that comes in.
fn accepted(address: &str) -> Result<File> {
    let Some(port) = address.strip_prefix("vsock:") else {
        let path = address.strip_prefix("unix:").ok_or("an address begins with vsock: or unix:")?;
        let (socket, _) = UnixListener::bind(path)?.accept()?;
        return Ok(OwnedFd::from(socket).into());
    };
    let listener = vsock()?;
    bind(listener.as_raw_fd(), &VsockAddr::new(ANY, port.parse()?))?;
    listen(&listener, Backlog::new(1)?)?;
    println!("listening at {address}");
    let accepted = accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC)?;
    // SAFETY: it is a new file descriptor, which nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(accepted) }.into())
}

fn connected(address: &str) -> Result<File> {
    if let Some(port) = address.strip_prefix("vsock:") {
        let socket = vsock()?;
        connect(socket.as_raw_fd(), &VsockAddr::new(HOST, port.parse()?))?;
        return Ok(socket.into());
    }
    let path = address.strip_prefix("unix:").ok_or("an address begins with vsock: or unix:")?;
    let (path, port) = path.rsplit_once(':').ok_or("unix:PATH:PORT")?;
    let mut socket = UnixStream::connect(path)?;
    writeln!(socket, "CONNECT {port}")?;
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        let mut byte = [0];
        socket.read_exact(&mut byte).map_err(|_| "nobody is there")?;
        line.extend(byte);
    }
    if !line.starts_with(b"OK ") {
        return Err(format!("answered by {}", line.escape_ascii()).into());
    }
    Ok(OwnedFd::from(socket).into())
}

fn echo(address: &str) -> Result<()> {
    let (mut from, mut to) = {
        let socket = accepted(address)?;
        (socket.try_clone()?, socket)
    };
    let bytes = io::copy(&mut from, &mut to)?;
    shutdown(to.as_raw_fd(), Shutdown::Write)?;
    println!("gave back {bytes} bytes");
    Ok(())
}

fn send(address: &str, mib: &str) -> Result<()> {
    let total = mib.parse::<usize>()? << 20;
    let mut socket = connected(address)?;
    let mut writer = socket.try_clone()?;
    let writing = thread::spawn(move || -> Result<()> {
        let (mut pattern, mut left) = (Pattern::default(), total);
        let mut piece = vec![0; 1 << 16];
        while left > 0 {
            let len = piece.len().min(left);
            piece[..len].fill_with(|| pattern.next());
            writer.write_all(&piece[..len])?;
            left -= len;
        }
        Ok(shutdown(writer.as_raw_fd(), Shutdown::Write)?)
    });
    let (mut pattern, mut got) = (Pattern::default(), 0);
    let mut piece = vec![0; 1 << 16];
    loop {
        let len = socket.read(&mut piece)?;
        if len == 0 {
            break;
        }
        if let Some(at) = piece[..len].iter().position(|byte| *byte != pattern.next()) {
            return Err(format!("byte {} is another than was sent", got + at).into());
        }
        got += len;
    }
    writing.join().map_err(|_| "the writer has panicked")??;
    if got != total {
        return Err(format!("{got} bytes of {total} came back").into());
    }
    println!("{got} bytes came back as they were sent");
    Ok(())
}

/// Bytes that do not repeat in a way that a lost or doubled packet could hide in.
#[derive(Default)]
struct Pattern(u64);

impl Pattern {
    fn next(&mut self) -> u8 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 56) as u8
    }
}
