use super::*;
use crate::devices::testing::{CountingSink, touch_everything};

struct Pc {
    controller: Arc<I8042>,
    data: I8042Port,
    command: I8042Port,
    irq: Arc<CountingSink>,
}

impl Pc {
    fn new() -> Self {
        let (irq, line) = CountingSink::line();
        let controller = Arc::new(I8042::new(line));
        let data = controller.data_port(Port(0x60));
        let command = controller.command_port(Port(0x64));
        Self { controller, data, command, irq }
    }

    fn data(&self, byte: u8) {
        assert_eq!(effect(&self.data, byte), Effect::None);
    }

    fn command(&self, byte: u8) {
        assert_eq!(effect(&self.command, byte), Effect::None);
    }

    fn status(&self) -> u8 {
        self.command.handle_read(0, AccessWidth::Byte).unwrap() as u8
    }

    /// All that port 0x60 has, byte by byte; each must have been announced by an edge.
    fn drain(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.status() & status::OBF != 0 {
            bytes.push(self.data.handle_read(0, AccessWidth::Byte).unwrap() as u8);
        }
        bytes
    }

    fn ask(&self, command: u8) -> Vec<u8> {
        self.command(command);
        self.drain()
    }

    fn tell(&self, bytes: &[u8]) -> Vec<u8> {
        bytes.iter().for_each(|byte| self.data(*byte));
        self.drain()
    }
}

fn effect(port: &I8042Port, byte: u8) -> Effect {
    port.handle_write(0, AccessWidth::Byte, byte.into()).unwrap()
}

#[test]
fn every_offset_takes_every_width_both_ways() {
    let pc = Pc::new();
    touch_everything(&pc.data);
    touch_everything(&pc.command);
    touch_everything(&pc.data);
}

#[test]
fn only_the_reset_commands_reset() {
    for command in 0..=0xff {
        let effect = effect(&Pc::new().command, command);
        assert_eq!(effect, if command == 0xfe { Effect::Reset } else { Effect::None });
    }
    let pc = Pc::new();
    for (output_port, expect) in [(0xdf, Effect::None), (0x03, Effect::None), (0x02, Effect::Reset)]
    {
        pc.command(command::WRITE_OUTPUT_PORT);
        assert_eq!(effect(&pc.data, output_port), expect, "{output_port:#x}");
    }
}

#[test]
fn a_drivers_probe_gets_an_answer_to_every_question() {
    let pc = Pc::new();
    assert_eq!(pc.status(), status::UNLOCKED | status::SYS);
    assert_eq!(pc.ask(command::SELF_TEST), [SELF_TEST_OK]);
    assert_eq!(pc.ask(command::READ_RAM), [0x65]);
    assert_eq!(pc.ask(command::KBD_TEST), [KBD_TEST_OK]);
    assert_eq!(pc.ask(command::READ_OUTPUT_PORT), [3]);
    pc.command(command::WRITE_RAM);
    assert_eq!(pc.status() & status::COMMAND, status::COMMAND);
    assert_eq!(pc.tell(&[0x44]), [0_u8; 0]);
    assert_eq!(pc.ask(command::READ_RAM), [0x44]);
}

#[test]
fn the_mouse_port_answers_that_it_is_not_there() {
    let pc = Pc::new();
    pc.command(command::AUX_LOOP);
    pc.data(0x5a);
    // A byte, so that nobody waits, but without the mouse's mark (bit 5).
    assert_eq!(pc.status() & 0x21, status::OBF);
    // The next answer is not behind the one nobody read.
    assert_eq!(pc.ask(command::AUX_TEST), [AUX_TEST_NO_DEVICE]);
    pc.command(command::AUX_SEND);
    assert_eq!(pc.tell(&[0xff]), [0_u8; 0]);
}

#[test]
fn the_keyboard_is_an_at_keyboard() {
    let pc = Pc::new();
    assert_eq!(pc.tell(&[0xff]), [0xfa, 0xaa]);
    assert_eq!(pc.tell(&[0xf2]), [0xfa, 0xab, 0x41]);
    pc.command(command::WRITE_RAM);
    pc.data(ctr::KBD_INT);
    assert_eq!(pc.tell(&[0xf2]), [0xfa, 0xab, 0x83]);
    assert_eq!(pc.tell(&[0xed, 0x07]), [0xfa, 0xfa]);
}

#[test]
fn each_byte_comes_with_an_edge_of_its_own_if_the_interrupt_is_on() {
    let pc = Pc::new();
    pc.data(0xff);
    assert_eq!(pc.irq.take(), 1);
    assert_eq!(pc.data.handle_read(0, AccessWidth::Byte), Ok(0xfa));
    assert_eq!(pc.irq.take(), 1);
    assert_eq!(pc.data.handle_read(0, AccessWidth::Byte), Ok(0xaa));
    assert_eq!(pc.irq.take(), 0);
    pc.command(command::WRITE_RAM);
    pc.data(0);
    pc.data(0xee);
    assert_eq!(pc.irq.take(), 0);
    pc.command(command::WRITE_RAM);
    pc.data(ctr::KBD_INT); // what lies there is announced now
    assert_eq!((pc.irq.take(), pc.drain()), (1, vec![0xee]));
}

#[test]
fn ctrl_alt_del_is_sent_to_a_guest_that_reads_the_keyboard() {
    let pc = Pc::new();
    assert!(!pc.controller.send_ctrl_alt_del());
    pc.tell(&[0xf4]);
    pc.tell(&[0xf5]);
    assert!(!pc.controller.send_ctrl_alt_del());
    pc.tell(&[0xf4]);
    pc.irq.take();
    assert!(pc.controller.send_ctrl_alt_del());
    assert_eq!(pc.drain(), [0x1d, 0x38, 0xe0, 0x53, 0xe0, 0xd3, 0xb8, 0x9d]);
    assert_eq!(pc.irq.take(), 8);
    pc.command(command::KBD_DISABLE);
    assert!(!pc.controller.send_ctrl_alt_del());
}

#[test]
fn the_buffer_is_bounded() {
    let pc = Pc::new();
    pc.tell(&[0xf4]);
    for _ in 0..1000 {
        pc.data(0xf2);
        pc.controller.send_ctrl_alt_del();
    }
    assert_eq!(pc.drain().len(), OUTPUT_SIZE);
}
