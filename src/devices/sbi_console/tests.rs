use super::*;
use crate::{
    addr::{AccessWidth, GuestPhysAddrRange, MappingFlags},
    addrspace::testing::empty,
    devices::{
        BaseDeviceOps, IrqLine,
        console::RecordingConsole,
        serial::{self, Serial},
        testing::window,
    },
};

const RAM: u64 = 0x8000_0000;
const RAM_SIZE: u64 = 0x1_0000;
const RAM_END: u64 = RAM + RAM_SIZE;

struct Guest {
    console: SbiConsole,
    uart: Arc<Serial<GuestPhysAddrRange>>,
    out: Arc<RecordingConsole>,
    mem: AddrSpace,
}

impl Guest {
    fn new() -> Self {
        let out = Arc::new(RecordingConsole::default());
        let line = IrqLine::unconnected();
        let uart = Arc::new(Serial::new("uart", window(8), line, out.clone()).unwrap());
        let mem = empty();
        let flags = MappingFlags::READ | MappingFlags::WRITE;
        // Two areas, one right behind the other.
        mem.map_alloc(GuestPhysAddr(RAM), RAM_SIZE / 2, flags, true).unwrap();
        mem.map_alloc(GuestPhysAddr(RAM + RAM_SIZE / 2), RAM_SIZE / 2, flags, true).unwrap();
        Self { console: SbiConsole::new(out.clone(), uart.clone()), uart, out, mem }
    }

    fn call(&self, eid: u64, fid: u64, a: [u64; 3]) -> (i64, i64) {
        let ret = self.console.call(&self.mem, eid, fid, [a[0], a[1], a[2], 0, 0, 0]);
        (ret.error, ret.value)
    }

    fn getchar(&self) -> i64 {
        self.call(LEGACY_GETCHAR, 0, [0; 3]).0
    }

    /// Whether the host was told to feed again.
    fn told(&self) -> bool {
        self.console.notify().read().is_ok()
    }

    /// The guest's driver enables the UART's receive interrupt.
    fn opens_uart(&self) {
        let (ier, rda) = (serial::IER.into(), serial::IER_RDA.into());
        let _ = self.uart.handle_write(ier, AccessWidth::Byte, rda).unwrap();
    }
}

#[test]
fn bytes_go_to_the_console_one_by_one() {
    let guest = Guest::new();
    assert_eq!(guest.call(LEGACY_PUTCHAR, 77, [0x1_0041, 0, 0]), (0, 0));
    assert_eq!(guest.call(DBCN, DBCN_WRITE_BYTE, [0xff42, 0, 0]), (0, 0));
    assert_eq!(guest.out.bytes(), b"AB");
}

#[test]
fn what_is_not_a_console_is_not_supported() {
    let guest = Guest::new();
    for (eid, fid) in [(0, 0), (3, 0), (0x10, 0), (DBCN, 3), (DBCN, u64::MAX), (u64::MAX, 0)] {
        assert_eq!(guest.call(eid, fid, [1, RAM, 0]), (SBI_ERR_NOT_SUPPORTED, 0));
    }
    assert_eq!(guest.out.bytes(), b"");
}

#[test]
fn memory_is_written_out_a_chunk_at_a_time() {
    let guest = Guest::new();
    let text: Vec<u8> = (0..10_000).map(|i| (i % 251) as u8).collect();
    // Across both areas.
    let from = RAM + RAM_SIZE / 2 - 5_000;
    guest.mem.write(GuestPhysAddr(from), &text).unwrap();
    let mut done = 0;
    while done < text.len() as u64 {
        let (error, value) =
            guest.call(DBCN, DBCN_WRITE, [text.len() as u64 - done, from + done, 0]);
        assert!(error == 0 && (1..=CHUNK as i64).contains(&value));
        done += value as u64;
    }
    assert_eq!(guest.out.bytes(), text);
}

