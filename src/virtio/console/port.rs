//! Bytes between a port's queues and the host.

use std::{io, sync::Arc, time::Duration};

use super::{PortConfig, host::Host, messages::Untold};
use crate::{
    ratelimit::RateLimit,
    virtio::{Chain, Virtqueue},
};

/// Bytes that are moved at a time.
const PIECE: usize = 4096;
/// After so many the thread looks whether there is something else to do.
const TURN: usize = 64 << 10;

/// A port, while its driver is ready.
pub struct Port {
    name: String,
    pub label: Option<String>,
    pub host: Arc<Host>,
    pub is_console: bool,
    receive: Option<Virtqueue>,
    send: Option<Virtqueue>,
    /// What the host has not taken all of, and how much it has.
    half_sent: Option<(Chain, usize)>,
    /// The guest has it open.
    pub is_open: bool,
    /// The driver is ready for messages about it.
    pub is_ready: bool,
    pub untold: Untold,
    drops: RateLimit,
}

/// Why bytes do not come or go any more for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    /// The queue or the host will say when they can.
    Waits,
    /// The other end has gone.
    Gone,
}

impl Port {
    pub fn new(
        device: &str,
        number: usize,
        config: &PortConfig,
        host: Arc<Host>,
        [receive, send]: [Option<Virtqueue>; 2],
    ) -> Self {
        let name = match &config.label {
            Some(label) => format!("{device}: port {label:?}"),
            None => device.to_owned(),
        };
        Self {
            name,
            label: config.label.clone(),
            host,
            is_console: number == 0,
            receive,
            send,
            half_sent: None,
            is_open: false,
            is_ready: false,
            untold: Untold::default(),
            drops: RateLimit::new(2, Duration::from_secs(10)),
        }
    }

    pub fn queues(&self) -> impl Iterator<Item = &Virtqueue> {
        self.receive.iter().chain(&self.send)
    }

    /// From the guest to the host.
    pub fn send(&mut self) {
        let Some(queue) = &mut self.send else { return };
        let mut left = TURN;
        loop {
            let next = self.half_sent.take().or_else(|| queue.pop().map(|chain| (chain, 0)));
            let Some((chain, mut at)) = next else { break };
            while at < chain.readable.len() && left > 0 {
                let mut bytes = [0; PIECE];
                let bytes = &mut bytes[..PIECE.min(chain.readable.len() - at).min(left)];
                // It lies inside: no more is asked for than there is.
                let _ = chain.readable.read_at(at, bytes);
                match self.host.write(bytes) {
                    Ok(taken) if taken > 0 => {
                        at += taken;
                        left -= taken.min(left);
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    // A driver waits for its terminal and does nothing else; for streams it can wait.
                    Err(error) if is_full(&error) && !self.is_console => {
                        self.half_sent = Some((chain, at));
                        return queue.signal();
                    }
                    refused => {
                        let left = chain.readable.len() - at;
                        tell_dropped(&self.name, &self.drops, left, refused.err());
                        at = chain.readable.len();
                    }
                }
            }
            left = left.saturating_sub(1);
            if at < chain.readable.len() {
                self.half_sent = Some((chain, at));
            } else {
                queue.complete(chain.head, 0);
            }
            if left == 0 {
                // A counter that is full is signalled already.
                let _ = queue.doorbell().write(1);
                break;
            }
        }
        queue.signal();
    }

    /// From the host to the guest, if it listens.
    pub fn receive(&mut self) -> Pause {
        let Some(queue) = self.receive.as_mut().filter(|_| self.is_open) else {
            return Pause::Waits;
        };
        let mut pause = Pause::Waits;
        let mut left = TURN;
        while let Some(chain) = queue.pop() {
            let read = match chain.writable.is_empty() {
                true => Ok(0),
                false => self.host.read(&chain.writable),
            };
            match read {
                Ok(0) if !chain.writable.is_empty() => {
                    queue.undo_pop(chain);
                    pause = Pause::Gone;
                    break;
                }
                Ok(count) => {
                    queue.complete(chain.head, count as u32);
                    left = left.saturating_sub(count.max(1));
                }
                Err(error) => {
                    queue.undo_pop(chain);
                    if error.kind() == io::ErrorKind::Interrupted {
                        continue;
                    }
                    pause = if is_full(&error) { Pause::Waits } else { Pause::Gone };
                    break;
                }
            }
            if left == 0 {
                let _ = queue.doorbell().write(1);
                break;
            }
        }
        queue.signal();
        pause
    }

    /// Which of the two it is.
    pub fn is_for_receiving(&self, queue: u16) -> bool {
        self.receive.as_ref().is_some_and(|it| it.index() == queue)
    }
}

fn is_full(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

fn tell_dropped(name: &str, drops: &RateLimit, bytes: usize, error: Option<io::Error>) {
    let error = error.unwrap_or(io::ErrorKind::WriteZero.into());
    if drops.pass().is_some() {
        log::warn!("{name}: {bytes} bytes of the guest's are dropped: {error}");
    }
}
