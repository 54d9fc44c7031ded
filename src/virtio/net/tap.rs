//! TAP interfaces of the host's kernel, whose frames have virtio's header (`IFF_VNET_HDR`).

mod ioctl;

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::OpenOptionsExt,
    },
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
};

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use self::ioctl::Request;
use super::{
    backend::{Backend, Opened, Port, Trouble, retry},
    features,
    header::HEADER,
    room::Room,
};
use crate::addrspace::GuestBuffer;

const DEVICE: &str = "/dev/net/tun";

/// Why a TAP interface cannot be used.
#[derive(Debug)]
pub struct TapError {
    pub problem: String,
    /// It is the host that does not give it, not a name or number that is wrong.
    pub is_of_host: bool,
}

impl TapError {
    fn of_user(problem: String) -> Self {
        Self { problem, is_of_host: false }
    }

    fn of_host(problem: String) -> Self {
        Self { problem, is_of_host: true }
    }
}

/// A TAP interface, and its queues.
struct Tap {
    queues: Vec<Arc<OwnedFd>>,
    features: u64,
    /// So many queues are attached.
    attached: Arc<AtomicU16>,
    mtu: Option<u16>,
}

/// One queue of it.
struct TapPort {
    queue: Arc<OwnedFd>,
    index: u16,
    attached: Arc<AtomicU16>,
}

/// Opens the interface `name`, with so many queues. If there is none, and we may, it is made, for as
/// long as the guest runs.
pub fn open(name: &str, pairs: u16) -> Result<Opened, TapError> {
    let several = if pairs > 1 { libc::IFF_MULTI_QUEUE } else { 0 };
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | several;
    let request = Request::new(name, flags).filter(|_| is_name(name)).ok_or_else(|| {
        let rule =
            "a name has 1 to 15 characters, without spaces, slashes, colons and percent signs";
        TapError::of_user(format!("{name:?} cannot be the name of an interface: {rule}"))
    })?;
    let was_there = fs::exists(format!("/sys/class/net/{name}")).unwrap_or(true);
    let mut queues = Vec::new();
    for _ in 0..pairs {
        let file = device()?;
        let mut request = request;
        ioctl::set_interface(file.as_fd(), &mut request)
            .map_err(|error| refused(name, pairs, was_there, &error))?;
        queues.push(OwnedFd::from(file));
    }
    tell_if_down(name, was_there);
    finish(queues, name)
}

/// Takes the interface that an open file is of.
pub fn open_fd(fd: i32) -> Result<Opened, TapError> {
    let no_tap = |why: &str| TapError::of_user(format!("file descriptor {fd} {why}"));
    let file = ioctl::inherited(fd)
        .map_err(|error| no_tap(&format!("is not open ({error}); start axvmm with it open")))?;
    let request = ioctl::interface(file.as_fd()).map_err(|_| no_tap("is no TAP interface"))?;
    let flags = i32::from(request.flags);
    if flags & libc::IFF_TAP == 0 {
        return Err(no_tap("is a TUN interface, not a TAP interface"));
    }
    if flags & libc::IFF_VNET_HDR == 0 {
        return Err(no_tap("is a TAP interface without IFF_VNET_HDR; open it with that flag"));
    }
    let host = |what: &str, error: io::Error| TapError::of_host(format!("{what}: {error}"));
    let status = fcntl(&file, FcntlArg::F_GETFL).map(OFlag::from_bits_truncate);
    let nonblocking = status.map(|status| FcntlArg::F_SETFL(status | OFlag::O_NONBLOCK));
    (nonblocking.and_then(|set| fcntl(&file, set)))
        .map_err(|error| host("the TAP interface cannot be read without waiting", error.into()))?;
    finish(vec![file], &request.name())
}

fn device() -> Result<File, TapError> {
    let flags = libc::O_NONBLOCK | libc::O_CLOEXEC;
    let opened = OpenOptions::new().read(true).write(true).custom_flags(flags).open(DEVICE);
    opened.map_err(|error| {
        let advice = match error.kind() {
            io::ErrorKind::NotFound => "; load its driver: modprobe tun",
            io::ErrorKind::PermissionDenied => "; let this user read and write it",
            _ => "",
        };
        TapError::of_host(format!("{DEVICE} cannot be opened: {error}{advice}"))
    })
}

fn refused(name: &str, pairs: u16, was_there: bool, error: &io::Error) -> TapError {
    let several = if pairs > 1 { " multi_queue" } else { "" };
    let make = format!("sudo ip tuntap add {name} mode tap{several} user $USER");
    let problem = |what: &str| format!("TAP interface {name:?} cannot be used ({error}): {what}");
    match error.raw_os_error() {
        Some(libc::EPERM) if was_there => TapError::of_host(problem(&format!(
            "it is not this user's; make it so: sudo ip link del {name}; {make}"
        ))),
        Some(libc::EPERM) => TapError::of_host(problem(&format!(
            "there is none, and this user may not make it; make it once: {make}"
        ))),
        Some(libc::EBUSY) => TapError::of_user(problem("another program has it")),
        Some(libc::EINVAL) if was_there => TapError::of_user(problem(&format!(
            "it is no TAP interface {}; make another: {make}",
            if pairs > 1 { "of several queues" } else { "of one queue" }
        ))),
        _ => TapError::of_host(problem("the host's kernel does not give it")),
    }
}

