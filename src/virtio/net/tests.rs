//! Cards on sockets, with a driver in memory.

mod bench_end;
mod commands;
mod frames;
mod pressure;

use std::{io, os::unix::net::UnixStream, sync::Arc, time::Duration};

pub use bench_end::End;

use parking_lot::Mutex;

use super::{
    Mac, Net, NetConfig,
    backend::{Backend, Opened, Port},
    features,
    stream::Stream,
};

pub const MAC: Mac = Mac([2, 0, 0, 1, 2, 3]);
pub const MRG_RXBUF: u64 = 1 << 15;

/// What the tests' cards are plugged into, which does nothing but keep a record.
#[derive(Clone, Default)]
pub struct Record {
    offloads: Arc<Mutex<Vec<u64>>>,
    pairs: Arc<Mutex<Vec<u16>>>,
}

impl Record {
    /// All offloads that were set, one after the other.
    pub fn offloads(&self) -> Vec<u64> {
        self.offloads.lock().clone()
    }

    /// How many pairs are in use.
    pub fn pairs(&self) -> Option<u16> {
        self.pairs.lock().last().copied()
    }
}

impl Backend for Record {
    fn features(&self) -> u64 {
        features::GUEST_CSUM | features::GUEST_OFFLOADS
    }

    fn set_offloads(&self, features: u64) -> io::Result<()> {
        self.offloads.lock().push(features & features::GUEST);
        Ok(())
    }

    fn set_pairs(&self, pairs: u16) -> io::Result<()> {
        self.pairs.lock().push(pairs);
        Ok(())
    }
}

/// A card of so many pairs, and the other end of each of its cables.
pub fn card(pairs: u16, config: &NetConfig) -> (Arc<Net>, Vec<End>, Record) {
    let record = Record::default();
    let (mut ports, mut ends) = (Vec::new(), Vec::new());
    for _ in 0..pairs {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ports.push(Box::new(Stream::new(ours, true).unwrap()) as Box<dyn Port>);
        theirs.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        theirs.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
        ends.push(End(theirs));
    }
    let opened = Opened { backend: Box::new(record.clone()), ports };
    (Arc::new(Net::plugged_into(opened, "net0", config, MAC)), ends, record)
}

/// A card of one pair, with the other end of its cable.
pub fn simple_card() -> (Arc<Net>, End) {
    let (card, mut ends, _) = card(1, &NetConfig::user());
    (card, ends.remove(0))
}

/// A card whose cable leads to nothing that ever answers.
pub fn lonely_card() -> Arc<Net> {
    struct Kept(#[allow(dead_code, reason = "it is there to be open")] End);
    impl Backend for Kept {}
    let (ours, theirs) = UnixStream::pair().unwrap();
    let ports = vec![Box::new(Stream::new(ours, true).unwrap()) as Box<dyn Port>];
    let opened = Opened { backend: Box::new(Kept(End(theirs))), ports };
    Arc::new(Net::plugged_into(opened, "net0", &NetConfig::user(), MAC))
}
