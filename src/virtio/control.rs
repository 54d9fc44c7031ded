//! What all transports do: features, status, setting up queues, activation and reset (virtio 1.2, 2.1
//! to 2.4 and 3.1). Transports make registers of it.

use std::{
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use parking_lot::{Mutex, MutexGuard};
use virtio_bindings::virtio_config::{
    VIRTIO_CONFIG_S_ACKNOWLEDGE, VIRTIO_CONFIG_S_DRIVER, VIRTIO_CONFIG_S_DRIVER_OK,
    VIRTIO_CONFIG_S_FAILED, VIRTIO_CONFIG_S_FEATURES_OK, VIRTIO_CONFIG_S_NEEDS_RESET,
    VIRTIO_F_VERSION_1,
};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::{
    Activation, DeviceType, Interrupt, VirtioDevice, Virtqueue,
    queue::QueueParts,
    setup::{Common, QueueSetup},
};
use crate::{addr::AccessWidth, addrspace::AddrSpace, ratelimit::RateLimit};

/// The status bits that a driver sets (2.1).
const DRIVERS: u32 = VIRTIO_CONFIG_S_ACKNOWLEDGE
    | VIRTIO_CONFIG_S_DRIVER
    | VIRTIO_CONFIG_S_DRIVER_OK
    | VIRTIO_CONFIG_S_FEATURES_OK
    | VIRTIO_CONFIG_S_FAILED;

/// How a transport interrupts its driver. Any thread may call.
pub trait Notify: Send + Sync {
    /// There are used buffers in a queue.
    fn queue(&self, index: u16);

    /// The configuration has changed, or the device needs a reset.
    fn config(&self);

    /// See [`Interrupt::queue_eventfd`].
    fn queue_eventfd(&self, _index: u16) -> Option<EventFd> {
        None
    }
}

/// A device's state as its driver sees it, on any transport. Any access is safe at any time: what
/// makes no sense is ignored.
pub struct Control {
    device: Arc<dyn VirtioDevice>,
    memory: Arc<AddrSpace>,
    signals: Arc<Signals>,
    offered: u64,
    doorbells: Vec<Arc<EventFd>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    status: u32,
    features: u64,
    queues: Vec<QueueSetup>,
    is_active: bool,
}

impl Control {
    /// The state of `device` after a reset. It reaches the driver by `notify`, and works in `memory`.
    ///
    /// # Errors
    /// The host has no file descriptors left.
    pub fn new(
        device: Arc<dyn VirtioDevice>,
        memory: Arc<AddrSpace>,
        notify: Arc<dyn Notify>,
    ) -> io::Result<Self> {
        let queues = fresh(&*device);
        let doorbell = |_: &QueueSetup| EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK).map(Arc::new);
        let doorbells = queues.iter().map(doorbell).collect::<io::Result<_>>()?;
        let signals = Arc::new(Signals {
            device: device.name().into(),
            notify,
            needs_reset: AtomicBool::new(false),
            generation: AtomicU32::new(0),
            told: RateLimit::new(3, Duration::from_secs(10)),
        });
        let offered = 1 << VIRTIO_F_VERSION_1 | device.queue_features() | device.features();
        let state = Mutex::new(State { queues, ..State::default() });
        Ok(Self { device, memory, signals, offered, doorbells, state })
    }

    /// The device's name, for messages.
    pub fn name(&self) -> &str {
        self.device.name()
    }

    /// What kind of device it is.
    pub fn device_type(&self) -> DeviceType {
        self.device.device_type()
    }

    /// 32 of the features that are offered: the low half for 0, the high one for 1; no more.
    pub fn offered_features(&self, half: u32) -> u32 {
        half_of(self.offered, half)
    }

    /// 32 of the features that the driver has taken, likewise.
    pub fn driver_features(&self, half: u32) -> u32 {
        half_of(self.lock().features, half)
    }

    /// The driver takes these, until it has said that they are all.
    pub fn set_driver_features(&self, half: u32, value: u32) {
        let mut state = self.lock();
        if state.status & VIRTIO_CONFIG_S_FEATURES_OK != 0 {
            return;
        }
        match half {
            0 => state.features = state.features & !0xffff_ffff | u64::from(value),
            1 => state.features = state.features & 0xffff_ffff | u64::from(value) << 32,
            _ => {}
        }
    }

    /// The status (2.1).
    pub fn status(&self) -> u32 {
        let broken = match self.signals.needs_reset.load(Ordering::Acquire) {
            true => VIRTIO_CONFIG_S_NEEDS_RESET,
            false => 0,
        };
        self.lock().status | broken
    }

    /// The driver sets bits of the status, one step of its initialization after the other; 0 resets
    /// the device. Bits that are set stay so until then.
    pub fn set_status(&self, value: u32) {
        let mut state = self.lock();
        if value == 0 {
            return self.reset(&mut state);
        }
        let mut new = value & DRIVERS & !state.status;
        if new & VIRTIO_CONFIG_S_FEATURES_OK != 0 && !self.takes(state.features) {
            new &= !VIRTIO_CONFIG_S_FEATURES_OK;
        }
        let ready = VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK;
        let both = (state.status | new) & ready == ready;
        if new & VIRTIO_CONFIG_S_DRIVER_OK != 0 && !both {
            new &= !VIRTIO_CONFIG_S_DRIVER_OK;
        }
        state.status |= new;
        let failed = state.status & VIRTIO_CONFIG_S_FAILED != 0;
        if new & VIRTIO_CONFIG_S_DRIVER_OK != 0 && !failed && !state.is_active {
            self.activate(&mut state);
        }
    }

    /// Whether these features are a choice that the device can work with (2.2).
    fn takes(&self, features: u64) -> bool {
        features & !self.offered == 0 && features & 1 << VIRTIO_F_VERSION_1 != 0
    }

    /// How many queues there are.
    pub fn queue_count(&self) -> u16 {
        self.doorbells.len() as u16
    }

    /// What is set up of a queue; `None`: there is none with this number.
    pub fn queue(&self, index: u16) -> Option<QueueSetup> {
        self.lock().queues.get(usize::from(index)).copied()
    }

    /// The driver sets up a queue; one that is enabled does not change any more.
    pub fn set_up_queue(&self, index: u16, change: impl FnOnce(&mut QueueSetup)) {
        let mut state = self.lock();
        let queue = state.queues.get_mut(usize::from(index)).filter(|queue| !queue.is_enabled);
        if let Some(queue) = queue {
            let max = queue.max;
            change(queue);
            (queue.max, queue.is_enabled) = (max, false);
        }
    }

    /// The driver enables a queue, which it can if rings of this size lie where it says: aligned, in
    /// memory that it may read and write, none over another.
    pub fn enable_queue(&self, index: u16) {
        let memory = self.memory.device_memory();
        let mut state = self.lock();
        let Some(queue) = state.queues.get_mut(usize::from(index)) else { return };
        match queue.check(&memory) {
            Ok(()) => queue.is_enabled = true,
            Err(problem) => {
                self.signals.tell(&format_args!("queue {index} is not enabled: {problem}"));
            }
        }
    }

    /// The driver has no use for a queue any more, while the device is not at work.
    pub fn disable_queue(&self, index: u16) {
        let mut state = self.lock();
        if state.is_active {
            return;
        }
        if let Some(queue) = state.queues.get_mut(usize::from(index)) {
            queue.is_enabled = false;
        }
    }

    /// What is signalled when the driver notifies of a queue; `None`: there is none with this number.
    pub fn doorbell(&self, index: u16) -> Option<&Arc<EventFd>> {
        self.doorbells.get(usize::from(index))
    }

    /// The driver notifies of a queue, by an exit.
    pub fn notify(&self, index: u16) {
        if let Some(doorbell) = self.doorbell(index) {
            // A counter that is full is signalled already.
            let _ = doorbell.write(1);
        }
    }

    /// Counts the changes of the configuration space.
    pub fn generation(&self) -> u32 {
        self.signals.generation.load(Ordering::Acquire)
    }

    /// Reads the configuration space; zeros behind its end.
    pub fn read_config(&self, offset: u64, width: AccessWidth) -> u64 {
        let config = self.device.config();
        let mut bytes = [0; 8];
        let from = usize::try_from(offset).ok().and_then(|offset| config.get(offset..));
        let from = from.unwrap_or_default();
        let len = from.len().min(width.size());
        bytes[..len].copy_from_slice(&from[..len]);
        u64::from_le_bytes(bytes)
    }

    /// Writes to the configuration space; what is not wholly inside is dropped.
    pub fn write_config(&self, offset: u64, width: AccessWidth, value: u64) {
        let Ok(offset) = usize::try_from(offset) else { return };
        let end = offset.checked_add(width.size());
        if end.is_some_and(|end| end <= self.device.config().len()) {
            self.device.write_config(offset, &value.to_le_bytes()[..width.size()]);
        }
    }

    fn activate(&self, state: &mut State) {
        state.is_active = true;
        let memory = self.memory.device_memory();
        let common = Common::of(state.features);
        let mut queues = Vec::with_capacity(state.queues.len());
        for (index, (setup, doorbell)) in (0..).zip(state.queues.iter().zip(&self.doorbells)) {
            let queue = match setup.is_enabled.then(|| setup.queue(&memory, common)) {
                None => None,
                Some(Ok((queue, descriptors))) => Some(Virtqueue::new(QueueParts {
                    device: self.signals.device.clone(),
                    index,
                    queue,
                    descriptors,
                    memory: self.memory.clone(),
                    doorbell: doorbell.clone(),
                    interrupt: self.signals.clone(),
                })),
                Some(Err(problem)) => {
                    return self.signals.needs_reset(&format_args!("queue {index}: {problem}"));
                }
            };
            queues.push(queue);
        }
        let activated = self.device.activate(Activation {
            features: state.features,
            queues,
            interrupt: self.signals.clone(),
            memory: self.memory.clone(),
        });
        if let Err(error) = activated {
            self.signals.needs_reset(&error);
        }
    }

    fn reset(&self, state: &mut State) {
        self.device.reset();
        self.signals.needs_reset.store(false, Ordering::Release);
        *state = State { queues: fresh(&*self.device), ..State::default() };
        for doorbell in &self.doorbells {
            // What the driver notified of before is void. Empty is fine.
            let _ = doorbell.read();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.device.reset();
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Control({})", self.name())
    }
}

fn fresh(device: &dyn VirtioDevice) -> Vec<QueueSetup> {
    device.queue_sizes().into_iter().map(QueueSetup::new).collect()
}

fn half_of(features: u64, half: u32) -> u32 {
    match half {
        0 => features as u32,
        1 => (features >> 32) as u32,
        _ => 0,
    }
}

/// The device's way to its driver. It does without the state's lock: a reset holds that while it
/// waits for the device's threads.
struct Signals {
    device: Arc<str>,
    notify: Arc<dyn Notify>,
    needs_reset: AtomicBool,
    generation: AtomicU32,
    /// A driver that resets a device can break it again, as often as it likes.
    told: RateLimit,
}

impl Signals {
    fn tell(&self, what: &dyn fmt::Display) {
        match self.told.pass() {
            Some(0) => log::warn!("{}: {what}", self.device),
            Some(n) => log::warn!("{}: {what} ({n} more before)", self.device),
            None => {}
        }
    }
}

impl Interrupt for Signals {
    fn queue(&self, index: u16) {
        self.notify.queue(index);
    }

    fn config_changed(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.notify.config();
    }

    fn needs_reset(&self, why: &dyn fmt::Display) {
        if !self.needs_reset.swap(true, Ordering::AcqRel) {
            self.tell(&format_args!("{why}; the device waits for a reset"));
            self.notify.config();
        }
    }

    fn queue_eventfd(&self, index: u16) -> Option<EventFd> {
        self.notify.queue_eventfd(index)
    }
}
