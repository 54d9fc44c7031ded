//! A device for transports' own tests.

use std::io;

use parking_lot::Mutex;

use super::{Activation, DeviceType, VirtioDevice};

/// A device with 3 queues and 10 bytes of configuration, which says what was done to it.
#[derive(Default)]
pub struct Probe {
    pub config: Mutex<[u8; 10]>,
    pub active: Mutex<Option<Activation>>,
    pub activations: Mutex<u32>,
}

impl VirtioDevice for Probe {
    fn name(&self) -> &str {
        "probe"
    }

    fn device_type(&self) -> DeviceType {
        DeviceType::BLOCK
    }

    fn features(&self) -> u64 {
        1 << 5 | 1 << 40
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![64, 16, 1]
    }

    fn config(&self) -> Vec<u8> {
        self.config.lock().to_vec()
    }

    fn write_config(&self, offset: usize, bytes: &[u8]) {
        self.config.lock()[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    fn activate(&self, activation: Activation) -> io::Result<()> {
        *self.activations.lock() += 1;
        *self.active.lock() = Some(activation);
        Ok(())
    }

    fn reset(&self) {
        *self.active.lock() = None;
    }
}
