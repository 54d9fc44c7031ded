//! The consoles of RISC-V's Supervisor Binary Interface (RISC-V Supervisor Binary Interface
//! Specification 2.0: "Legacy Extensions", console putchar and getchar; "Debug Console Extension"),
//! for calls that the host kernel does not serve itself.
//!
//! A user has one keyboard and the guest two consoles, this one and its UART. What is typed goes to
//! the UART as soon as the guest listens there, and from then on only there; before that it comes
//! here, if the guest has ever asked here.

use std::{collections::VecDeque, fmt, sync::Arc};

use parking_lot::{Mutex, MutexGuard};
use vmm_sys_util::eventfd::EventFd;

use super::{
    HypercallOps,
    console::{ConsoleIn, ConsoleOut, InputGate, tell_host},
};
use crate::{
    addr::{GuestPhysAddr, MappingFlags},
    addrspace::AddrSpace,
    hal::HypercallResult,
};

/// Extensions: console putchar and getchar, each an extension of its own, and "DBCN".
pub const LEGACY_PUTCHAR: u64 = 0x01;
/// The extension of the legacy getchar.
pub const LEGACY_GETCHAR: u64 = 0x02;
/// The extension of the debug console.
pub const DBCN: u64 = 0x4442_434e;

/// The debug console's functions.
pub const DBCN_WRITE: u64 = 0;
/// Reads into memory.
pub const DBCN_READ: u64 = 1;
/// Writes one byte.
pub const DBCN_WRITE_BYTE: u64 = 2;

/// "Binary Encoding": standard errors.
pub const SBI_SUCCESS: i64 = 0;
/// It failed.
pub const SBI_ERR_FAILED: i64 = -1;
/// There is no such call.
pub const SBI_ERR_NOT_SUPPORTED: i64 = -2;
/// An argument is wrong.
pub const SBI_ERR_INVALID_PARAM: i64 = -3;

/// What a legacy getchar gives when there is nothing.
const NO_CHARACTER: i64 = -1;

/// So many bytes are moved in a call at most; a guest calls again for the rest.
const CHUNK: usize = 4096;
/// What is kept for a guest that reads, in bytes; the rest waits outside.
const QUEUE: usize = 64;

/// What a call returns in a0 and a1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SbiRet {
    /// An error code; a legacy call's result.
    pub error: i64,
    /// What the call gives, in `a1`.
    pub value: i64,
}

impl SbiRet {
    const fn ok(value: i64) -> Self {
        Self { error: SBI_SUCCESS, value }
    }

    const fn error(error: i64) -> Self {
        Self { error, value: 0 }
    }
}

#[derive(Default)]
struct Input {
    queue: VecDeque<u8>,
    /// The guest has asked here for input.
    asked: bool,
    /// The UART has taken input: all the rest is its.
    uart_has_it: bool,
    gate: InputGate,
}

/// The console behind the guest's SBI calls.
pub struct SbiConsole {
    out: Arc<dyn ConsoleOut>,
    uart: Arc<dyn ConsoleIn>,
    input: Mutex<Input>,
}

impl SbiConsole {
    /// Beside `uart`: input is to be fed here, and goes on to there.
    pub fn new(out: Arc<dyn ConsoleOut>, uart: Arc<dyn ConsoleIn>) -> Self {
        Self { out, uart, input: Mutex::default() }
    }

    /// Serves the call `fid` of extension `eid` with the arguments a0 to a5; all but a console's are
    /// not supported.
    pub fn call(&self, mem: &AddrSpace, eid: u64, fid: u64, args: [u64; 6]) -> SbiRet {
        match (eid, fid) {
            (LEGACY_PUTCHAR, _) | (DBCN, DBCN_WRITE_BYTE) => {
                self.out.put(&[args[0] as u8]);
                SbiRet::ok(0)
            }
            (LEGACY_GETCHAR, _) => SbiRet::error(self.getchar()),
            (DBCN, DBCN_WRITE) => self.write(mem, args).unwrap_or_else(SbiRet::error),
            (DBCN, DBCN_READ) => self.read(mem, args).unwrap_or_else(SbiRet::error),
            _ => SbiRet::error(SBI_ERR_NOT_SUPPORTED),
        }
    }

