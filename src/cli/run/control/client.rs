//! One who asks: never waited for, and with no more memory than for one request and one answer.

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
};

use crate::cli::control::{LONGEST_REQUEST, Request};

/// What a client waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waits {
    /// That it can ask.
    ToAsk,
    /// That it is answered: what is on its way has to be taken first.
    ForAnswer,
    /// Nothing: it is gone.
    Gone,
}

/// A connection.
#[derive(Debug)]
pub struct Client {
    pub stream: UnixStream,
    /// What has come and is not answered.
    asked: Vec<u8>,
    has_asked_all: bool,
    /// What is to go, and how much of it has gone.
    answer: Vec<u8>,
    gone: usize,
    /// It has asked for times.
    pub wants_times: bool,
}

impl Client {
    /// `stream` must not wait.
    pub fn new(stream: UnixStream) -> Self {
        let (asked, answer) = (Vec::new(), Vec::new());
        Self { stream, asked, has_asked_all: false, answer, gone: 0, wants_times: false }
    }

    /// Takes what has come and gives what there is to give, as far as both go without waiting.
    pub fn turn(&mut self, answer: &mut dyn FnMut(Result<Request, String>) -> Vec<u8>) -> Waits {
        if self.answer.is_empty() && self.read().is_err() {
            return Waits::Gone;
        }
        loop {
            match self.write() {
                Ok(true) => {}
                Ok(false) => return Waits::ForAnswer,
                Err(_) => return Waits::Gone,
            }
            match self.next() {
                Some(request) => {
                    self.wants_times |= request == Ok(Request::Times);
                    self.answer = answer(request);
                }
                None if self.has_asked_all => return Waits::Gone,
                None => return Waits::ToAsk,
            }
        }
    }

    /// Gives it one more line, if it takes that at once.
    pub fn tell_last(&mut self, line: &[u8]) {
        self.answer.extend(line);
        // It is the end: what it does not take now is for nobody.
        let _ = self.write();
    }

    fn read(&mut self) -> io::Result<()> {
        let mut bytes = [0; LONGEST_REQUEST];
        // What is here already is less than a line, or there would have been no reason to read.
        let room = LONGEST_REQUEST - self.asked.len().min(LONGEST_REQUEST);
        match self.stream.read(&mut bytes[..room]) {
            Ok(0) => self.has_asked_all = true,
            Ok(n) => self.asked.extend(&bytes[..n]),
            Err(error) if can_wait(&error) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// The next request, if it is there as a whole. One that is too long is the last.
    fn next(&mut self) -> Option<Result<Request, String>> {
        let end = self.asked.iter().position(|byte| *byte == b'\n');
        let line: Vec<u8> = match end {
            Some(end) => self.asked.drain(..=end).collect(),
            None if self.asked.len() >= LONGEST_REQUEST => {
                self.has_asked_all = true;
                self.asked.clear();
                return Some(Err(format!("more than {LONGEST_REQUEST} bytes are no request")));
            }
            None if self.has_asked_all && !self.asked.is_empty() => self.asked.drain(..).collect(),
            None => return None,
        };
        Some(Request::parse(&line))
    }

    /// Whether all has gone.
    fn write(&mut self) -> io::Result<bool> {
        while self.gone < self.answer.len() {
            match self.stream.write(&self.answer[self.gone..]) {
                Ok(n) => self.gone += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if can_wait(&error) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        self.answer = Vec::new();
        self.gone = 0;
        Ok(true)
    }
}

fn can_wait(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use std::net::Shutdown;

    use super::*;

    fn pair() -> (Client, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.set_nonblocking(true).unwrap();
        (Client::new(ours), theirs)
    }

    fn echo(request: Result<Request, String>) -> Vec<u8> {
        format!("{request:?}\n").into_bytes()
    }

    fn heard(theirs: &mut UnixStream) -> String {
        let mut text = Vec::new();
        let _ = theirs.read_to_end(&mut text);
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn requests_come_in_pieces_and_together() {
        let (mut client, mut theirs) = pair();
        theirs.write_all(b"cou").unwrap();
        assert_eq!(client.turn(&mut echo), Waits::ToAsk);
        assert_eq!(heard(&mut theirs), "");
        theirs.write_all(b"nts\n\nfrob\ntim").unwrap();
        assert_eq!(client.turn(&mut echo), Waits::ToAsk);
        let told = heard(&mut theirs);
        assert!(told.starts_with("Ok(Counts)\nErr") && told.matches("Err").count() == 2, "{told}");
        assert!(!client.wants_times);
        // One that ends without a new line is one as well.
        theirs.write_all(b"es").unwrap();
        theirs.shutdown(Shutdown::Write).unwrap();
        while client.turn(&mut echo) != Waits::Gone {}
        assert_eq!(heard(&mut theirs), "Ok(Times)\n");
        assert!(client.wants_times);
    }

    #[test]
    fn what_is_no_line_ends_it() {
        let (mut client, mut theirs) = pair();
        theirs.write_all(&[b'x'; 100 * LONGEST_REQUEST]).unwrap();
        let mut turns = 0;
        while client.turn(&mut echo) != Waits::Gone {
            turns += 1;
            assert!(client.asked.capacity() <= 2 * LONGEST_REQUEST && turns < 3);
        }
        assert!(heard(&mut theirs).contains("no request"));
    }

    #[test]
    fn one_who_never_reads_is_not_asked_again_until_it_does() {
        let (mut client, mut theirs) = pair();
        let mut answers = 0;
        let mut large = |_| {
            answers += 1;
            vec![b'.'; 1 << 20]
        };
        theirs.write_all(&b"times\n".repeat(20)).unwrap();
        for _ in 0..100 {
            assert_eq!(client.turn(&mut large), Waits::ForAnswer);
        }
        assert_eq!(client.answer.len(), 1 << 20);
        while client.turn(&mut large) != Waits::ToAsk {
            heard(&mut theirs);
        }
        assert_eq!(answers, 20);
        drop(theirs);
        assert_eq!(client.turn(&mut echo), Waits::Gone);
    }

    #[test]
    fn the_last_word_comes_unasked() {
        let (mut client, mut theirs) = pair();
        client.tell_last(b"over\n");
        drop(client);
        assert_eq!(heard(&mut theirs), "over\n");
    }
}
