use super::*;
use crate::devices::{
    console::{POLLS_THAT_LISTEN, RecordingConsole},
    testing::{LevelSink, read32, touch_everything, window, write32},
};

struct Uart {
    uart: Pl011,
    out: Arc<RecordingConsole>,
    irq: Arc<LevelSink>,
}

impl Uart {
    fn new() -> Self {
        let (irq, line) = LevelSink::line();
        let out = Arc::new(RecordingConsole::default());
        let uart = Pl011::new("uart", window(primecell::SIZE), line, out.clone()).unwrap();
        Self { uart, out, irq }
    }

    /// As Linux' driver starts it, on a port that is its console.
    fn started() -> Self {
        let uart = Self::new();
        uart.start();
        uart
    }

    fn start(&self) {
        // The console's settings.
        self.w(CR, 0);
        self.w(LCR_H, 0x70);
        self.w(CR, 0x300);
        // The port is opened: interrupts are cleared, unmasked, and masked again.
        self.w(ICR, 0x7d0);
        assert_eq!(self.r(IMSC), 0);
        self.w(IMSC, INT_RT | INT_RX);
        self.w(IMSC, 0);
        self.w(IFLS, 0x12);
        self.w(CR, 0x301);
        self.w(ICR, INT_RT | INT_RX);
        assert!(!self.told() && self.uart.feed(b"x") == 0, "it would be drained");
        assert_eq!(self.r(FR) & FR_RXFE, FR_RXFE);
        self.w(IMSC, INT_RT | INT_RX);
        self.told();
    }

    fn w(&self, register: u64, value: u32) {
        write32(&self.uart, register, value);
    }

    fn r(&self, register: u64) -> u32 {
        read32(&self.uart, register)
    }

    fn text(&self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.r(DR) as u8).collect()
    }

    /// Whether the host was told to feed again.
    fn told(&self) -> bool {
        self.uart.notify().read().is_ok()
    }
}

#[test]
fn every_offset_takes_every_width_both_ways() {
    touch_everything(&Uart::new().uart);
    touch_everything(&Uart::started().uart);
}

#[test]
fn who_never_enables_it_prints_all_the_same() {
    let uart = Uart::new();
    for byte in b"\x1b[2J\0\xff ok" {
        assert_eq!(uart.r(FR) & (FR_TXFE | 0x28), FR_TXFE); // neither full nor busy
        uart.w(DR, (*byte).into());
    }
    assert_eq!(uart.out.bytes(), b"\x1b[2J\0\xff ok");
    assert!(!uart.irq.high());
}

#[test]
fn registers_take_bytes_halves_and_words() {
    let uart = Uart::new();
    for (width, byte) in
        [(AccessWidth::Byte, b'a'), (AccessWidth::Word, b'b'), (AccessWidth::Dword, b'c')]
    {
        let effect = uart.uart.handle_write(DR, width, byte.into());
        assert_eq!(effect, Ok(Effect::None));
        assert_eq!(uart.uart.handle_read(CR, width), Ok(0x300 & width.mask()));
    }
    assert_eq!(uart.out.bytes(), b"abc");
    let wide = uart.uart.handle_write(DR, AccessWidth::Qword, b'd'.into());
    assert_eq!(wide, Err(Access::BadWidth));
    assert_eq!(uart.uart.handle_read(DR + 1, AccessWidth::Byte), Err(Access::Unaligned));
}

