//! A server for as long as its device is there: it is started, and started again when it has ended,
//! hangs, or has been edited.

use std::{
    fmt, io,
    os::fd::AsFd,
    sync::{
        Arc,
        mpsc::{self, SyncSender},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use nix::sys::eventfd::EventFd;
use parking_lot::{Mutex, MutexGuard};

use super::{
    Server,
    attached::Attached,
    device::Description,
    edits::Edits,
    process::{Process, connect_to, wait_for},
    relay::eventfd,
    session::{Session, Trouble},
};
use crate::{addr::AccessWidth, devices::Access};

/// A server that has been there for so long ends by chance, and not at once.
const STEADY: Duration = Duration::from_secs(10);
/// The pause before a server is started again that has ended at once, which doubles each time.
const PAUSE: Duration = Duration::from_millis(100);
/// The longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The way to a device's server.
pub struct Link {
    shared: Arc<Shared>,
    stop: Arc<EventFd>,
    keeper: Option<JoinHandle<()>>,
}

struct Shared {
    name: String,
    server: Server,
    /// `None`: the server is away.
    session: ArcSwapOption<Session>,
    /// The server that is just being asked what it is.
    beginning: ArcSwapOption<Session>,
    /// What the device is, or was when its server was there last.
    description: Mutex<Description>,
    /// What the server is connected with, as long as there is a machine.
    attached: Mutex<Machines>,
}

/// The machine that the device is in, and how many there have been.
#[derive(Default)]
struct Machines {
    now: Option<Attached>,
    count: u64,
}

/// A server that is there.
struct Living {
    session: Arc<Session>,
    description: Description,
    /// Its end is the end of the process.
    _process: Option<Process>,
    since: Instant,
}

impl Link {
    /// Starts the server of the device called `name`, or connects to it.
    ///
    /// # Errors
    /// It cannot be a device; the message says what to do.
    pub fn new(name: &str, server: &Server) -> Result<Self, String> {
        let of_host =
            |error: io::Error| format!("this host has nothing left for its server: {error}");
        let stop = Arc::new(eventfd().map_err(of_host)?);
        let edits = Edits::new(server.watched()).map_err(|error| {
            format!("its files cannot be watched: {error}; write watch = false")
        })?;
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            server: server.clone(),
            session: ArcSwapOption::empty(),
            beginning: ArcSwapOption::empty(),
            description: Mutex::default(),
            attached: Mutex::default(),
        });
        let (first, told) = mpsc::sync_channel(1);
        let keeper = Keeper { shared: shared.clone(), stop: stop.clone(), edits };
        let thread = thread::Builder::new().name(format!("keep {name}"));
        // The process ends with the thread that has started it: so this one starts them all.
        let thread = thread.spawn(move || keeper.run(&first)).map_err(of_host)?;
        let keeper = Some(thread);
        match told.recv() {
            Ok(Ok(())) => Ok(Self { shared, stop, keeper }),
            Ok(Err(why)) => Err(format!("its server ({server}) {why}")),
            Err(_) => Err(format!("its server ({server}) cannot be kept")),
        }
    }

    /// What the device is, or was when its server was there last.
    pub fn description(&self) -> Description {
        self.shared.description().clone()
    }

    /// Reads from a region; all ones if the server is away.
    ///
    /// # Errors
    /// The server does not want this access.
    pub fn read(&self, region: u32, offset: u64, width: AccessWidth) -> Result<u64, Access> {
        let mut bytes = [0; 8];
        let read = match &*self.shared.session.load() {
            Some(session) => session.read(region, offset, &mut bytes[..width.size()]),
            None => return Ok(width.mask()),
        };
        match read {
            Ok(()) => Ok(u64::from_le_bytes(bytes)),
            Err(Trouble::Refused(_)) => Err(Access::NoRegister),
            Err(Trouble::Ended(_)) => Ok(width.mask()),
        }
    }

    /// Writes to a region; nothing comes of it if the server is away.
    ///
    /// # Errors
    /// The server does not want this access.
    pub fn write(
        &self,
        region: u32,
        offset: u64,
        width: AccessWidth,
        value: u64,
    ) -> Result<(), Access> {
        let bytes = value.to_le_bytes();
        let written = match &*self.shared.session.load() {
            Some(session) => session.write(region, offset, &bytes[..width.size()]),
            None => return Ok(()),
        };
        match written {
            Err(Trouble::Refused(_)) => Err(Access::NoRegister),
            Ok(()) | Err(Trouble::Ended(_)) => Ok(()),
        }
    }

    /// Connects the device with a machine, and answers which it is: the device is reset, has the
    /// guest's memory, and its interrupts go somewhere. It leaves the machine that it was in.
    pub fn attach(&self, attached: Attached) -> u64 {
        let mut machines = self.shared.attached();
        self.leave(&mut machines);
        if let Some(session) = &*self.shared.session.load() {
            if let Err(trouble) = attached.connect(session, &self.description()) {
                log::warn!("{}: its server {trouble}", self.shared.name);
            }
        }
        machines.now = Some(attached);
        machines.count += 1;
        machines.count
    }

    /// Takes it from this machine again, if it is still there.
    pub fn detach(&self, machine: u64) {
        let mut machines = self.shared.attached();
        if machines.count == machine {
            self.leave(&mut machines);
        }
    }

    fn leave(&self, machines: &mut Machines) {
        let old = machines.now.take();
        if let (Some(old), Some(session)) = (old, &*self.shared.session.load()) {
            old.disconnect(session, &self.description());
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let _ = self.stop.write(1);
        for session in [&self.shared.session, &self.shared.beginning] {
            if let Some(session) = &*session.load() {
                session.give_up("is not needed any more");
            }
        }
        if let Some(keeper) = self.keeper.take() {
            let _ = keeper.join();
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} by {}", self.shared.name, self.shared.server)
    }
}

impl Shared {
    fn description(&self) -> MutexGuard<'_, Description> {
        self.description.lock()
    }

    fn attached(&self) -> MutexGuard<'_, Machines> {
        self.attached.lock()
    }
}

