//! The conversation with a backend (QEMU's "Vhost-user Protocol").

use std::{
    fmt, io,
    net::Shutdown,
    os::{fd::AsRawFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use parking_lot::{Mutex, MutexGuard};
use vhost::{
    VhostBackend, VhostUserMemoryRegionInfo,
    vhost_user::{
        Frontend, FrontendReqHandler, HandlerResult, VhostUserFrontend,
        VhostUserFrontendReqHandler, VhostUserProtocolFeatures, VhostUserVirtioFeatures,
        message::{VhostUserConfigFlags, VhostUserHeaderFlag},
    },
};
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use vmm_sys_util::eventfd::EventFd;

use crate::{
    addrspace::SharedRegion,
    virtio::{Virtqueue, vring::vring},
};

/// A backend that does not answer for this long will not.
const PATIENCE: Duration = Duration::from_secs(if cfg!(test) { 2 } else { 10 });

/// The most queues that the protocol's messages can name.
const MOST_QUEUES: u64 = 256;

/// The most bytes of a configuration space that the protocol has room for.
pub const MOST_CONFIG: usize = 256;

/// What of the protocol this end can do.
const PROTOCOL: VhostUserProtocolFeatures = VhostUserProtocolFeatures::MQ
    .union(VhostUserProtocolFeatures::REPLY_ACK)
    .union(VhostUserProtocolFeatures::CONFIG)
    .union(VhostUserProtocolFeatures::RESET_DEVICE)
    .union(VhostUserProtocolFeatures::BACKEND_REQ);

/// Takes note of what the backend says by itself.
#[derive(Debug, Default)]
pub struct Notices {
    config_changed: AtomicBool,
}

impl VhostUserFrontendReqHandler for Notices {
    /// It is read again later: the backend may wait for the answer to this before it answers anything
    /// else.
    fn handle_config_change(&self) -> HandlerResult<u64> {
        self.config_changed.store(true, Ordering::Release);
        Ok(0)
    }
}

/// What the backend says by itself comes by this.
pub struct Channel {
    handler: FrontendReqHandler<Notices>,
    notices: Arc<Notices>,
}

/// A backend that has been asked what it can do.
pub struct Session {
    path: PathBuf,
    frontend: Mutex<Frontend>,
    /// The same socket, to see its end and to end it.
    socket: UnixStream,
    channel: Option<Arc<Mutex<Channel>>>,
    features: u64,
    protocol: VhostUserProtocolFeatures,
    most_queues: u64,
    is_broken: AtomicBool,
    /// It is broken because an answer took too long.
    is_late: AtomicBool,
}

/// What the backend can do.
struct Found {
    features: u64,
    protocol: VhostUserProtocolFeatures,
    most_queues: u64,
    channel: Option<Arc<Mutex<Channel>>>,
}

impl Session {
    /// Connects to the backend that listens at `path`.
    ///
    /// # Errors
    /// Nobody listens there, or somebody who does not understand; the message has the path.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let socket = UnixStream::connect(path).map_err(|error| {
            let what = "is the backend running? It must listen there before the guest starts";
            io::Error::new(error.kind(), format!("{}: {error}; {what}", path.display()))
        })?;
        let frontend = Frontend::from_stream(socket.try_clone()?, MOST_QUEUES);
        let mut session = Self {
            path: path.into(),
            frontend: Mutex::new(frontend),
            socket,
            channel: None,
            features: 0,
            protocol: VhostUserProtocolFeatures::empty(),
            most_queues: MOST_QUEUES,
            is_broken: AtomicBool::new(false),
            is_late: AtomicBool::new(false),
        };
        let found = session.within_patience(|| session.negotiate())?;
        (session.features, session.protocol) = (found.features, found.protocol);
        (session.most_queues, session.channel) = (found.most_queues, found.channel);
        Ok(session)
    }

    fn negotiate(&self) -> io::Result<Found> {
        let mut frontend = self.frontend().clone();
        self.told("SET_OWNER", frontend.set_owner())?;
        let features = self.told("GET_FEATURES", frontend.get_features())?;
        let protocol = VhostUserProtocolFeatures::empty();
        let mut found = Found { features, protocol, most_queues: MOST_QUEUES, channel: None };
        if features & 1 << VIRTIO_F_VERSION_1 == 0 {
            return Err(self.error("it knows only devices before virtio 1.0"));
        }
        if features & VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits() == 0 {
            return Ok(found);
        }
        let offered = self.told("GET_PROTOCOL_FEATURES", frontend.get_protocol_features())?;
        found.protocol = offered & PROTOCOL;
        let set = frontend.set_protocol_features(found.protocol);
        self.told("SET_PROTOCOL_FEATURES", set)?;
        if found.protocol.contains(VhostUserProtocolFeatures::REPLY_ACK) {
            frontend.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
        }
        if found.protocol.contains(VhostUserProtocolFeatures::MQ) {
            found.most_queues = self.told("GET_QUEUE_NUM", frontend.get_queue_num())?;
        }
        if found.protocol.contains(VhostUserProtocolFeatures::BACKEND_REQ) {
            let notices = Arc::<Notices>::default();
            let handler = FrontendReqHandler::new(notices.clone()).map_err(io::Error::other)?;
            let set = frontend.set_backend_request_fd(&handler.get_tx_raw_fd());
            self.told("SET_BACKEND_REQ_FD", set)?;
            let mut channel = Channel { handler, notices };
            let acks = found.protocol.contains(VhostUserProtocolFeatures::REPLY_ACK);
            channel.handler.set_reply_ack_flag(acks);
            found.channel = Some(Arc::new(Mutex::new(channel)));
        }
        Ok(found)
    }

    /// Where the backend listens.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The backend's features.
    pub fn features(&self) -> u64 {
        self.features
    }

    /// How many queues it can have.
    pub fn most_queues(&self) -> u64 {
        self.most_queues
    }

    /// Whether the backend has the configuration space.
    pub fn has_config(&self) -> bool {
        self.protocol.contains(VhostUserProtocolFeatures::CONFIG)
    }

    /// Whether the backend answers, with what it has answered at first.
    pub fn is_as_it_was(&self) -> bool {
        let asked = self.exchange(|it| self.told("GET_FEATURES", it.get_features()));
        asked.is_ok_and(|features| features == self.features)
    }

    /// Whether nothing more can be had from the backend.
    pub fn is_broken(&self) -> bool {
        self.is_broken.load(Ordering::Acquire)
    }

    /// The backend is given up.
    pub fn give_up(&self) {
        self.is_broken.store(true, Ordering::Release);
        // A socket that is closed already is as good.
        let _ = self.socket.shutdown(Shutdown::Both);
    }

    /// The socket, whose end is the backend's.
    pub fn socket(&self) -> &UnixStream {
        &self.socket
    }

    /// By what the backend says something by itself.
    pub fn channel(&self) -> Option<&Arc<Mutex<Channel>>> {
        self.channel.as_ref()
    }

    /// The first `len` bytes of the configuration space.
    pub fn read_config(&self, len: usize) -> io::Result<Vec<u8>> {
        let len = len.min(MOST_CONFIG);
        self.exchange(|frontend| {
            let flags = VhostUserConfigFlags::WRITABLE;
            let got = frontend.get_config(0, len as u32, flags, &vec![0; len]);
            self.told("GET_CONFIG", got).map(|(_, bytes)| bytes)
        })
    }

    /// Writes to the configuration space, as the driver does.
    pub fn write_config(&self, offset: usize, bytes: &[u8]) -> io::Result<()> {
        self.exchange(|frontend| {
            let flags = VhostUserConfigFlags::WRITABLE;
            let set = frontend.set_config(offset as u32, flags, bytes);
            self.told("SET_CONFIG", set)
        })
    }

    /// Has the backend work on these queues, and signal what they come with.
    pub fn start(
        &self,
        features: u64,
        memory: &[SharedRegion],
        queues: &[(&Virtqueue, &EventFd)],
    ) -> io::Result<()> {
        let extra = self.features & VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();
        self.exchange(|frontend| {
            self.told("SET_FEATURES", frontend.set_features(features | extra))?;
            let regions: Vec<_> = memory.iter().map(region).collect();
            self.told("SET_MEM_TABLE", frontend.set_mem_table(&regions))?;
            for (queue, call) in queues {
                let index = queue.index().into();
                let rings = vring(queue);
                self.told("SET_VRING_NUM", frontend.set_vring_num(index, queue.size()))?;
                self.told("SET_VRING_BASE", frontend.set_vring_base(index, 0))?;
                self.told("SET_VRING_ADDR", frontend.set_vring_addr(index, &rings))?;
                self.told("SET_VRING_CALL", frontend.set_vring_call(index, call))?;
                self.told("SET_VRING_KICK", frontend.set_vring_kick(index, queue.doorbell()))?;
            }
            if self.has_protocol_features() {
                for (queue, _) in queues {
                    let enabled = frontend.set_vring_enable(queue.index().into(), true);
                    self.told("SET_VRING_ENABLE", enabled)?;
                }
            }
            Ok(())
        })
    }

    /// Has the backend end all work on these queues: when this returns it touches nothing of the
    /// guest's any more.
    pub fn stop(&self, queues: &[u16]) -> io::Result<()> {
        self.exchange(|frontend| {
            for index in queues.iter().copied().map(usize::from) {
                if self.has_protocol_features() {
                    let disabled = frontend.set_vring_enable(index, false);
                    self.told("SET_VRING_ENABLE", disabled)?;
                }
                // The answer comes when the ring has stopped.
                self.told("GET_VRING_BASE", frontend.get_vring_base(index))?;
            }
            if self.protocol.contains(VhostUserProtocolFeatures::RESET_DEVICE) {
                self.told("RESET_DEVICE", frontend.reset_device())?;
            }
            Ok(())
        })
    }

    fn has_protocol_features(&self) -> bool {
        self.features & VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits() != 0
    }

    fn frontend(&self) -> MutexGuard<'_, Frontend> {
        self.frontend.lock()
    }

    /// Asks something of the backend. After a failure there is no knowing what comes next from it, so
    /// that it is given up.
    fn exchange<T>(&self, ask: impl FnOnce(&mut Frontend) -> io::Result<T>) -> io::Result<T> {
        let mut frontend = self.frontend();
        if self.is_broken() {
            return Err(self.error("it has ended"));
        }
        let result = self.within_patience(|| ask(&mut frontend));
        if result.is_err() {
            self.give_up();
        }
        result
    }

    fn told<T>(&self, request: &str, result: Result<T, vhost::Error>) -> io::Result<T> {
        result.map_err(|error| match self.is_late.load(Ordering::Acquire) {
            true => {
                let seconds = PATIENCE.as_secs();
                let what = "there is no answer within";
                self.error(format_args!("{request}: {what} {seconds} s; it is given up"))
            }
            false => self.error(format_args!("{request} fails: {error}")),
        })
    }

    /// Does what waits for the backend; its socket is closed if that takes too long.
    fn within_patience<T>(&self, ask: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let (done, wait) = mpsc::channel::<()>();
        let guard = move || {
            if wait.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                self.is_late.store(true, Ordering::Release);
                let _ = self.socket.shutdown(Shutdown::Both);
            }
        };
        thread::scope(|scope| {
            thread::Builder::new().name("vhost-user guard".into()).spawn_scoped(scope, guard)?;
            let result = ask();
            drop(done);
            result
        })
    }

    fn error(&self, what: impl fmt::Display) -> io::Error {
        io::Error::other(format!("the backend at {}: {what}", self.path.display()))
    }
}

/// The protocol's "user addresses" need only agree with each other: guest addresses do.
fn region(region: &SharedRegion) -> VhostUserMemoryRegionInfo {
    VhostUserMemoryRegionInfo {
        guest_phys_addr: region.gpa.0,
        memory_size: region.size,
        userspace_addr: region.gpa.0,
        mmap_offset: region.offset,
        mmap_handle: region.file.as_raw_fd(),
    }
}

impl Channel {
    /// The socket that it comes by.
    pub fn fd(&self) -> i32 {
        self.handler.as_raw_fd()
    }

    /// The backend's end of it.
    #[cfg(test)]
    pub fn sender(&self) -> i32 {
        self.handler.get_tx_raw_fd()
    }

    /// Takes all that has come; whether the configuration space has changed.
    pub fn take(&mut self) -> io::Result<bool> {
        while super::message::is_whole(self.fd())? {
            // What this end does not know it has refused by its answer.
            let _ = self.handler.handle_request();
        }
        Ok(self.notices.config_changed.swap(false, Ordering::AcqRel))
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Session({})", self.path.display())
    }
}