#[test]
fn registers_come_out_of_reset_and_keep_the_bits_that_there_are() {
    let uart = Uart::new();
    for (register, reset, kept) in [
        (RSR_ECR, 0, 0),
        (ILPR, 0, 0xff),
        (IBRD, 0, 0xffff),
        (FBRD, 0, 0x3f),
        (LCR_H, 0, 0xff),
        (CR, 0x300, 0xff87),
        (IFLS, 0x12, 0x3f),
        (IMSC, 0, 0x7ff),
        (DMACR, 0, 7),
    ] {
        assert_eq!(uart.r(register), reset, "{register:#x}");
        uart.w(register, u32::MAX);
        assert_eq!(uart.r(register), kept, "{register:#x}");
    }
    for (register, refused) in
        [(FR, Access::ReadOnly), (RIS, Access::ReadOnly), (MIS, Access::ReadOnly)]
    {
        assert_eq!(uart.uart.handle_write(register, AccessWidth::Dword, 0), Err(refused));
    }
    assert_eq!(uart.uart.handle_write(0xfe0, AccessWidth::Dword, 0), Err(Access::ReadOnly));
    assert_eq!(uart.uart.handle_read(ICR, AccessWidth::Dword), Err(Access::WriteOnly));
    for hole in [0x008, 0x014, 0x01c, 0x04c, 0xfdc] {
        assert_eq!(uart.uart.handle_read(hole, AccessWidth::Dword), Err(Access::NoRegister));
        assert_eq!(uart.uart.handle_write(hole, AccessWidth::Dword, 0), Err(Access::NoRegister));
    }
    // The bus of a kernel matches PeriphID & 0x000fffff with 0x00041011.
    let id = (0..4).fold(0, |id, at| id | uart.r(0xfe0 + 4 * at) << (8 * at));
    assert_eq!(id, 0x0014_1011);
}

#[test]
fn input_waits_until_the_driver_has_drained_the_receiver() {
    let uart = Uart::new();
    assert_eq!(uart.uart.feed(b"early"), 0);
    for (register, value) in [(CR, 0), (CR, 0x300), (IMSC, INT_RT | INT_RX), (IMSC, 0), (CR, 0x301)]
    {
        uart.w(register, value);
        assert!(!uart.told(), "{register:#x}={value:#x}");
        assert_eq!(uart.uart.feed(b"early"), 0);
    }
    uart.w(LCR_H, LCR_H_FEN);
    uart.w(IMSC, INT_RT | INT_RX);
    assert!(uart.told());
    assert_eq!(uart.uart.feed(b"early"), 5);
    assert!(uart.irq.high());
    assert_eq!((uart.r(MIS), uart.text(5)), (INT_RT, b"early".to_vec()));
    assert_eq!((uart.irq.high(), uart.r(FR) & FR_RXFE), (false, FR_RXFE));
    assert!(!uart.told()); // all was taken: nobody waits
}

#[test]
fn a_guest_that_never_enables_the_receiver_may_listen() {
    let uart = Uart::new();
    uart.w(IMSC, INT_RX);
    assert_eq!((uart.uart.feed(b"x"), uart.irq.high(), uart.text(1)), (1, true, b"x".to_vec()));
    uart.w(CR, 0x101); // only to send
    assert_eq!(uart.uart.feed(b"y"), 0);
}

#[test]
fn a_guest_that_polls_listens_as_well() {
    let uart = Uart::new();
    assert_eq!(uart.uart.feed(b"xy"), 0);
    for _ in 1..POLLS_THAT_LISTEN {
        uart.r(FR);
    }
    assert!(!uart.told());
    uart.r(FR);
    assert!(uart.told());
    // Without the FIFO there is room for one.
    assert_eq!((uart.uart.feed(b"xy"), uart.r(FR) & (FR_RXFE | FR_RXFF)), (1, FR_RXFF));
    assert_eq!(uart.text(2), b"xx"); // and an empty receiver gives the last one again
    assert!(uart.told());
    uart.w(DR, b'!'.into()); // it prints: no longer a wait for input
    assert_eq!(uart.uart.feed(b"y"), 0);
}

#[test]
fn input_is_bounded_by_the_fifo_and_asks_for_more_when_drained() {
    let uart = Uart::started();
    let flood: Vec<u8> = (0..=255).collect();
    assert_eq!(uart.uart.feed(&flood), FIFO_SIZE);
    assert_eq!((uart.uart.feed(&flood[FIFO_SIZE..]), uart.r(FR) & FR_RXFF), (0, FR_RXFF));
    for expect in 0..FIFO_SIZE as u32 {
        assert!(!uart.told());
        assert_eq!(uart.r(DR), expect);
    }
    assert!(uart.told());
    assert_eq!(uart.uart.feed(&flood[FIFO_SIZE..]), FIFO_SIZE);
}

