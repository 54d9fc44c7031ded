//! Files that are there as a whole or not at all.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    process,
};

/// Writes `bytes` to `path`, taking the place of what is there. What is there and no regular file (a
/// pipe, `/dev/stdout`) is written to instead; a pipe that nobody reads is an error.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // Through a symbolic link, so that it stays one.
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    if fs::metadata(path).is_ok_and(|meta| !meta.is_file()) {
        let mut options = OpenOptions::new();
        return options.write(true).custom_flags(libc::O_NONBLOCK).open(path)?.write_all(bytes);
    }
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut beside = std::ffi::OsString::from(".");
    beside.push(name);
    beside.push(format!(".{}", process::id()));
    let beside = path.with_file_name(beside);
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&beside)
        .and_then(|mut file| file.write_all(bytes))
        .and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        // Where it could not be made, it cannot be taken away either.
        let _ = fs::remove_file(&beside);
    }
    written
}

/// Writes `bytes` to a file that is not there yet.
pub fn create(path: &Path, bytes: &[u8]) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).open(path)?.write_all(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole_and_links_stay_links() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real"), dir.path().join("link"));
        replace(&real, b"one").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        replace(&link, b"2").unwrap();
        assert_eq!(fs::read(&real).unwrap(), b"2");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing is left beside");
    }

    #[test]
    fn devices_are_written_to_and_other_things_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        replace(Path::new("/dev/null"), b"x").unwrap();
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        for path in [dir.path(), &fifo, &dir.path().join("no/file"), Path::new("")] {
            assert!(replace(path, b"x").is_err(), "{path:?}");
        }
    }

    #[test]
    fn a_file_that_is_there_is_not_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        create(&path, b"x").unwrap();
        assert_eq!(create(&path, b"y").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"x");
    }
}
