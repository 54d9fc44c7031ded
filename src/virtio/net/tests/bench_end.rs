//! The other end of a card's cable.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
};

/// Sends and receives frames, each behind its length.
pub struct End(pub UnixStream);

impl End {
    pub fn send(&mut self, frame: &[u8]) {
        self.0.write_all(&(frame.len() as u32).to_be_bytes()).unwrap();
        self.0.write_all(frame).unwrap();
    }

    #[track_caller]
    pub fn receive(&mut self) -> Vec<u8> {
        let mut length = [0; 4];
        self.0.read_exact(&mut length).expect("a frame comes");
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        self.0.read_exact(&mut frame).expect("all of a frame comes");
        frame
    }
}

/// A frame of this length, whose bytes tell it from others.
pub fn frame(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|i| (i as u8).wrapping_mul(31) ^ (i >> 8) as u8 ^ seed).collect()
}

/// The same with a header of zeroes, as a driver sends it.
pub fn with_header(frame: &[u8]) -> Vec<u8> {
    [&[0; 12], frame].concat()
}
