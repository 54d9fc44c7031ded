//! A network that needs no privilege: passt, a program of its own, does the guest's connections as
//! the user's own sockets.
//!
//! It is started in its own way, in the background: the process that is started ends with status 0
//! when all is ready, and the one that goes on has locked itself up, and is nobody's where we are
//! root. What ties it to us is the socket: at its end passt ends, and at passt's end the socket does.

mod spawn;

use std::{
    io::{self, Read, Seek},
    net::Shutdown,
    os::{fd::AsFd, unix::net::UnixStream},
    process::{Command, Stdio},
    time::Duration,
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        memfd::{MFdFlags, memfd_create},
        socket::{setsockopt, sockopt},
    },
};

use super::{
    backend::{Backend, Opened},
    features,
    forward::{Forward, Protocol},
    stream::Stream,
};

/// The program, to be found in the path.
const PROGRAM: &str = "passt";

/// The largest packet that it takes in one piece. As nothing limits a packet's size between it and
/// the guest, the largest is the fastest.
const MTU: u16 = 65520;

/// So long passt is waited for at the end, for the ports that it has. It takes a few milliseconds.
const AT_THE_END: Duration = Duration::from_secs(2);

/// What is asked of a user's network.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    pub ports: &'a [Forward],
    pub mtu: Option<u16>,
}

/// Why there is no user network: what happened, and what to do about it.
#[derive(Debug)]
pub struct PasstError {
    pub problem: String,
    /// It is the host that does not give it, not something that was asked for wrongly.
    pub is_of_host: bool,
}

/// In bytes: frames on their way to a guest that is busy.
const SEND_BUFFER: usize = 16 << 20;

/// A passt that runs.
struct Passt(UnixStream);

/// Starts passt, and waits until it is ready.
pub fn start(wanted: &Wanted<'_>) -> Result<Opened, PasstError> {
    for forward in wanted.ports {
        let of_user = |problem| PasstError { problem, is_of_host: false };
        forward.check().map_err(of_user)?;
    }
    let cannot = |error: io::Error| PasstError {
        problem: format!("{PROGRAM} cannot be started: {error}"),
        is_of_host: true,
    };
    let (ours, theirs) = UnixStream::pair().map_err(cannot)?;
    // As much as the host allows (`net.core.wmem_max`): there are versions of passt that end with a
    // segmentation fault where no more fits in between a frame and its connection's end.
    let _ = setsockopt(&theirs, sockopt::SndBuf, &SEND_BUFFER);
    let mut told = std::fs::File::from(
        memfd_create("passt", MFdFlags::MFD_CLOEXEC).map_err(|error| cannot(error.into()))?,
    );
    let mut command = Command::new(PROGRAM);
    let (theirs, number) = spawn::pass(&mut command, theirs.into()).map_err(cannot)?;
    command.arg("--quiet").args(["--fd", &number]);
    command.args(["--mtu", &wanted.mtu.unwrap_or(MTU).to_string()]);
    for forward in wanted.ports {
        let option = match forward.protocol {
            Protocol::Tcp => "--tcp-ports",
            Protocol::Udp => "--udp-ports",
        };
        command.args([option, &forward.passt()]);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(told.try_clone().map_err(cannot)?);
    let status = command.status().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => PasstError {
            problem: format!(
                "the program {PROGRAM} does the user network, and is not installed; Debian and \
                 others have it in a package of that name (apt install {PROGRAM})"
            ),
            is_of_host: true,
        },
        _ => cannot(error),
    })?;
    drop(theirs);
    if !status.success() {
        let mut text = Vec::new();
        let _ = told.rewind().and_then(|()| told.take(64 << 10).read_to_end(&mut text));
        return Err(failed(&String::from_utf8_lossy(&text), &status.to_string()));
    }
    let port = ours.try_clone().and_then(|socket| Stream::new(socket, true)).map_err(cannot)?;
    Ok(Opened { backend: Box::new(Passt(ours)), ports: vec![Box::new(port)] })
}

/// What passt said before it gave up.
fn failed(told: &str, status: &str) -> PasstError {
    // Also what it said of itself, and of a log that nobody keeps; then its usage.
    let is_noise = |line: &&str| {
        line.is_empty()
            || ["Failed to send ", "Don't run as root", "Started as root"]
                .iter()
                .any(|start| line.starts_with(start))
    };
    let lines = told.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    let lines: Vec<_> = lines.filter(|line| !is_noise(line)).collect();
    let what = if lines.is_empty() { format!("it ended ({status})") } else { lines.join("; ") };
    let advice = match &what {
        what if what.contains("unrecognized option") || what.contains("invalid option") => {
            "; it is too old: version 2023_03_09 (Debian 12) or newer is needed"
        }
        what if what.contains("routable interface") => {
            "; this version needs a host with a network and a default route"
        }
        what if what.contains("user namespace") => {
            "; this host does not let its users make user namespaces"
        }
        what if what.contains("pivot_root") || what.contains("root tree") => {
            "; it cannot run where the root file system is an initramfs or a mere chroot"
        }
        _ => "",
    };
    PasstError { problem: format!("{PROGRAM} does not run: {what}{advice}"), is_of_host: true }
}

impl Backend for Passt {
    /// It makes all frames itself, and checks sums where others sent them.
    fn features(&self) -> u64 {
        features::GUEST_CSUM
    }

    fn mtu(&self) -> Option<u16> {
        Some(MTU)
    }
}

impl Drop for Passt {
    /// Ends it. Its end of the socket is the last that it closes: then its ports are free for the
    /// next guest, which may be this one again after a reset.
    fn drop(&mut self) {
        let _ = self.0.shutdown(Shutdown::Write);
        // Events of another kind than the end itself are not asked for.
        let mut ended = [PollFd::new(self.0.as_fd(), PollFlags::empty())];
        let limit = PollTimeout::try_from(AT_THE_END).unwrap_or(PollTimeout::NONE);
        let _ = poll(&mut ended, limit);
    }
}
