//! An initramfs, in the form that Linux unpacks (Documentation/driver-api/early-userspace/
//! buffer-format.rst, "newc").

/// An archive that is being written.
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    files: u32,
}

impl Archive {
    /// A directory that anyone may read.
    pub fn directory(&mut self, name: &str) {
        self.add(name, libc::S_IFDIR | 0o755, &[]);
    }

    /// A file that anyone may execute.
    pub fn program(&mut self, name: &str, contents: &[u8]) {
        self.add(name, libc::S_IFREG | 0o755, contents);
    }

    /// The archive with its end.
    pub fn finish(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, &[]);
        self.bytes
    }

    fn add(&mut self, name: &str, mode: u32, contents: &[u8]) {
        self.files += 1;
        let (size, name_size) = (contents.len() as u32, name.len() as u32 + 1);
        let [uid, gid, mtime, device, rdevice, check] = [0; 6];
        let fields = [
            self.files, mode, uid, gid, 1, mtime, size, device, device, rdevice, rdevice,
            name_size, check,
        ];
        self.bytes.extend(b"070701");
        fields.iter().for_each(|field| self.bytes.extend(format!("{field:08x}").bytes()));
        self.bytes.extend(name.bytes().chain([0]));
        self.pad();
        self.bytes.extend(contents);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        io::Write,
        os::unix::fs::PermissionsExt,
        process::{Command, Stdio},
    };

    use super::*;

    /// Busybox or cpio itself, whichever is there, reads it as it was meant.
    #[test]
    fn it_unpacks_to_what_was_put_in() {
        let mut archive = Archive::default();
        archive.directory("dev");
        archive.program("init", b"#!/bin/odd\n");
        let bytes = archive.finish();
        assert_eq!((bytes.len() % 4, &bytes[..6]), (0, &b"070701"[..]));
        let dir = tempfile::TempDir::new().unwrap();
        let mut cpio = Command::new("cpio");
        let unpack = cpio.args(["-i", "-d"]).current_dir(dir.path()).stdin(Stdio::piped());
        let mut running = match unpack.spawn() {
            Ok(running) => running,
            Err(_) => {
                let mut busybox = Command::new("busybox");
                let unpack = busybox.args(["cpio", "-i", "-d"]).current_dir(dir.path());
                unpack.stdin(Stdio::piped()).spawn().expect("cpio or busybox")
            }
        };
        running.stdin.take().unwrap().write_all(&bytes).unwrap();
        assert!(running.wait().unwrap().success());
        assert!(dir.path().join("dev").is_dir());
        let init = dir.path().join("init");
        assert_eq!(fs::read(&init).unwrap(), b"#!/bin/odd\n");
        assert_eq!(fs::metadata(&init).unwrap().permissions().mode() & 0o777, 0o755);
    }
}
