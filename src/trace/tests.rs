use std::{
    fs::{self, OpenOptions},
    os::unix::fs::FileExt,
    path::Path,
    thread,
};

use proptest::prelude::*;

use super::{
    format::{CHUNK, RECORDS},
    *,
};
use crate::{
    addr::{AccessWidth, GuestPhysAddr, Port},
    devices::{BusKind, WindowInfo},
    hal::AxVCpuExitReason,
};

fn about(vcpus: &[usize]) -> About {
    let window =
        WindowInfo { device: "com1".into(), bus: BusKind::Port, addresses: "0x3f8".into() };
    let vms = vcpus.iter().enumerate().map(|(vm, vcpus)| AboutVm {
        memory: 1 << 24,
        id: vm + 1,
        name: format!("vm{vm}"),
        vcpus: *vcpus,
        windows: vec![window.clone()],
        registers: vec![],
    });
    About { axvmm: "0".into(), arch: "x86_64".into(), began: 1, vms: vms.collect() }
}

/// An exit that is told from others by its number.
fn exit(number: u64) -> Record {
    let write = AxVCpuExitReason::IoWrite {
        port: Port(0x3f8),
        width: AccessWidth::Byte,
        data: number & 0xff,
    };
    Record::new(&write, number, 0x1000 + number, None, 7, Some(0))
}

fn times(path: &Path) -> Vec<(usize, usize, u64)> {
    let reader = Reader::open(path).unwrap();
    let events = reader.events().map(|event| event.unwrap());
    events.map(|it| (it.vm, it.vcpu, it.record.time())).collect()
}

#[test]
fn what_is_written_is_read_in_the_order_of_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t");
    let about = about(&[2, 1]);
    let recorder = Recorder::create(&path, &about, None).unwrap();
    let vms = [recorder.for_vm(0, 2), recorder.for_vm(1, 1)];
    // Some chunks of each, one of them not full.
    let all = 3 * RECORDS as u64 * 5 / 2;
    for number in 0..all {
        let (vm, vcpu) = [(0, 0), (0, 1), (1, 0)][number as usize % 3];
        vms[vm].push(vcpu, exit(number));
    }
    // There is none.
    vms[1].push(1, exit(0));
    drop(vms);
    assert_eq!(Reader::open(&path).unwrap().about(), &about);
    let read = times(&path);
    assert_eq!(read.len() as u64, all);
    let expect = (0..all).map(|number| {
        let (vm, vcpu) = [(0, 0), (0, 1), (1, 0)][number as usize % 3];
        (vm, vcpu, number)
    });
    assert!(read.into_iter().eq(expect));
    assert_eq!(recorder.failure(), None);
}

#[test]
fn a_record_has_what_the_exit_was() {
    let read = AxVCpuExitReason::MmioRead {
        addr: GuestPhysAddr(0x900_0018),
        width: AccessWidth::Dword,
        reg: 0,
        reg_width: AccessWidth::Qword,
        signed_ext: false,
    };
    let record = Record::new(&read, 5, 0x40, Some(0x90), u64::MAX, None);
    assert_eq!(
        [record.time(), record.pc(), record.addr(), record.value()],
        [5, 0x40, 0x900_0018, 0x90]
    );
    assert_eq!((record.took(), record.width(), record.window()), (u32::MAX, 4, None));
    assert_eq!(record.reason().unwrap().name(), "MmioRead");
    let write = exit(3);
    assert_eq!((write.value(), write.window(), write.took()), (3, Some(0), 7));
    assert_eq!(Record::started(9).reason(), Some(Reason::Started));
}

