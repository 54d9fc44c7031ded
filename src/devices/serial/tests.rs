use super::*;
use crate::{
    addr::{GuestPhysAddrRange, Port, PortRange},
    devices::{
        console::{POLLS_THAT_LISTEN, RecordingConsole},
        testing::{CountingSink, LevelSink, touch_everything, window},
    },
};

struct Com1 {
    serial: Serial<PortRange>,
    out: Arc<RecordingConsole>,
    irq: Arc<CountingSink>,
}

impl Com1 {
    fn new() -> Self {
        let (irq, line) = CountingSink::line();
        let out = Arc::new(RecordingConsole::default());
        let range = PortRange::new(Port(0x3f8), 8).unwrap();
        let serial = Serial::new("com1", range, line, out.clone()).unwrap();
        Self { serial, out, irq }
    }

    fn w(&self, register: u8, value: u8) {
        let effect = self.serial.handle_write(register.into(), AccessWidth::Byte, value.into());
        assert_eq!(effect, Ok(Effect::None));
    }

    fn r(&self, register: u8) -> u8 {
        self.serial.handle_read(register.into(), AccessWidth::Byte).unwrap() as u8
    }

    /// Whether the host was told to feed again.
    fn told(&self) -> bool {
        self.serial.notify().read().is_ok()
    }
}

#[test]
fn every_offset_takes_every_width_both_ways() {
    touch_everything(&Com1::new().serial);
    let window = PortRange::new(Port(0x100), 16).unwrap();
    let out = Arc::new(RecordingConsole::default());
    let wide = Serial::new("com", window, IrqLine::unconnected(), out).unwrap();
    assert_eq!(wide.handle_read(8, AccessWidth::Byte), Err(Access::NoRegister));
    assert_eq!(wide.handle_read(5, AccessWidth::Dword), Err(Access::NoRegister));
    assert_eq!(wide.handle_write(7, AccessWidth::Word, 0), Err(Access::NoRegister));
}

#[test]
fn output_reaches_the_console_unaltered() {
    let com1 = Com1::new();
    for byte in b"\x1b[2J\0\xff ok" {
        com1.w(RBR_THR, *byte);
    }
    assert_eq!(com1.out.bytes(), b"\x1b[2J\0\xff ok");
}

#[test]
fn a_wide_access_is_split_into_bytes() {
    let com1 = Com1::new();
    // THR gets the low byte, IER the high one.
    let _ = com1.serial.handle_write(0, AccessWidth::Word, 0x0141).unwrap();
    assert_eq!((com1.out.bytes(), com1.r(IER)), (b"A".to_vec(), IER_RDA));
    assert_eq!(com1.serial.handle_read(5, AccessWidth::Word), Ok(0xb060)); // LSR, MSR
}

#[test]
fn input_waits_until_the_receive_interrupt_is_enabled() {
    let com1 = Com1::new();
    assert_eq!(com1.serial.feed(b"early"), 0);
    // Linux' probe: all sources for a moment, the loopback, the FIFOs cleared.
    for (register, value) in [(IER, 0), (IER, 0x0f), (IER, 0), (IIR_FCR, 7), (MCR, 3), (IIR_FCR, 1)]
    {
        com1.w(register, value);
        assert!(!com1.told(), "{register}={value:#x}");
    }
    com1.w(MCR, MCR_OUT2 | 3);
    assert!(!com1.told());
    com1.irq.take(); // the probe's own
    com1.w(IER, 0x05);
    assert!(com1.told());
    assert_eq!((com1.serial.feed(b"early"), com1.irq.take()), (5, 1));
    let read: Vec<u8> = (0..5).map(|_| com1.r(RBR_THR)).collect();
    assert_eq!(read, b"early");
    assert_eq!(com1.r(LSR) & LSR_DR, 0);
    assert!(!com1.told()); // all was taken: nobody waits
}

#[test]
fn with_the_divisor_latch_the_enable_register_is_another() {
    let com1 = Com1::new();
    com1.w(LCR, LCR_DLAB | 3);
    com1.w(IER, IER_RDA); // the divisor's high byte
    com1.w(LCR, 3);
    assert_eq!(com1.serial.feed(b"x"), 0);
}

#[test]
fn a_guest_that_polls_listens_as_well() {
    let com1 = Com1::new();
    assert_eq!(com1.serial.feed(b"x"), 0);
    for _ in 1..POLLS_THAT_LISTEN {
        com1.r(LSR);
    }
    assert!(!com1.told());
    com1.r(LSR);
    assert!(com1.told());
    assert_eq!((com1.serial.feed(b"x"), com1.r(LSR) & LSR_DR), (1, LSR_DR));
    com1.w(RBR_THR, b'!'); // it prints: no longer a wait for input
    assert_eq!((com1.serial.feed(b"y"), com1.r(RBR_THR)), (0, b'x'));
}

