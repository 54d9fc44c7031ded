use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{MetadataExt, symlink},
    path::PathBuf,
};

use proptest::prelude::*;
use tempfile::TempDir;
use zerocopy::{FromZeros, IntoBytes};

use super::*;
use crate::virtio::fs::{
    testing::Guest,
    wire::{self, ROOT, opcode, setattr},
};

/// A directory with a few things in it, and a guest that may do what it likes.
fn guest() -> (Guest, TempDir) {
    let dir = TempDir::new().unwrap();
    let path = dir.path();
    fs::create_dir(path.join("dir")).unwrap();
    fs::write(path.join("file"), "as it was").unwrap();
    fs::write(path.join("dir/below"), "below").unwrap();
    symlink("dir/below", path.join("link")).unwrap();
    (Guest::new(Scratch::new(path).unwrap(), false), dir)
}

/// All that a directory has: each path with its mode, size, owner, time and contents.
fn all_of(path: &std::path::Path) -> Vec<(PathBuf, String)> {
    let mut all = Vec::new();
    let mut left = vec![path.to_owned()];
    while let Some(path) = left.pop() {
        let it = fs::symlink_metadata(&path).unwrap();
        let contents = if it.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
        let what = (it.mode(), it.len(), it.uid(), it.mtime(), it.mtime_nsec(), contents);
        if it.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        all.push((path, format!("{what:?}")));
    }
    all.sort();
    all
}

