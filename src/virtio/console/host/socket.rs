//! A Unix socket for a port: one at a time can connect, the others wait.

use std::{
    fs, io,
    os::unix::{
        fs::FileTypeExt,
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;

use super::at_path;

pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
    client: Mutex<Option<Arc<UnixStream>>>,
}

impl Socket {
    /// Listens at `path`.
    ///
    /// # Errors
    /// Somebody else does, or something else is there.
    pub fn open(path: &Path) -> io::Result<Self> {
        let is_socket = fs::symlink_metadata(path).is_ok_and(|it| it.file_type().is_socket());
        // One that nobody listens to any more is a leftover.
        if is_socket && UnixStream::connect(path).is_err() {
            let _ = fs::remove_file(path);
        }
        let listener = UnixListener::bind(path).map_err(|error| at_path(path, &error))?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, path: path.to_owned(), client: Mutex::default() })
    }

    pub fn listener(&self) -> &UnixListener {
        &self.listener
    }

    /// Who is connected.
    pub fn client(&self) -> Option<Arc<UnixStream>> {
        self.client.lock().clone()
    }

    /// Takes the next one who wants to connect, if nobody is connected; whether there was one.
    pub fn accept(&self) -> bool {
        let mut client = self.client.lock();
        if client.is_some() {
            return false;
        }
        let accepted = self.listener.accept().and_then(|(stream, _)| {
            stream.set_nonblocking(true)?;
            Ok(stream)
        });
        *client = accepted.ok().map(Arc::new);
        client.is_some()
    }

    /// Who is connected is so no more.
    pub fn disconnect(&self) {
        *self.client.lock() = None;
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
