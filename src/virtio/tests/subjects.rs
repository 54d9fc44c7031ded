//! The devices that hostile drivers are tried on, one row a device.

use std::sync::Arc;

use crate::{
    addr::GuestPhysAddr,
    devices::console::RecordingConsole,
    virtio::{
        VirtioDevice,
        balloon::{Balloon, BalloonConfig},
        block::{Block, BlockConfig, ImageFormat},
        console::{Console, ConsoleConfig, PortConfig, Target},
        net,
        pmem::{self, Pmem, PmemConfig},
        rng::{Rng, RngConfig},
        testing,
        vsock::{Vsock, VsockConfig},
    },
};

/// A device, fresh each time, and the queues that it looks into as soon as it is notified of them.
/// (Others, as those for what the device receives, it looks into when it has something.)
pub struct Subject {
    pub make: fn() -> Arc<dyn VirtioDevice>,
    pub queues: &'static [u16],
}

pub const SUBJECTS: &[Subject] = &[
    Subject { make: disk, queues: &[0, 1] },
    Subject { make: net, queues: &[1, 2] },
    Subject { make: rng, queues: &[0] },
    // It keeps a buffer for statistics until it wants them.
    Subject { make: balloon, queues: &[0, 1, 3, 4] },
    Subject { make: pmem, queues: &[0] },
    Subject { make: console, queues: &[1, 3, 5] },
    Subject { make: sockets, queues: &[1] },
];

fn disk() -> Arc<dyn VirtioDevice> {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(1 << 20).unwrap();
    let config = BlockConfig::new(file.path().to_owned(), ImageFormat::Raw);
    Arc::new(Block::new("disk0".to_owned(), &config, 2).unwrap())
}

fn rng() -> Arc<dyn VirtioDevice> {
    Arc::new(Rng::new("rng0".to_owned(), &RngConfig::default()))
}

fn net() -> Arc<dyn VirtioDevice> {
    net::tests::lonely_card()
}

fn balloon() -> Arc<dyn VirtioDevice> {
    let config = BalloonConfig { statistics: 3600, ..BalloonConfig::default() };
    Arc::new(Balloon::new("balloon0".to_owned(), &config))
}

fn pmem() -> Arc<dyn VirtioDevice> {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(pmem::UNIT).unwrap();
    let (path, place) = (file.path().to_owned(), GuestPhysAddr(1 << 32));
    let config = PmemConfig { path, readonly: false, size: pmem::UNIT, place };
    Arc::new(Pmem::new("pmem0".to_owned(), &config, &testing::memory()).unwrap())
}

fn console() -> Arc<dyn VirtioDevice> {
    let port = |label: Option<&str>, target| PortConfig { label: label.map(String::from), target };
    let ports = vec![port(None, Target::Stdio), port(Some("null"), Target::Null)];
    let out = Arc::new(RecordingConsole::default());
    Console::new("console0".to_owned(), &ConsoleConfig { ports }, out).unwrap()
}

fn sockets() -> Arc<dyn VirtioDevice> {
    let dir = tempfile::tempdir().unwrap();
    let config = VsockConfig { cid: VsockConfig::DEFAULT_CID, path: dir.path().join("v.sock") };
    Arc::new(Vsock::new("vsock0".to_owned(), &config).unwrap())
}
