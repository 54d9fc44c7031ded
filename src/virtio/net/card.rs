//! What all queues of a card share.

use std::{
    io,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use parking_lot::Mutex;
use virtio_bindings::virtio_net::VIRTIO_NET_S_LINK_UP;

use super::{Mac, backend::Backend, drops::Drops};
use crate::virtio::Interrupt;

/// A card beside its queues: its address, its link, what it is plugged into.
pub struct Card {
    pub name: String,
    pub backend: Box<dyn Backend>,
    /// How many queue pairs it has.
    pub pairs: u16,
    pub drops: Drops,
    /// Its address after a reset.
    own_mac: Mac,
    mac: Mutex<Mac>,
    mtu: u16,
    is_up: AtomicBool,
    /// The features that are in use.
    features: AtomicU64,
}

impl Card {
    pub fn new(name: &str, backend: Box<dyn Backend>, pairs: u16, mac: Mac, mtu: u16) -> Self {
        let (own_mac, mac) = (mac, Mutex::new(mac));
        let (is_up, features) = (AtomicBool::new(true), AtomicU64::new(0));
        let (name, drops) = (name.to_owned(), Drops::new(name));
        Self { name, backend, pairs, drops, own_mac, mac, mtu, is_up, features }
    }

    /// Whether frames come and go.
    pub fn is_up(&self) -> bool {
        self.is_up.load(Ordering::Acquire)
    }

    /// There is nothing at the other end any more: the link goes down, and stays so.
    pub fn unplug(&self, error: &io::Error, interrupt: &dyn Interrupt) {
        if self.is_up.swap(false, Ordering::AcqRel) {
            log::error!("{}: the link is down, until axvmm is started again: {error}", self.name);
            interrupt.config_changed();
        }
    }

    /// The driver gives it another address, until the next reset.
    pub fn set_mac(&self, mac: Mac) {
        *self.mac.lock() = mac;
    }

    /// The driver takes these features.
    ///
    /// # Errors
    /// The backend does not do it.
    pub fn start(&self, features: u64) -> io::Result<()> {
        self.features.store(features, Ordering::Release);
        self.backend.set_offloads(features)?;
        self.backend.set_pairs(1)
    }

    /// The features that the driver has taken.
    pub fn features(&self) -> u64 {
        self.features.load(Ordering::Acquire)
    }

    /// As it was before the driver came.
    pub fn reset(&self) {
        self.set_mac(self.own_mac);
        self.features.store(0, Ordering::Release);
        // What a driver that is not there would be sent is read and dropped by the host.
        let _ = self.backend.set_pairs(1);
    }

    /// The configuration space (virtio 1.2, 5.1.4): address, status, queue pairs, MTU.
    pub fn config(&self) -> Vec<u8> {
        let Mac(mac) = *self.mac.lock();
        let status = if self.is_up() { VIRTIO_NET_S_LINK_UP as u16 } else { 0 };
        let numbers = [status, self.pairs, self.mtu];
        mac.into_iter().chain(numbers.into_iter().flat_map(u16::to_le_bytes)).collect()
    }
}
