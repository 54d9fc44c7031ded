//! Devices that are another process, in any language ("vfio-user Protocol Specification"): this end is
//! the client, the device is the server. The guest's memory is shared with it, its interrupts are
//! eventfds, and each access to a register is a message. It stands in the VM as a PCI device, or as
//! its region 0 at fixed addresses.
//!
//! - `wire`, `socket`: messages, and how they are sent whole.
//! - `session`, `limits`, `dma`: the conversation with a server, which may be slow or hostile.
//! - `device`: what can be asked of it.
//! - `process`, `spawn`, `edits`: the program that it is.
//! - `link`, `attached`: a server that is kept there, and connected with a machine.
//! - `fixed`, `relay`: the device at fixed addresses.
//! - `function`, `config_space`: the device on PCI.
//!
//! The crate `vfio_user` has a client as well. It waits without a limit, takes sizes from the server
//! on trust (some of them end the program), does not look at errors, and serves no DMA messages; so it
//! is only the peer of this one's tests.

mod attached;
mod config_space;
mod device;
mod dma;
mod edits;
mod fixed;
mod function;
mod limits;
mod link;
mod process;
mod relay;
mod session;
mod socket;
pub(crate) mod spawn;
#[cfg(test)]
mod tests;
mod wire;

use std::{fmt, path::PathBuf, sync::Arc};

use serde::Serialize;

pub use fixed::FixedDevice;
pub use function::ServedFunction;
pub use link::Link;
pub use process::SOCKET;

use crate::kept;

/// Who the server is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Server {
    /// Somebody who listens at this Unix socket when the guest starts.
    Socket(PathBuf),
    /// A program that is started, and started again.
    Command {
        /// The program and its arguments; [`SOCKET`] in one of these stands for the path of the
        /// socket that it is to listen at. In none of them: `--socket PATH` is added.
        words: Vec<String>,
        /// Which directory it is in.
        dir: PathBuf,
        /// It is started again when one of these files has been edited.
        watch: Vec<PathBuf>,
    },
}

impl Server {
    fn watched(&self) -> &[PathBuf] {
        match self {
            Self::Socket(_) => &[],
            Self::Command { watch, .. } => watch,
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => write!(f, "at {}", path.display()),
            Self::Command { words, .. } => f.write_str(&words.join(" ")),
        }
    }
}

/// A device's server, as long as the configuration is there.
pub type Kept = kept::Kept<Link>;

/// The server that is kept here, which is started if there is none yet.
///
/// # Errors
/// As of [`Link::new`].
pub fn link(kept: &Kept, name: &str, server: &Server) -> Result<Arc<Link>, String> {
    let mut kept = kept.lock();
    if let Some(link) = &*kept {
        return Ok(link.clone());
    }
    Ok(kept.insert(Arc::new(Link::new(name, server)?)).clone())
}