fn names(guest: &Guest, dir: u64) -> BTreeSet<String> {
    let listed = guest.list(dir, true, 4096);
    let count = listed.len();
    let names: BTreeSet<_> = listed.into_iter().collect();
    assert_eq!(names.len(), count, "a name twice");
    names.into_iter().filter(|name| !name.starts_with('.')).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

type Answer = std::result::Result<(), i32>;

fn rename(guest: &Guest, from: (u64, &str), to: (u64, &str), flags: u32) -> Answer {
    let rename = wire::Rename2In { newdir: to.0.into(), flags: flags.into(), padding: 0.into() };
    guest.with(opcode::RENAME2, from.0, &rename, &[from.1, to.1]).map(|_| ())
}

#[test]
fn the_guest_sees_its_changes_and_the_host_none() {
    let (guest, dir) = guest();
    let before = all_of(dir.path());
    let file = guest.at("file");
    let reader = guest.open(file, libc::O_RDONLY).unwrap().fh.get();
    let fh = guest.open(file, libc::O_RDWR).unwrap().fh.get();
    assert_eq!(guest.write(fh, 3, b"IT"), Ok(2));
    assert_eq!(guest.contents(file).unwrap(), b"as IT was");
    assert_eq!(guest.read(reader, 0, 99, 99).unwrap(), b"as it was");
    assert_eq!(guest.write(reader, 0, b"x"), Err(libc::EBADF));
    let (new, fh) = guest.create(ROOT, "new", libc::O_RDWR).unwrap();
    assert_eq!(guest.write(fh, 0, b"new"), Ok(3));
    assert_eq!(guest.create(ROOT, "new", libc::O_RDWR | libc::O_EXCL), Err(libc::EEXIST));
    assert_eq!(guest.create(ROOT, "new", libc::O_RDWR).unwrap().0, new);
    assert_eq!(guest.at("new"), new);
    let mkdir = wire::MkdirIn { mode: 0o700.into(), umask: 0.into() };
    guest.with(opcode::MKDIR, ROOT, &mkdir, &["made"]).unwrap();
    let made = guest.at("made");
    rename(&guest, (ROOT, "dir"), (made, "moved"), 0).unwrap();
    assert_eq!(guest.contents(guest.at("made/moved/below")).unwrap(), b"below");
    rename(&guest, (ROOT, "new"), (guest.at("made/moved"), "below"), 0).unwrap();
    assert_eq!(guest.contents(guest.at("made/moved/below")).unwrap(), b"new");
    assert_eq!(guest.look(ROOT, "dir").unwrap_err(), libc::ENOENT);
    assert_eq!(names(&guest, ROOT), set(&["file", "link", "made"]));
    assert_eq!(names(&guest, guest.at("made/moved")), set(&["below"]));
    assert_eq!(guest.ask(opcode::RMDIR, made, &[b"moved\0"], 0), Err(libc::ENOTEMPTY));
    assert_eq!(guest.ask(opcode::UNLINK, made, &[b"moved\0"], 0), Err(libc::EISDIR));
    guest.ask(opcode::UNLINK, guest.at("made/moved"), &[b"below\0"], 0).unwrap();
    guest.ask(opcode::RMDIR, made, &[b"moved\0"], 0).unwrap();
    guest.ask(opcode::UNLINK, ROOT, &[b"link\0"], 0).unwrap();
    assert_eq!(names(&guest, ROOT), set(&["file", "made"]));
    // What was removed can be made anew, and is then the guest's own.
    guest.ask(opcode::SYMLINK, ROOT, &[b"link\0elsewhere\0"], 4096).unwrap();
    assert_eq!(guest.ask(opcode::READLINK, guest.at("link"), &[], 99).unwrap(), b"elsewhere");
    assert_eq!(all_of(dir.path()), before);
}

#[test]
fn owners_modes_devices_and_times_are_noted_for_anyone() {
    let (guest, dir) = guest();
    let before = all_of(dir.path());
    let change = |node: u64, valid: u32| {
        let changes = wire::SetattrIn {
            valid: valid.into(),
            mode: 0o4711.into(),
            uid: 12.into(),
            gid: 34.into(),
            size: 2.into(),
            mtime: 99.into(),
            ..FromZeros::new_zeroed()
        };
        guest.get::<wire::AttrOut>(opcode::SETATTR, node, &[changes.as_bytes()]).unwrap().attr
    };
    let owner = setattr::MODE | setattr::UID | setattr::GID | setattr::MTIME;
    for name in ["file", "dir"] {
        let node = guest.at(name);
        change(node, owner);
        let it = guest.look(ROOT, name).unwrap().attr;
        assert_eq!((it.uid.get(), it.gid.get(), it.mtime.get()), (12, 34, 99), "{name}");
        assert_eq!(it.mode.get() & 0o7777, 0o4711);
    }
    let file = guest.at("file");
    assert_eq!(guest.contents(file).unwrap(), b"as it was");
    assert_eq!((change(file, setattr::SIZE).size.get(), change(file, owner).mtime.get()), (2, 99));
    assert_eq!(guest.contents(file).unwrap(), b"as");
    let mknod = wire::MknodIn {
        mode: (libc::S_IFCHR | 0o600).into(),
        rdev: 0x103.into(),
        ..FromZeros::new_zeroed()
    };
    guest.with(opcode::MKNOD, ROOT, &mknod, &["null"]).unwrap();
    let null = guest.look(ROOT, "null").unwrap();
    assert_eq!((null.attr.mode.get(), null.attr.rdev.get()), (libc::S_IFCHR | 0o600, 0x103));
    assert_eq!(guest.open(null.nodeid.get(), libc::O_RDONLY).unwrap_err(), libc::ENXIO);
    assert_eq!(guest.open(null.nodeid.get(), libc::O_RDWR).unwrap_err(), libc::ENXIO);
    assert_eq!(all_of(dir.path()), before);
}

#[test]
fn links_count_and_the_last_name_takes_the_contents_along() {
    let (guest, _dir) = guest();
    let (node, fh) = guest.create(ROOT, "one", libc::O_RDWR).unwrap();
    guest.write(fh, 0, b"shared").unwrap();
    guest.release(opcode::RELEASE, fh);
    let link = wire::LinkIn { oldnodeid: node.into() };
    let two = guest.with(opcode::LINK, ROOT, &link, &["two"]).unwrap();
    assert_eq!(guest.with(opcode::LINK, ROOT, &link, &["two"]), Err(libc::EEXIST));
    assert_eq!(two[..8], node.to_le_bytes());
    assert_eq!(guest.look(ROOT, "two").unwrap().attr.nlink.get(), 2);
    guest.ask(opcode::UNLINK, ROOT, &[b"one\0"], 0).unwrap();
    assert_eq!(guest.look(ROOT, "two").unwrap().attr.nlink.get(), 1);
    guest.ask(opcode::UNLINK, ROOT, &[b"two\0"], 0).unwrap();
    // Known to the guest, it still has its contents.
    assert_eq!(guest.contents(node).unwrap(), b"shared");
    guest.forget(node, 100);
    assert_eq!(guest.open(node, libc::O_RDONLY).unwrap_err(), libc::ESTALE);
}

#[test]
fn renames_replace_exchange_or_refuse() {
    let (guest, _dir) = guest();
    let noreplace = rename(&guest, (ROOT, "file"), (ROOT, "link"), libc::RENAME_NOREPLACE);
    assert_eq!(noreplace, Err(libc::EEXIST));
    let to_nothing = rename(&guest, (ROOT, "file"), (ROOT, "none"), libc::RENAME_EXCHANGE);
    assert_eq!(to_nothing, Err(libc::ENOENT));
    assert_eq!(rename(&guest, (ROOT, "file"), (ROOT, "dir"), 0), Err(libc::EISDIR));
    assert_eq!(rename(&guest, (ROOT, "dir"), (ROOT, "file"), 0), Err(libc::ENOTDIR));
    rename(&guest, (ROOT, "file"), (ROOT, "dir"), libc::RENAME_EXCHANGE).unwrap();
    assert_eq!(guest.contents(guest.at("dir")).unwrap(), b"as it was");
    assert_eq!(guest.contents(guest.at("file/below")).unwrap(), b"below");
    rename(&guest, (ROOT, "dir"), (guest.at("file"), "below"), 0).unwrap();
    assert_eq!(guest.contents(guest.at("file/below")).unwrap(), b"as it was");
    assert_eq!(names(&guest, ROOT), set(&["file", "link"]));
}

#[test]
fn nothing_is_left_behind() {
    let (guest, dir) = guest();
    let scratch = Scratch::new(dir.path()).unwrap();
    let place = scratch.contents.path().to_owned();
    assert!(place.is_dir());
    drop(scratch);
    assert!(!place.exists());
    // A driver that begins anew finds all as it was.
    let (_, fh) = guest.create(ROOT, "new", libc::O_RDWR).unwrap();
    guest.ask(opcode::UNLINK, ROOT, &[b"file\0"], 0).unwrap();
    guest.server.files().forget_all();
    assert_eq!(guest.write(fh, 0, b"x"), Err(libc::EBADF));
    assert_eq!(names(&guest, ROOT), set(&["dir", "file", "link"]));
}

/// The same steps in a directory of the host's.
fn on_host(path: &std::path::Path, (what, a, b): (u8, usize, usize)) -> bool {
    let (a, b) = (path.join(PATHS[a]), path.join(PATHS[b]));
    match what {
        0 => fs::File::create(&a).is_ok(),
        1 => fs::create_dir(&a).is_ok(),
        2 => fs::remove_file(&a).is_ok(),
        3 => fs::remove_dir(&a).is_ok(),
        _ => fs::rename(&a, &b).is_ok(),
    }
}

const PATHS: [&str; 7] = ["file", "dir", "link", "x", "dir/below", "dir/y", "x/z"];

/// In the guest, whose kernel looks all names up before.
fn in_guest(guest: &Guest, (what, a, b): (u8, usize, usize)) -> Option<bool> {
    let place = |path: &'static str| match path.split_once('/') {
        None => Some((ROOT, path)),
        Some((dir, name)) => {
            let dir = guest.look(ROOT, dir).ok()?;
            let is_dir = dir.attr.mode.get() & libc::S_IFMT == libc::S_IFDIR;
            is_dir.then_some((dir.nodeid.get(), name))
        }
    };
    let a = place(PATHS[a])?;
    let name = [a.1.as_bytes(), &[0]].concat();
    Some(match what {
        0 => {
            let made = guest.create(a.0, a.1, libc::O_RDWR | libc::O_TRUNC);
            made.is_ok_and(|(_, fh)| {
                guest.release(opcode::RELEASE, fh);
                true
            })
        }
        1 => guest.with(opcode::MKDIR, a.0, &wire::MkdirIn::default(), &[a.1]).is_ok(),
        2 => guest.ask(opcode::UNLINK, a.0, &[&name], 0).is_ok(),
        3 => guest.ask(opcode::RMDIR, a.0, &[&name], 0).is_ok(),
        _ => rename(guest, a, place(PATHS[b])?, 0).is_ok(),
    })
}

