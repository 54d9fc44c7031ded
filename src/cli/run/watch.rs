//! What the event loop watches, as its data: the process's own, and of each guest a few.

use crate::cli::Failure;

/// Where the guest's number is; 0 is the process's own.
const GUEST: u32 = 16;

/// Something of the process's own.
pub const fn of_process(what: u16) -> u32 {
    what as u32
}

/// Something of the guest with this number, from 0.
pub const fn of_guest(number: usize, what: u16) -> u32 {
    (number as u32 + 1) << GUEST | what as u32
}

/// Which guest's it is, if it is one's, and what.
pub fn whose(data: u32) -> (Option<usize>, u16) {
    ((data >> GUEST).checked_sub(1).map(|number| number as usize), data as u16)
}

/// The event loop's own failures.
pub fn failed(error: event_manager::Error) -> Failure {
    use event_manager::Error::{Epoll, EventFd};
    match error {
        Epoll(errno) | EventFd(errno) => Failure::call("wait for events (epoll)", errno),
        other => Failure::failed(format!("Failed to wait for events: {other}")),
    }
}
