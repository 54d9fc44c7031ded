use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink},
    process::Command,
};

use tempfile::TempDir;
use zerocopy::{FromZeros, IntoBytes};

use super::*;
use crate::virtio::fs::{
    testing::Guest,
    wire::{self, ROOT, opcode, setattr},
};

/// A directory `share` with another one beside it that no guest may see.
fn share() -> (TempDir, std::path::PathBuf) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("share");
    fs::create_dir(&path).unwrap();
    fs::write(dir.path().join("secret"), "outside").unwrap();
    (dir, path)
}

fn guest() -> (Guest, TempDir, std::path::PathBuf) {
    let (dir, path) = share();
    let guest = Guest::new(Passthrough::new(&path).unwrap(), false);
    (guest, dir, path)
}

/// With room for this many known files.
fn with_files(path: &Path, most: usize) -> Guest {
    let mut files = Passthrough::new(path).unwrap();
    files.nodes = Nodes::new(host::open_root(path).unwrap(), most).unwrap();
    Guest::new(files, false)
}

#[test]
fn what_the_guest_makes_is_there_on_the_host() {
    let (guest, _dir, path) = guest();
    let (node, fh) = guest.create(ROOT, "file", libc::O_RDWR).unwrap();
    let bytes: Vec<u8> = (0..100_000_u32).map(|i| (i % 251) as u8).collect();
    assert_eq!(guest.write(fh, 0, &bytes), Ok(100_000));
    assert_eq!(guest.write(fh, 200_000, b"end"), Ok(3));
    assert_eq!(guest.read(fh, 5, 1000, 1000).unwrap(), bytes[5..1005]);
    assert_eq!(guest.read(fh, 199_999, 1000, 1000).unwrap(), b"\0end");
    assert_eq!(guest.read(fh, 200_003, 10, 10).unwrap(), b"");
    guest.release(opcode::RELEASE, fh);
    assert_eq!(guest.read(fh, 0, 1, 1), Err(libc::EBADF));
    let host = fs::read(path.join("file")).unwrap();
    assert_eq!((host.len(), &host[..100_000]), (200_003, &bytes[..]));

    let dir = wire::MkdirIn { mode: 0o751.into(), umask: 0.into() };
    guest.with(opcode::MKDIR, ROOT, &dir, &["dir"]).unwrap();
    let sub = guest.at("dir");
    let rename = wire::Rename2In { newdir: sub.into(), flags: 0.into(), padding: 0.into() };
    guest.with(opcode::RENAME2, ROOT, &rename, &["file", "moved"]).unwrap();
    assert_eq!(guest.at("dir/moved"), node);
    let link = wire::LinkIn { oldnodeid: node.into() };
    guest.with(opcode::LINK, ROOT, &link, &["again"]).unwrap();
    assert_eq!(fs::metadata(path.join("again")).unwrap().nlink(), 2);
    assert_eq!(guest.at("again"), node);
    guest.ask(opcode::SYMLINK, ROOT, &[b"link\0over/there\0"], 4096).unwrap();
    assert_eq!(fs::read_link(path.join("link")).unwrap(), Path::new("over/there"));
    guest.ask(opcode::UNLINK, sub, &[b"moved\0"], 0).unwrap();
    guest.ask(opcode::RMDIR, ROOT, &[b"dir\0"], 0).unwrap();
    assert_eq!(guest.ask(opcode::RMDIR, ROOT, &[b"dir\0"], 0), Err(libc::ENOENT));
    let names: BTreeSet<_> = guest.list(ROOT, false, 4096).into_iter().collect();
    assert_eq!(names, BTreeSet::from([".", "..", "again", "link"].map(str::to_owned)));
}

