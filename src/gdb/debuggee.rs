//! The guest as `gdbstub` wants it: its registers, its memory, and its vCPUs as threads.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Weak},
};

use gdbstub::{
    common::Tid,
    target::{
        Target, TargetError, TargetResult,
        ext::{
            base::{
                BaseOps,
                multithread::{MultiThreadBase, MultiThreadResumeOps},
                single_register_access::{SingleRegisterAccess, SingleRegisterAccessOps},
            },
            breakpoints::BreakpointsOps,
            monitor_cmd::MonitorCmdOps,
            target_description_xml_override::{
                TargetDescriptionXmlOverride, TargetDescriptionXmlOverrideOps,
            },
            thread_extra_info::{ThreadExtraInfo, ThreadExtraInfoOps},
        },
    },
};

use super::{
    description::{self, Guest64, RegisterBytes, RegisterNumber},
    inbox::Inbox,
    planted::Planted,
    resume::{Actions, Report},
    watches::Watches,
};
use crate::{
    addr::GuestPhysAddr,
    hal::{AxVMHal, DebugModel, DebugVCpu, HalError, HardwareStop, VCpuId},
    vm::AxVM,
};

/// Errors by their numbers in Linux, which GDB shows.
const EFAULT: u8 = libc::EFAULT as u8;
const ESRCH: u8 = libc::ESRCH as u8;
const EIO: u8 = libc::EIO as u8;
const EINVAL: u8 = libc::EINVAL as u8;

/// The smallest page that any architecture has.
const PAGE: u64 = 4096;

/// Why a session cannot go on: there is no such reason. What a guest refuses is told to the client.
#[derive(Debug)]
pub enum Lost {}

impl fmt::Display for Lost {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {}
    }
}

/// A guest under the debugger.
pub struct Debuggee<H: AxVMHal> {
    pub(super) vm: Weak<AxVM<H>>,
    pub(super) vcpus: usize,
    pub(super) inbox: Arc<Inbox<H>>,
    pub(super) planted: Planted,
    pub(super) hardware: Vec<HardwareStop>,
    pub(super) watches: Watches,
    pub(super) actions: Actions,
    /// The vCPU that has stopped last.
    pub(super) stopped_vcpu: VCpuId,
    /// The client has let it run and has not been told of a stop.
    pub(super) runs: bool,
    /// Stops that the client is to be told of.
    pub(super) reports: VecDeque<Report>,
    /// What it was told last, as a text.
    pub(super) last: String,
    description: String,
}

/// The vCPU that is a thread, and back.
pub const fn vcpu_of(tid: Tid) -> VCpuId {
    tid.get() - 1
}

pub const fn thread_of(vcpu_id: VCpuId) -> Tid {
    Tid::MIN.saturating_add(vcpu_id)
}

impl<H: AxVMHal> Debuggee<H> {
    pub fn new(inbox: Arc<Inbox<H>>) -> Self {
        Self {
            vm: Weak::new(),
            vcpus: 1,
            inbox,
            planted: Planted::default(),
            hardware: Vec::new(),
            watches: Watches::default(),
            actions: Actions::default(),
            stopped_vcpu: 0,
            runs: false,
            reports: VecDeque::new(),
            last: String::new(),
            description: description::xml(H::VCpu::model()),
        }
    }

    /// It has another machine, of which nothing is known yet.
    pub fn replace(&mut self, vm: Weak<AxVM<H>>) {
        self.vcpus = vm.upgrade().map_or(1, |vm| vm.vcpu_num());
        self.vm = vm;
        self.planted = Planted::default();
        self.reports.clear();
        (self.runs, self.stopped_vcpu) = (false, 0);
    }

    /// Whether it has one, which it has not while it is made or has ended.
    pub fn has_machine(&self) -> bool {
        self.vm.strong_count() > 0
    }

