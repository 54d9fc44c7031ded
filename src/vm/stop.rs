//! Why a VM stopped, and what becomes of it outside.

use std::{fmt, process::ExitCode};

use crate::hal::{AxVCpuExitReason, VCpuDump, VCpuId};

/// Why a VM stopped.
#[derive(Clone, Debug)]
pub enum StopReason {
    /// The guest powered off.
    Shutdown,
    /// The guest reset the machine.
    Reset,
    /// The guest reported that it panicked.
    Panicked,
    /// The guest crashed: there is no way on.
    Fault(Box<FaultReport>),
    /// The guest ended through a test-exit device, with this status.
    TestExit(u8),
    /// The time allowed was up.
    Timeout,
    /// The user quit at the console.
    Quit,
    /// This process got a signal.
    Signal(i32),
    /// axvmm or its host failed.
    Failed(String),
}

impl StopReason {
    /// The process's exit status.
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Shutdown => 0,
            Self::Reset => 32,
            Self::Fault(_) => 33,
            Self::Panicked => 34,
            Self::TestExit(status) => *status,
            Self::Timeout => 124,
            // As if by Ctrl-C, which is what it stands for in raw mode.
            Self::Quit => 128 + 2,
            Self::Signal(number) => 128u8.saturating_add(u8::try_from(*number).unwrap_or(127)),
            Self::Failed(_) => 1,
        }
    }

    /// A word for machines to read.
    pub fn keyword(&self) -> &'static str {
        match self {
            Self::Shutdown => "shutdown",
            Self::Reset => "reset",
            Self::Panicked => "panic",
            Self::Fault(_) => "fault",
            Self::TestExit(_) => "test-exit",
            Self::Timeout => "timeout",
            Self::Quit => "quit",
            Self::Signal(_) => "signal",
            Self::Failed(_) => "failed",
        }
    }

    /// The vCPU that it happened on, where that means something.
    pub fn vcpu_id(&self) -> Option<VCpuId> {
        match self {
            Self::Fault(report) => Some(report.vcpu_id),
            _ => None,
        }
    }
}

/// The exit status as `main` returns it.
impl From<StopReason> for ExitCode {
    fn from(reason: StopReason) -> Self {
        Self::from(reason.exit_status())
    }
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shutdown => f.write_str("the guest powered off"),
            Self::Reset => f.write_str("the guest reset the machine"),
            Self::Panicked => f.write_str("the guest panicked"),
            Self::Fault(report) => report.fmt(f),
            Self::TestExit(status) => write!(f, "the guest ended with status {status}"),
            Self::Timeout => f.write_str("the time allowed was up"),
            Self::Quit => f.write_str("quit at the console"),
            Self::Signal(number) => write!(f, "ended by signal {number}"),
            Self::Failed(why) => f.write_str(why),
        }
    }
}

/// All that is known about a guest that could not go on.
#[derive(Clone, Debug)]
pub struct FaultReport {
    /// On which vCPU.
    pub vcpu_id: VCpuId,
    /// What happened, as a sentence.
    pub what: String,
    /// Its registers.
    pub registers: VCpuDump,
    /// The bytes at the program counter, as far as they can be read.
    pub code: Vec<u8>,
    /// The latest exits of the vCPU, oldest first.
    pub recent: Vec<AxVCpuExitReason>,
}

impl fmt::Display for FaultReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "the guest crashed: vCPU {}: {}", self.vcpu_id, self.what)?;
        writeln!(f, "{}", self.registers)?;
        let code: Vec<_> = self.code.iter().map(|byte| format!("{byte:02x}")).collect();
        let code = if code.is_empty() { "not in guest memory".to_owned() } else { code.join(" ") };
        write!(f, "  code at {:#x}: {code}", self.registers.pc)?;
        if !self.recent.is_empty() {
            write!(f, "\n  latest exits, oldest first:")?;
        }
        for reason in &self.recent {
            write!(f, "\n    {reason:x?}")?;
        }
        Ok(())
    }
}
