//! What a debugger asks of a vCPU that is not in the guest, and what it is told when one comes to a
//! stop.

use super::HalResult;
use crate::addr::GuestPhysAddr;

/// A register as a debugger knows it.
#[derive(Debug)]
pub struct DebugRegister {
    /// Its name, as GDB spells it.
    pub name: &'static str,
    /// How long it is: whole bytes.
    pub bits: u32,
    /// Its type in GDB's target descriptions.
    pub kind: &'static str,
}

impl DebugRegister {
    /// A plain number.
    pub const fn int(name: &'static str, bits: u32) -> Self {
        Self { name, bits, kind: "int" }
    }

    /// Another type of GDB's, or one that its feature makes.
    pub const fn new(name: &'static str, bits: u32, kind: &'static str) -> Self {
        Self { name, bits, kind }
    }

    /// How many bytes it takes in GDB's packets.
    pub const fn bytes(&self) -> usize {
        self.bits.div_ceil(8) as usize
    }
}

/// Registers that belong together.
#[derive(Debug)]
pub struct DebugFeature {
    /// Its name: one of GDB's ("Standard Target Features"), or one of our own.
    pub name: &'static str,
    /// The types that its registers have beside GDB's own, in the form of target descriptions.
    pub types: &'static str,
    /// Its registers, in order.
    pub registers: &'static [DebugRegister],
}

/// What a debugger must know of the vCPUs of one kind.
#[derive(Debug)]
pub struct DebugModel {
    /// The architecture's name in GDB.
    pub architecture: &'static str,
    /// All registers: they are numbered through, from 0.
    pub features: &'static [DebugFeature],
    /// The program counter's number.
    pub pc: usize,
    /// The instructions that stop a debugged guest, by their lengths in bytes, shortest first.
    pub breakpoints: &'static [&'static [u8]],
}

impl DebugModel {
    /// All registers, by their numbers.
    pub fn registers(&self) -> impl Iterator<Item = &'static DebugRegister> + use<> {
        self.features.iter().flat_map(|feature| feature.registers)
    }
}

/// Which accesses to an address are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessKind {
    /// Loads.
    Read,
    /// Stores.
    Write,
    /// Both.
    Any,
}

impl AccessKind {
    /// Whether an access that writes, or one that reads, is among them.
    pub const fn covers(self, is_write: bool) -> bool {
        match self {
            Self::Read => !is_write,
            Self::Write => is_write,
            Self::Any => true,
        }
    }
}

/// What the hardware itself is to stop at; all addresses are the guest's virtual ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HardwareStop {
    /// Before the instruction at this address.
    Instruction(u64),
    /// At an access to one of `len` bytes from `addr` on.
    Data {
        /// The first.
        addr: u64,
        /// How many.
        len: u64,
        /// At which.
        on: AccessKind,
    },
}

/// How a vCPU is to run.
#[derive(Clone, Copy, Debug, Default)]
pub struct DebugControl<'a> {
    /// It is to stop after one instruction.
    pub step: bool,
    /// There are breakpoint instructions in the guest's memory that are a debugger's.
    pub breakpoints: bool,
    /// What the hardware is to stop at.
    pub hardware: &'a [HardwareStop],
}

/// Why a vCPU has come to a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DebugStop {
    /// It has made its one instruction.
    Step,
    /// It is at the breakpoint instruction at this address, which may be the guest's own.
    Breakpoint(u64),
    /// It is at an instruction that the hardware was to stop at.
    Instruction,
    /// It has accessed, or is about to access, what the hardware was to stop at: this address.
    Data(u64),
}

/// Reads 8 aligned bytes of guest-physical memory; `None`: there is no memory.
pub type ReadPhysical<'a> = &'a dyn Fn(GuestPhysAddr) -> Option<u64>;

/// A vCPU under a debugger. All calls but [`Self::take_stop`] and [`Self::pass_breakpoint`] are for
/// a vCPU that no thread is bound to.
pub trait DebugVCpu {
    /// What a debugger must know of such vCPUs.
    fn model() -> &'static DebugModel;

    /// All registers, by their numbers. `None`: this host does not tell.
    ///
    /// # Errors
    /// The host does not tell even the general registers.
    fn registers(&mut self) -> HalResult<Vec<Option<u128>>>;

    /// Writes a register.
    ///
    /// # Errors
    /// It cannot be written, or not to this value.
    fn set_register(&mut self, number: usize, value: u128) -> HalResult;

    /// Where a virtual address is in guest-physical memory, as the vCPU translates it just now;
    /// `None`: nowhere.
    ///
    /// # Errors
    /// The host does not tell what the translation depends on.
    fn translate(&mut self, addr: u64, read: ReadPhysical<'_>) -> HalResult<Option<GuestPhysAddr>>;

    /// Whether the hardware can stop at all of these at once.
    fn can_stop_at(&self, stops: &[HardwareStop]) -> bool;

    /// How it runs from its next entry on; `None`: as if there were no debugger.
    ///
    /// # Errors
    /// The host cannot do so.
    fn debug(&mut self, how: Option<&DebugControl<'_>>) -> HalResult;

    /// Where the next instruction but one may be, where the hardware cannot make single steps.
    /// `None`: it can. `code` has the instruction at the program counter.
    ///
    /// # Errors
    /// The host does not tell the registers that this depends on.
    fn successors(&mut self, code: &[u8]) -> HalResult<Option<Vec<u64>>> {
        let _ = code;
        Ok(None)
    }

    /// After a run that came back with nothing else: why it did, if it is for the debugger.
    fn take_stop(&mut self) -> Option<DebugStop>;

    /// The breakpoint instruction that it is at is the guest's own, and so is the exception.
    ///
    /// # Errors
    /// The host cannot raise it.
    fn pass_breakpoint(&mut self) -> HalResult;
}