    pub(super) fn model() -> &'static DebugModel {
        H::VCpu::model()
    }

    /// Its machine; there may be none while it is made anew.
    pub(super) fn machine(&self) -> TargetResult<Arc<AxVM<H>>, Self> {
        self.vm.upgrade().ok_or(TargetError::Errno(ESRCH))
    }

    fn with_vcpu<R>(
        &self,
        tid: Tid,
        act: impl FnOnce(&mut H::VCpu) -> Result<R, HalError>,
    ) -> TargetResult<R, Self> {
        let done = self.machine()?.inspect(vcpu_of(tid), act);
        match done {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => {
                log::debug!("gdb: {error}");
                Err(TargetError::Errno(EINVAL))
            }
            // It runs, or is none.
            Err(error) => {
                log::debug!("gdb: {error}");
                Err(TargetError::Errno(ESRCH))
            }
        }
    }

    /// Where a virtual address of a vCPU's is in memory.
    pub(super) fn translate(&self, tid: Tid, addr: u64) -> TargetResult<GuestPhysAddr, Self> {
        let vm = self.machine()?;
        match vm.translate(vcpu_of(tid), addr) {
            Ok(Some(at)) => Ok(at),
            _ => Err(TargetError::Errno(EFAULT)),
        }
    }

    fn registers(&self, tid: Tid) -> TargetResult<Vec<Option<u128>>, Self> {
        self.with_vcpu(tid, DebugVCpu::registers)
    }

    /// Calls `act` for each piece of `len` bytes from `start` on that is together in physical memory,
    /// with its place there and its offset; how many bytes it was done for.
    fn each_piece(
        &mut self,
        tid: Tid,
        start: u64,
        len: usize,
        mut act: impl FnMut(&mut Self, &AxVM<H>, GuestPhysAddr, usize, usize) -> bool,
    ) -> TargetResult<usize, Self> {
        let vm = self.machine()?;
        let mut done = 0;
        while done < len {
            let Some(addr) = start.checked_add(done as u64) else { break };
            let piece = ((PAGE - addr % PAGE) as usize).min(len - done);
            // The very last byte of all has no address behind it, and no memory.
            let is_inside = addr.checked_add(piece as u64).is_some();
            let Some(at) = self.translate(tid, addr).ok().filter(|_| is_inside) else { break };
            if !act(self, &vm, at, done, piece) {
                break;
            }
            done += piece;
        }
        if done == 0 && len > 0 { Err(TargetError::Errno(EFAULT)) } else { Ok(done) }
    }
}

impl<H: AxVMHal> Target for Debuggee<H> {
    type Arch = Guest64;
    type Error = Lost;

    fn base_ops(&mut self) -> BaseOps<'_, Self::Arch, Self::Error> {
        BaseOps::MultiThread(self)
    }

    fn support_breakpoints(&mut self) -> Option<BreakpointsOps<'_, Self>> {
        Some(self)
    }

    fn support_monitor_cmd(&mut self) -> Option<MonitorCmdOps<'_, Self>> {
        Some(self)
    }

    fn support_target_description_xml_override(
        &mut self,
    ) -> Option<TargetDescriptionXmlOverrideOps<'_, Self>> {
        Some(self)
    }

    /// The protocol's own steps, not the processor's.
    fn guard_rail_implicit_sw_breakpoints(&self) -> bool {
        true
    }
}

impl<H: AxVMHal> MultiThreadBase for Debuggee<H> {
    fn read_registers(&mut self, regs: &mut RegisterBytes, tid: Tid) -> TargetResult<(), Self> {
        *regs = RegisterBytes::of(Self::model(), &self.registers(tid)?);
        Ok(())
    }

    fn write_registers(&mut self, regs: &RegisterBytes, tid: Tid) -> TargetResult<(), Self> {
        let now = self.registers(tid)?;
        let wanted = regs.values(Self::model());
        for (number, (wanted, now)) in wanted.into_iter().zip(now).enumerate() {
            if let (Some(value), true) = (wanted, wanted != now) {
                self.with_vcpu(tid, |vcpu| vcpu.set_register(number, value))?;
            }
        }
        Ok(())
    }

