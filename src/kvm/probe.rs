//! Tiny guests that try what a modern Linux kernel needs of KVM.
//!
//! Some KVMs run guest kernels through an instruction emulator that does not know every
//! instruction. Such a KVM answers all capability checks as any other, so the only way to know is
//! to try.

use std::{sync::mpsc, thread, time::Duration};

use super::{KvmVCpu, arch};
use crate::hal::{AxArchVCpu, AxVCpuExitReason, HalResult, StopCause};

/// Something that a kernel needs, and whether this KVM has it.
#[derive(Clone, Debug)]
pub struct FeatureProbe {
    /// What was tried, e.g. `cmpxchg16b`.
    pub feature: &'static str,
    /// Why Linux needs it.
    pub needed_for: &'static str,
    /// What happened instead, if it did not work.
    pub failure: Option<String>,
}

/// How long a snippet of a dozen instructions may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// One that does not end in time is tried anew: where the hardware is itself emulated, an interrupt
/// is lost now and then (on QEMU's riscv64 one timer's of some twenty).
const ATTEMPTS: usize = 3;

const NEVER: &str = "it never came back";

/// Tries everything; an error says that the trying itself did not work.
pub fn run() -> HalResult<Vec<FeatureProbe>> {
    arch::probe::all()
        .into_iter()
        .map(|(feature, needed_for, code)| {
            Ok(FeatureProbe { feature, needed_for, failure: try_often(code)? })
        })
        .collect()
}

fn try_often(code: &[u8]) -> HalResult<Option<String>> {
    let mut failure = arch::probe::try_snippet(code)?;
    for _ in 1..ATTEMPTS {
        if failure.as_deref() != Some(NEVER) {
            break;
        }
        failure = arch::probe::try_snippet(code)?;
    }
    Ok(failure)
}

/// Lists snippets of code that stand between two symbols each, `axvmm_probe_NAME` and
/// `axvmm_probe_NAME_end`: what is tried, in this order.
macro_rules! snippets {
    ($($name:ident $feature:literal $needed_for:literal;)+) => {
        /// What is tried, in this order: name, why, code.
        pub fn all() -> Vec<(&'static str, &'static str, &'static [u8])> {
            vec![$({
                // SAFETY: the assembly above defines both symbols.
                unsafe extern "C" {
                    #[link_name = concat!("axvmm_probe_", stringify!($name))]
                    static START: u8;
                    #[link_name = concat!("axvmm_probe_", stringify!($name), "_end")]
                    static END: u8;
                }
                // SAFETY: the two symbols are the ends of one snippet, in this order, in read-only
                // data that is never written.
                let code = unsafe {
                    let (start, end) = (&raw const START, &raw const END);
                    std::slice::from_raw_parts(start, end as usize - start as usize)
                };
                ($feature, $needed_for, code)
            }),+]
        }
    };
}
pub(super) use snippets;

/// Runs until the snippet is through, which shows in an exit that `is_done`, or out of time. What
/// went wrong, if something did.
pub(super) fn run_bounded(
    vcpu: &mut KvmVCpu,
    mut is_done: impl FnMut(&AxVCpuExitReason) -> bool,
) -> HalResult<Option<String>> {
    let kick = vcpu.kicker();
    let (done, waiting) = mpsc::channel::<()>();
    let watch = thread::spawn(move || {
        if waiting.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
            kick.kick();
        }
    });
    let reason = vcpu.run();
    drop(done);
    // It only waits and kicks; there is nothing in it that could panic.
    let _ = watch.join();
    Ok(match reason? {
        reason if is_done(&reason) => None,
        AxVCpuExitReason::Nothing => Some(NEVER.to_owned()),
        AxVCpuExitReason::SystemDown
        | AxVCpuExitReason::FailEntry { .. }
        | AxVCpuExitReason::NestedPageFault { .. } => Some(match vcpu.stop_cause() {
            StopCause::Failure(text) | StopCause::Unemulated(text) => text,
            StopCause::TripleFault => "it ended in a triple fault".to_owned(),
            other => format!("it ended in {other:?}"),
        }),
        other => Some(format!("it ended in {other:x?}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_feature_works_on_every_kvm() {
        let probes = run().unwrap();
        assert!(probes.len() > 1);
        assert!(probes[0].failure.is_none(), "{:?}", probes[0]);
    }
}
