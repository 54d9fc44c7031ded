use std::{
    io::IoSlice,
    os::fd::AsRawFd,
    sync::Arc,
    time::{Duration, Instant},
};

use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};

use super::*;
use crate::{
    addr::{GuestPhysAddr, MappingFlags},
    addrspace::testing,
    vfio_user::{
        session::{PATIENCE, Trouble},
        wire::{DmaAccess, FAILED, NO_REPLY},
    },
};

/// Each command once, as when a device is made and used.
fn use_all(session: &Session) -> Result<(), Trouble> {
    session.agree()?;
    let device = session.describe()?;
    let mut bytes = [0; 4];
    session.read(0, 8, &mut bytes)?;
    session.write(0, 8, &bytes)?;
    session.connect_irqs(2, &[Arc::new(std::io::stderr())])?;
    session.disconnect_irqs(2)?;
    session.reset(&device)
}

const ALL: [Command; 8] = [
    Command::Version,
    Command::GetInfo,
    Command::GetRegionInfo,
    Command::GetIrqInfo,
    Command::RegionRead,
    Command::RegionWrite,
    Command::SetIrqs,
    Command::DeviceReset,
];

#[test]
fn a_good_server_is_understood() {
    let (session, server) = against(|asked, _| Reaction::Says(asked.answer()));
    use_all(&session).unwrap();
    let device = session.describe().unwrap();
    assert!(device.is_pci);
    assert_eq!((device.region(0), device.region(1), device.region(99)), (16, 0, 0));
    assert_eq!((device.irqs(0), device.irqs(2), device.irqs(99)), (0, 1, 0));
    let mut bytes = [0; 8];
    session.read(0, 3, &mut bytes).unwrap();
    assert_eq!(bytes, [3, 4, 5, 6, 7, 8, 9, 10]);
    assert_eq!(session.limits().max_msg_fds, 2);
    assert_eq!(session.ended(), None);
    drop(session);
    server.join().unwrap();
}

/// A wrong way to answer.
type Wrong = fn(&Asked) -> Option<Vec<u8>>;

/// All of these end the session; `None`: the server leaves.
const WRONG: [(&str, Wrong); 13] = [
    ("no answer, and it leaves", |_| None),
    ("half a header", |asked| Some(asked.answer()[..7].to_vec())),
    ("a size below a header's", |asked| Some(sized(asked, 15))),
    ("a size of 0", |asked| Some(sized(asked, 0))),
    ("a size beyond all", |asked| Some(sized(asked, u32::MAX))),
    ("a size that nothing comes for", |asked| Some(sized(asked, 1 << 20))),
    ("another's number", |asked| {
        let Header { id, command, .. } = asked.header;
        Some(message(id ^ 1, command, REPLY, 0, &asked.body_of_answer()))
    }),
    ("another command", |asked| {
        let Header { id, command, .. } = asked.header;
        Some(message(id, command + 1, REPLY, 0, &asked.body_of_answer()))
    }),
    ("a kind that there is not", |asked| {
        let Header { id, command, .. } = asked.header;
        Some(message(id, command, 7, 0, &asked.body_of_answer()))
    }),
    ("twice", |asked| Some([asked.answer(), asked.answer()].concat())),
    ("too little", |asked| {
        let body = asked.body_of_answer();
        let Header { id, command, .. } = asked.header;
        let less = body.len().checked_sub(33).map_or(0, |_| 3);
        Some(message(id, command, REPLY, 0, &body[..less]))
    }),
    ("another place", |asked| {
        let mut body = asked.body_of_answer();
        body.iter_mut().for_each(|byte| *byte = !*byte);
        let Header { id, command, .. } = asked.header;
        Some(message(id, command, REPLY, 0, &body))
    }),
    ("ones", |_| Some(vec![0xff; 64])),
];

fn sized(asked: &Asked, size: u32) -> Vec<u8> {
    let mut answer = asked.answer();
    answer[4..8].copy_from_slice(&size.to_ne_bytes());
    answer
}

#[test]
fn each_wrong_answer_to_each_command_ends_the_session_and_nothing_else() {
    for at in ALL {
        for (what, wrong) in WRONG {
            // These have no body that could be wrong, or any numbers will do.
            let no_matter = match at {
                Command::SetIrqs | Command::DeviceReset => {
                    ["too little", "another place"].contains(&what)
                }
                Command::GetInfo | Command::GetRegionInfo | Command::GetIrqInfo => {
                    what == "another place"
                }
                _ => false,
            };
            if no_matter {
                continue;
            }
            let (session, server) = against(move |asked, _| match asked.is(at) {
                true => wrong(asked).map_or(Reaction::Leaves, Reaction::Says),
                false => Reaction::Says(asked.answer()),
            });
            let since = Instant::now();
            let mut used = use_all(&session);
            // What comes behind an answer is seen by the next who asks.
            for _ in 0..100 {
                if used.is_err() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(2));
                used = session.read(0, 0, &mut [0]);
            }
            assert!(matches!(used, Err(Trouble::Ended(_))), "{at:?}: {what}: {used:?}");
            assert!(session.ended().is_some(), "{at:?}: {what}");
            assert!(since.elapsed() < 3 * PATIENCE, "{at:?}: {what}");
            assert!(session.end().read().is_ok(), "{at:?}: {what}");
            let again = session.read(0, 0, &mut [0; 4]);
            assert!(matches!(again, Err(Trouble::Ended(_))));
            drop(session);
            server.join().unwrap();
        }
    }
}

