//! Files on their way to an emulated host and back: a tar archive in frames.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Read, Write},
    path::{Component, Path, PathBuf},
};

use super::frames::{Frame, Joined, Pieces};

/// The most that is brought along, in bytes. More would hardly have room in the host's memory.
pub const MOST: u64 = 4 << 30;

/// A file, or a directory with all that is in it, for the host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Item {
    /// Where it is here.
    pub from: PathBuf,
    /// Where it goes, absolute.
    pub to: PathBuf,
}

impl Item {
    /// What has the same place there.
    pub fn same(path: PathBuf) -> Self {
        Self { to: path.clone(), from: path }
    }

    /// How many bytes it has.
    ///
    /// # Errors
    /// What cannot be looked at.
    pub fn size(&self) -> io::Result<u64> {
        size_of(&self.from, &mut BTreeSet::new())
    }
}

/// Directories that were seen are not looked at again: links may make a circle.
fn size_of(path: &Path, seen: &mut BTreeSet<PathBuf>) -> io::Result<u64> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_dir() {
        return Ok(metadata.len());
    }
    if !seen.insert(fs::canonicalize(path)?) {
        return Ok(0);
    }
    let mut sum = 0_u64;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if !entry.file_type()?.is_symlink() {
            sum = sum.saturating_add(size_of(&entry.path(), seen)?);
        }
    }
    Ok(sum)
}

/// Sends them. Within directories symbolic links stay what they are.
///
/// # Errors
/// What cannot be read or sent, with the file.
pub fn send(items: &[Item], to: impl Write) -> io::Result<()> {
    let mut archive = tar::Builder::new(Pieces(to));
    for item in items {
        let named = |error: io::Error| {
            io::Error::new(error.kind(), format!("{}: {error}", item.from.display()))
        };
        let name = item.to.strip_prefix("/").unwrap_or(&item.to);
        archive.follow_symlinks(!item.from.is_dir());
        if item.from.is_dir() {
            archive.append_dir_all(name, &item.from).map_err(named)?;
        } else {
            archive.append_path_with_name(&item.from, name).map_err(named)?;
        }
    }
    archive.into_inner()?.finish()
}

/// Takes what is sent and puts it below `root`; of that only what is, or is below, one of `wanted`,
/// if there are any. `first` is a frame of it that has come already.
///
/// # Errors
/// What cannot be received or written.
pub fn receive(
    from: impl Read,
    first: Option<Frame>,
    root: &Path,
    wanted: Option<&[PathBuf]>,
) -> io::Result<()> {
    let mut archive = tar::Archive::new(Joined::new(from, first));
    archive.set_overwrite(true);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = Path::new("/").join(entry.path()?);
        let is_plain =
            path.components().all(|it| matches!(it, Component::RootDir | Component::Normal(_)));
        let is_wanted = wanted.is_none_or(|wanted| wanted.iter().any(|it| path.starts_with(it)));
        if is_plain && is_wanted {
            entry.unpack_in(root).map_err(|error| {
                io::Error::new(error.kind(), format!("{}: {error}", path.display()))
            })?;
        }
    }
    archive.into_inner().drain()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(dir: &Path) -> Item {
        fs::create_dir_all(dir.join("in/sub")).unwrap();
        fs::write(dir.join("in/sub/a"), "text of a").unwrap();
        fs::write(dir.join("in/b"), vec![7; 100_000]).unwrap();
        std::os::unix::fs::symlink("..", dir.join("in/sub/up")).unwrap();
        Item { from: dir.join("in"), to: "/far/away".into() }
    }

    #[test]
    fn trees_arrive_with_all_that_is_in_them() {
        let dir = tempfile::tempdir().unwrap();
        let item = tree(dir.path());
        assert_eq!(item.size().unwrap(), 100_009);
        let mut stream = Vec::new();
        send(&[item], &mut stream).unwrap();
        let root = dir.path().join("root");
        fs::create_dir(&root).unwrap();
        receive(&stream[..], None, &root, None).unwrap();
        assert_eq!(fs::read(root.join("far/away/sub/up/b")).unwrap(), vec![7; 100_000]);
        assert_eq!(fs::read_to_string(root.join("far/away/sub/a")).unwrap(), "text of a");
    }

    #[test]
    fn what_nobody_asked_for_is_not_written() {
        let dir = tempfile::tempdir().unwrap();
        let mut stream = Vec::new();
        send(&[tree(dir.path())], &mut stream).unwrap();
        let root = dir.path().join("root");
        fs::create_dir(&root).unwrap();
        receive(&stream[..], None, &root, Some(&["/far/away/sub".into()])).unwrap();
        assert!(root.join("far/away/sub/a").exists());
        assert!(!root.join("far/away/b").exists());
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let item = Item::same("/nonexistent/file".into());
        let told = send(&[item], Vec::new()).unwrap_err().to_string();
        assert!(told.contains("/nonexistent/file"), "{told}");
    }
}
