//! The plans of all guests that the command line names, or all that is wrong with any of them.

use super::{Failure, GuestArgs, host};
use crate::{
    config::{self, Problem},
    devices::custom::Kinds,
    hal::Platform,
    machine::{self, Plan, RequestOutcome},
    vm::AxVMConfig,
};

/// What keeps the guests from being planned.
#[derive(Debug)]
pub struct Wrong {
    pub failure: Failure,
    /// Each problem with its place, where the configurations themselves are wrong.
    pub problems: Vec<Problem>,
}

impl From<Failure> for Wrong {
    fn from(failure: Failure) -> Self {
        Self { failure, problems: Vec::new() }
    }
}

/// Plans what `args` name for a host like `platform`, at least one guest. If it cannot be asked
/// because of a failure, what is wrong with the configurations is told before that.
pub fn plan(
    args: &GuestArgs,
    kinds: &Kinds,
    platform: Result<Platform, Failure>,
) -> Result<Vec<Plan>, Wrong> {
    let mut loaded = args.load(kinds);
    for config in loaded.iter_mut().flatten() {
        args.in_root.add_to(config)?;
    }
    match platform {
        Ok(platform) => plan_loaded(loaded, &platform),
        Err(failure) => {
            plan_loaded(loaded, &host::usual()?)?;
            Err(failure.into())
        }
    }
}

fn plan_loaded(
    loaded: Vec<Result<AxVMConfig, config::Error>>,
    platform: &Platform,
) -> Result<Vec<Plan>, Wrong> {
    let several = loaded.len() > 1;
    let (mut plans, mut wrong) = (Vec::new(), Vec::new());
    let (mut failures, mut rows) = (Vec::new(), Vec::new());
    for config in loaded {
        let config = match config {
            Ok(config) => config,
            Err(error) => {
                wrong.push(error);
                continue;
            }
        };
        match Plan::new(&config, platform) {
            Ok(plan) => plans.push(plan),
            Err(error) => {
                rows.extend(problems_of(&error));
                let failure = Failure::from(error);
                failures.push(if several { failure.of(&config.name) } else { failure });
            }
        }
    }
    let wrong = config::Error::all_of(wrong);
    let written = wrong.as_ref().map(config::Error::problems).unwrap_or_default();
    let problems = written.iter().cloned().chain(rows).collect();
    let failures = wrong.into_iter().map(Failure::from).chain(failures).collect();
    match Failure::all_of(failures) {
        Some(failure) => Err(Wrong { failure, problems }),
        None => Ok(plans),
    }
}

/// A problem for each row that keeps a machine from being.
fn problems_of(error: &machine::Error) -> Vec<Problem> {
    let rows = match error {
        machine::Error::Requests(rows) => &rows[..],
        _ => &[],
    };
    let problem = |row: &RequestOutcome| Problem {
        origin: row.at.origin.clone(),
        line: row.at.line,
        column: row.at.column,
        message: row.message(),
        ..Problem::default()
    };
    rows.iter().map(problem).collect()
}