/// Every path in the guest, with its kind and the size of files.
fn seen(guest: &Guest, dir: u64, prefix: &str, all: &mut BTreeSet<(String, u32, u64)>) {
    for name in names(guest, dir) {
        let it = guest.look(dir, &name).unwrap();
        let kind = it.attr.mode.get() & libc::S_IFMT;
        let size = if kind == libc::S_IFDIR { 0 } else { it.attr.size.get() };
        let path = format!("{prefix}{name}");
        if kind == libc::S_IFDIR {
            seen(guest, it.nodeid.get(), &format!("{path}/"), all);
        }
        all.insert((path, kind, size));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever the guest does, it sees what it would see in a directory of its own.
    #[test]
    fn it_is_as_if_the_guest_had_a_copy(
        steps in prop::collection::vec((0_u8..5, 0..PATHS.len(), 0..PATHS.len()), 1..30),
    ) {
        let (guest, dir) = guest();
        let (_, copy) = self::guest();
        let before = all_of(dir.path());
        for step in steps {
            // A directory into itself is the guest's own kernel's to refuse.
            let (from, to) = (PATHS[step.1], PATHS[step.2]);
            if step.0 == 4 && (from == to || to.starts_with(&format!("{from}/"))) {
                continue;
            }
            // As are links to follow: to a directory on the way, or to a file that is created.
            let leads_on = |path: &str| {
                let (dir, _) = path.split_once('/').unwrap_or_default();
                !dir.is_empty() && copy.path().join(dir).is_symlink()
            };
            if leads_on(from) || leads_on(to) || step.0 == 0 && copy.path().join(from).is_symlink() {
                continue;
            }
            let done = in_guest(&guest, step);
            let expect = on_host(copy.path(), step);
            prop_assert_eq!(done.unwrap_or(false), expect, "{:?}", step);
        }
        let mut there = BTreeSet::new();
        seen(&guest, ROOT, "", &mut there);
        let expect: BTreeSet<_> = all_of(copy.path()).into_iter().skip(1).map(|(path, _)| {
            let it = fs::symlink_metadata(&path).unwrap();
            let kind = it.mode() & libc::S_IFMT;
            let size = if it.is_dir() { 0 } else { it.len() };
            let path = path.strip_prefix(copy.path()).unwrap().to_str().unwrap().to_owned();
            (path, kind, size)
        }).collect();
        prop_assert_eq!(there, expect);
        prop_assert_eq!(all_of(dir.path()), before);
    }
}
