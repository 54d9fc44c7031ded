//! The control socket of the run: tells whoever asks, and may, what was counted.
//!
//! Nobody who asks can hold up the main thread or make it keep much: see `client`.

mod answer;
mod client;

use std::{
    fs, io,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            fs::FileTypeExt,
            net::{SocketAddr, UnixListener, UnixStream},
        },
    },
    path::PathBuf,
    process,
};

use event_manager::{EventOps, EventSet, Events};

pub use self::answer::{counts, ends, refusal};
use self::client::{Client, Waits};
use super::watch::of_process;
use crate::cli::{
    Failure,
    control::{Address, NAMES, Request, Wanted, may_be_told, peer},
};

/// What is watched of it: that somebody comes, and from here on those who are here.
pub const COMES: u16 = 16;
const CLIENTS: u16 = COMES + 1;
/// So many are heard at a time.
const MOST: usize = 8;

/// The socket, and who is connected.
#[derive(Debug, Default)]
pub struct Control {
    listener: Option<UnixListener>,
    file: Option<PathBuf>,
    clients: [Option<(Client, EventSet)>; MOST],
}

impl Control {
    /// The socket where it is wanted. The usual one is not made before [`Self::begin`].
    pub fn new(wanted: Option<&Wanted>) -> Result<Option<Self>, Failure> {
        match wanted {
            None => Ok(Some(Self::default())),
            Some(Wanted::Nowhere) => Ok(None),
            Some(Wanted::At(path)) => {
                let wrong = |why| Failure::usage(format!("--control {}: {why}", path.display()));
                let listener = listen_at(path).map_err(wrong)?;
                let (listener, file) = (Some(listener), Some(path.clone()));
                Ok(Some(Self { listener, file, clients: Default::default() }))
            }
        }
    }

    /// Begins to listen. The guests run already, and do so as well if this does not work.
    pub fn begin(&mut self, ops: &mut EventOps<'_>) {
        let listener = self.listener.take().map_or_else(usual, Ok);
        let watched = listener.and_then(|listener| {
            listener.set_nonblocking(true)?;
            let events = Events::with_data(&listener, of_process(COMES), EventSet::IN);
            ops.add(events).map_err(|error| io::Error::other(error.to_string()))?;
            Ok(listener)
        });
        match watched {
            Ok(listener) => self.listener = Some(listener),
            Err(error) => log::warn!(
                "no control socket for axvmm top: {error}; --control FILE makes one elsewhere"
            ),
        }
    }

    /// Whether somebody wants to know how long exits take.
    pub fn wants_times(&self) -> bool {
        self.clients.iter().flatten().any(|(client, _)| client.wants_times)
    }

    /// Acts on what has happened; `answer` makes the line for a request.
    pub fn handle(
        &mut self,
        what: u16,
        ops: &mut EventOps<'_>,
        answer: &mut dyn FnMut(Result<Request, String>) -> Vec<u8>,
    ) {
        if what == COMES {
            return self.accept(ops);
        }
        let slot = usize::from(what.saturating_sub(CLIENTS));
        let Some((client, watched)) = self.clients.get_mut(slot).and_then(Option::as_mut) else {
            return;
        };
        let wanted = match client.turn(answer) {
            Waits::ToAsk => Some(EventSet::IN),
            Waits::ForAnswer => Some(EventSet::OUT),
            Waits::Gone => None,
        };
        match wanted {
            Some(wanted) if wanted == *watched => {}
            Some(wanted)
                if ops.modify(Events::with_data(&client.stream, what.into(), wanted)).is_ok() =>
            {
                *watched = wanted;
            }
            _ => {
                // It was watched, or it would not have had a turn.
                let _ = ops.remove(Events::new(&client.stream, *watched));
                self.clients[slot] = None;
            }
        }
    }

    fn accept(&mut self, ops: &mut EventOps<'_>) {
        let Some(listener) = &self.listener else { return };
        match listener.accept() {
            Ok((stream, _)) => {
                // Nobody is owed an answer who goes away at once.
                let _ = self.admit(stream, ops);
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock
                | io::ErrorKind::Interrupted
                | io::ErrorKind::ConnectionAborted => {}
                _ => {
                    log::warn!("the control socket is closed: {error}");
                    // It would be ready for ever.
                    let _ = ops.remove(Events::new(listener, EventSet::IN));
                    self.listener = None;
                }
            },
        }
    }

    fn admit(&mut self, stream: UnixStream, ops: &mut EventOps<'_>) -> io::Result<()> {
        stream.set_nonblocking(true)?;
        let mut client = Client::new(stream);
        let user = peer(&client.stream)?.uid();
        if !may_be_told(user) {
            client.tell_last(&refusal("only the user whose run this is may ask, and root"));
            return Ok(());
        }
        let Some(slot) = self.clients.iter().position(Option::is_none) else {
            client.tell_last(&refusal(&format!("{MOST} ask already, and no more are heard")));
            return Ok(());
        };
        let data = of_process(CLIENTS + slot as u16);
        let events = Events::with_data(&client.stream, data, EventSet::IN);
        ops.add(events).map_err(|error| io::Error::other(error.to_string()))?;
        self.clients[slot] = Some((client, EventSet::IN));
        Ok(())
    }

    /// Gives all who are connected this line as the last.
    pub fn finish(&mut self, line: &[u8]) {
        for (client, _) in self.clients.iter_mut().flatten() {
            client.tell_last(line);
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            // Somebody may have taken it away.
            let _ = fs::remove_file(file);
        }
    }
}

/// The usual one of this process.
fn usual() -> io::Result<UnixListener> {
    UnixListener::bind_addr(&SocketAddr::from_abstract_name(format!("{NAMES}{}", process::id()))?)
}

/// One in a file, also where one was left behind.
fn listen_at(path: &PathBuf) -> Result<UnixListener, String> {
    let in_use = match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => error,
        bound => return bound.map_err(|error| error.to_string()),
    };
    if !fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket()) {
        return Err("it is there, and no socket".to_owned());
    }
    match Address::File(path.clone()).connect() {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
        _ => return Err(format!("{in_use}: somebody listens there")),
    }
    let again = fs::remove_file(path).and_then(|()| UnixListener::bind(path));
    again.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_that_was_left_behind_is_replaced_and_no_other_file_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control");
        drop(UnixListener::bind(&path).unwrap());
        let wanted = Wanted::At(path.clone());
        let control = Control::new(Some(&wanted)).unwrap();
        let told = Control::new(Some(&wanted)).unwrap_err();
        assert!(told.message.contains("somebody listens there"), "{told:?}");
        assert!(path.exists());
        drop(control);
        assert!(!path.exists());
        fs::write(&path, "mine").unwrap();
        let told = Control::new(Some(&wanted)).unwrap_err();
        assert!(told.message.contains("no socket"), "{told:?}");
        assert_eq!(fs::read(&path).unwrap(), b"mine");
        let nowhere = Wanted::At(dir.path().join("none/control"));
        assert_eq!(Control::new(Some(&nowhere)).unwrap_err().status, 35);
    }
}
