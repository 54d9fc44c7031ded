//! What TUN/TAP files are told by ioctls.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
};

/// A request to an interface: its name, and flags. As long as `struct ifreq`.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(8))]
pub struct Request {
    name: [u8; 16],
    pub flags: u16,
    rest: [u8; 22],
}

const _: () = assert!(size_of::<Request>() == size_of::<libc::ifreq>());

impl Request {
    /// About the interface of this name; `None`: no interface can have it.
    pub fn new(name: &str, flags: i32) -> Option<Self> {
        let mut request = Self { flags: flags as u16, ..Self::default() };
        // It ends with a NUL.
        request.name[..15].get_mut(..name.len())?.copy_from_slice(name.as_bytes());
        Some(request)
    }

    /// The name in it.
    pub fn name(&self) -> String {
        let end = self.name.iter().position(|byte| *byte == 0).unwrap_or(self.name.len());
        String::from_utf8_lossy(&self.name[..end]).into_owned()
    }
}

/// The file becomes a queue of the interface, which is made if it is not there.
pub fn set_interface(fd: BorrowedFd<'_>, request: &mut Request) -> io::Result<()> {
    // SAFETY: the kernel reads and writes an `ifreq`, which this is as long as.
    done(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETIFF, request) })
}

/// Which interface the file is a queue of, and its flags.
pub fn interface(fd: BorrowedFd<'_>) -> io::Result<Request> {
    let mut request = Request::default();
    // SAFETY: as in `set_interface`.
    done(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNGETIFF, &mut request) }).map(|()| request)
}

/// The file is attached to its interface, or detached from it.
pub fn set_attached(fd: BorrowedFd<'_>, attached: bool) -> io::Result<()> {
    let flag = if attached { libc::IFF_ATTACH_QUEUE } else { libc::IFF_DETACH_QUEUE };
    let mut request = Request { flags: flag as u16, ..Request::default() };
    // SAFETY: as in `set_interface`.
    done(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETQUEUE, &mut request) })
}

/// Before each frame stands a header of so many bytes.
pub fn set_header_size(fd: BorrowedFd<'_>, size: usize) -> io::Result<()> {
    let size = size as libc::c_int;
    // SAFETY: the kernel reads an `int`.
    done(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETVNETHDRSZ, &size) })
}

/// Whoever reads can do these offloads (`TUN_F_*`).
pub fn set_offloads(fd: BorrowedFd<'_>, flags: libc::c_uint) -> io::Result<()> {
    let flags = libc::c_ulong::from(flags);
    // SAFETY: the argument is a number.
    done(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETOFFLOAD, flags) })
}

/// Another descriptor of a file that whoever started us has left open for us.
pub fn inherited(fd: i32) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: it is borrowed for this call alone, which says so if there is no such descriptor.
    unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned()
}

fn done(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