/// Who sees to it that the server is there.
struct Keeper {
    shared: Arc<Shared>,
    stop: Arc<EventFd>,
    edits: Edits,
}

/// What ends a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Stop,
    Edited,
    Ended,
    TimeIsUp,
}

impl Keeper {
    fn run(self, first: &SyncSender<Result<(), String>>) {
        let mut living = match self.start() {
            Ok(living) => living,
            Err(why) => {
                let _ = first.send(Err(why));
                return;
            }
        };
        self.publish(&living);
        let _ = first.send(Ok(()));
        // How many have ended at once, one after the other.
        let mut hasty = 0;
        loop {
            let event = self.wait(Some(&living.session), None);
            self.shared.session.store(None);
            let why = match event {
                Event::Stop => return,
                Event::Edited => "has been edited".to_owned(),
                Event::Ended | Event::TimeIsUp => living.session.ended().unwrap_or_default(),
            };
            let is_hasty = event != Event::Edited && living.since.elapsed() < STEADY;
            hasty = if is_hasty { hasty + 1 } else { 0 };
            living.session.give_up("is ended");
            drop(living);
            self.tell_end(&why, hasty);
            living = match self.start_again(&mut hasty) {
                Some(living) => living,
                None => return,
            };
            if living.description != *self.shared.description() {
                log::warn!(
                    "{}: its regions or interrupts are others now; the guest sees that when it \
                     reboots",
                    self.shared.name
                );
            }
            self.publish(&living);
            if hasty < 3 {
                log::info!("{}: its server is there again", self.shared.name);
            }
        }
    }

    fn tell_end(&self, why: &str, hasty: u32) {
        let name = &self.shared.name;
        match hasty {
            0..3 => log::warn!(
                "{name}: its server {why}; it is started again, and the device is as after a reset"
            ),
            3 => log::warn!(
                "{name}: its server {why}, again and again; from now on it is started again after \
                 pauses of up to {} s, and nothing more is said of that",
                LONGEST_PAUSE.as_secs()
            ),
            _ => {}
        }
    }

    /// `None`: it is not wanted any more.
    fn start_again(&self, hasty: &mut u32) -> Option<Living> {
        let mut told = None;
        loop {
            if *hasty > 0 {
                let doubled = PAUSE.saturating_mul(1 << (*hasty - 1).min(16));
                match self.wait(None, Some(doubled.min(LONGEST_PAUSE))) {
                    Event::Stop => return None,
                    Event::Edited => *hasty = 0,
                    Event::Ended | Event::TimeIsUp => {}
                }
            }
            match self.start() {
                Ok(living) => return Some(living),
                Err(why) => {
                    *hasty += 1;
                    if self.is_stopped() {
                        return None;
                    }
                    if told.as_ref() != Some(&why) && *hasty < 3 {
                        log::warn!("{}: its server {why}; it is tried again", self.shared.name);
                        told = Some(why);
                    }
                }
            }
        }
    }

    fn is_stopped(&self) -> bool {
        wait_for(&[self.stop.as_fd()], Some(Duration::ZERO)).is_some()
    }

    fn wait(&self, session: Option<&Session>, time: Option<Duration>) -> Event {
        let deadline = time.map(|time| Instant::now() + time);
        loop {
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            let mut fds = vec![self.stop.as_fd(), self.edits.fd()];
            fds.extend(session.map(|session| session.end().as_fd()));
            match wait_for(&fds, left) {
                Some(0) => return Event::Stop,
                Some(1) if self.edits.take() => return Event::Edited,
                Some(1) => {}
                Some(_) => return Event::Ended,
                None => return Event::TimeIsUp,
            }
        }
    }

    /// A server that has said what it is.
    fn start(&self) -> Result<Living, String> {
        let (process, stream) = match &self.shared.server {
            Server::Command { words, dir, .. } => {
                let (process, stream) = Process::start(words, dir, self.stop.as_fd())?;
                (Some(process), stream)
            }
            Server::Socket(path) => {
                let stream = connect_to(path).map_err(|errno| {
                    format!("cannot be connected to: {errno}; it must listen there by then")
                })?;
                (None, stream)
            }
        };
        let of_host = |error| format!("cannot be listened to: {error}");
        let session = Arc::new(Session::new(stream).map_err(of_host)?);
        // So that nobody who ends the link has to wait for it.
        self.shared.beginning.store(Some(session.clone()));
        let description = match self.is_stopped() {
            true => Err(Trouble::Ended("is not waited for any more".to_owned())),
            false => session.agree().and_then(|()| session.describe()),
        };
        self.shared.beginning.store(None);
        let description = description.map_err(|trouble| trouble.to_string())?;
        Ok(Living { session, description, _process: process, since: Instant::now() })
    }

    /// From now on accesses go there.
    fn publish(&self, living: &Living) {
        let machines = self.shared.attached();
        if let Some(attached) = &machines.now {
            // What it cannot do ends it, or is its own affair.
            if let Err(trouble) = attached.connect(&living.session, &living.description) {
                log::warn!("{}: its server {trouble}", self.shared.name);
            }
        }
        *self.shared.description() = living.description.clone();
        self.shared.session.store(Some(living.session.clone()));
    }
}