#[test]
fn what_a_server_refuses_ends_nothing() {
    for errno in [libc::EINVAL as u32, 0, u32::MAX] {
        let (session, _server) = against(move |asked, _| {
            let Header { id, command, .. } = asked.header;
            Reaction::Says(match asked.is(Command::RegionRead) {
                true => message(id, command, REPLY | FAILED, errno, &[]),
                false => asked.answer(),
            })
        });
        session.agree().unwrap();
        let refused = session.read(0, 0, &mut [0; 4]);
        assert!(matches!(refused, Err(Trouble::Refused(_))), "{refused:?}");
        session.write(0, 0, &[0; 4]).unwrap();
    }
}

#[test]
fn a_server_that_hangs_is_waited_for_once() {
    let (session, server) = against(|asked, _| match asked.is(Command::RegionRead) {
        true => Reaction::Says(Vec::new()),
        false => Reaction::Says(asked.answer()),
    });
    session.agree().unwrap();
    let since = Instant::now();
    let told = session.read(0, 0, &mut [0; 4]).unwrap_err().to_string();
    assert_eq!(told, "does not answer within 500ms (RegionRead)");
    assert!((PATIENCE..3 * PATIENCE).contains(&since.elapsed()));
    let since = Instant::now();
    session.read(0, 0, &mut [0; 4]).unwrap_err();
    assert!(since.elapsed() < PATIENCE / 2);
    drop(session);
    server.join().unwrap();
}

#[test]
fn files_that_a_server_sends_are_not_kept() {
    let count = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let (session, _server) = against(|asked, stream| {
        let fds = [stream.as_raw_fd(); 250];
        let parts = [asked.answer()];
        let parts = [IoSlice::new(&parts[0])];
        let rights = [ControlMessage::ScmRights(&fds)];
        let flags = MsgFlags::MSG_NOSIGNAL;
        let _ = sendmsg::<UnixAddr>(stream.as_raw_fd(), &parts, &rights, flags, None);
        Reaction::Says(Vec::new())
    });
    session.agree().unwrap();
    let before = count();
    for _ in 0..20 {
        session.read(0, 0, &mut [0; 4]).unwrap();
    }
    // Other tests have files too.
    assert!(count() < before + 1000);
}

#[test]
fn a_server_may_ask_for_memory_in_the_middle_of_an_access() {
    let read = |at: u64, count: u64| DmaAccess { address: at, count }.as_bytes().to_vec();
    let (session, _server) = against(move |asked, mut stream| {
        if !asked.is(Command::RegionRead) {
            return Reaction::Says(asked.answer());
        }
        let mut from = stream.try_clone().unwrap();
        let mut ask = |command: Command, flags, body: &[u8]| {
            stream.write_all(&message(7, command as u16, flags, 0, body)).unwrap();
        };
        ask(Command::DmaWrite, NO_REPLY, &[read(0x1000, 2), vec![1, 2]].concat());
        ask(Command::DmaRead, 0, &read(0x1000, 4));
        let answer = next(&mut from).unwrap();
        assert_eq!((answer.header.id, answer.header.flags), (7, REPLY));
        assert_eq!(answer.body[16..], [1, 2, 0, 0]);
        ask(Command::DmaRead, 0, &read(0x9000_0000, 4));
        let answer = next(&mut from).unwrap();
        assert_eq!(
            (answer.header.flags, answer.header.error),
            (REPLY | FAILED, libc::EFAULT as u32)
        );
        ask(Command::DeviceReset, 0, &[]);
        let answer = next(&mut from).unwrap();
        assert_eq!(
            (answer.header.flags, answer.header.error),
            (REPLY | FAILED, libc::ENOTSUP as u32)
        );
        Reaction::Says(asked.answer())
    });
    let memory = Arc::new(testing::empty());
    let flags = MappingFlags::READ | MappingFlags::WRITE;
    memory.map_alloc(GuestPhysAddr(0x1000), 0x1000, flags, true).unwrap();
    session.agree().unwrap();
    session.dma().set(Some(memory));
    session.read(0, 0, &mut [0; 4]).unwrap();
    session.read(0, 0, &mut [0; 4]).unwrap();
}

#[test]
fn a_server_that_asks_without_end_and_reads_nothing_is_given_up() {
    let (session, server) = against(|asked, mut stream| {
        if asked.is(Command::RegionRead) {
            let ask = DmaAccess { address: 0x1000, count: 1 << 20 };
            let ask = message(1, Command::DmaRead as u16, 0, 0, ask.as_bytes());
            while stream.write_all(&ask).is_ok() {}
            return Reaction::Leaves;
        }
        Reaction::Says(asked.answer())
    });
    let memory = Arc::new(testing::empty());
    memory.map_alloc(GuestPhysAddr(0x1000), 1 << 20, MappingFlags::READ, true).unwrap();
    session.agree().unwrap();
    session.dma().set(Some(memory));
    let since = Instant::now();
    session.read(0, 0, &mut [0; 4]).unwrap_err();
    assert!(since.elapsed() < 4 * PATIENCE);
    drop(session);
    server.join().unwrap();
}
