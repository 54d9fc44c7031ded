//! Unpacked kernels, kept from one run to the next.
//!
//! An entry is found by what the file system says about the packed kernel (device, inode, size,
//! times), not by its content: reading and hashing 10 MiB would cost as much as all the rest of a
//! start. Whoever changes a file changes its ctime; a file that was changed just now is not cached,
//! since a second change could bear the same time stamp. An entry's name holds its size, and the
//! ELF headers in it are checked like those of any kernel: a file that a crash cut short is found
//! out.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, SystemTime},
};

use nix::sys::statfs::{FsType, TMPFS_MAGIC, statfs};

use super::file::ImageSource;

/// How many kernels are kept: those used last.
const KEPT: usize = 8;
/// A temporary file this old belongs to a process that is gone.
const ABANDONED: Duration = Duration::from_secs(3600);
/// The extension of the marks of kernels that were started but not unpacked, and how long each is
/// remembered.
const SEEN: &str = "seen";
const FORGOTTEN: Duration = Duration::from_secs(7 * 24 * 3600);
/// How far apart two changes of a file must be to bear different times, generously.
const TIMESTAMP_TICK: Duration = Duration::from_millis(100);
/// How often using an entry is noted in its file's time.
const USE_NOTED: Duration = Duration::from_secs(3600);

/// The name of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    name: String,
    /// The unpacked size in bytes.
    size: u64,
}

impl Key {
    /// For the payload at `offset` of `source`, which comes to `size` bytes. `None`: the file has
    /// been changed so recently that another change might go unnoticed.
    pub fn of(source: &ImageSource, offset: u64, size: u64) -> Option<Self> {
        let is = source.file.metadata().ok()?;
        let (secs, nanos) = (is.ctime(), is.ctime_nsec());
        let changed = Duration::new(secs.try_into().ok()?, nanos.try_into().ok()?);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?;
        if now.checked_sub(changed)? < TIMESTAMP_TICK {
            return None;
        }
        let (dev, ino, len, mtime) = (is.dev(), is.ino(), is.size(), is.mtime());
        let mtime_nsec = is.mtime_nsec();
        let name = format!(
            "{dev:x}-{ino:x}-{len:x}-{mtime:x}.{mtime_nsec:x}-{secs:x}.{nanos:x}-{offset:x}-{size:x}.elf"
        );
        Some(Self { name, size })
    }
}

/// A directory of unpacked kernels.
#[derive(Clone, Debug)]
pub struct Cache {
    dir: PathBuf,
    /// Whether it is there tomorrow: not one in memory.
    lasting: bool,
}

impl Cache {
    /// The user's: `$XDG_CACHE_HOME/axvmm/kernels`, or below `$HOME/.cache`.
    pub fn of_user() -> Option<Self> {
        let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
        let base = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))?;
        let mut cache = Self::at(&base.join("axvmm/kernels"));
        cache.lasting = !cache.is_in_memory();
        Some(cache)
    }

    pub fn at(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), lasting: true }
    }

    /// Whether the directory, or where it would be made, is on a file system in memory.
    fn is_in_memory(&self) -> bool {
        const RAMFS: FsType = FsType(0x8584_58f6);
        let nearest = self.dir.ancestors().find_map(|dir| statfs(dir).ok());
        nearest.is_some_and(|fs| [TMPFS_MAGIC, RAMFS].contains(&fs.filesystem_type()))
    }

    /// Whether an entry that is not there yet would be used again, as far as one can tell: the
    /// cache lasts, and this is not the first time that it is asked for.
    pub fn pays(&self, key: &Key) -> bool {
        let mark = self.dir.join(&key.name).with_extension(SEEN);
        if !self.lasting || mark.exists() {
            return self.lasting;
        }
        let marked = self.make_dir().and_then(|()| File::create(mark)).and_then(|_| self.prune());
        if let Err(error) = marked {
            log::debug!("Kernel cache {:?}: {error}", self.dir);
        }
        false
    }

    fn make_dir(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)
    }

    pub fn path(&self, key: &Key) -> PathBuf {
        self.dir.join(&key.name)
    }

    /// The entry, if there is one of the right size that nobody else could have written.
    pub fn get(&self, key: &Key) -> Option<File> {
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(self.path(key)).ok()?;
        let is = file.metadata().ok()?;
        let others_write = is.mode() & 0o022 != 0 || is.uid() != nix::unistd::geteuid().as_raw();
        if !is.is_file() || is.len() != key.size || others_write {
            return None;
        }
        if is.modified().ok()?.elapsed().is_ok_and(|age| age > USE_NOTED) {
            let _ = file.set_modified(SystemTime::now()); // a read-only directory is no harm
        }
        Some(file)
    }

    /// Takes an entry away that turned out to be damaged.
    pub fn remove(&self, entry: &Path) {
        let _ = fs::remove_file(entry); // if it stays, the next run finds it out again
    }

    /// Begins a new entry.
    pub fn create(&self, key: &Key) -> io::Result<NewEntry<'_>> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        self.make_dir()?;
        let (pid, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let temporary = self.dir.join(format!(".{pid}.{count}.tmp"));
        let _ = fs::remove_file(&temporary); // an earlier process of this number left it
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)?;
        Ok(NewEntry { cache: self, file, kept: false, temporary, target: self.path(key) })
    }

    /// Makes room: only the entries that were used last stay.
    fn prune(&self) -> io::Result<()> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let (Ok(is), path) = (entry.metadata(), entry.path()) else { continue };
            let Ok(modified) = is.modified() else { continue };
            let limit = match path.extension().and_then(|ext| ext.to_str()) {
                Some("elf") => {
                    entries.push((modified, path));
                    continue;
                }
                Some("tmp") => ABANDONED,
                Some(SEEN) => FORGOTTEN,
                _ => continue,
            };
            if modified.elapsed().is_ok_and(|age| age > limit) {
                let _ = fs::remove_file(path); // another process may have been faster
            }
        }
        entries.sort();
        let surplus = entries.len().saturating_sub(KEPT);
        for (_, path) in entries.drain(..surplus) {
            let _ = fs::remove_file(path);
        }
        Ok(())
    }
}

/// An entry that is being written; nobody sees it before it is kept, and it is gone if it never is.
pub struct NewEntry<'a> {
    cache: &'a Cache,
    file: File,
    kept: bool,
    temporary: PathBuf,
    target: PathBuf,
}

impl NewEntry<'_> {
    /// What to write to.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Makes it an entry.
    pub fn keep(mut self) -> io::Result<File> {
        let file = self.file.try_clone()?;
        fs::rename(&self.temporary, &self.target)?;
        self.kept = true;
        if let Err(error) = self.cache.prune() {
            log::debug!("Kernel cache {:?}: {error}", self.cache.dir);
        }
        Ok(file)
    }
}

impl Drop for NewEntry<'_> {
    fn drop(&mut self) {
        if !self.kept {
            let _ = fs::remove_file(&self.temporary); // the next run clears up what stays behind
        }
    }
}

#[cfg(test)]
mod tests;
