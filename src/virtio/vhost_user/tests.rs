//! The frontend between a driver in memory and a backend, which is the one that others write theirs
//! with.

use std::{
    fs,
    io::{Read, Write},
    os::unix::net::UnixListener,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use nix::sys::socket::{MsgFlags, send};
use tempfile::TempDir;
use vhost::vhost_user::{Listener, VhostUserProtocolFeatures};
use vhost_user_backend::{VhostUserBackendMut, VhostUserDaemon, VringRwLock, VringT};
use virtio_queue::QueueOwnedT;
use vm_memory::{Bytes, GuestAddressSpace, GuestMemoryAtomic, GuestMemoryMmap};
use vmm_sys_util::{
    epoll::EventSet,
    event::{EventConsumer, EventFlag, EventNotifier, new_event_consumer_and_notifier},
};

use super::*;
use crate::virtio::testing::{Driver, memory, shared_memory};

const QUEUES: u16 = 2;
const EVENT_IDX: u64 = 1 << VIRTIO_RING_F_EVENT_IDX;
const VERSION_1: u64 = 1 << 32;
const PROTOCOL_FEATURES: u64 = 1 << 30;
/// One of its own, and one of a transport's (VIRTIO_F_RING_PACKED), which must not reach the driver.
const OWN: u64 = 1 << 5 | 1 << 34;

/// A backend that gives back what it gets, with every bit inverted.
struct Inverter {
    memory: Option<GuestMemoryAtomic<GuestMemoryMmap>>,
    shared: Arc<Shared>,
}

/// What a test sees of a backend.
struct Shared {
    features: u64,
    protocol: VhostUserProtocolFeatures,
    config: Mutex<Vec<u8>>,
    acked: Mutex<u64>,
    resets: AtomicU32,
}

impl Inverter {
    fn serve(&self, vring: &VringRwLock) {
        let memory = self.memory.as_ref().unwrap().memory();
        let chains: Vec<_> = {
            let mut state = vring.get_mut();
            state.get_queue_mut().iter(memory.clone()).unwrap().collect()
        };
        for chain in chains {
            let head = chain.head_index();
            let (mut bytes, mut written) = (Vec::new(), 0);
            for descriptor in chain {
                if descriptor.is_write_only() {
                    let len = bytes.len().min(descriptor.len() as usize);
                    memory.write_slice(&bytes[..len], descriptor.addr()).unwrap();
                    bytes.drain(..len);
                    written += len;
                } else {
                    let mut part = vec![0; descriptor.len() as usize];
                    memory.read_slice(&mut part, descriptor.addr()).unwrap();
                    bytes.extend(part.iter().map(|byte| !byte));
                }
            }
            vring.add_used(head, written as u32).unwrap();
        }
        if vring.needs_notification().unwrap() {
            vring.signal_used_queue().unwrap();
        }
    }
}

impl VhostUserBackendMut for Inverter {
    type Bitmap = ();
    type Vring = VringRwLock;

    fn num_queues(&self) -> usize {
        QUEUES.into()
    }

    fn max_queue_size(&self) -> usize {
        256
    }

    fn features(&self) -> u64 {
        self.shared.features
    }

    fn acked_features(&mut self, features: u64) {
        *self.shared.acked.lock() = features;
    }

    fn protocol_features(&self) -> VhostUserProtocolFeatures {
        self.shared.protocol
    }

    fn reset_device(&mut self) {
        self.shared.resets.fetch_add(1, Ordering::SeqCst);
    }

    fn set_event_idx(&mut self, _: bool) {}

    fn get_config(&self, offset: u32, size: u32) -> Vec<u8> {
        let config = self.shared.config.lock();
        config[offset as usize..(offset + size) as usize].to_vec()
    }

    fn set_config(&mut self, offset: u32, bytes: &[u8]) -> io::Result<()> {
        let mut config = self.shared.config.lock();
        // As a device may: the first byte is its own.
        let from = (offset as usize).max(1);
        config[from..offset as usize + bytes.len()]
            .copy_from_slice(&bytes[from - offset as usize..]);
        Ok(())
    }

    fn update_memory(&mut self, memory: GuestMemoryAtomic<GuestMemoryMmap>) -> io::Result<()> {
        self.memory = Some(memory);
        Ok(())
    }

    fn exit_event(&self, _: usize) -> Option<(EventConsumer, EventNotifier)> {
        new_event_consumer_and_notifier(EventFlag::NONBLOCK).ok()
    }

    fn handle_event(
        &mut self,
        event: u16,
        _: EventSet,
        vrings: &[VringRwLock],
        _: usize,
    ) -> io::Result<()> {
        self.serve(&vrings[usize::from(event)]);
        Ok(())
    }
}

type Daemon = VhostUserDaemon<Arc<std::sync::Mutex<Inverter>>>;

/// A backend that runs, for one frontend after the other.
struct Backend {
    dir: TempDir,
    shared: Arc<Shared>,
    daemon: Option<thread::JoinHandle<Daemon>>,
}

impl Backend {
    fn new(features: u64, protocol: VhostUserProtocolFeatures) -> Self {
        let shared = Arc::new(Shared {
            features,
            protocol,
            config: Mutex::new((0..16).collect()),
            acked: Mutex::default(),
            resets: AtomicU32::new(0),
        });
        let mut backend = Self { dir: TempDir::new().unwrap(), shared, daemon: None };
        backend.start();
        backend
    }

    fn all() -> Self {
        Self::new(VERSION_1 | EVENT_IDX | PROTOCOL_FEATURES | OWN, VhostUserProtocolFeatures::all())
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("backend.sock")
    }

    /// Listens, and serves whoever connects.
    fn start(&mut self) {
        let mut listener = Listener::new(self.path(), true).unwrap();
        let inverter = Inverter { memory: None, shared: self.shared.clone() };
        self.daemon = Some(thread::spawn(move || {
            let memory = GuestMemoryAtomic::new(GuestMemoryMmap::new());
            let backend = Arc::new(std::sync::Mutex::new(inverter));
            let mut daemon = VhostUserDaemon::new("inverter".into(), backend, memory).unwrap();
            daemon.start(&mut listener).unwrap();
            daemon
        }));
    }

    /// Ends, as if it had crashed.
    fn crash(&mut self) {
        let mut daemon = self.daemon.take().unwrap().join().unwrap();
        daemon.request_shutdown();
        let _ = daemon.wait();
    }

    fn config(&self) -> VhostUserConfig {
        VhostUserConfig {
            socket: self.path(),
            device: DeviceType(4242),
            queues: Some(QUEUES),
            queue_size: 64,
            tag: None,
            config_size: Some(16),
            kept: Kept::default(),
        }
    }

    fn device(&self) -> Arc<VhostUser> {
        Arc::new(VhostUser::new("inverter0".into(), &self.config()).unwrap())
    }
}

fn driver(device: Arc<VhostUser>) -> Driver {
    let mut driver = Driver::before_setup_in(shared_memory(), device);
    driver.begin(0);
    driver
}

#[track_caller]
fn inverts(driver: &mut Driver, queue: u16) {
    let got = driver.request(queue, &[b"abc", b"de"], &[2, 100]);
    assert_eq!(got, b"abcde".map(|byte| !byte));
}

#[track_caller]
fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let since = Instant::now();
    while !holds() {
        assert!(since.elapsed() < Duration::from_secs(20), "{what}");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_backend_works_on_the_queues_and_its_signals_are_passed_on() {
    let backend = Backend::all();
    let device = backend.device();
    assert_eq!(device.features(), 1 << 5);
    // The backend does not know indirect descriptors.
    assert_eq!(device.queue_features(), EVENT_IDX);
    let mut driver = driver(device);
    for queue in 0..QUEUES {
        inverts(&mut driver, queue);
        inverts(&mut driver, queue);
    }
    let queues = driver.interrupts.clone();
    wait_for("interrupts", || (0..QUEUES).all(|q| queues.queues.lock().contains_key(&q)));
    assert_eq!(*backend.shared.acked.lock() & !PROTOCOL_FEATURES, VERSION_1 | EVENT_IDX | 1 << 5);
}

#[test]
fn a_transports_eventfd_is_signalled_by_the_backend_itself() {
    let backend = Backend::all();
    let mut driver = Driver::before_setup_in(shared_memory(), backend.device());
    let eventfd = EventFd::new(EFD_NONBLOCK).unwrap();
    driver.interrupts.eventfds.lock().insert(0, eventfd.try_clone().unwrap());
    driver.begin(0);
    inverts(&mut driver, 0);
    wait_for("a signal", || eventfd.read().is_ok());
    assert!(!driver.interrupts.queues.lock().contains_key(&0));
}

#[test]
fn a_driver_that_resets_finds_the_backend_as_new() {
    let backend = Backend::all();
    let mut driver = driver(backend.device());
    for round in 1..4 {
        inverts(&mut driver, 1);
        driver.control.set_status(0);
        assert_eq!(backend.shared.resets.load(Ordering::SeqCst), round);
        driver.begin(0);
    }
}

/// Each reboot of the guest makes its devices anew. The backend serves one connection alone.
#[test]
fn a_guest_that_reboots_finds_the_same_backend() {
    let mut backend = Backend::all();
    let config = backend.config();
    let again = || Arc::new(VhostUser::new("inverter0".into(), &config).unwrap());
    for reboot in 1..4 {
        let mut driver = driver(again());
        inverts(&mut driver, 0);
        drop(driver);
        assert_eq!(backend.shared.resets.load(Ordering::SeqCst), reboot);
    }
    // One that has ended meanwhile is not waited for, and another takes its place.
    backend.crash();
    fs::remove_file(backend.path()).ok();
    let told = VhostUser::new("inverter0".into(), &config).err().unwrap().to_string();
    assert!(told.contains("is the backend running?"), "{told}");
    backend.start();
    inverts(&mut driver(again()), 0);
}

#[test]
fn backends_need_not_know_more_than_the_least() {
    let least = Backend::new(VERSION_1 | PROTOCOL_FEATURES, VhostUserProtocolFeatures::empty());
    let config = VhostUserConfig { config_size: None, ..least.config() };
    let device = Arc::new(VhostUser::new("least0".into(), &config).unwrap());
    assert_eq!((device.queue_features(), device.config().len()), (0, 0));
    let mut driver = driver(device);
    inverts(&mut driver, 0);
    driver.control.set_status(0);
    driver.begin(0);
    inverts(&mut driver, 0);
}

#[test]
fn the_configuration_space_is_the_backends() {
    let backend = Backend::all();
    let device = backend.device();
    let driver = driver(device.clone());
    assert_eq!(device.config(), (0..16).collect::<Vec<_>>());
    // What the driver writes the backend may take or not.
    device.write_config(0, &[9, 9]);
    assert_eq!(device.config()[..3], [0, 9, 2]);

    backend.shared.config.lock()[15] = 77;
    let fd = {
        let session = device.session().clone();
        let channel = session.channel().unwrap().lock();
        channel.sender()
    };
    // VHOST_USER_BACKEND_CONFIG_CHANGE_MSG, in two pieces.
    let message: Vec<u8> = [2_u32, 1, 0].into_iter().flat_map(u32::to_ne_bytes).collect();
    for piece in message.chunks(7) {
        send(fd, piece, MsgFlags::empty()).unwrap();
    }
    wait_for("the change", || driver.interrupts.config.load(Ordering::SeqCst) == 1);
    assert_eq!(device.config()[15], 77);
}

#[test]
fn a_backend_that_ends_breaks_its_device_until_another_is_there() {
    let mut backend = Backend::all();
    let mut driver = driver(backend.device());
    inverts(&mut driver, 0);
    backend.crash();
    driver.wait_broken();
    // Without a backend it stays so.
    fs::remove_file(backend.path()).ok();
    driver.begin(0);
    driver.wait_broken();
    backend.start();
    driver.begin(0);
    inverts(&mut driver, 0);
}

#[test]
fn memory_that_is_the_guests_alone_is_no_ground_for_a_backend() {
    let backend = Backend::all();
    let mut driver = Driver::before_setup_in(memory(), backend.device());
    driver.begin(0);
    driver.wait_broken();
}

#[test]
fn what_can_be_no_device_is_told() {
    let backend = Backend::all();
    let new = |config| match VhostUser::new("x".into(), &config) {
        Ok(_) => panic!("this should be refused"),
        Err(error) => error.to_string(),
    };
    let told = new(VhostUserConfig { queues: Some(3), ..backend.config() });
    assert!(told.contains("has 2 queues, and 3 are asked for: write queues = 2"), "{told}");
    let missing = VhostUserConfig { socket: "/nonexistent/b.sock".into(), ..backend.config() };
    let told = new(missing);
    assert!(told.contains("/nonexistent/b.sock") && told.contains("backend running"), "{told}");
    let old = Backend::new(PROTOCOL_FEATURES, VhostUserProtocolFeatures::empty());
    assert!(new(old.config()).contains("before virtio 1.0"));
    let nameless = Backend::new(VERSION_1 | PROTOCOL_FEATURES, VhostUserProtocolFeatures::MQ);
    let told = new(VhostUserConfig { device: DeviceType::FILE_SYSTEM, ..nameless.config() });
    assert!(told.contains("write tag = "), "{told}");
}

#[test]
fn a_file_system_may_have_its_name_from_here() {
    let backend = Backend::new(VERSION_1 | PROTOCOL_FEATURES, VhostUserProtocolFeatures::MQ);
    let config = VhostUserConfig {
        device: DeviceType::FILE_SYSTEM,
        tag: Some("share".into()),
        ..backend.config()
    };
    let device = VhostUser::new("fs0".into(), &config).unwrap();
    let mut expected = b"share".to_vec();
    expected.resize(TAG_LEN, 0);
    expected.extend([1, 0, 0, 0]);
    assert_eq!(device.config(), expected);
}

/// Answers until somebody asks what it is set up for, GET_FEATURES (1), and from then on nothing, as
/// many times as somebody connects; it says how many messages came each time.
fn hangs(listener: UnixListener, times: usize) -> thread::JoinHandle<Vec<usize>> {
    thread::spawn(move || {
        let serve = |_| {
            let (mut socket, _) = listener.accept().unwrap();
            let mut count = 0;
            loop {
                let mut header = [0; 12];
                if socket.read_exact(&mut header).is_err() {
                    return count;
                }
                count += 1;
                let mut body = vec![0; u32::from_ne_bytes(*header.last_chunk().unwrap()) as usize];
                socket.read_exact(&mut body).unwrap();
                if header[0] == 1 {
                    let words = [1_u32, 1 | 4, 8].into_iter().flat_map(u32::to_ne_bytes);
                    let reply: Vec<_> = words.chain(VERSION_1.to_ne_bytes()).collect();
                    socket.write_all(&reply).unwrap();
                }
            }
        };
        (0..times).map(serve).collect()
    })
}

#[test]
fn a_backend_that_hangs_does_not_hold_a_reset_or_the_end() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("hangs.sock");
    let backend = hangs(UnixListener::bind(&path).unwrap(), 3);
    let config = VhostUserConfig {
        socket: path.clone(),
        device: DeviceType::ENTROPY,
        queues: None,
        queue_size: 64,
        tag: None,
        config_size: None,
        kept: Kept::default(),
    };
    let mut driver = driver(Arc::new(VhostUser::new("hangs0".into(), &config).unwrap()));
    // The backend is asked to stop (GET_VRING_BASE), given up, and the next begins anew.
    let since = Instant::now();
    driver.begin(0);
    assert!(since.elapsed() < Duration::from_secs(10));
    assert_eq!(driver.control.status() & 0x40, 0);
    drop(driver);
    assert!(since.elapsed() < Duration::from_secs(15));
    assert!(config.kept.lock().is_none());

    let session = Session::connect(&path).unwrap();
    let told = session.stop(&[0]).unwrap_err().to_string();
    assert!(told.contains("hangs.sock: GET_VRING_BASE: there is no answer within 2 s"), "{told}");
    assert!(session.is_broken());
    let began = backend.join().unwrap();
    assert!(began[0] > 5 && began[0] == began[1] && began[2] == 3, "{began:?}");
}

/// Somebody who takes the connection and says nothing.
#[test]
fn a_backend_that_is_silent_is_not_waited_for_for_ever() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("silent.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let silent = thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut heard = Vec::new();
        // Until the other side has had enough.
        socket.read_to_end(&mut heard).unwrap();
        heard.len()
    });
    let error = Session::connect(&path).unwrap_err().to_string();
    let told = "silent.sock: GET_FEATURES: there is no answer within 2 s; it is given up";
    assert!(error.contains(told), "{error}");
    assert_eq!(silent.join().unwrap(), 24, "two headers");
}
