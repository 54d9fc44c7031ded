//! The files that a guest boots from: opened once, read in bounded pieces.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::error::{Error, Fault, Role};

/// A regular, non-empty file. It stays open, so that what was checked is what is loaded.
#[derive(Clone, Debug)]
pub struct ImageSource {
    pub role: Role,
    pub path: PathBuf,
    pub file: Arc<File>,
    /// In bytes, as it was when the file was opened.
    pub len: u64,
}

impl ImageSource {
    /// Opens `path`; anything but a regular file with something in it is an error. Never waits,
    /// not even for a named pipe.
    pub fn open(role: Role, path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Open { role, path: path.to_owned(), source };
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(path)
            .map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        let kind = metadata.file_type();
        if !kind.is_file() {
            let kind = match () {
                _ if kind.is_dir() => "a directory",
                _ if kind.is_fifo() => "a pipe",
                _ if kind.is_socket() => "a socket",
                _ => "a device",
            };
            return Err(Error::NotAFile { role, path: path.to_owned(), kind });
        }
        if metadata.len() == 0 {
            return Err(Error::Empty { role, path: path.to_owned() });
        }
        Ok(Self { role, path: path.to_owned(), file: Arc::new(file), len: metadata.len() })
    }

    /// The first bytes: `max` of them, or all that there are.
    pub fn head(&self, max: usize) -> Result<Vec<u8>, Error> {
        self.read_raw(0, usize::try_from(self.len).unwrap_or(max).min(max))
    }

    /// `len` bytes from `offset` on. `field` is what an error is blamed on if the file has no such
    /// bytes. The caller bounds `len`.
    pub fn read(&self, offset: u64, len: usize, field: &'static str) -> Result<Vec<u8>, Error> {
        if offset.checked_add(len as u64).is_none_or(|end| end > self.len) {
            let file = self.len;
            let problem = format!(
                "{len} bytes at offset {offset:#x} do not lie within the file's {file:#x} bytes"
            );
            return Err(self.fault(Fault::new(field, problem)));
        }
        self.read_raw(offset, len)
    }

    fn read_raw(&self, offset: u64, len: usize) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, offset).map_err(|source| Error::Read {
            role: self.role,
            path: self.path.clone(),
            source,
        })?;
        Ok(bytes)
    }

    /// The error that this file's content deserves.
    pub fn fault(&self, fault: Fault) -> Error {
        Error::Image { role: self.role, path: self.path.clone(), fault }
    }
}