#[test]
fn the_receive_interrupt_follows_the_level_and_the_timeout_what_is_left() {
    for (ifls, level) in [(0 << 3, 2), (1 << 3, 4), (2 << 3, 8), (3 << 3, 12), (4 << 3, 14)] {
        let uart = Uart::started();
        uart.w(IFLS, ifls);
        assert_eq!(uart.uart.feed(&vec![7; level - 1]), level - 1);
        assert_eq!(uart.r(RIS), INT_RT, "{ifls:#x}");
        assert_eq!((uart.uart.feed(&[7]), uart.r(RIS)), (1, INT_RT | INT_RX));
        uart.r(DR);
        assert_eq!(uart.r(RIS), INT_RT);
        uart.text(level - 1);
        assert_eq!((uart.r(RIS), uart.irq.high()), (0, false));
    }
}

#[test]
fn a_driver_that_clears_before_it_drains_leaves_nothing_behind() {
    let uart = Uart::started();
    assert_eq!(uart.uart.feed(b"ab"), 2);
    uart.w(ICR, INT_RT | INT_RX);
    assert!(!uart.irq.high());
    // One is read, one is left: it interrupts again.
    assert_eq!((uart.r(DR), uart.irq.high()), (b'a'.into(), true));
    assert_eq!((uart.r(DR), uart.irq.high()), (b'b'.into(), false));
    // And what comes while the interrupts are masked is found when they no longer are.
    uart.w(IMSC, INT_RT);
    assert_eq!(uart.uart.feed(b"c"), 1);
    uart.w(IMSC, 0);
    assert!(!uart.irq.high());
    uart.w(IMSC, INT_RT | INT_RX);
    assert!(uart.irq.high());
}

#[test]
fn the_transmitter_interrupts_when_it_has_sent_until_masked_or_cleared() {
    let uart = Uart::started();
    uart.w(IMSC, INT_RT | INT_RX | INT_TX);
    assert!(!uart.irq.high()); // nothing was sent yet
    uart.w(DR, b'a'.into());
    assert_eq!((uart.irq.high(), uart.r(MIS)), (true, INT_TX));
    uart.w(IMSC, INT_RT | INT_RX);
    assert_eq!((uart.irq.high(), uart.r(RIS)), (false, INT_TX));
    uart.w(IMSC, INT_TX);
    assert!(uart.irq.high());
    uart.w(ICR, INT_TX);
    assert_eq!((uart.irq.high(), uart.r(RIS)), (false, 0));
    assert_eq!(uart.out.bytes(), b"a");
}

#[test]
fn loopback_is_bounded_overruns_and_keeps_the_host_out() {
    let uart = Uart::started();
    uart.w(CR, 0x301 | CR_LBE | CR_RTS | CR_OUT2);
    assert_eq!(uart.r(FR) & 0x107, FR_CTS | FR_RI);
    for byte in 0..=FIFO_SIZE as u32 {
        assert_eq!(uart.r(RIS) & INT_OE, 0);
        uart.w(DR, byte);
    }
    assert_eq!((uart.r(RSR_ECR), uart.r(RIS) & INT_OE), (RSR_OE, INT_OE));
    uart.w(RSR_ECR, 0);
    assert_eq!((uart.r(RSR_ECR), uart.uart.feed(b"x")), (0, 0));
    assert_eq!(uart.text(FIFO_SIZE), (0..FIFO_SIZE as u8).collect::<Vec<_>>());
    assert!(!uart.told());
    uart.w(CR, 0x301);
    assert!(uart.told());
    assert_eq!((uart.out.bytes(), uart.r(FR) & 0x107), (vec![], FR_CTS | FR_DSR | FR_DCD));
}

#[test]
fn switching_the_fifo_empties_it_and_the_host_hears_of_it() {
    let uart = Uart::started();
    assert_eq!(uart.uart.feed(&[1; 17]), 16);
    uart.w(LCR_H, 0x60);
    assert_eq!((uart.irq.high(), uart.r(FR) & FR_RXFE, uart.told()), (false, FR_RXFE, true));
    assert_eq!((uart.uart.feed(b"xy"), uart.r(RIS)), (1, INT_RX | INT_RT));
}
