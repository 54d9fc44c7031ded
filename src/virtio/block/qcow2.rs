//! qcow2 images, by the crate imago.
//!
//! - `repair`: what a kill may leave.

mod repair;

use std::{fs::File, io, os::fd::AsRawFd, path::Path};

use imago::{
    DenyImplicitOpenGate, FormatAccess, FormatDriverBuilder, StorageOpenOptions,
    file::File as Storage, qcow2::Qcow2, raw::Raw,
};
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::{
    BlockConfig,
    guest_slices::{with_slices, with_slices_mut},
    image::{Backing, Image, ImageError, ImageFormat, SECTOR, open_file},
};
use crate::addrspace::GuestBuffer;

/// A chain of more images than this is taken for a circle.
const MOST_BACKING: usize = 64;

/// A qcow2 image, with what backs it.
pub struct Qcow2Image {
    /// Held for writing by what gives room back, which nobody may be using meanwhile, and by what
    /// writes metadata: first the counts of clusters, then the tables that refer to them. Of a write
    /// in between, the image would have the latter only, and take the cluster for a free one.
    disk: RwLock<FormatAccess<Storage>>,
    size: u64,
    readonly: bool,
}

impl Qcow2Image {
    /// The disk in `file`, which is open as `config` wants it.
    pub fn new(file: File, config: &BlockConfig) -> Result<Self, ImageError> {
        let opener = Opener { direct: config.direct };
        let BlockConfig { path, readonly, backing, .. } = config;
        let disk = opener.qcow2(file, path, *readonly, backing, MOST_BACKING)?;
        let size = disk.size();
        if size == 0 {
            return Err(ImageError::Empty { path: path.clone() });
        }
        if size % SECTOR != 0 {
            return Err(ImageError::OddSize { path: path.clone(), size });
        }
        Ok(Self { disk: RwLock::new(disk), size, readonly: *readonly })
    }

    fn shared(&self) -> RwLockReadGuard<'_, FormatAccess<Storage>> {
        self.disk.read()
    }

    fn alone(&self) -> RwLockWriteGuard<'_, FormatAccess<Storage>> {
        self.disk.write()
    }
}

/// Opens images, and what backs them. No format is ever guessed.
struct Opener {
    direct: bool,
}

impl Opener {
    /// A qcow2 image. `left` is how many more may back each other.
    fn qcow2(
        &self,
        file: File,
        path: &Path,
        readonly: bool,
        backing: &Backing,
        left: usize,
    ) -> Result<FormatAccess<Storage>, ImageError> {
        let failed = |source| ImageError::Qcow2 { path: path.to_owned(), source };
        if !readonly {
            let uncounted = buffered(&file).and_then(|file| repair::count_tables(&file));
            if uncounted.map_err(failed)? != 0 {
                log::info!("{}: its last writer was killed; it has been repaired", path.display());
            }
        }
        let storage = self.storage(file, path, readonly).map_err(failed)?;
        let mut image = Qcow2::<Storage>::open_image(storage, !readonly).map_err(failed)?;
        if image.requires_external_data_file() {
            return Err(ImageError::DataFile { path: path.to_owned() });
        }
        let named = image.implicit_backing_file().cloned();
        let lower = match (backing, named) {
            (Backing::None, Some(backing)) => {
                return Err(ImageError::Backing { path: path.to_owned(), backing });
            }
            (Backing::None | Backing::AsNamed, None) => None,
            (Backing::At(lower, format), _) => {
                Some(self.lower(lower, *format, &Backing::None, left)?)
            }
            (Backing::AsNamed, Some(lower)) => {
                // A name is relative to where the image really is.
                let real = path.canonicalize().map_err(failed)?;
                let format = match image.implicit_backing_format().map(String::as_str) {
                    Some("raw" | "file") => ImageFormat::Raw,
                    Some("qcow2") => ImageFormat::Qcow2,
                    named => {
                        let named = named.map(str::to_owned);
                        return Err(ImageError::BackingFormat { path: path.to_owned(), named });
                    }
                };
                Some(self.lower(&real.with_file_name(lower), format, backing, left)?)
            }
        };
        image.set_backing(lower);
        image.open_implicit_dependencies_gated(DenyImplicitOpenGate::default()).map_err(failed)?;
        Ok(FormatAccess::new(image))
    }

    /// An image that backs another.
    fn lower(
        &self,
        path: &Path,
        format: ImageFormat,
        backing: &Backing,
        left: usize,
    ) -> Result<FormatAccess<Storage>, ImageError> {
        let failed = |source| ImageError::Qcow2 { path: path.to_owned(), source };
        let too_many =
            || failed(io::Error::other(format!("more than {MOST_BACKING} images back each other")));
        let left = left.checked_sub(1).ok_or_else(too_many)?;
        let file = open_file(path, true, self.direct)?;
        match format {
            ImageFormat::Qcow2 => self.qcow2(file, path, true, backing, left),
            ImageFormat::Raw => {
                let storage = self.storage(file, path, true).map_err(failed)?;
                let raw = Raw::builder(storage).open(DenyImplicitOpenGate::default());
                Ok(FormatAccess::new(raw.map_err(failed)?))
            }
        }
    }

    fn storage(&self, file: File, path: &Path, readonly: bool) -> io::Result<Storage> {
        let options = StorageOpenOptions::new().filename(path).write(!readonly).direct(self.direct);
        Storage::from_open_file(file, options)
    }
}

/// The same file, for reads and writes of any size, whichever way it is open.
fn buffered(file: &File) -> io::Result<File> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    File::options().read(true).write(true).open(path)
}

impl Image for Qcow2Image {
    fn size(&self) -> u64 {
        self.size
    }

    fn read(&self, offset: u64, to: GuestBuffer) -> io::Result<()> {
        with_slices_mut(to, |slices| self.shared().readv(slices.into(), offset))
    }

    fn write(&self, offset: u64, from: GuestBuffer) -> io::Result<()> {
        with_slices(&from, |slices| self.shared().writev(slices.into(), offset))
    }

    fn flush(&self) -> io::Result<()> {
        if self.readonly {
            return Ok(());
        }
        self.alone().flush()?;
        self.shared().sync()
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        match self.alone().discard_to_any(offset, len) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
            done => done,
        }
    }

    fn write_zeroes(&self, offset: u64, len: u64, unmap: bool) -> io::Result<()> {
        match unmap {
            true => self.alone().discard_to_zero(offset, len),
            false => self.shared().write_zeroes(offset, len),
        }
    }
}
