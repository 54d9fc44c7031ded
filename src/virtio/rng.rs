//! The entropy device (virtio 1.2, 5.4): the host's random bytes.

#[cfg(test)]
mod tests;

use std::io;

use parking_lot::Mutex;
use serde::Serialize;

use super::{Activation, Chain, DeviceType, Interrupt, VirtioDevice, Virtqueue, Worker};

/// What a user says of it: nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RngConfig {}

const QUEUE_SIZE: u16 = 64;

/// A request gets this many bytes at most; a driver that wants more asks again.
const MOST: usize = 64 << 10;
/// So many are fetched at a time.
const PIECE: usize = 4096;

/// An entropy device.
pub struct Rng {
    name: String,
    worker: Mutex<Option<Worker>>,
}

impl Rng {
    /// A device with this name.
    pub fn new(name: String, _config: &RngConfig) -> Self {
        Self { name, worker: Mutex::default() }
    }
}

impl VirtioDevice for Rng {
    fn name(&self) -> &str {
        &self.name
    }

    fn device_type(&self) -> DeviceType {
        DeviceType::ENTROPY
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![QUEUE_SIZE]
    }

    fn activate(&self, mut activation: Activation) -> io::Result<()> {
        let requests = activation.queue(0)?;
        let interrupt = activation.interrupt.clone();
        let worker = Worker::on_queue(&self.name, requests, activation.interrupt, move |queue| {
            serve(queue, &*interrupt);
        })?;
        *self.worker.lock() = Some(worker);
        Ok(())
    }

    fn reset(&self) {
        let worker = self.worker.lock().take();
        drop(worker);
    }
}

fn serve(requests: &mut Virtqueue, interrupt: &dyn Interrupt) {
    while let Some(chain) = requests.pop() {
        let written = fill(&chain).unwrap_or_else(|error| {
            interrupt.needs_reset(&format_args!("no random bytes: {error}"));
            0
        });
        requests.complete(chain.head, written);
    }
    requests.signal();
}

/// Fills what the driver has given, as far as one request goes, and says how far.
fn fill(chain: &Chain) -> Result<u32, getrandom::Error> {
    let wanted = chain.writable.len().min(MOST);
    let mut bytes = [0; PIECE];
    for at in (0..wanted).step_by(PIECE) {
        let piece = &mut bytes[..PIECE.min(wanted - at)];
        getrandom::fill(piece)?;
        // It lies inside: no more is asked for than there is.
        let _ = chain.writable.write_at(at, piece);
    }
    Ok(wanted as u32)
}
