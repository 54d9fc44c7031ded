//! Several guests on one stdout, one at a time: the one that is shown prints as if it were alone;
//! what the others print is kept, the latest of it, until they are shown.

use std::{collections::VecDeque, mem, sync::Arc};

use parking_lot::{Mutex, MutexGuard};

use crate::{cli::sink::Sink, devices::console::ConsoleOut};

/// Bytes kept of a guest that is not shown: as much as goes into the sink at once.
const KEPT: usize = 32 << 10;

/// Who is shown, and what the others have printed.
pub struct Switchboard {
    out: Arc<Sink>,
    state: Mutex<State>,
}

struct State {
    shown: usize,
    guests: Vec<Guest>,
}

#[derive(Default)]
struct Guest {
    kept: VecDeque<u8>,
    /// Of what was not shown, the bytes that there was no room for.
    lost: u64,
    /// All bytes that never came out.
    dropped: u64,
}

/// One guest's console.
pub struct Switched {
    number: usize,
    board: Arc<Switchboard>,
}

impl Switchboard {
    /// For so many guests, the first of them shown.
    pub fn new(out: Arc<Sink>, guests: usize) -> Self {
        let guests = (0..guests).map(|_| Guest::default()).collect();
        Self { out, state: Mutex::new(State { shown: 0, guests }) }
    }

    pub fn of(self: &Arc<Self>, number: usize) -> Switched {
        Switched { number, board: self.clone() }
    }

    /// Shows that guest from now on, after a line that says so, and what it has printed meanwhile.
    pub fn show(&self, number: usize, headline: &str) {
        let mut state = self.lock();
        state.shown = number;
        let Guest { kept, lost, .. } = &mut state.guests[number];
        self.out.put_line(headline.as_bytes());
        match mem::take(lost) {
            0 => {}
            lost => {
                let told = format!("axvmm: {lost} bytes before this were not kept\n");
                self.out.put_line(told.as_bytes());
            }
        }
        let dropped = self.out.put(mem::take(kept).make_contiguous());
        state.guests[number].dropped += dropped as u64;
    }

    /// Whether there is something that was never shown.
    pub fn keeps(&self, number: usize) -> bool {
        !self.lock().guests[number].kept.is_empty()
    }

    /// Bytes of that guest that never came out.
    pub fn dropped(&self, number: usize) -> u64 {
        self.lock().guests[number].dropped
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

impl ConsoleOut for Switched {
    fn put(&self, bytes: &[u8]) {
        let mut state = self.board.lock();
        if state.shown == self.number {
            // With the lock held, so that nothing comes after the line that another one is shown.
            let dropped = self.board.out.put(bytes);
            state.guests[self.number].dropped += dropped as u64;
        } else {
            state.guests[self.number].keep(bytes);
        }
    }
}

impl Guest {
    /// Keeps the latest.
    fn keep(&mut self, bytes: &[u8]) {
        let fitting = &bytes[bytes.len().saturating_sub(KEPT)..];
        let over = (self.kept.len() + fitting.len()).saturating_sub(KEPT);
        self.kept.drain(..over);
        self.kept.extend(fitting);
        let lost = (over + bytes.len() - fitting.len()) as u64;
        self.lost += lost;
        self.dropped += lost;
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Read, os::unix::net::UnixStream, time::Duration};

    use super::*;
    use crate::cli::sink::Settings;

    fn board() -> (Arc<Switchboard>, UnixStream) {
        let (ours, reader) = UnixStream::pair().unwrap();
        let settings =
            Settings { name: "test-switch", patience: Duration::from_secs(60), report: |_| {} };
        (Arc::new(Switchboard::new(Arc::new(Sink::new(ours, settings)), 3)), reader)
    }

    #[track_caller]
    fn comes_out(reader: &mut UnixStream, expect: &str) {
        let mut got = vec![0; expect.len()];
        reader.read_exact(&mut got).unwrap();
        assert!(got == expect.as_bytes(), "{}", String::from_utf8_lossy(&got));
    }

    #[test]
    fn one_is_shown_and_the_others_are_kept() {
        let (board, mut reader) = board();
        let [a, b, c] = [0, 1, 2].map(|number| board.of(number));
        a.put(b"a1");
        b.put(b"b1\n");
        c.put(b"c1\n");
        a.put(b"a2");
        board.show(1, "<b>\n");
        a.put(b"a3\n");
        b.put(b"b2\n");
        board.show(0, "<a>\n");
        comes_out(&mut reader, "a1a2\n<b>\nb1\nb2\n<a>\na3\n");
        assert!(board.keeps(2) && !board.keeps(0) && !board.keeps(1));
    }

    #[test]
    fn the_oldest_is_dropped_and_told() {
        let (board, mut reader) = board();
        let b = board.of(1);
        b.put(&[b'x'; 100]);
        b.put(&[b'y'; KEPT - 50]);
        b.put(&[b'z'; 10]);
        assert_eq!(board.dropped(1), 60);
        board.show(1, "<b>\n");
        let kept = "x".repeat(40) + &"y".repeat(KEPT - 50) + &"z".repeat(10);
        comes_out(&mut reader, &format!("<b>\naxvmm: 60 bytes before this were not kept\n{kept}"));
        board.show(0, "<a>\n");
        b.put(&[b'w'; 3 * KEPT]);
        board.show(1, "<b>\n");
        let told = format!("axvmm: {} bytes before this were not kept\n", 2 * KEPT);
        comes_out(&mut reader, &format!("\n<a>\n<b>\n{told}{}", "w".repeat(KEPT)));
        assert_eq!(board.dropped(1), 60 + 2 * KEPT as u64);
    }
}
