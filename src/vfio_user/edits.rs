//! Whether a server's program has been edited.

use std::{
    ffi::OsString,
    io,
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};

use super::process::wait_for;

/// An edit is over when nothing more comes for so long: editors write in several steps.
const QUIET: Duration = Duration::from_millis(100);
/// But no later than this.
const LONGEST: Duration = Duration::from_secs(2);

/// Files that are watched, by the directories that they are in: editors put new ones in their places.
pub struct Edits {
    inotify: Inotify,
    files: Vec<(WatchDescriptor, OsString)>,
}

impl Edits {
    /// Watches these files.
    ///
    /// # Errors
    /// What the host says.
    pub fn new(files: &[PathBuf]) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let mut watched = Vec::new();
        for file in files {
            let (Some(dir), Some(name)) = (file.parent(), file.file_name()) else { continue };
            let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
            let edits = AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_MOVED_TO;
            watched.push((inotify.add_watch(dir, edits)?, name.to_owned()));
        }
        Ok(Self { inotify, files: watched })
    }

    /// What can be read when something may have been edited.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }

    /// Whether one of the files has been edited since this was asked last; the edit is over then.
    pub fn take(&self) -> bool {
        let mut is_edited = self.take_now();
        let since = Instant::now();
        while is_edited
            && since.elapsed() < LONGEST
            && wait_for(&[self.fd()], Some(QUIET)).is_some()
        {
            is_edited |= self.take_now();
        }
        is_edited
    }

    fn take_now(&self) -> bool {
        let mut is_edited = false;
        while let Ok(events) = self.inotify.read_events() {
            let is_ours = |event: &nix::sys::inotify::InotifyEvent| {
                let name = event.name.as_deref();
                self.files.iter().any(|(wd, file)| *wd == event.wd && name == Some(file))
            };
            is_edited |= events.iter().any(is_ours);
        }
        is_edited
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_that_is_written_or_replaced_is_edited_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let (file, other) = (dir.path().join("a.py"), dir.path().join("b.py"));
        fs::write(&file, "1").unwrap();
        let edits = Edits::new(std::slice::from_ref(&file)).unwrap();
        assert!(!edits.take());
        fs::write(&other, "1").unwrap();
        assert!(!edits.take());
        fs::write(&file, "2").unwrap();
        assert!(edits.take());
        fs::rename(&other, &file).unwrap();
        assert!(edits.take());
        assert!(!edits.take());
    }
}
