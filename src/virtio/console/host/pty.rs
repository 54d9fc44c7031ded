//! A new terminal for a port.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::{
        fd::OwnedFd,
        unix::fs::{OpenOptionsExt, symlink},
    },
    path::{Path, PathBuf},
};

use nix::{
    fcntl::OFlag,
    pty::{grantpt, posix_openpt, ptsname_r, unlockpt},
    sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr},
};

use super::at_path;

pub struct Pty {
    master: File,
    /// As long as somebody has it open, the terminal does not hang up.
    _slave: File,
    link: Option<PathBuf>,
}

impl Pty {
    /// A new terminal, raw, and a link to it where one is wanted.
    ///
    /// # Errors
    /// The host has no terminal left, or something else stands where the link is to be.
    pub fn open(device: &str, link: Option<&Path>) -> io::Result<Self> {
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let master = posix_openpt(flags)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let path = ptsname_r(&master)?;
        let mut options = OpenOptions::new();
        let slave = options.read(true).write(true).custom_flags(libc::O_NOCTTY).open(&path)?;
        let mut settings = tcgetattr(&slave)?;
        cfmakeraw(&mut settings);
        tcsetattr(&slave, SetArg::TCSANOW, &settings)?;
        if let Some(link) = link {
            // One of an earlier run, or of this guest before it has reset.
            if fs::symlink_metadata(link).is_ok_and(|there| there.is_symlink()) {
                let _ = fs::remove_file(link);
            }
            symlink(&path, link).map_err(|error| at_path(link, &error))?;
        }
        log::info!("{device}: the guest's terminal is {path}");
        let master = File::from(OwnedFd::from(master));
        Ok(Self { master, _slave: slave, link: link.map(Path::to_owned) })
    }

    pub fn master(&self) -> &File {
        &self.master
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        if let Some(link) = &self.link {
            let _ = fs::remove_file(link);
        }
    }
}
