//! What a user may say of virtio devices, and the devices that come of it.

use std::{fmt, io, sync::Arc};

use parking_lot::Mutex;
use serde::Serialize;

use super::{
    VirtioDevice,
    balloon::{Balloon, BalloonConfig},
    block::{Block, BlockConfig},
    console::{Console, ConsoleConfig},
    fs::{
        Fs, FsConfig,
        command::{CommandConfig, Ending},
    },
    net::{Net, NetConfig},
    pmem::{self, Pmem, PmemConfig},
    rng::{Rng, RngConfig},
    vhost_user::{self, VhostUser, VhostUserConfig},
    vsock::{Vsock, VsockConfig},
};
use crate::{addrspace::AddrSpace, devices::console::ConsoleOut};

/// What a device is, with all that its kind needs to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum DeviceConfig {
    /// What a guest with one command is told, and tells.
    Command(CommandConfig),
    /// A directory of the host's.
    Fs(FsConfig),
    /// A disk.
    Block(BlockConfig),
    /// A network card.
    Net(NetConfig),
    /// A source of entropy.
    Rng(RngConfig),
    /// Sockets.
    Vsock(VsockConfig),
    /// A memory balloon.
    Balloon(BalloonConfig),
    /// A file in the guest's memory.
    Pmem(PmemConfig),
    /// A console.
    Console(ConsoleConfig),
    /// Any device, whose backend is another process.
    VhostUser(VhostUserConfig),
}

/// What carries a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TransportKind {
    /// A window of registers and an interrupt line.
    Mmio,
    /// A PCI function with MSI-X.
    Pci,
}

impl fmt::Display for TransportKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mmio => "mmio",
            Self::Pci => "pci",
        })
    }
}

/// What a device finds about it when it is made.
pub struct Surroundings {
    /// The VM's name.
    pub vm_name: String,
    /// How many vCPUs it has.
    pub cpus: usize,
    /// Its memory.
    pub memory: Arc<AddrSpace>,
    /// How the guest asks for its end.
    pub ending: Arc<Ending>,
    /// What the guest prints goes there.
    pub console: Arc<dyn ConsoleOut>,
    /// The consoles among the devices, which take the host's input.
    pub consoles: Mutex<Vec<Arc<Console>>>,
}

/// A device cannot be made of what the user has said.
#[derive(Debug, thiserror::Error)]
#[error("{device}: {problem}")]
pub struct MakeError {
    /// The device's name.
    pub device: String,
    /// What is wrong, and what to do about it.
    pub problem: String,
    /// It is the host that lacks something, not the configuration.
    pub is_of_host: bool,
}

impl MakeError {
    /// A problem that the user can put right.
    pub fn of_user(device: &str, problem: impl Into<String>) -> Self {
        Self { device: device.to_owned(), problem: problem.into(), is_of_host: false }
    }

    /// Something that the host does not give.
    pub fn of_host(device: &str, what: &str, error: &io::Error) -> Self {
        let problem = format!("{what}: {error}");
        Self { device: device.to_owned(), problem, is_of_host: true }
    }
}

impl DeviceConfig {
    /// What it is called in a plan: a few words.
    pub fn describe(&self) -> String {
        match self {
            Self::Command(command) => format!("runs {:?}", command.arguments.join(" ")),
            Self::Fs(FsConfig { path, tag, readonly, discard }) => {
                let how = match (readonly, discard) {
                    (true, _) => ", read-only",
                    (_, true) => ", whose changes are discarded",
                    _ => "",
                };
                format!("{tag:?} is {}{how}", path.display())
            }
            Self::Block(config) => config.describe(),
            Self::Net(config) => config.to_string(),
            Self::Rng(_) => "entropy".to_owned(),
            Self::Console(config) => config.describe(),
            Self::Balloon(BalloonConfig { size, .. }) => format!("balloon of {} MiB", size >> 20),
            Self::Pmem(PmemConfig { path, readonly, .. }) => {
                let how = if *readonly { ", which does not change" } else { "" };
                format!("persistent memory, {}{how}", path.display())
            }
            Self::Vsock(VsockConfig { cid, path }) => {
                format!("sockets, context id {cid}, at {}", path.display())
            }
            Self::VhostUser(VhostUserConfig { socket, device, .. }) => {
                format!("device type {}, of the backend at {}", device.0, socket.display())
            }
        }
    }

    /// What devices of its kind are called, without a number.
    pub fn usual_name(&self) -> &'static str {
        match self {
            Self::Command(_) => "command",
            Self::Fs(_) => "fs",
            Self::Block(_) => "disk",
            Self::Net(_) => "net",
            Self::Rng(_) => "rng",
            Self::Balloon(_) => "balloon",
            Self::Pmem(_) => "pmem",
            Self::Console(_) => "console",
            Self::Vsock(_) => "vsock",
            Self::VhostUser(config) => {
                vhost_user::of_number(config.device).map_or("vhost-user", |kind| kind.name)
            }
        }
    }

    /// Whether another process works in the guest's memory, which so must be shared.
    pub fn needs_shared_memory(&self) -> bool {
        matches!(self, Self::VhostUser(_))
    }

    /// Makes the device.
    ///
    /// # Errors
    /// A file that cannot be opened, a name that is taken, and such.
    pub fn make(
        &self,
        name: &str,
        surroundings: &Surroundings,
    ) -> Result<Arc<dyn VirtioDevice>, MakeError> {
        Ok(match self {
            Self::Command(command) => {
                let device = Fs::of_command(name, command, surroundings.ending.clone());
                let failed = |error| MakeError::of_host(name, "cannot make an eventfd", &error);
                Arc::new(device.map_err(failed)?)
            }
            Self::Fs(config) => Arc::new(Fs::new(name.to_owned(), config).map_err(|error| {
                let problem = format!("cannot share {}: {error}", config.path.display());
                MakeError::of_user(name, problem)
            })?),
            Self::Block(config) => {
                let disk = Block::new(name.to_owned(), config, surroundings.cpus);
                Arc::new(disk.map_err(|error| MakeError {
                    device: name.to_owned(),
                    problem: error.to_string(),
                    is_of_host: error.is_of_host(),
                })?)
            }
            Self::Net(config) => Arc::new(Net::new(name, config, surroundings)?),
            Self::Rng(config) => Arc::new(Rng::new(name.to_owned(), config)),
            Self::Balloon(config) => Arc::new(Balloon::new(name.to_owned(), config)),
            Self::Console(config) => {
                let console = Console::new(name.to_owned(), config, surroundings.console.clone());
                let console =
                    console.map_err(|error| MakeError::of_user(name, error.to_string()))?;
                let mut made = surroundings.consoles.lock();
                made.push(console.clone());
                console
            }
            Self::Pmem(config) => {
                let made = Pmem::new(name.to_owned(), config, &surroundings.memory);
                Arc::new(made.map_err(|error| MakeError {
                    is_of_host: matches!(error, pmem::Error::Memory(_)),
                    ..MakeError::of_user(name, error.to_string())
                })?)
            }
            Self::Vsock(config) => Arc::new(
                Vsock::new(name.to_owned(), config)
                    .map_err(|error| MakeError::of_user(name, error.to_string()))?,
            ),
            Self::VhostUser(config) => Arc::new(
                VhostUser::new(name.to_owned(), config)
                    .map_err(|error| MakeError::of_user(name, error.to_string()))?,
            ),
        })
    }
}
