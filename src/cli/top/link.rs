//! A connection to a run.

use std::{
    io::{self, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use super::sample::Sample;
use crate::cli::{
    Failure,
    control::{Address, Request, may_ask, peer},
};

/// No answer is as long as this, in bytes.
const LONGEST: usize = 64 << 20;

/// The connection, and what has come and is no whole line yet.
#[derive(Debug)]
pub struct Link {
    stream: UnixStream,
    address: Address,
    gathered: Vec<u8>,
    /// What is there was looked through for the end of a line.
    looked_through: usize,
    /// Only this guest is meant.
    pub only: Option<String>,
}

/// What has come.
#[derive(Debug)]
pub enum Heard {
    Nothing,
    Sample(Sample),
    /// The run is gone.
    End,
}

impl Link {
    /// Connects to a run of this user's; root's may be anybody's.
    pub fn connect(address: Address) -> io::Result<Self> {
        let stream = address.connect()?;
        let user = peer(&stream)?.uid();
        if !may_ask(user) {
            let told = format!("it is a process of user {user}'s, whom only root may ask");
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, told));
        }
        let (gathered, looked_through, only) = Default::default();
        Ok(Self { stream, address, gathered, looked_through, only })
    }

    /// Asks for something; the answer comes by [`Self::hear`].
    pub fn ask(&mut self, request: Request) {
        // If it is gone, what it said last is still to be heard.
        let _ = self.stream.write_all(request.line());
    }

    /// Waits until there is something to hear, but not longer than this.
    pub fn wait(&self, patience: Duration) -> Result<(), Failure> {
        let millis = patience.as_millis() + u128::from(patience.subsec_nanos() % 1_000_000 > 0);
        let timeout = PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(self.stream.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(Failure::call("wait for the run", errno)),
        }
    }

    /// The answer to a request, or the last word of a run that ends; `None`: there was none in time.
    pub fn hear_within(&mut self, patience: Duration) -> Result<Option<Heard>, Failure> {
        let begun = Instant::now();
        loop {
            match self.hear()? {
                Heard::Nothing => {}
                heard => return Ok(Some(heard)),
            }
            let left = patience.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Ok(None);
            }
            self.wait(left)?;
        }
    }

    /// What has come, without waiting for it.
    pub fn hear(&mut self) -> Result<Heard, Failure> {
        let mut bytes = [0; 64 << 10];
        loop {
            let new = &self.gathered[self.looked_through..];
            if let Some(end) = new.iter().position(|byte| *byte == b'\n') {
                let end = self.looked_through + end;
                let line: Vec<u8> = self.gathered.drain(..=end).collect();
                self.looked_through = 0;
                return self.understand(&line).map(Heard::Sample);
            }
            self.looked_through = self.gathered.len();
            if self.gathered.len() > LONGEST {
                return Err(self.wrong("more than 64 MiB are no answer"));
            }
            match self.stream.read(&mut bytes) {
                Ok(0) => return Ok(Heard::End),
                Ok(n) => self.gathered.extend(&bytes[..n]),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return Ok(Heard::Nothing),
                    io::ErrorKind::Interrupted => {}
                    // It is gone, and did not hear what was asked last.
                    io::ErrorKind::ConnectionReset => return Ok(Heard::End),
                    _ => return Err(Failure::call("hear the run", error)),
                },
            }
        }
    }

    fn understand(&self, line: &[u8]) -> Result<Sample, Failure> {
        let mut sample = Sample::parse(line).map_err(|wrong| self.wrong(&wrong))?;
        if let Some(only) = &self.only {
            sample.vms.retain(|vm| vm.name == *only);
        }
        Ok(sample)
    }

    fn wrong(&self, what: &str) -> Failure {
        Failure::failed(format!("{}: {what}", self.address))
    }

    /// It has not answered in this time.
    pub fn is_silent(&self, patience: Duration) -> Failure {
        self.wrong(&format!("no answer in {patience:?}; is it stopped?"))
    }

    /// It went away without a word.
    pub fn is_gone(&self) -> Failure {
        self.wrong("it is gone, and has not said how it ended")
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn answers_come_in_pieces_and_the_last_word_is_heard_after_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let mut link = Link::connect(Address::File(path)).unwrap();
        let (mut run, _) = listener.accept().unwrap();
        assert!(matches!(link.hear(), Ok(Heard::Nothing)));
        let answer = b"{\"version\":1,\"pid\":7,\"time\":1.5,\"vms\":[]}\n";
        run.write_all(&answer[..9]).unwrap();
        assert!(matches!(link.hear(), Ok(Heard::Nothing)));
        run.write_all(&answer[9..]).unwrap();
        run.write_all(answer).unwrap();
        link.ask(Request::Times);
        // With what was asked not heard.
        drop(run);
        link.ask(Request::Times);
        for _ in 0..2 {
            assert!(matches!(link.hear(), Ok(Heard::Sample(Sample { pid: 7, .. }))));
        }
        assert!(matches!(link.hear(), Ok(Heard::End)));
        assert!(link.is_gone().message.contains("socket: it is gone"));
    }

    #[test]
    fn one_who_says_other_things_is_told_of() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let mut link = Link::connect(Address::File(path)).unwrap();
        let (mut run, _) = listener.accept().unwrap();
        assert!(link.hear_within(Duration::from_millis(10)).unwrap().is_none());
        run.write_all(b"HTTP/1.1 400 Bad Request\n").unwrap();
        assert!(link.hear().unwrap_err().message.contains("no answer of axvmm's"));
    }
}