#[test]
fn attributes_are_the_hosts_and_change_there() {
    let (guest, _dir, path) = guest();
    let file = path.join("file");
    fs::write(&file, "twelve bytes").unwrap();
    let entry = guest.look(ROOT, "file").unwrap();
    assert_eq!((entry.attr.size.get(), entry.attr.mode.get() & 0o170000), (12, libc::S_IFREG));
    assert_eq!(entry.attr.ino.get(), fs::metadata(&file).unwrap().ino());
    let changes = wire::SetattrIn {
        valid: (setattr::MODE | setattr::SIZE | setattr::MTIME | setattr::ATIME_NOW).into(),
        mode: 0o4750.into(),
        size: 5.into(),
        mtime: 1_000_000_000.into(),
        mtimensec: 7.into(),
        ..FromZeros::new_zeroed()
    };
    let node = entry.nodeid.get();
    let after: wire::AttrOut = guest.get(opcode::SETATTR, node, &[changes.as_bytes()]).unwrap();
    assert_eq!((after.attr.size.get(), after.attr.mtime.get()), (5, 1_000_000_000));
    let host = fs::metadata(&file).unwrap();
    assert_eq!((host.len(), host.mtime(), host.mtime_nsec()), (5, 1_000_000_000, 7));
    assert_eq!(host.permissions().mode() & 0o7777, 0o4750);
    assert!(host.atime() > 1_000_000_000);
}

#[test]
fn owners_are_the_guests_for_root_and_ours_for_anyone_else() {
    let host = Host::new().unwrap();
    let mine = |is_root| Owners { is_root, uid: 1000, gid: 1001 };
    assert_eq!(mine(false).seen(1000, 1001), (0, 0));
    assert_eq!(mine(false).seen(1001, 1000), (1001, 1000));
    assert_eq!(mine(true).seen(1000, 0), (1000, 0));
    if !host.owners.is_root {
        return;
    }
    let (guest, _dir, path) = guest();
    let changes = wire::SetattrIn {
        valid: (setattr::UID | setattr::GID).into(),
        uid: 12.into(),
        gid: 34.into(),
        ..FromZeros::new_zeroed()
    };
    let (node, _) = guest.create(ROOT, "file", libc::O_WRONLY).unwrap();
    guest.get::<wire::AttrOut>(opcode::SETATTR, node, &[changes.as_bytes()]).unwrap();
    let host = fs::metadata(path.join("file")).unwrap();
    assert_eq!((host.uid(), host.gid()), (12, 34));
}

#[test]
fn nothing_leads_out_of_the_share() {
    let (guest, dir, path) = guest();
    symlink(dir.path(), path.join("up")).unwrap();
    symlink("../secret", path.join("out")).unwrap();
    fs::create_dir(path.join("sub")).unwrap();
    for name in ["..", ".", "", "sub/../..", "/etc", "sub/"] {
        for node in [ROOT, guest.at("sub")] {
            assert_eq!(guest.look(node, name).unwrap_err(), libc::EINVAL, "{name}");
        }
    }
    let out = guest.look(ROOT, "out").unwrap();
    assert_eq!(out.attr.mode.get() & libc::S_IFMT, libc::S_IFLNK);
    let node = out.nodeid.get();
    assert_eq!(guest.ask(opcode::READLINK, node, &[], 4096).unwrap(), b"../secret");
    assert_eq!(guest.open(node, libc::O_RDONLY).unwrap_err(), libc::ELOOP);
    assert_eq!(guest.create(ROOT, "out", libc::O_RDWR), Err(libc::ELOOP));
    let up = guest.at("up");
    assert_eq!(guest.look(up, "secret").unwrap_err(), libc::ENOTDIR);
    assert_eq!(guest.create(up, "new", libc::O_RDWR), Err(libc::ENOTDIR));
    assert!(guest.get::<wire::OpenOut>(opcode::OPENDIR, up, &[&[0; 8]]).is_err());
    assert_eq!(fs::read_to_string(dir.path().join("secret")).unwrap(), "outside");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
}

