//! What device and driver tell each other of ports (virtio 1.2, 5.3.6.2).

use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout,
    little_endian::{U16, U32},
};

use crate::addrspace::GuestBuffer;

/// A message, but for what may follow it.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, PartialEq, Eq)]
#[repr(C)]
pub struct Message {
    /// The port.
    pub id: U32,
    pub event: U16,
    pub value: U16,
}

/// Events.
pub const DEVICE_READY: u16 = 0;
pub const DEVICE_ADD: u16 = 1;
pub const PORT_READY: u16 = 3;
pub const CONSOLE_PORT: u16 = 4;
pub const RESIZE: u16 = 5;
pub const PORT_OPEN: u16 = 6;
pub const PORT_NAME: u16 = 7;

/// What the driver has yet to be told of a port. There is no more than this to tell at any time,
/// however often it asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Untold {
    pub add: bool,
    pub is_console: bool,
    pub label: bool,
    pub size: bool,
    pub is_open: bool,
}

/// A port, as messages tell of it.
pub struct About<'a> {
    pub id: u32,
    pub label: Option<&'a str>,
    /// Columns and rows.
    pub size: [u16; 2],
    /// Whether somebody is at its other end.
    pub is_open: bool,
}

impl Untold {
    /// All that a driver wants to know of a port that it is ready for.
    pub fn of_ready_port(is_console: bool, label: bool) -> Self {
        Self { add: false, is_console, label, size: is_console, is_open: true }
    }

    /// The next message, which is untold no more.
    pub fn next(&mut self, about: &About<'_>) -> Option<Vec<u8>> {
        let take = std::mem::take::<bool>;
        let message = |event, value| Message {
            id: about.id.into(),
            event: U16::new(event),
            value: U16::new(value),
        };
        let bytes = |event, value| message(event, value).as_bytes().to_vec();
        if take(&mut self.add) {
            return Some(bytes(DEVICE_ADD, 1));
        }
        if take(&mut self.is_console) {
            return Some(bytes(CONSOLE_PORT, 1));
        }
        if take(&mut self.label) {
            let label = about.label.unwrap_or_default().as_bytes();
            return Some([&bytes(PORT_NAME, 1)[..], label].concat());
        }
        if take(&mut self.size) {
            // Columns first. (Linux before 6.15 has them the other way round.)
            let size = about.size.iter().flat_map(|field| field.to_le_bytes());
            return Some(bytes(RESIZE, 0).into_iter().chain(size).collect());
        }
        if take(&mut self.is_open) {
            return Some(bytes(PORT_OPEN, about.is_open.into()));
        }
        None
    }
}

/// What the driver says; `None`: it is too short to be anything.
pub fn read(buffer: &GuestBuffer) -> Option<Message> {
    buffer.read_obj_at(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_told_once_and_in_order() {
        let about = About { id: 3, label: Some("agent"), size: [80, 25], is_open: true };
        let mut untold = Untold { add: true, ..Untold::of_ready_port(true, true) };
        let told: Vec<_> = std::iter::from_fn(|| untold.next(&about)).collect();
        assert_eq!(
            told,
            [
                b"\x03\0\0\0\x01\0\x01\0".to_vec(),
                b"\x03\0\0\0\x04\0\x01\0".to_vec(),
                b"\x03\0\0\0\x07\0\x01\0agent".to_vec(),
                b"\x03\0\0\0\x05\0\0\0\x50\0\x19\0".to_vec(),
                b"\x03\0\0\0\x06\0\x01\0".to_vec(),
            ]
        );
        assert_eq!(untold, Untold::default());
    }
}
