//! The network device (virtio 1.2, 5.1): a card, plugged into a TAP interface or a user network.
//!
//! - `pair`: a queue pair at work, with its halves `receive` and `transmit`; `room` is where frames
//!   come in, `half` what both have.
//! - `control`: the control queue; `card` is what all queues share.
//! - `backend`: what a card is plugged into: `tap`, or `passt` through a `stream`.
//! - `vhost`: the host's kernel in the place of our own pairs.
//! - `header`, `features`, `mac`, `forward`: words of the field.

mod backend;
mod card;
mod control;
mod drops;
mod features;
mod forward;
mod half;
mod header;
mod mac;
mod pair;
mod passt;
mod receive;
mod room;
mod stream;
mod tap;
#[cfg(test)]
pub(super) mod tests;
mod transmit;
mod vhost;

use std::{fmt, io, sync::Arc};

use parking_lot::Mutex;
use serde::Serialize;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};

use self::{
    backend::Opened,
    card::Card,
    control::ControlQueue,
    half::Half,
    pair::{Pair, SharedPort},
    receive::Receiver,
    transmit::Transmitter,
    vhost::{Plugged, Vhost},
};
pub use self::{
    forward::{Forward, Protocol},
    mac::Mac,
};
use super::{
    Activation, DeviceType, MakeError, Surroundings, VirtioDevice, Virtqueue, Worker,
    rate_limit::{Gate, Rate, RateLimiter},
};

/// The largest number of queue pairs, which is as many as a TAP interface likes.
pub const MOST_PAIRS: u16 = 16;

/// The packets of a network that nobody says anything of are as long as Ethernet's.
const USUAL_MTU: u16 = 1500;

const QUEUE_SIZE: u16 = 256;
const CONTROL_SIZE: u16 = 64;

/// What a user says of a card.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NetConfig {
    /// What it is plugged into.
    pub network: Network,
    /// Its address. Default: one that depends on the VM's name and its own.
    pub mac: Option<Mac>,
    /// The largest packet that the guest is to send, in bytes. Default: the interface's, or for a
    /// user network the largest that it takes.
    pub mtu: Option<u16>,
    /// How many queue pairs: at most [`MOST_PAIRS`], and 1 for what is no TAP interface of a name.
    pub queues: u16,
    /// What it receives at most.
    pub receive: Rate,
    /// What it transmits at most.
    pub transmit: Rate,
    /// Whether the host's kernel works on its queues (vhost-net), which only a card on a TAP interface
    /// without limits can have. Default: where the host lets us.
    pub vhost: Option<bool>,
}

/// What a card is plugged into.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// The user's own network, done by passt: no privilege is needed.
    User {
        /// What leads from the host into the guest.
        ports: Vec<Forward>,
    },
    /// The host's TAP interface of this name.
    Tap(String),
    /// The TAP interface of this file descriptor, which axvmm has been started with.
    TapFd(i32),
}

impl NetConfig {
    /// A card in the user's own network, of which nothing else is said.
    pub fn user() -> Self {
        let (receive, transmit) = (Rate::default(), Rate::default());
        let network = Network::User { ports: Vec::new() };
        Self { network, mac: None, mtu: None, queues: 1, receive, transmit, vhost: None }
    }
}

impl fmt::Display for NetConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.network {
            Network::User { ports } if ports.is_empty() => write!(f, "user network"),
            Network::User { ports } => {
                let ports: Vec<_> = ports.iter().map(Forward::to_string).collect();
                write!(f, "user network with ports {}", ports.join(", "))
            }
            Network::Tap(name) if self.queues == 1 => write!(f, "TAP interface {name}"),
            Network::Tap(name) => write!(f, "TAP interface {name}, {} queues", self.queues),
            Network::TapFd(fd) => write!(f, "TAP interface of file descriptor {fd}"),
        }
    }
}

/// A network card.
pub struct Net {
    card: Arc<Card>,
    ports: Vec<SharedPort>,
    limits: Limits,
    vhost: Option<Vhost>,
    workers: Mutex<Vec<Worker>>,
}

/// What all queues share in each direction.
#[derive(Clone, Debug, Default)]
struct Limits {
    receive: Option<Arc<RateLimiter>>,
    transmit: Option<Arc<RateLimiter>>,
}

impl Net {
    /// A card of this name, plugged in.
    ///
    /// # Errors
    /// The network that was asked for cannot be had.
    pub fn new(
        name: &str,
        config: &NetConfig,
        surroundings: &Surroundings,
    ) -> Result<Self, MakeError> {
        let opened = open(name, config)?;
        let mac = config.mac.unwrap_or_else(|| Mac::of(&surroundings.vm_name, name));
        let vhost = find_vhost(name, config)?;
        Ok(Self { vhost, ..Self::plugged_into(opened, name, config, mac) })
    }

    fn plugged_into(opened: Opened, name: &str, config: &NetConfig, mac: Mac) -> Self {
        let Opened { backend, ports } = opened;
        let mtu = config.mtu.or(backend.mtu()).unwrap_or(USUAL_MTU);
        // At most MOST_PAIRS.
        let card = Card::new(name, backend, ports.len() as u16, mac, mtu);
        let ports = ports.into_iter().map(|port| Arc::new(Mutex::new(port))).collect();
        let limit = |rate: &Rate| RateLimiter::new(rate).map(Arc::new);
        let limits = Limits { receive: limit(&config.receive), transmit: limit(&config.transmit) };
        Self { card: Arc::new(card), ports, limits, vhost: None, workers: Mutex::default() }
    }