    fn support_single_register_access(&mut self) -> Option<SingleRegisterAccessOps<'_, Tid, Self>> {
        Some(self)
    }

    fn read_addrs(&mut self, start: u64, data: &mut [u8], tid: Tid) -> TargetResult<usize, Self> {
        self.each_piece(tid, start, data.len(), |it, vm, at, offset, len| {
            let piece = &mut data[offset..offset + len];
            let is_memory = vm.address_space().read(at, piece).is_ok();
            it.planted.hide(at, piece);
            is_memory
        })
    }

    fn write_addrs(&mut self, start: u64, data: &[u8], tid: Tid) -> TargetResult<(), Self> {
        let done = self.each_piece(tid, start, data.len(), |it, vm, at, offset, len| {
            let is_memory = it.planted.write(vm.address_space(), at, &data[offset..offset + len]);
            // It may be code.
            vm.hal().code_was_written(at, len as u64);
            is_memory
        })?;
        if done == data.len() { Ok(()) } else { Err(TargetError::Errno(EIO)) }
    }

    fn list_active_threads(&mut self, thread_is_active: &mut dyn FnMut(Tid)) -> Result<(), Lost> {
        (0..self.vcpus).map(thread_of).for_each(thread_is_active);
        Ok(())
    }

    fn support_resume(&mut self) -> Option<MultiThreadResumeOps<'_, Self>> {
        Some(self)
    }

    fn support_thread_extra_info(&mut self) -> Option<ThreadExtraInfoOps<'_, Self>> {
        Some(self)
    }
}

impl<H: AxVMHal> SingleRegisterAccess<Tid> for Debuggee<H> {
    fn read_register(
        &mut self,
        tid: Tid,
        RegisterNumber(number): RegisterNumber,
        buffer: &mut [u8],
    ) -> TargetResult<usize, Self> {
        let register = Self::model().registers().nth(number).ok_or(TargetError::Errno(EINVAL))?;
        let value = self.registers(tid)?.get(number).copied().flatten();
        let bytes = value.ok_or(TargetError::Errno(EIO))?.to_le_bytes();
        let room = buffer.get_mut(..register.bytes()).ok_or(TargetError::Errno(EINVAL))?;
        room.copy_from_slice(&bytes[..register.bytes()]);
        Ok(register.bytes())
    }

    fn write_register(
        &mut self,
        tid: Tid,
        RegisterNumber(number): RegisterNumber,
        value: &[u8],
    ) -> TargetResult<(), Self> {
        let register = Self::model().registers().nth(number);
        if register.is_none_or(|register| register.bytes() != value.len()) {
            return Err(TargetError::Errno(EINVAL));
        }
        let value = value.iter().rev().fold(0, |all, byte| all << 8 | u128::from(*byte));
        self.with_vcpu(tid, |vcpu| vcpu.set_register(number, value))
    }
}

impl<H: AxVMHal> ThreadExtraInfo for Debuggee<H> {
    fn thread_extra_info(&self, tid: Tid, buffer: &mut [u8]) -> Result<usize, Lost> {
        let text = format!("vCPU {}", vcpu_of(tid));
        let len = text.len().min(buffer.len());
        buffer[..len].copy_from_slice(&text.as_bytes()[..len]);
        Ok(len)
    }
}

impl<H: AxVMHal> TargetDescriptionXmlOverride for Debuggee<H> {
    fn target_description_xml(
        &self,
        annex: &[u8],
        offset: u64,
        length: usize,
        buffer: &mut [u8],
    ) -> TargetResult<usize, Self> {
        if annex != b"target.xml" {
            return Err(TargetError::Errno(EINVAL));
        }
        let xml = self.description.as_bytes();
        let from = usize::try_from(offset).unwrap_or(xml.len()).min(xml.len());
        let len = length.min(buffer.len()).min(xml.len() - from);
        buffer[..len].copy_from_slice(&xml[from..from + len]);
        Ok(len)
    }
}
