//! What machines are built from: once at the start, and again whenever the guest resets itself.

use std::sync::Arc;

use crate::{
    cli::{Failure, about::about, console::Desk},
    devices::console::ConsoleOut,
    ivc::IvcHub,
    kvm::KvmHal,
    machine::{Machine, Plan},
    virtio::DeviceConfig,
};

/// What all machines of one guest are built from.
pub struct Blueprint {
    pub plan: Plan,
    console: Arc<dyn ConsoleOut>,
    /// That of all guests of the run.
    channels: Arc<IvcHub>,
    /// The guest is one of several.
    pub several: bool,
}

impl Blueprint {
    /// For each guest of the run, in order. What the VMs of a run are to share is made here.
    pub fn for_all(plans: Vec<Plan>, desk: &Desk) -> Vec<Arc<Self>> {
        let several = plans.len() > 1;
        let channels = Arc::<IvcHub>::default();
        let of_one = |(number, plan)| {
            let (console, channels) = (desk.console(number), channels.clone());
            Arc::new(Self { plan, console, channels, several })
        };
        plans.into_iter().enumerate().map(of_one).collect()
    }

    /// The guest is to run one command, and no more.
    pub fn has_command(&self) -> bool {
        self.plan.virtio.iter().any(|device| matches!(device.device, DeviceConfig::Command(_)))
    }

    /// A machine on `hal`, which must be fresh.
    fn build_on(&self, hal: Arc<KvmHal>) -> Result<Machine<KvmHal>, Failure> {
        Ok(Machine::build(&self.plan, hal, self.console.clone(), &self.channels)?)
    }

    /// A fresh machine on fresh hardware.
    pub fn build(&self) -> Result<Machine<KvmHal>, Failure> {
        self.build_on(KvmHal::new()?)
    }
}

/// The first machine of each guest; `hal` is for the first of them. If one of them cannot be, none
/// is.
pub fn build_all(
    blueprints: &[Arc<Blueprint>],
    hal: Arc<KvmHal>,
) -> Result<Vec<Machine<KvmHal>>, Failure> {
    let mut first = Some(hal);
    let (mut machines, mut failures) = (Vec::new(), Vec::new());
    for blueprint in blueprints {
        let _about = about(blueprint.plan.id);
        let built = match first.take() {
            Some(hal) => blueprint.build_on(hal),
            None => blueprint.build(),
        };
        match built {
            Ok(machine) => machines.push(machine),
            Err(failure) if blueprint.several => failures.push(failure.of(&blueprint.plan.name)),
            Err(failure) => failures.push(failure),
        }
    }
    Failure::all_of(failures).map_or(Ok(machines), Err)
}