/// What the kernel takes for a name (`dev_valid_name`); with a percent sign it would make a number.
fn is_name(name: &str) -> bool {
    let is_bad = |c: char| c.is_whitespace() || c.is_control() || ['/', ':', '%'].contains(&c);
    !name.is_empty() && ![".", ".."].contains(&name) && !name.contains(is_bad)
}

/// An interface that is down takes no frames; nor does one that was made just now have an address.
fn tell_if_down(name: &str, was_there: bool) {
    let flags = fs::read_to_string(format!("/sys/class/net/{name}/flags")).unwrap_or_default();
    let flags = u32::from_str_radix(flags.trim().trim_start_matches("0x"), 16);
    if flags.is_ok_and(|flags| flags & libc::IFF_UP as u32 == 0) {
        let what = if was_there { "is down" } else { "is new, without an address and down" };
        log::warn!("TAP interface {name} {what}; to bring it up: ip link set {name} up");
    }
}

fn finish(queues: Vec<OwnedFd>, name: &str) -> Result<Opened, TapError> {
    let first = queues[0].as_fd();
    let host = |error: io::Error| {
        TapError::of_host(format!("TAP interface {name:?} does not do what cards need: {error}"))
    };
    for queue in &queues {
        ioctl::set_header_size(queue.as_fd(), HEADER).map_err(host)?;
    }
    let mut features = features::CSUM | features::SEGMENTS;
    let guest = features::GUEST_CSUM | features::GUEST_SEGMENTS;
    if ioctl::set_offloads(first, features::tun_flags(guest)).is_ok() {
        features |= guest | features::GUEST_OFFLOADS;
        let with_uso = guest | features::USO;
        if ioctl::set_offloads(first, features::tun_flags(with_uso)).is_ok() {
            features |= features::USO;
        }
    }
    ioctl::set_offloads(first, 0).map_err(host)?;
    let mtu = fs::read_to_string(format!("/sys/class/net/{name}/mtu"));
    let mtu = mtu.ok().and_then(|mtu| mtu.trim().parse().ok());
    let attached = Arc::new(AtomicU16::new(queues.len() as u16));
    let queues: Vec<_> = queues.into_iter().map(Arc::new).collect();
    let port = |(index, queue): (u16, &Arc<OwnedFd>)| {
        let (queue, attached) = (queue.clone(), attached.clone());
        Box::new(TapPort { queue, index, attached }) as Box<dyn Port>
    };
    let ports = (0..).zip(&queues).map(port).collect();
    Ok(Opened { backend: Box::new(Tap { queues, features, attached, mtu }), ports })
}

impl Backend for Tap {
    fn features(&self) -> u64 {
        self.features
    }

    fn set_offloads(&self, features: u64) -> io::Result<()> {
        ioctl::set_offloads(self.queues[0].as_fd(), features::tun_flags(features))
    }

    /// The kernel hands frames to attached queues alone. A port must not take its queue for gone
    /// while it changes.
    fn set_pairs(&self, pairs: u16) -> io::Result<()> {
        let before = self.attached.load(Ordering::Acquire);
        if pairs == before {
            return Ok(());
        }
        self.attached.store(pairs.min(before), Ordering::Release);
        let is_attached = pairs > before;
        let changed = usize::from(pairs.min(before))..usize::from(pairs.max(before));
        for queue in self.queues.get(changed).unwrap_or_default() {
            ioctl::set_attached(queue.as_fd(), is_attached)?;
        }
        self.attached.store(pairs, Ordering::Release);
        Ok(())
    }

    fn mtu(&self) -> Option<u16> {
        self.mtu
    }
}

impl Port for TapPort {
    fn fd(&self) -> BorrowedFd<'_> {
        self.queue.as_fd()
    }

    fn receive(&mut self, room: &Room, spill: &mut [u8]) -> Result<usize, Trouble> {
        match retry(|| GuestBuffer::read_all_from(room.buffers(), spill, self.fd())) {
            Ok(len @ HEADER..) => Ok(len),
            Ok(_) => Err(Trouble::refused("the TAP interface gives less than a header")),
            Err(error) => Err(self.trouble(error)),
        }
    }

    fn send(&mut self, frame: &GuestBuffer) -> Result<(), Trouble> {
        let sent = retry(|| frame.write_to(self.fd(), None));
        sent.map(drop).map_err(|error| self.trouble(error))
    }
}

impl TapPort {
    fn trouble(&self, error: io::Error) -> Trouble {
        match error.raw_os_error() {
            Some(libc::EAGAIN) => Trouble::Later,
            // There is no interface to this file: it is detached, or has been deleted.
            Some(libc::EBADFD) if self.index >= self.attached.load(Ordering::Acquire) => {
                Trouble::Later
            }
            Some(libc::EBADFD) => Trouble::Gone(io::Error::other("the TAP interface is gone")),
            _ => Trouble::Refused(error),
        }
    }
}
