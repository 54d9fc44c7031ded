//! The console (virtio 1.2, 5.3): ports, the first of which is the guest's terminal, and others by
//! name, as streams between programs in the guest and on the host.
//!
//! - `host`: what a port is connected to on the host.
//! - `stdio`: the guest's terminal on our own.
//! - `port`: bytes between a queue and the host.
//! - `messages`: what both sides tell each other of ports.
//! - `work`: the thread that does it.
//!
//! A console with one port that has no name does without the messages, and so does a driver that does
//! not know them; it has the first port only.

mod host;
mod messages;
mod port;
mod stdio;
#[cfg(test)]
mod tests;
mod work;

use std::{
    fmt, io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use parking_lot::Mutex;
use serde::Serialize;

pub use self::stdio::{BesideSerial, StdioIn};
use self::{host::Host, work::Work};
use super::{Activation, DeviceType, Interrupt, VirtioDevice, Worker};
use crate::{addr::AccessWidth, devices::console::ConsoleOut};

/// What a user says of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConsoleConfig {
    /// The ports by their numbers, at least one and at most [`MOST_PORTS`]: the first is a terminal
    /// (`/dev/hvc0` under Linux).
    pub ports: Vec<PortConfig>,
}

impl ConsoleConfig {
    /// What it is, in a few words.
    pub fn describe(&self) -> String {
        let terminals =
            self.ports.iter().take(1).map(|port| format!("terminal at {}", port.target));
        let streams = self.ports.iter().skip(1).map(|port| {
            let label = port.label.as_deref().unwrap_or_default();
            format!("port {label:?} at {}", port.target)
        });
        terminals.chain(streams).collect::<Vec<_>>().join(", ")
    }

    /// Whether the guest's terminal is our own.
    pub fn is_on_stdio(&self) -> bool {
        self.ports.first().is_some_and(|port| port.target == Target::Stdio)
    }
}

/// A port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PortConfig {
    /// What the guest knows it by (`/dev/virtio-ports/NAME` under Linux).
    pub label: Option<String>,
    /// Where its other end is.
    pub target: Target,
}

/// What a port is connected to on the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "target", content = "path", rename_all = "lowercase")]
pub enum Target {
    /// The guest's terminal on our own: beside the board's serial port.
    Stdio,
    /// A new terminal, and where to have a link to it.
    Pty(Option<PathBuf>),
    /// A Unix socket, where one at a time can connect.
    Unix(PathBuf),
    /// A file: what the guest writes is appended.
    File(PathBuf),
    /// Nothing.
    Null,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdio => f.write_str("stdio"),
            Self::Pty(None) => f.write_str("a new pty"),
            Self::Pty(Some(path)) | Self::Unix(path) | Self::File(path) => {
                write!(f, "{}", path.display())
            }
            Self::Null => f.write_str("nothing"),
        }
    }
}

/// A driver has two queues for each.
pub const MOST_PORTS: usize = 16;

/// A label is at most so many bytes, which always fit into the driver's buffers.
pub const LONGEST_LABEL: usize = 64;

const QUEUE_SIZE: u16 = 128;

/// Feature bits (5.3.3).
mod feature {
    pub const SIZE: u64 = 1 << 0;
    pub const MULTIPORT: u64 = 1 << 1;
    pub const EMERG_WRITE: u64 = 1 << 2;
}

/// The configuration space (5.3.4): `cols`, `rows`, `max_nr_ports`, `emerg_wr`.
const EMERG_WRITE: usize = 8;

/// A console.
pub struct Console {
    name: String,
    ports: Vec<(PortConfig, Arc<Host>)>,
    has_messages: bool,
    shared: Arc<Shared>,
    worker: Mutex<Option<Worker>>,
}

/// What the device's thread knows as well.
struct Shared {
    /// Columns in the low half, rows in the high one; 0: not known.
    size: AtomicU32,
    interrupt: Mutex<Option<Arc<dyn Interrupt>>>,
    input: Arc<StdioIn>,
}