#[test]
fn memory_that_is_not_all_there_is_refused_and_nothing_is_moved() {
    let guest = Guest::new();
    guest.getchar();
    assert_eq!(guest.console.feed(b"x"), 1);
    for (len, low, high) in [
        (1, 0, 0),
        (1, RAM - 1, 0),
        (2, RAM - 1, 0),
        (1, RAM_END, 0),
        (2, RAM_END - 1, 0),
        (RAM_SIZE + 1, RAM, 0),
        (u64::MAX, RAM, 0),
        (1 << 63, RAM, 0),
        (2, u64::MAX, 0),
        (u64::MAX, u64::MAX, 0),
        (1, RAM, 1),
        (0, RAM, u64::MAX),
    ] {
        for fid in [DBCN_WRITE, DBCN_READ] {
            let refused = (SBI_ERR_INVALID_PARAM, 0);
            assert_eq!(guest.call(DBCN, fid, [len, low, high]), refused, "{len:#x} {low:#x}");
        }
    }
    assert_eq!((guest.out.bytes(), guest.getchar()), (vec![], b'x'.into()));
    for fid in [DBCN_WRITE, DBCN_READ] {
        assert_eq!(guest.call(DBCN, fid, [0, 0, 0]), (0, 0));
    }
    assert_eq!(guest.call(DBCN, DBCN_WRITE, [RAM_SIZE, RAM, 0]), (0, CHUNK as i64));
}

#[test]
fn input_comes_to_who_asks_and_waits_outside_until_then() {
    let guest = Guest::new();
    assert_eq!((guest.console.feed(b"hello"), guest.told()), (0, false));
    assert_eq!((guest.getchar(), guest.told()), (NO_CHARACTER, true));
    assert_eq!(guest.console.feed(b"hello"), 5);
    assert_eq!(guest.getchar(), i64::from(b'h'));
    assert_eq!(guest.call(DBCN, DBCN_READ, [3, RAM_END - 3, 0]), (0, 3));
    assert_eq!(guest.call(DBCN, DBCN_READ, [RAM_SIZE, RAM, 0]), (0, 1));
    assert_eq!(guest.call(DBCN, DBCN_READ, [1, RAM, 0]), (0, 0));
    let mut read = [0; 4];
    guest.mem.read(GuestPhysAddr(RAM_END - 3), &mut read[..3]).unwrap();
    guest.mem.read(GuestPhysAddr(RAM), &mut read[3..]).unwrap();
    assert_eq!((&read, guest.getchar(), guest.told()), (b"ello", NO_CHARACTER, false));
}

#[test]
fn input_is_bounded_and_asks_for_more_when_read() {
    let guest = Guest::new();
    guest.getchar();
    let flood = [7; 2 * QUEUE];
    assert_eq!((guest.console.feed(&flood), guest.console.feed(&flood)), (QUEUE, 0));
    for _ in 0..QUEUE {
        assert!(!guest.told());
        assert_eq!(guest.getchar(), 7);
    }
    assert!(guest.told());
    assert_eq!(guest.console.feed(&flood), QUEUE);
}

#[test]
fn once_the_uart_listens_the_keyboard_is_its() {
    let guest = Guest::new();
    guest.getchar();
    assert_eq!(guest.console.feed(b"a"), 1);
    guest.opens_uart();
    assert!(guest.told()); // it was offered that byte as well
    let flood = [7; 100];
    let taken = guest.console.feed(&flood);
    assert!(taken > 0 && taken < flood.len());
    // Its FIFO is full: nothing strays to here.
    assert_eq!(guest.console.feed(&flood), 0);
    assert_eq!([guest.getchar(), guest.getchar()], [b'a'.into(), NO_CHARACTER]);
    assert!(!guest.told());
    for _ in 0..taken {
        let byte = guest.uart.handle_read(serial::RBR_THR.into(), AccessWidth::Byte);
        assert_eq!(byte, Ok(7));
    }
    assert!(guest.told());
}