#[test]
fn of_a_long_run_the_latest_is_kept_and_what_is_not_full_yet() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t");
    let recorder = Recorder::create(&path, &about(&[2]), Some(8 * CHUNK as u64)).unwrap();
    let vm = recorder.for_vm(0, 2);
    let all = 30 * RECORDS as u64;
    vm.push(1, exit(0));
    vm.flush();
    for number in 1..=all {
        vm.push(0, exit(number));
    }
    vm.push(1, exit(all + 1));
    vm.flush();
    assert!(fs::metadata(&path).unwrap().len() <= 9 * CHUNK as u64);
    let read = times(&path);
    assert_eq!((read[0], *read.last().unwrap()), ((0, 1, 0), (0, 1, all + 1)));
    let busy: Vec<_> = read.iter().filter(|it| it.1 == 0).map(|it| it.2).collect();
    assert!(busy.len() >= 6 * RECORDS, "{}", busy.len());
    assert!(busy.iter().copied().eq(all + 1 - busy.len() as u64..=all), "no gaps");
}

#[test]
fn it_can_be_read_while_it_grows() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t");
    let recorder = Recorder::create(&path, &about(&[1]), None).unwrap();
    let vm = recorder.for_vm(0, 1);
    assert_eq!(times(&path), []);
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..100_000 {
                vm.push(0, exit(number));
                if number % 1000 == 0 {
                    vm.flush();
                }
            }
        });
        let mut most = 0;
        while most < 50_000 {
            let read = times(&path);
            assert!(read.iter().map(|it| it.2).eq(0..read.len() as u64));
            assert!(read.len() >= most);
            most = read.len();
        }
    });
}

#[test]
fn a_full_disk_ends_the_recording_and_says_so() {
    // What is written there fails with ENOSPC.
    let error = Recorder::create(Path::new("/dev/full"), &about(&[1]), None).err().unwrap();
    assert!(
        matches!(&error, Error::Io { source, .. } if source.raw_os_error() == Some(28)),
        "{error}"
    );
}

#[test]
fn what_is_no_recording_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t");
    let open = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        Reader::open(&path).unwrap_err()
    };
    for bytes in [&b""[..], b"axvmm", &[0; 4096]] {
        assert!(matches!(open(bytes), Error::NoRecording { .. }));
    }
    let header = |version: u32, about: u32| {
        [&b"axvmmtrc"[..], &version.to_le_bytes(), &about.to_le_bytes()].concat()
    };
    let newer = format::VERSION + 1;
    let error = open(&header(newer, 0));
    assert!(matches!(error, Error::Version { found, .. } if found == newer));
    assert!(matches!(open(&header(format::VERSION, u32::MAX)), Error::Damaged { .. }));
    assert!(matches!(open(&header(format::VERSION, 0)), Error::Damaged { .. }));
    assert!(matches!(open(&header(format::VERSION, 100)), Error::Io { .. }));
    assert!(matches!(Reader::open(dir.path()), Err(Error::Io { .. })));
    assert!(matches!(Reader::open(&dir.path().join("none")), Err(Error::Io { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    /// A file with whatever bytes in it is read to its end, or refused.
    #[test]
    fn damage_is_an_error_or_other_records(
        changes in proptest::collection::vec((0_u64..3 * CHUNK as u64, any::<u8>()), 1..40),
        headers in proptest::collection::vec((0_u64..2, 0_u64..40, any::<u8>()), 0..8),
        cut in 0_u64..4 * CHUNK as u64,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t");
        let recorder = Recorder::create(&path, &about(&[2]), None).unwrap();
        let vm = recorder.for_vm(0, 2);
        (0..3000).for_each(|number| vm.push(number as usize % 2, exit(number)));
        drop(vm);
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        for (at, byte) in changes {
            file.write_all_at(&[byte], at).unwrap();
        }
        for (chunk, at, byte) in headers {
            file.write_all_at(&[byte], (1 + chunk) * CHUNK as u64 + at).unwrap();
        }
        if cut < 3 * CHUNK as u64 {
            file.set_len(cut).unwrap();
        }
        if let Ok(reader) = Reader::open(&path) {
            let mut count = 0;
            for event in reader.events() {
                let Ok(event) = event else { break };
                let about = reader.about();
                prop_assert!(event.vcpu < about.vms[event.vm].vcpus);
                let _ = (event.device(about), event.record.reason());
                count += 1;
            }
            prop_assert!(count <= 3 * RECORDS);
        }
    }
}