impl Shared {
    /// Columns and rows.
    fn size(&self) -> [u16; 2] {
        let both = self.size.load(Ordering::Acquire);
        [both as u16, (both >> 16) as u16]
    }
}

impl Console {
    /// A device with this name; a port on our own terminal prints to `out`.
    ///
    /// # Errors
    /// A file, a socket or a terminal that cannot be made, with its path.
    pub fn new(
        name: String,
        config: &ConsoleConfig,
        out: Arc<dyn ConsoleOut>,
    ) -> io::Result<Arc<Self>> {
        let input = Arc::new(StdioIn::new()?);
        let ports = config.ports.iter().map(|port| {
            let host = Host::open(&name, &port.target, &out, &input)?;
            Ok((port.clone(), Arc::new(host)))
        });
        let ports = ports.collect::<io::Result<Vec<_>>>()?;
        let has_messages = ports.len() > 1 || ports.iter().any(|(port, _)| port.label.is_some());
        let shared =
            Arc::new(Shared { size: AtomicU32::new(0), interrupt: Mutex::default(), input });
        Ok(Arc::new(Self { name, ports, has_messages, shared, worker: Mutex::default() }))
    }

    /// What takes the host's input, if there is a port on our own terminal.
    pub fn input(&self) -> Option<Arc<StdioIn>> {
        let is_stdio = |(port, _): &(PortConfig, _)| port.target == Target::Stdio;
        self.ports.iter().any(is_stdio).then(|| self.shared.input.clone())
    }

    /// The terminal has so many columns and rows.
    pub fn resize(&self, columns: u16, rows: u16) {
        let both = u32::from(columns) | u32::from(rows) << 16;
        if self.shared.size.swap(both, Ordering::AcqRel) != both {
            if let Some(interrupt) = &*self.shared.interrupt.lock() {
                interrupt.config_changed();
            }
            self.shared.input.wake();
        }
    }
}

impl VirtioDevice for Console {
    fn name(&self) -> &str {
        &self.name
    }

    fn device_type(&self) -> DeviceType {
        DeviceType::CONSOLE
    }

    fn features(&self) -> u64 {
        let messages = if self.has_messages { feature::MULTIPORT } else { 0 };
        feature::SIZE | feature::EMERG_WRITE | messages
    }

    /// Two for each port, and behind those of the first two for messages (5.3.2).
    fn queue_sizes(&self) -> Vec<u16> {
        let count = if self.has_messages { 2 * self.ports.len() + 2 } else { 2 };
        vec![QUEUE_SIZE; count]
    }

    fn config(&self) -> Vec<u8> {
        let size = self.shared.size();
        let ports = self.ports.len() as u32;
        let size = size.iter().flat_map(|field| field.to_le_bytes());
        size.chain(ports.to_le_bytes()).chain([0; 4]).collect()
    }

    /// A byte for the first port, also from a driver that is not ready (5.3.5).
    fn write_config(&self, offset: usize, bytes: &[u8]) {
        let last = offset + bytes.len();
        if offset <= EMERG_WRITE
            && EMERG_WRITE < last
            && last - EMERG_WRITE <= AccessWidth::Dword.size()
        {
            if let Some((_, host)) = self.ports.first() {
                // Who cannot take it does not get it.
                let _ = host.write(&bytes[EMERG_WRITE - offset..][..1]);
            }
        }
    }

    fn activate(&self, activation: Activation) -> io::Result<()> {
        *self.shared.interrupt.lock() = Some(activation.interrupt.clone());
        let work = Work::new(&self.name, &self.ports, self.shared.clone(), activation)?;
        *self.worker.lock() = Some(Worker::spawn(&self.name, work)?);
        Ok(())
    }

    fn reset(&self) {
        let worker = self.worker.lock().take();
        drop(worker);
        *self.shared.interrupt.lock() = None;
        self.shared.input.close();
    }
}

impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Console({}, {} ports)", self.name, self.ports.len())
    }
}
