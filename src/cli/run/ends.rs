//! How the guests of a run ended: what is told of it, and which end is the process's own.

use std::time::Duration;

use super::tally::Tally;
use crate::{
    cli::{
        Failure,
        about::about,
        failure::{HOST, USAGE},
        log_output::tell,
    },
    hal::VMId,
    vm::StopReason,
};

/// How a guest ended; a failure is axvmm's or its host's.
pub type Ended = Result<StopReason, Failure>;

/// A guest's end.
#[derive(Debug)]
pub struct End {
    pub id: VMId,
    pub name: String,
    pub ended: Ended,
    pub tally: Tally,
}

/// The exit status that stands for an end.
pub fn status(ended: &Ended) -> u8 {
    match ended {
        Ok(reason) => reason.exit_status(),
        Err(failure) => failure.status,
    }
}

/// The exit status of a process whose guests ended so: the worst one's. Of guests that chose their
/// status themselves, the highest.
pub fn worst<'a>(ends: impl Iterator<Item = &'a Ended>) -> u8 {
    ends.map(|ended| (badness(ended), status(ended))).max().unwrap_or_default().1
}

fn badness(ended: &Ended) -> u8 {
    match ended {
        Ok(StopReason::Shutdown | StopReason::TestExit(0)) => 0,
        Ok(StopReason::Reset) => 1,
        Ok(StopReason::TestExit(_)) => 2,
        Ok(StopReason::Timeout) => 3,
        Ok(StopReason::Panicked) => 4,
        Ok(StopReason::Fault(_)) => 5,
        Err(Failure { status: USAGE, .. }) => 6,
        Err(Failure { status: HOST, .. }) => 7,
        Ok(StopReason::Failed(_)) | Err(_) => 8,
        // Whoever ends the process wants to see that he did.
        Ok(StopReason::Signal(_) | StopReason::Quit) => 9,
    }
}

/// Whether it came to all guests at once.
fn is_from_outside(ended: &Ended) -> bool {
    matches!(ended, Ok(StopReason::Signal(_) | StopReason::Quit | StopReason::Timeout))
}

/// Whether somebody waits for the end.
pub fn is_in_a_hurry(ends: &[End]) -> bool {
    ends.iter().any(|end| is_from_outside(&end.ended))
}

/// Tells how a guest ended when others go on, but what comes to all of them: that is told at the end.
pub fn tell_one(vm: VMId, ended: &Ended) {
    let _about = about(vm);
    match ended {
        ended if is_from_outside(ended) => {}
        Ok(reason @ (StopReason::Shutdown | StopReason::TestExit(_))) => log::info!("{reason}"),
        Ok(reason) => tell(&reason.to_string()),
        Err(failure) => tell(&failure.message),
    }
}

/// Tells at the end what is not told yet.
pub fn tell_all(ends: &[End], allowed: Option<Duration>) {
    let untold = match ends {
        [alone] => Some(alone),
        several => several.iter().find(|end| is_from_outside(&end.ended)),
    };
    match (untold.map(|end| &end.ended), allowed) {
        (None | Some(Ok(StopReason::Shutdown | StopReason::TestExit(_))), _) => {}
        (Some(Ok(StopReason::Timeout)), Some(allowed)) => {
            tell(&format!("the time allowed was up: {allowed:?}"));
        }
        (Some(Ok(reason)), _) => tell(&reason.to_string()),
        (Some(Err(failure)), _) => tell(&failure.message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{hal::VCpuDump, vm::FaultReport};

    fn fault() -> StopReason {
        StopReason::Fault(Box::new(FaultReport {
            vcpu_id: 0,
            what: "it fell".to_owned(),
            registers: VCpuDump::default(),
            code: Vec::new(),
            recent: Vec::new(),
        }))
    }

    #[test]
    fn the_worst_end_is_the_processs() {
        let failure = |status| Err(Failure { status, message: String::new() });
        // From the best to the worst.
        let ends: [Ended; 13] = [
            Ok(StopReason::Shutdown),
            Ok(StopReason::Reset),
            Ok(StopReason::TestExit(1)),
            Ok(StopReason::TestExit(33)),
            Ok(StopReason::TestExit(255)),
            Ok(StopReason::Timeout),
            Ok(StopReason::Panicked),
            Ok(fault()),
            failure(USAGE),
            failure(HOST),
            failure(1),
            Ok(StopReason::Quit),
            Ok(StopReason::Signal(15)),
        ];
        let statuses = [0, 32, 1, 33, 255, 124, 34, 33, 35, 37, 1, 130, 143];
        for (worse, expect) in statuses.into_iter().enumerate() {
            for better in 0..=worse {
                assert_eq!(worst([&ends[worse], &ends[better]].into_iter()), expect, "{better}");
                assert_eq!(worst([&ends[better], &ends[worse]].into_iter()), expect, "{better}");
            }
        }
        assert_eq!(worst([&Ok(StopReason::TestExit(0)), &ends[1]].into_iter()), 32);
    }
}
