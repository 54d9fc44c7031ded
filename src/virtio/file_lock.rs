//! One writer of a file, or any number of readers: among our own devices, and with all programs that
//! lock images so, QEMU among them.

use std::{
    fs::File,
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, fcntl},
    libc,
};

/// How long a lock is waited for: the files of a program that was killed with requests in io_uring are
/// closed by the kernel's own worker, some time after the program is gone.
const PATIENCE: Duration = Duration::from_millis(500);
const OFTEN: Duration = Duration::from_millis(5);

/// Locks an open file for as long as it is open: against writers if it is only read, against all if
/// it is written. `false`: somebody else has it.
pub fn lock(file: &File, path: &Path, readonly: bool) -> bool {
    let kind = if readonly { libc::F_RDLCK } else { libc::F_WRLCK };
    let since = Instant::now();
    let locked = loop {
        match set(file, kind) {
            Err(Errno::EAGAIN | Errno::EACCES) if since.elapsed() < PATIENCE => sleep(OFTEN),
            other => break other,
        }
    };
    match locked {
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

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn who_is_about_to_be_gone_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        let open = || File::options().create(true).truncate(false).write(true).open(&path).unwrap();
        let first = open();
        assert!(lock(&first, &path, false));
        let gone = thread::spawn(move || {
            sleep(Duration::from_millis(100));
            drop(first);
        });
        assert!(lock(&open(), &path, false), "the first was not waited for");
        gone.join().unwrap();
    }
}
