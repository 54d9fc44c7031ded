//! One writer of a file, or any number of readers: among our own devices, and with all programs that
//! lock images so, QEMU among them.

use std::{fs::File, path::Path};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, fcntl},
    libc,
};

/// Locks an open file for as long as it is open: against writers if it is only read, against all if
/// it is written. `false`: somebody else has it.
pub fn lock(file: &File, path: &Path, readonly: bool) -> bool {
    match set(file, if readonly { libc::F_RDLCK } else { libc::F_WRLCK }) {
        Ok(()) => true,
        Err(Errno::EAGAIN | Errno::EACCES) => false,
        // A file system without locks: as good as it gets there.
        Err(errno) => {
            log::warn!(
                "{} cannot be locked ({errno}): see that nobody else uses it",
                path.display()
            );
            true
        }
    }
}

/// Gives the lock of a file back, for one that somebody may keep open for a while.
pub fn unlock(file: &File) {
    let _ = set(file, libc::F_UNLCK);
}

/// A lock of the file's open description.
fn set(file: &File, kind: i32) -> Result<(), Errno> {
    let whole = libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(file, FcntlArg::F_OFD_SETLK(&whole)).map(drop)
}
