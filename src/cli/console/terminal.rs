//! The terminal on stdin: raw while a guest runs, and as it was before after every kind of death.
//!
//! Output processing stays on: guests that end lines with `\n`, and our own messages, look right.

use std::{
    io::{self, IsTerminal},
    mem::MaybeUninit,
    os::fd::{AsFd, AsRawFd},
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use nix::{
    sys::termios::{self, OutputFlags, SetArg, SpecialCharacterIndices, Termios},
    unistd::{getpgrp, tcgetpgrp},
};

/// The terminal as it was found.
static FOUND: OnceLock<libc::termios> = OnceLock::new();
/// Whether it is raw now.
static RAW: AtomicBool = AtomicBool::new(false);
/// Whether it shows a screen of ours in the place of what was there.
static SCREEN: AtomicBool = AtomicBool::new(false);

/// To the other screen with no cursor, and back (xterm's control sequences, DECSET 1049 and 25).
const TO_SCREEN: &[u8] = b"\x1b[?1049h\x1b[?25l";
const FROM_SCREEN: &[u8] = b"\x1b[?25h\x1b[?1049l";

/// Signals that the process dies of on the spot.
const FATAL: [libc::c_int; 7] = [
    libc::SIGABRT,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGSEGV,
    libc::SIGSYS,
    libc::SIGTRAP,
];

/// A terminal on stdin, which is put back when this is dropped.
#[derive(Debug)]
pub struct Terminal {
    raw: Termios,
}

impl Terminal {
    /// The terminal on stdin, not touched yet; `None` if stdin is something else.
    pub fn open() -> nix::Result<Option<Self>> {
        if !io::stdin().is_terminal() {
            return Ok(None);
        }
        let found = termios::tcgetattr(io::stdin())?;
        let found: libc::termios = FOUND.get_or_init(|| found.into()).to_owned();
        restore_on_fatal_signals();
        let mut raw = Termios::from(found);
        termios::cfmakeraw(&mut raw);
        raw.output_flags = Termios::from(found).output_flags;
        // A read never waits, also if somebody else has taken what there was.
        raw.control_chars[SpecialCharacterIndices::VMIN as usize] = 0;
        raw.control_chars[SpecialCharacterIndices::VTIME as usize] = 0;
        Ok(Some(Self { raw }))
    }

    /// The same, but what is written to it is taken as it is: somebody else has processed it.
    pub fn with_raw_output(mut self) -> Self {
        self.raw.output_flags.remove(OutputFlags::OPOST);
        self
    }

    /// Whether input is for the guest: the terminal is raw, and becomes so if it may.
    pub fn is_ours(&self) -> bool {
        RAW.load(Ordering::SeqCst) && in_foreground() || self.enter()
    }

    /// Makes it raw, if this process may: a background job leaves it to the shell. Returns whether
    /// it is raw now.
    pub fn enter(&self) -> bool {
        if !in_foreground() {
            return false;
        }
        // Before the change, so that a death in between restores what need not be.
        RAW.store(true, Ordering::SeqCst);
        termios::tcsetattr(io::stdin(), SetArg::TCSANOW, &self.raw).is_ok()
    }
}

/// Shows a screen of one's own on stdout's terminal until it is put back.
pub fn enter_screen() {
    SCREEN.store(true, Ordering::SeqCst);
    put(TO_SCREEN);
}

/// Safe in a signal handler.
fn put(bytes: &'static [u8]) {
    // SAFETY: write reads so many bytes, which live as long as the process.
    unsafe { libc::write(libc::STDOUT_FILENO, bytes.as_ptr().cast(), bytes.len()) };
}

impl Drop for Terminal {
    fn drop(&mut self) {
        restore();
    }
}

/// Whether stdin's terminal listens to this process. A terminal without job control always does.
pub fn in_foreground() -> bool {
    tcgetpgrp(io::stdin().as_fd()).map_or(true, |group| group == getpgrp())
}

/// How many columns and rows stdin's terminal has; `None`: it does not say.
pub fn size() -> Option<(u16, u16)> {
    let mut size = MaybeUninit::<libc::winsize>::zeroed();
    // SAFETY: the call fills in the structure, of which all-zero is a valid one.
    let size = unsafe {
        libc::ioctl(io::stdin().as_raw_fd(), libc::TIOCGWINSZ, size.as_mut_ptr());
        size.assume_init()
    };
    (size.ws_col > 0 && size.ws_row > 0).then_some((size.ws_col, size.ws_row))
}

/// Puts the terminal back. Safe in a signal handler, and harmless if there is nothing to do.
pub fn restore() {
    let shows = SCREEN.swap(false, Ordering::SeqCst);
    if !RAW.swap(false, Ordering::SeqCst) || !in_foreground() {
        return;
    }
    if shows {
        put(FROM_SCREEN);
    }
    if let Some(found) = FOUND.get() {
        // SAFETY: tcsetattr reads the structure, which lives as long as the process.
        unsafe { libc::tcsetattr(io::stdin().as_raw_fd(), libc::TCSANOW, found) };
    }
}

/// What was to happen on a fatal signal, by its number.
static BEFORE: [OnceLock<libc::sigaction>; 32] = [const { OnceLock::new() }; 32];

fn restore_on_fatal_signals() {
    for signal in FATAL {
        BEFORE[signal as usize].get_or_init(|| {
            let mut before = MaybeUninit::<libc::sigaction>::zeroed();
            // SAFETY: all-zero is a valid sigaction, the handler does async-signal-safe things only,
            // and on the alternate stack that Rust gives each thread.
            unsafe {
                let mut action = MaybeUninit::<libc::sigaction>::zeroed().assume_init();
                action.sa_sigaction = on_fatal as Handler as usize;
                action.sa_flags = libc::SA_ONSTACK | libc::SA_SIGINFO;
                libc::sigaction(signal, &action, before.as_mut_ptr());
                before.assume_init()
            }
        });
    }
}

type Handler = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);

/// Restores the terminal, and lets happen what was to happen: a fault comes again when its
/// instruction runs again, a signal that somebody has sent is sent again.
extern "C" fn on_fatal(signal: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    restore();
    let Some(before) = BEFORE.get(signal as usize).and_then(OnceLock::get) else { return };
    // SAFETY: the kernel gives a valid siginfo; what sigaction has given before is fit to be given
    // back; signal and raise take numbers.
    unsafe {
        if (*info).si_code > 0 {
            libc::sigaction(signal, before, std::ptr::null_mut());
        } else {
            libc::signal(signal, libc::SIG_DFL);
            libc::raise(signal);
        }
    }
}