#[test]
fn what_is_no_file_is_never_opened_and_devices_are_not_made() {
    let (guest, _dir, path) = guest();
    let mknod = |mode: u32| wire::MknodIn { mode: mode.into(), ..FromZeros::new_zeroed() };
    for kind in [libc::S_IFCHR, libc::S_IFBLK] {
        let made = guest.with(opcode::MKNOD, ROOT, &mknod(kind | 0o600), &["dev"]);
        assert_eq!(made, Err(libc::EPERM));
    }
    guest.with(opcode::MKNOD, ROOT, &mknod(libc::S_IFIFO | 0o600), &["pipe"]).unwrap();
    assert!(fs::metadata(path.join("pipe")).unwrap().file_type().is_fifo());
    for flags in [libc::O_RDONLY, libc::O_RDWR] {
        assert_eq!(guest.open(guest.at("pipe"), flags).unwrap_err(), libc::ENXIO);
        assert_eq!(guest.create(ROOT, "pipe", flags).unwrap_err(), libc::ENXIO);
    }
    assert_eq!(guest.open(ROOT, libc::O_RDONLY).unwrap_err(), libc::EISDIR);
}

#[test]
fn a_share_to_read_is_never_written() {
    let (_dir, path) = share();
    fs::write(path.join("file"), "as it was").unwrap();
    let before = Command::new("stat").arg(path.join("file")).arg(&path).output().unwrap();
    let guest = Guest::new(Passthrough::new(&path).unwrap(), true);
    let node = guest.at("file");
    let fh = guest.open(node, libc::O_RDONLY).unwrap().fh.get();
    for code in [4, 6, 8, 9, 10, 11, 12, 13, 35, 43, 45, 47] {
        for body in [&[0xff; 88][..], b"file\0new\0", &[0; 56]] {
            assert_eq!(guest.ask(code, node, &[body], 4096), Err(libc::EROFS), "{code}");
        }
    }
    for flags in [libc::O_WRONLY, libc::O_RDWR, libc::O_RDONLY | libc::O_TRUNC] {
        assert_eq!(guest.open(node, flags).unwrap_err(), libc::EROFS);
    }
    assert_eq!(guest.write(fh, 0, b"changed"), Err(libc::EROFS));
    assert_eq!(guest.contents(node).unwrap(), b"as it was");
    let after = Command::new("stat").arg(path.join("file")).arg(&path).output().unwrap();
    let unread = |out: &[u8]| {
        let text = String::from_utf8_lossy(out).into_owned();
        text.lines().filter(|line| !line.starts_with("Access: 2")).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(unread(&before.stdout), unread(&after.stdout));
}

#[test]
fn listings_have_each_entry_once_in_pieces_of_any_size() {
    let (guest, _dir, path) = guest();
    let expect: BTreeSet<String> = (0..700).map(|i| format!("a file named {i}")).collect();
    for name in &expect {
        fs::write(path.join(name), name).unwrap();
    }
    for (plus, room) in [(false, 64), (false, 4096), (false, 1 << 17), (true, 250), (true, 8192)] {
        let names = guest.list(ROOT, plus, room);
        assert_eq!(names.len(), 702, "{plus} {room}");
        let names: BTreeSet<_> = names.into_iter().filter(|name| name.len() > 2).collect();
        assert_eq!(names, expect);
    }
}

#[test]
fn more_nodes_than_known_files_are_still_the_same_files() {
    let (_dir, path) = share();
    fs::create_dir(path.join("sub")).unwrap();
    let guest = with_files(&path, 4);
    let sub = guest.at("sub");
    let nodes: Vec<u64> = (0..60)
        .map(|i| {
            let (node, fh) = guest.create(sub, &format!("{i}"), libc::O_RDWR).unwrap();
            guest.write(fh, 0, format!("I am {i}").as_bytes()).unwrap();
            guest.release(opcode::RELEASE, fh);
            node
        })
        .collect();
    let rename = wire::RenameIn { newdir: ROOT.into() };
    guest.with(opcode::RENAME, ROOT, &rename, &["sub", "elsewhere"]).unwrap();
    for (i, node) in nodes.iter().enumerate() {
        assert_eq!(guest.contents(*node).unwrap(), format!("I am {i}").as_bytes());
    }
    // Another file of the same name is not the same.
    let host = path.join("elsewhere");
    fs::rename(host.join("1"), host.join("0")).unwrap();
    assert_eq!(guest.contents(nodes[0]), Err(libc::ESTALE));
    fs::remove_file(host.join("2")).unwrap();
    assert_eq!(guest.contents(nodes[2]), Err(libc::ESTALE));
    symlink("/etc", host.join("2")).unwrap();
    assert_eq!(guest.contents(nodes[2]), Err(libc::ESTALE));
}

#[test]
fn a_file_lives_as_long_as_it_is_open_or_remembered() {
    let (guest, _dir, path) = guest();
    let (node, fh) = guest.create(ROOT, "file", libc::O_RDWR).unwrap();
    guest.write(fh, 0, b"still here").unwrap();
    fs::remove_file(path.join("file")).unwrap();
    assert_eq!(guest.contents(node).unwrap(), b"still here");
    guest.forget(node, 1);
    assert_eq!(guest.open(node, libc::O_RDONLY).unwrap_err(), libc::ESTALE);
    assert_eq!(guest.read(fh, 0, 100, 100).unwrap(), b"still here");
    guest.server.files().forget_all();
    assert_eq!(guest.read(fh, 0, 100, 100), Err(libc::EBADF));
    // Forgetting the root, or what there is not, changes nothing.
    for node in [ROOT, node, u64::MAX] {
        guest.forget(node, u64::MAX);
    }
    assert_eq!(guest.look(ROOT, "file").unwrap_err(), libc::ENOENT);
}

#[test]
fn the_guests_pages_are_good_until_the_host_changes_the_file() {
    let (guest, _dir, path) = guest();
    let file = path.join("file");
    fs::write(&file, "one").unwrap();
    let node = guest.at("file");
    let keeps = || guest.open(node, libc::O_RDONLY).unwrap().open_flags.get() != 0;
    assert_eq!([keeps(), keeps(), keeps()], [false, true, true]);
    fs::write(&file, "other").unwrap();
    assert_eq!([keeps(), keeps()], [false, true]);
}

#[test]
fn data_and_holes_are_found_and_ranges_copied() {
    let (guest, _dir, path) = guest();
    fs::write(path.join("from"), vec![7; 300_000]).unwrap();
    let from = guest.open(guest.at("from"), libc::O_RDONLY).unwrap().fh;
    let (_, to) = guest.create(ROOT, "to", libc::O_RDWR).unwrap();
    let copy = wire::CopyFileRangeIn {
        fh_in: from,
        off_in: 100_000.into(),
        nodeid_out: 0.into(),
        fh_out: to.into(),
        off_out: (1 << 20).into(),
        len: u64::MAX.into(),
        flags: 0.into(),
    };
    let copied: wire::WriteOut = guest.get(opcode::COPY_FILE_RANGE, 0, &[copy.as_bytes()]).unwrap();
    assert_eq!(copied.size.get(), 200_000);
    assert_eq!(fs::metadata(path.join("to")).unwrap().len(), (1 << 20) + 200_000);
    let seek = |whence: i32| {
        let (fh, whence) = (to.into(), (whence as u32).into());
        let seek = wire::LseekIn { fh, offset: 0.into(), whence, padding: 0.into() };
        guest.get::<wire::LseekOut>(opcode::LSEEK, 0, &[seek.as_bytes()])
    };
    assert_eq!(seek(libc::SEEK_DATA).unwrap().offset.get(), 1 << 20);
    assert_eq!(seek(libc::SEEK_HOLE).unwrap().offset.get(), 0);
    assert_eq!(seek(libc::SEEK_END).unwrap_err(), libc::EINVAL);
}
