//! A scripted vCPU under a debugger: it has four registers and a program counter, and its addresses
//! are physical ones.

use super::{Call, ScriptedVCpu};
use crate::{
    addr::GuestPhysAddr,
    hal::{
        DebugControl, DebugFeature, DebugModel, DebugRegister, DebugStop, DebugVCpu, HalError,
        HalResult, HardwareStop, ReadPhysical,
    },
};

static MODEL: DebugModel = DebugModel {
    architecture: "scripted",
    features: &[DebugFeature {
        name: "org.axvmm.scripted",
        types: "",
        registers: &[
            DebugRegister::int("r0", 64),
            DebugRegister::int("r1", 64),
            DebugRegister::int("r2", 64),
            DebugRegister::int("r3", 64),
            DebugRegister::new("pc", 64, "code_ptr"),
        ],
    }],
    pc: PC,
    breakpoints: &[&[0xcc]],
};

pub(super) const REGISTERS: usize = 5;
const PC: usize = 4;

/// How much the hardware stops at.
const MOST: usize = 2;

impl DebugVCpu for ScriptedVCpu {
    fn model() -> &'static DebugModel {
        &MODEL
    }

    fn registers(&mut self) -> HalResult<Vec<Option<u128>>> {
        Ok(self.registers.map(|value| Some(value.into())).to_vec())
    }

    fn set_register(&mut self, number: usize, value: u128) -> HalResult {
        let register = self.registers.get_mut(number);
        *register.ok_or_else(|| HalError::host_cannot("set it"))? = value as u64;
        Ok(())
    }

    fn translate(&mut self, addr: u64, _: ReadPhysical<'_>) -> HalResult<Option<GuestPhysAddr>> {
        Ok(Some(GuestPhysAddr(addr)))
    }

    fn can_stop_at(&self, stops: &[HardwareStop]) -> bool {
        stops.len() <= MOST
    }

    fn debug(&mut self, how: Option<&DebugControl<'_>>) -> HalResult {
        self.shared.may_fail("debug")?;
        let step = how.map(|how| how.step);
        self.shared.record(Call::Debug { vcpu_id: self.vcpu_id, step });
        Ok(())
    }

    fn take_stop(&mut self) -> Option<DebugStop> {
        self.debug_stop.take()
    }

    fn pass_breakpoint(&mut self) -> HalResult {
        self.shared.record(Call::PassBreakpoint(self.vcpu_id));
        Ok(())
    }
}