#[test]
fn input_is_bounded_by_the_fifo_and_asks_for_more_when_drained() {
    let com1 = Com1::new();
    com1.w(IER, IER_RDA);
    let flood: Vec<u8> = (0..=255).collect();
    assert_eq!(com1.serial.feed(&flood), FIFO_SIZE);
    assert_eq!(com1.serial.feed(&flood[FIFO_SIZE..]), 0);
    for expect in 0..FIFO_SIZE as u8 {
        assert!(!com1.told());
        assert_eq!(com1.r(RBR_THR), expect);
    }
    assert!(com1.told());
    assert_eq!(com1.serial.feed(&flood[FIFO_SIZE..]), FIFO_SIZE);
}

#[test]
fn loopback_is_bounded_and_keeps_the_host_out() {
    let com1 = Com1::new();
    com1.w(MCR, MCR_LOOP);
    com1.w(IER, IER_RDA);
    for byte in 0..=255 {
        com1.w(RBR_THR, byte);
    }
    assert_eq!(com1.serial.feed(b"x"), 0);
    let read: Vec<u8> = (0..FIFO_SIZE).map(|_| com1.r(RBR_THR)).collect();
    assert_eq!(read, (0..FIFO_SIZE as u8).collect::<Vec<_>>());
    assert_eq!(com1.r(LSR) & LSR_DR, 0);
    assert_eq!(com1.out.bytes(), b"");
    assert!(!com1.told());
    com1.w(MCR, 0);
    assert!(com1.told());
}

#[test]
fn the_transmitter_interrupts_once_until_acknowledged() {
    let com1 = Com1::new();
    com1.w(IER, 0x02);
    assert_eq!(com1.irq.take(), 1);
    assert_eq!([com1.r(IIR_FCR), com1.r(IIR_FCR)], [0xc2, 0xc1]);
    com1.w(RBR_THR, b'a');
    com1.w(RBR_THR, b'b');
    assert_eq!((com1.irq.take(), com1.r(IIR_FCR)), (1, 0xc2));
}

/// In memory, with a line whose level counts.
fn mmio() -> (Serial<GuestPhysAddrRange>, Arc<LevelSink>) {
    let (irq, line) = LevelSink::line();
    let out = Arc::new(RecordingConsole::default());
    (Serial::new("uart", window(0x100), line, out).unwrap(), irq)
}

#[test]
fn in_memory_all_is_the_same() {
    let (uart, _irq) = mmio();
    touch_everything(&uart);
    let _ = uart.handle_write(SCR.into(), AccessWidth::Byte, 0x5a).unwrap();
    assert_eq!(uart.handle_read(SCR.into(), AccessWidth::Byte), Ok(0x5a));
    assert_eq!(uart.handle_read(REGISTERS, AccessWidth::Byte), Err(Access::NoRegister));
}

#[test]
fn the_line_is_high_as_long_as_a_cause_is_there() {
    let (uart, irq) = mmio();
    let w = |register: u8, value: u8| {
        let _ = uart.handle_write(register.into(), AccessWidth::Byte, value.into()).unwrap();
        irq.high()
    };
    let r = |register: u8| {
        let value = uart.handle_read(register.into(), AccessWidth::Byte).unwrap() as u8;
        (value, irq.high())
    };
    assert!(!w(IER, IER_RDA));
    assert_eq!(uart.feed(b"ab"), 2);
    assert!(irq.high());
    irq.take_driven();
    // Identifying does not acknowledge it, nor does a part of the data.
    assert_eq!([r(IIR_FCR), r(IIR_FCR)], [(0xc4, true); 2]);
    assert_eq!(r(RBR_THR), (b'a', true));
    assert_eq!((r(IIR_FCR), irq.take_driven()), ((0xc4, true), 0));
    // A console masks all while it prints, and finds its input again.
    assert!(!w(IER, 0));
    assert_eq!(r(IIR_FCR), (0xc1, false));
    assert!(w(IER, IER_RDA | IER_THRE));
    assert_eq!(r(RBR_THR), (b'b', true)); // the transmitter is left
    assert_eq!([r(IIR_FCR), r(IIR_FCR)], [(0xc2, false), (0xc1, false)]);
    assert!(w(RBR_THR, b'x'));
    assert!(!w(IER, IER_RDA));
}
