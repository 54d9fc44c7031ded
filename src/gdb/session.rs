//! One client, from its first packet to its last.

use std::{
    io::{self, Read},
    os::fd::AsFd,
};

use gdbstub::{
    conn::Connection,
    stub::{
        DisconnectReason, GdbStubBuilder, GdbStubError, MultiThreadStopReason,
        state_machine::GdbStubStateMachine,
    },
};

use super::{
    debuggee::{Debuggee, Lost},
    endpoint::{Outgoing, Stream},
    inbox::{Event, Inbox},
    server::wait,
};
use crate::hal::AxVMHal;

/// The longest packet, in bytes; all registers and a page of memory fit.
const LONGEST: usize = 16 << 10;

type Error = GdbStubError<Lost, io::Error>;
type Reason = MultiThreadStopReason<u64>;

/// Why a session is over.
enum Over {
    /// The client has let the guest go.
    Detached,
    /// The client is not there any more, or not to be understood.
    Gone,
    /// The client has killed the guest.
    Killed,
    /// The guest has ended, and the client knows.
    Ended,
}

/// Serves a client; whether the guest has ended meanwhile.
pub fn serve<H: AxVMHal>(debuggee: &mut Debuggee<H>, inbox: &Inbox<H>, stream: Stream) -> bool {
    debuggee.stop_all();
    let over = Session { debuggee, inbox, input: Input::default() }.run(stream);
    let over = over.unwrap_or_else(|why| {
        log::info!("gdb is no longer understood: {why}");
        Over::Gone
    });
    match over {
        Over::Detached => {
            log::info!("gdb has let the guest go");
            debuggee.release();
            debuggee.go_on_alone();
        }
        Over::Gone => {
            let runs = debuggee.stop_all();
            debuggee.release();
            if runs {
                debuggee.go_on_alone();
            } else {
                log::info!("gdb is gone; the guest stays stopped until the next one");
            }
        }
        Over::Killed => {
            log::info!("gdb has killed the guest");
            debuggee.release();
            debuggee.kill();
        }
        Over::Ended => return true,
    }
    false
}

struct Session<'a, H: AxVMHal> {
    debuggee: &'a mut Debuggee<H>,
    inbox: &'a Inbox<H>,
    input: Input,
}

/// What comes next.
enum Next<H: AxVMHal> {
    Byte(u8),
    Event(Event<H>),
    HungUp,
}

impl<H: AxVMHal> Session<'_, H> {
    fn run(&mut self, stream: Stream) -> Result<Over, Error> {
        let Ok(mut incoming) = stream.try_clone() else { return Ok(Over::Gone) };
        let builder = GdbStubBuilder::new(Outgoing::new(stream)).packet_buffer_size(LONGEST);
        let Ok(stub) = builder.build() else { return Ok(Over::Gone) };
        let mut machine = stub.run_state_machine(self.debuggee)?;
        loop {
            machine = match machine {
                GdbStubStateMachine::Idle(idle) => match self.next(&mut incoming) {
                    Next::Byte(byte) => idle.incoming_data(self.debuggee, byte)?,
                    Next::Event(Event::Machine(vm)) => {
                        self.debuggee.replace(vm);
                        idle.into()
                    }
                    Next::Event(Event::Stopped(vcpu, why)) => {
                        self.debuggee.has_stopped(vcpu, why);
                        idle.into()
                    }
                    // A client that has not asked cannot be told.
                    Next::Event(Event::Ended(_)) => return Ok(Over::Ended),
                    Next::HungUp => return Ok(Over::Gone),
                },
                GdbStubStateMachine::Running(mut running) => {
                    if let Some((text, reason)) = self.debuggee.take_report() {
                        if tell(running.borrow_conn(), &text).is_err() {
                            return Ok(Over::Gone);
                        }
                        running.report_stop(self.debuggee, reason)?
                    } else {
                        match self.next(&mut incoming) {
                            Next::Byte(byte) => running.incoming_data(self.debuggee, byte)?,
                            Next::Event(Event::Machine(vm)) => {
                                self.debuggee.replace(vm);
                                self.debuggee.has_reset();
                                running.into()
                            }
                            Next::Event(Event::Stopped(vcpu, why)) => {
                                self.debuggee.has_stopped(vcpu, why);
                                running.into()
                            }
                            Next::Event(Event::Ended(status)) => {
                                running.report_stop(self.debuggee, Reason::Exited(status))?;
                                return Ok(Over::Ended);
                            }
                            Next::HungUp => return Ok(Over::Gone),
                        }
                    }
                }
                GdbStubStateMachine::CtrlCInterrupt(interrupt) => {
                    self.debuggee.interrupt();
                    interrupt.interrupt_handled(self.debuggee, None::<Reason>)?
                }
                GdbStubStateMachine::Disconnected(end) => {
                    return Ok(match end.get_reason() {
                        DisconnectReason::Disconnect => Over::Detached,
                        DisconnectReason::Kill => Over::Killed,
                        DisconnectReason::TargetExited(_)
                        | DisconnectReason::TargetTerminated(_) => Over::Ended,
                    });
                }
            };
        }
    }

    fn next(&mut self, incoming: &mut Stream) -> Next<H> {
        loop {
            if let Some(byte) = self.input.byte() {
                return Next::Byte(byte);
            }
            if let Some(event) = self.inbox.take() {
                return Next::Event(event);
            }
            // Whoever knocks meanwhile is let in when this one has gone.
            let [comes, _] = wait([incoming.as_fd(), self.inbox.as_fd()]);
            if comes && !self.input.fill(incoming) {
                return Next::HungUp;
            }
        }
    }
}

/// Bytes that have come.
struct Input {
    bytes: [u8; 4096],
    at: usize,
    len: usize,
}

impl Default for Input {
    fn default() -> Self {
        Self { bytes: [0; 4096], at: 0, len: 0 }
    }
}

impl Input {
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes[..self.len].get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    /// Takes in what is there; `false`: nothing ever again.
    fn fill(&mut self, from: &mut Stream) -> bool {
        match from.read(&mut self.bytes) {
            Ok(0) => false,
            Ok(len) => {
                (self.at, self.len) = (0, len);
                true
            }
            Err(error) => error.kind() == io::ErrorKind::Interrupted,
        }
    }
}

/// Has the client print a text, which it does while the guest runs.
fn tell(to: &mut Outgoing, text: &str) -> io::Result<()> {
    if text.is_empty() {
        return Ok(());
    }
    let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
    let sum = hex.bytes().fold(b'O', u8::wrapping_add);
    to.write_all(format!("$O{hex}#{sum:02x}").as_bytes())?;
    to.flush()
}