    /// The pairs that the driver uses, by their numbers: it may leave pairs alone, but for the first.
    fn pairs(&self, activation: &mut Activation) -> io::Result<Vec<(usize, [Virtqueue; 2])>> {
        // A driver that does not know of pairs has one, and the control queue behind that.
        let most = if features::has_pairs(activation.features) { self.ports.len() } else { 1 };
        let mut pairs = Vec::new();
        for index in 0..most {
            let both = activation
                .queue(2 * index)
                .and_then(|receive| Ok([receive, activation.queue(2 * index + 1)?]));
            match both {
                Ok(both) => pairs.push((index, both)),
                Err(error) if index == 0 => return Err(error),
                Err(_) => {}
            }
        }
        Ok(pairs)
    }

    /// A queue pair's thread.
    fn start(
        &self,
        index: usize,
        [receive, transmit]: [Virtqueue; 2],
        control: Option<ControlQueue>,
        activation: &Activation,
    ) -> io::Result<Worker> {
        let card = self.card.clone();
        let limits = self.limits.clone();
        let receive = Half::new(receive, Gate::new(limits.receive)?);
        let transmit = Half::new(transmit, Gate::new(limits.transmit)?);
        let spans = features::frames_span(activation.features);
        let name = match index {
            0 => card.name.clone(),
            _ => format!("{}-{index}", card.name),
        };
        let pair = Pair {
            port: self.ports[index].clone(),
            receiver: Receiver::new(receive, card.drops.clone(), spans),
            transmitter: Transmitter::new(transmit, card.drops.clone()),
            control,
            interrupt: activation.interrupt.clone(),
            awaits_room: false,
            card,
        };
        Worker::spawn(&name, pair)
    }
}

/// Plugs a card in.
fn open(name: &str, config: &NetConfig) -> Result<Opened, MakeError> {
    let make_error = |problem, is_of_host| MakeError { device: name.into(), problem, is_of_host };
    match &config.network {
        Network::User { ports } => passt::start(&passt::Wanted { ports, mtu: config.mtu })
            .map_err(|error| make_error(error.problem, error.is_of_host)),
        Network::Tap(tap) => tap::open(tap, config.queues)
            .map_err(|error| make_error(error.problem, error.is_of_host)),
        Network::TapFd(fd) => {
            tap::open_fd(*fd).map_err(|error| make_error(error.problem, error.is_of_host))
        }
    }
}

/// The host's vhost-net, if it is to do the work.
fn find_vhost(name: &str, config: &NetConfig) -> Result<Option<Vhost>, MakeError> {
    let is_on_tap = !matches!(config.network, Network::User { .. });
    let is_limited = [config.receive, config.transmit] != [Rate::default(); 2];
    if config.vhost == Some(false) || config.vhost.is_none() && (!is_on_tap || is_limited) {
        return Ok(None);
    }
    match Vhost::probe() {
        Ok(vhost) => Ok(Some(vhost)),
        Err(error) if config.vhost == Some(true) => {
            let what = "vhost = true needs vhost-net (modprobe vhost_net, and leave to use it)";
            Err(MakeError::of_host(name, what, &error))
        }
        Err(error) => {
            log::info!("{name}: without vhost-net, axvmm moves the frames itself: {error}");
            Ok(None)
        }
    }
}

impl VirtioDevice for Net {
    fn name(&self) -> &str {
        &self.card.name
    }

    fn device_type(&self) -> DeviceType {
        DeviceType::NET
    }

    fn features(&self) -> u64 {
        let pairs = if self.card.pairs > 1 { features::PAIRS } else { 0 };
        features::ALWAYS | pairs | self.card.backend.features()
    }

    fn queue_features(&self) -> u64 {
        let own = 1 << VIRTIO_RING_F_EVENT_IDX | 1 << VIRTIO_RING_F_INDIRECT_DESC;
        self.vhost.as_ref().map_or(own, |vhost| own & vhost.features())
    }

    /// Receive and transmit queues in turn, then the control queue (5.1.2).
    fn queue_sizes(&self) -> Vec<u16> {
        let mut sizes = vec![QUEUE_SIZE; 2 * self.ports.len()];
        sizes.push(CONTROL_SIZE);
        sizes
    }

    fn config(&self) -> Vec<u8> {
        self.card.config()
    }

    fn activate(&self, mut activation: Activation) -> io::Result<()> {
        self.card.start(activation.features)?;
        let behind = if features::has_pairs(activation.features) { self.ports.len() } else { 1 };
        let control = activation.queues.get_mut(2 * behind).and_then(Option::take);
        let mut control = control.map(ControlQueue::new);
        let pairs = self.pairs(&mut activation)?;
        let start = |(index, queues)| self.start(index, queues, control.take(), &activation);
        let workers = match &self.vhost {
            None => pairs.into_iter().map(start).collect::<io::Result<_>>()?,
            Some(vhost) => {
                let port =
                    |(index, queues): (usize, _)| Plugged { port: &self.ports[index], queues };
                let pairs: Vec<_> = pairs.into_iter().map(port).collect();
                vec![vhost.start(&self.card, &pairs, control, &activation)?]
            }
        };
        *self.workers.lock() = workers;
        Ok(())
    }

    fn reset(&self) {
        let workers = std::mem::take(&mut *self.workers.lock());
        drop(workers);
        self.card.reset();
    }
}

impl fmt::Debug for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Net({}, {} pairs)", self.card.name, self.card.pairs)
    }
}