    fn getchar(&self) -> i64 {
        self.with_queue(|queue| queue.pop_front().map_or(NO_CHARACTER, i64::from))
    }

    fn write(&self, mem: &AddrSpace, args: [u64; 6]) -> Result<SbiRet, i64> {
        let (gpa, len) = buffer(mem, args, MappingFlags::READ)?;
        let mut bytes = [0; CHUNK];
        let bytes = &mut bytes[..len];
        mem.read(gpa, bytes).map_err(|_| SBI_ERR_FAILED)?;
        if !bytes.is_empty() {
            self.out.put(bytes);
        }
        Ok(SbiRet::ok(len as i64))
    }

    fn read(&self, mem: &AddrSpace, args: [u64; 6]) -> Result<SbiRet, i64> {
        let (gpa, len) = buffer(mem, args, MappingFlags::WRITE)?;
        self.with_queue(|queue| {
            let len = len.min(queue.len());
            let bytes: Vec<u8> = queue.iter().take(len).copied().collect();
            mem.write(gpa, &bytes).map_err(|_| SBI_ERR_FAILED)?;
            queue.drain(..len);
            Ok(SbiRet::ok(len as i64))
        })
    }

    /// The guest asks for input.
    fn with_queue<T>(&self, what: impl FnOnce(&mut VecDeque<u8>) -> T) -> T {
        let (result, tell) = {
            let mut input = self.lock();
            input.asked = true;
            let result = what(&mut input.queue);
            let empty = input.queue.is_empty();
            (result, input.gate.must_tell(empty))
        };
        if tell {
            tell_host("SBI console", self.uart.notify());
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, Input> {
        self.input.lock()
    }
}

/// The guest's memory that a debug console call is about, and how much of it is moved. All of it
/// must be there, also what is not moved.
fn buffer(
    mem: &AddrSpace,
    args: [u64; 6],
    access: MappingFlags,
) -> Result<(GuestPhysAddr, usize), i64> {
    let [len, base_low, base_high, ..] = args;
    let gpa = GuestPhysAddr(base_low);
    match (len, base_high) {
        (_, 1..) => Err(SBI_ERR_INVALID_PARAM), // beyond 2^64
        (0, _) => Ok((gpa, 0)),
        _ if mem.allows(gpa, len, access) => Ok((gpa, len.min(CHUNK as u64) as usize)),
        _ => Err(SBI_ERR_INVALID_PARAM),
    }
}

impl ConsoleIn for SbiConsole {
    fn feed(&self, bytes: &[u8]) -> usize {
        let by_uart = self.uart.feed(bytes);
        let mut input = self.lock();
        input.uart_has_it |= by_uart > 0;
        if input.uart_has_it {
            // It tells the host by itself when it may take more.
            input.gate.fed(0, 0);
            return by_uart;
        }
        let room = if input.asked { QUEUE - input.queue.len().min(QUEUE) } else { 0 };
        let taken = bytes.len().min(room);
        input.queue.extend(&bytes[..taken]);
        input.gate.fed(taken, bytes.len());
        taken
    }

    /// The UART's, for both.
    fn notify(&self) -> &EventFd {
        self.uart.notify()
    }
}

impl HypercallOps for SbiConsole {
    /// The calls of these extensions, by the SBI's numbers: the extension's in the upper 32 bits.
    fn call(&self, mem: &AddrSpace, nr: u64, args: [u64; 6]) -> Option<HypercallResult> {
        let (eid, fid) = (nr >> 32, nr & u64::from(u32::MAX));
        if !matches!(eid, LEGACY_PUTCHAR | LEGACY_GETCHAR | DBCN) {
            return None;
        }
        let SbiRet { error, value } = Self::call(self, mem, eid, fid, args);
        // Legacy calls answer in a0 alone.
        let second = (!matches!(eid, LEGACY_PUTCHAR | LEGACY_GETCHAR)).then_some(value as u64);
        Some(HypercallResult { value: error as u64, second })
    }
}

impl fmt::Debug for SbiConsole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SbiConsole")
    }
}

#[cfg(test)]
mod tests;
