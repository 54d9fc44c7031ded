use super::*;
use crate::cli::top::sample::{Times, VCpu, VCpuTimes, Window, WindowTimes};

/// A guest with two vCPUs and a console, of which all counts are `n` times the same.
pub fn sample(time: f64, n: u64) -> Sample {
    let exits = |vcpu, by: &[(&str, u64)]| VCpu {
        vcpu,
        total: by.iter().map(|(_, count)| n * count).sum(),
        by_reason: by.iter().map(|(reason, count)| ((*reason).to_owned(), n * count)).collect(),
    };
    let window = WindowInfo {
        device: "com1".to_owned(),
        bus: BusKind::Port,
        addresses: "0x3f8-0x3ff".to_owned(),
    };
    let handling =
        Handling { sum_ns: n * 10_000, up_to_ns: vec![(100, n * 9), (200, n), (10_000, n)] };
    let vcpu_times = |vcpu, processor_ns| VCpuTimes {
        vcpu,
        processor_ns: n * processor_ns,
        handling_ns: n * 100_000_000,
    };
    let times = Times {
        vcpus: vec![vcpu_times(0, 600_000_000), vcpu_times(1, 100_000_000)],
        reasons: [("IoWrite".to_owned(), handling.clone())].into(),
        devices: vec![WindowTimes { window: window.clone(), handling }],
    };
    let vm = Vm {
        id: 1,
        name: "hello".to_owned(),
        status: "Running".to_owned(),
        exits: vec![exits(0, &[("IoRead", 1), ("IoWrite", 10)]), exits(1, &[("Halt", 4)])],
        devices: vec![Window { window, accesses: Accesses { reads: n, writes: 9 * n } }],
        unowned: Accesses { reads: 0, writes: n },
        times: Some(times),
        ..Vm::default()
    };
    Sample { pid: 7, time, vms: vec![vm] }
}

#[test]
fn they_are_what_came_by_the_time_it_took() {
    let rates = Rates::between(&sample(1.0, 1), &sample(3.0, 3));
    let vm = &rates.vms[0];
    assert_eq!((rates.time, rates.interval, vm.exits, vm.total), (3.0, 2.0, 15.0, 45));
    assert_eq!((vm.vcpus[0].exits, vm.vcpus[1].exits, vm.vcpus[1].total), (11.0, 4.0, 12));
    assert_eq!(vm.vcpus[0].by_reason["IoWrite"], 10.0);
    let reasons: Vec<_> =
        vm.reasons.iter().map(|it| (it.reason.as_str(), it.exits, it.by_vcpu.clone())).collect();
    assert_eq!(
        reasons,
        [
            ("Halt", 4.0, vec![0.0, 4.0]),
            ("IoRead", 1.0, vec![1.0, 0.0]),
            ("IoWrite", 10.0, vec![10.0, 0.0])
        ]
    );
    let [com1, nobody] = vm.devices.as_slice() else { panic!("{vm:?}") };
    assert_eq!((com1.reads, com1.writes, com1.total), (1.0, 9.0, 30));
    assert_eq!((nobody.device.as_str(), nobody.writes, nobody.total), ("(nobody)", 1.0, 3));
}

#[test]
fn shares_add_up_to_all_of_the_time() {
    let rates = Rates::between(&sample(1.0, 1), &sample(2.0, 2));
    let shares = |vcpu: usize| rates.vms[0].vcpus[vcpu].shares.unwrap();
    let close = |a: f64, b: f64| (a - b).abs() < 1e-9;
    let (busy, idle) = (shares(0), shares(1));
    assert!(close(busy.guest, 0.5) && close(busy.handling, 0.1) && close(busy.waiting, 0.4));
    assert!(close(idle.guest, 0.0) && close(idle.handling, 0.1) && close(idle.waiting, 0.9));
}

#[test]
fn lengths_are_those_of_the_interval_alone() {
    let rates = Rates::between(&sample(1.0, 1), &sample(2.0, 11));
    let lengths = rates.vms[0].devices[0].handling.unwrap();
    assert_eq!((lengths.p50_ns, lengths.p99_ns, lengths.max_ns), (100, 10_000, 10_000));
    assert!((lengths.mean_ns - 100_000.0 / 110.0).abs() < 1e-9, "{lengths:?}");
    assert!((lengths.share - 0.0001).abs() < 1e-9, "{lengths:?}");
    // In which nothing happened.
    let rates = Rates::between(&sample(1.0, 11), &sample(2.0, 11));
    assert_eq!((rates.vms[0].devices[0].handling, rates.vms[0].exits), (None, 0.0));
    assert_eq!(rates.vms[0].reasons[2].handling, None);
}

#[test]
fn strange_samples_make_no_strange_rates() {
    let none = Sample::default();
    let new = Rates::between(&none, &sample(2.0, 1));
    assert_eq!((new.vms[0].exits, new.vms[0].vcpus[0].shares), (7.5, None));
    // No time, and less than before.
    for (old, new) in [((1.0, 1), (1.0, 2)), ((2.0, 3), (1.0, 1)), ((1.0, 3), (2.0, 1))] {
        let rates = Rates::between(&sample(old.0, old.1), &sample(new.0, new.1));
        let vm = &rates.vms[0];
        assert_eq!((vm.exits, vm.devices[0].reads), (0.0, 0.0));
        let lengths = vm.devices[0].handling.unwrap_or_default();
        assert!(lengths.share == 0.0 && lengths.mean_ns.is_finite(), "{lengths:?}");
    }
    assert!(Rates::between(&sample(1.0, 1), &none).vms.is_empty());
}

#[test]
fn what_a_run_answers_is_read() {
    let line = br#"{"version":1,"axvmm":"0","pid":7,"time":1.5,"vms":[{"id":2,"name":"a","status":
        "Running","reboots":3,"exits":[{"vcpu":0,"total":5,"by_reason":{"Halt":5}}],"devices":[{
        "device":"com1","bus":"port","addresses":"0x3f8","reads":1,"writes":2,"by_vcpu":[]}],
        "unowned":{"reads":0,"writes":0},"console_dropped":0,"times":{"vcpus":[],"reasons":{"Halt":
        {"count":1,"sum_ns":3,"up_to_ns":[[3,1]]}},"devices":[{"device":"com1","bus":"port",
        "addresses":"0x3f8","count":1,"sum_ns":3,"up_to_ns":[[3,1]]}]},"ended":null}]}"#;
    let sample = Sample::parse(line).unwrap();
    let rates = Rates::between(&Sample::default(), &sample);
    assert_eq!(rates.vms[0].devices[0].handling.unwrap().max_ns, 3);
}
