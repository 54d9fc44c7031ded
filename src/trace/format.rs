//! A recording's file: a header, what the run was about as JSON, and chunks of the same size.
//!
//! A chunk is one vCPU's. Chunks stand in no order: where room is bounded, a new one takes the place
//! of the oldest. All numbers are little-endian.

use serde::{Deserialize, Serialize};
use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout,
    little_endian::{U16, U32, U64},
};

use crate::{
    devices::{WindowInfo, registers::WindowRegisters},
    hal::{AxVCpuExitReason, EXIT_REASONS, VMId},
};

/// How a file begins.
pub const MAGIC: [u8; 8] = *b"axvmmtrc";
/// Of what is described here.
pub const VERSION: u32 = 2;
/// How many bytes a chunk has; the first begins at a multiple of it.
pub const CHUNK: usize = 64 << 10;
/// How a chunk begins.
pub const CHUNK_MAGIC: [u8; 4] = *b"exit";
/// How many records a chunk has room for.
pub const RECORDS: usize = (CHUNK - size_of::<ChunkHeader>()) / size_of::<Record>();
/// No more than this is said of what a run was about.
pub const MOST_ABOUT: usize = 16 << 20;

/// [`Record::window`] of what no device takes.
const NO_WINDOW: u16 = u16::MAX;
/// [`Record::reason`] of a machine's start, which is no exit.
const STARTED: u8 = u8::MAX;

/// The file's first bytes; what the run was about follows.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FileHeader {
    pub magic: [u8; 8],
    pub version: U32,
    /// How many bytes of JSON follow.
    pub about: U32,
}

/// A chunk's first bytes; its records follow.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ChunkHeader {
    pub magic: [u8; 4],
    /// The VM's place in [`About::vms`].
    pub vm: U16,
    pub vcpu: U16,
    /// Among all chunks of the run, in the order in which they were begun.
    pub sequence: U64,
    pub records: U32,
    pub unused: [u8; 20],
}

/// An exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Record {
    time: U64,
    pc: U64,
    addr: U64,
    value: U64,
    took: U32,
    reason: u8,
    width: u8,
    window: U16,
}

/// What a record is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// An exit, by [`AxVCpuExitReason::index`].
    Exit(usize),
    /// The machine was started: at first, or anew after a reset.
    Started,
}

impl Reason {
    /// As messages have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Exit(index) => AxVCpuExitReason::name_of(index),
            Self::Started => "Started",
        }
    }
}

impl Record {
    /// An exit at `time` nanoseconds, that took `took` nanoseconds to handle.
    pub fn new(
        exit: &AxVCpuExitReason,
        time: u64,
        pc: u64,
        answer: Option<u64>,
        took: u64,
        window: Option<usize>,
    ) -> Self {
        let answer = answer.unwrap_or_default();
        let (addr, value, width) = match *exit {
            AxVCpuExitReason::MmioRead { addr, width, .. } => (addr.0, answer, width.size()),
            AxVCpuExitReason::MmioWrite { addr, width, data } => (addr.0, data, width.size()),
            AxVCpuExitReason::IoRead { port, width } => (port.0.into(), answer, width.size()),
            AxVCpuExitReason::IoWrite { port, width, data } => (port.0.into(), data, width.size()),
            AxVCpuExitReason::SysRegRead { addr, .. } => (addr.0, answer, 8),
            AxVCpuExitReason::SysRegWrite { addr, value } => (addr.0, value, 8),
            AxVCpuExitReason::Hypercall { nr, .. } => (nr, answer, 0),
            AxVCpuExitReason::NestedPageFault { addr, .. } => (addr.0, 0, 0),
            AxVCpuExitReason::ExternalInterrupt { vector } => (vector, 0, 0),
            AxVCpuExitReason::CpuUp { target_cpu, entry_point, .. } => {
                (target_cpu, entry_point.0, 0)
            }
            AxVCpuExitReason::FailEntry { hardware_entry_failure_reason } => {
                (hardware_entry_failure_reason, 0, 0)
            }
            AxVCpuExitReason::SendIPI { target_cpu, vector, .. } => (target_cpu, vector, 0),
            AxVCpuExitReason::CpuDown { .. }
            | AxVCpuExitReason::Halt
            | AxVCpuExitReason::SystemDown
            | AxVCpuExitReason::Nothing => (0, 0, 0),
        };
        Self {
            time: time.into(),
            pc: pc.into(),
            addr: addr.into(),
            value: value.into(),
            took: u32::try_from(took).unwrap_or(u32::MAX).into(),
            reason: exit.index() as u8,
            width: width as u8,
            window: window.and_then(|it| u16::try_from(it).ok()).unwrap_or(NO_WINDOW).into(),
        }
    }

    /// The machine was started at `time` nanoseconds.
    pub fn started(time: u64) -> Self {
        Self {
            time: time.into(),
            pc: 0.into(),
            addr: 0.into(),
            value: 0.into(),
            took: 0.into(),
            reason: STARTED,
            width: 0,
            window: NO_WINDOW.into(),
        }
    }

    /// When the exit came, in nanoseconds from the recording's begin.
    pub fn time(&self) -> u64 {
        self.time.get()
    }

    /// Where the guest was.
    pub fn pc(&self) -> u64 {
        self.pc.get()
    }

    /// The address, port, register, or number of what it was about.
    pub fn addr(&self) -> u64 {
        self.addr.get()
    }

    /// What was written, or what a read or call was answered.
    pub fn value(&self) -> u64 {
        self.value.get()
    }

    /// How long it was handled, in nanoseconds; a maximum means longer.
    pub fn took(&self) -> u32 {
        self.took.get()
    }

    /// What it is of; `None`: of what this axvmm does not know.
    pub fn reason(&self) -> Option<Reason> {
        match self.reason {
            STARTED => Some(Reason::Started),
            index => (usize::from(index) < EXIT_REASONS).then_some(Reason::Exit(index.into())),
        }
    }

    /// How many bytes an access had; 0 for what is none.
    pub fn width(&self) -> u8 {
        self.width
    }

    /// Which window took it, by its place in [`AboutVm::windows`].
    pub fn window(&self) -> Option<usize> {
        (self.window.get() != NO_WINDOW).then(|| self.window.get().into())
    }
}

/// What a run was about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// The version of axvmm that recorded it.
    pub axvmm: String,
    /// The host's architecture, which is the guests'.
    pub arch: String,
    /// When it began, in nanoseconds since 1970.
    pub began: u64,
    /// Its VMs.
    pub vms: Vec<AboutVm>,
}

/// A VM of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AboutVm {
    /// Its number.
    pub id: VMId,
    /// Its name.
    pub name: String,
    /// How many vCPUs it has.
    pub vcpus: usize,
    /// How much memory, in bytes.
    pub memory: u64,
    /// Where its devices stand.
    pub windows: Vec<WindowInfo>,
    /// What the registers of each of them are called; empty where axvmm did not record that yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub registers: Vec<WindowRegisters>,
}
