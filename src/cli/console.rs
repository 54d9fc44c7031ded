//! The guests' consoles on our stdin and stdout.

mod desk;
mod input;
mod keys;
mod prefixed;
mod switched;
pub mod terminal;

use std::{io, time::Duration};

pub use desk::{Desk, Style};
pub use input::{Input, Watch};
pub use keys::Command;

use super::sink::{Settings, Sink, Trouble};
use crate::{devices::console::ConsoleOut, ratelimit::RateLimit};

/// How long a guest waits for a stdout that takes nothing, once until it takes something. The main
/// thread may have to wait as long for the serial port's lock, so it is well below the second in
/// which a signal must end the process.
const PATIENCE: Duration = Duration::from_millis(500);

/// A ring before stdout, or before stderr if stdout is not for consoles.
pub fn output(to_stderr: bool) -> Sink {
    let settings = Settings { name: "console", patience: PATIENCE, report };
    if to_stderr { Sink::new(io::stderr(), settings) } else { Sink::new(io::stdout(), settings) }
}

impl ConsoleOut for Sink {
    fn put(&self, bytes: &[u8]) {
        self.put(bytes);
    }
}

/// A guest can bring these about as often as it prints.
fn report(trouble: Trouble) {
    static LIMIT: RateLimit = RateLimit::new(2, Duration::from_secs(10));
    if LIMIT.pass().is_none() {
        return;
    }
    match trouble {
        Trouble::Dropped(bytes) => {
            log::warn!("{bytes} bytes of the guest's output were dropped: stdout took nothing");
        }
        Trouble::Failed(error) => {
            log::warn!("the guest's output is dropped: cannot write to stdout: {error}");
        }
        Trouble::NoThread(error) => {
            log::error!("the guest's output is dropped: no thread can be made: {error}");
        }
    }
}
