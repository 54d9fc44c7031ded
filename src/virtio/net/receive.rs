//! The receiving half of a queue pair (virtio 1.2, 5.1.6.4).

use std::io;

use super::{
    backend::{Port, Trouble},
    drops::Drops,
    half::{GO, Half},
    header::{MOST, NUM_BUFFERS},
    room::Room,
};

/// Frames on their way into the guest.
pub struct Receiver {
    pub half: Half,
    drops: Drops,
    /// A frame may span several chains (MRG_RXBUF).
    spans: bool,
    room: Room,
    spill: Box<[u8]>,
    frame: Option<Frame>,
    /// The port may have frames.
    has_frames: bool,
}

/// A frame that has been read, but not been given to the driver.
#[derive(Clone, Copy)]
struct Frame {
    len: usize,
    /// So much of it stands in the room.
    in_room: usize,
    /// The spill begins with this byte of it.
    spill_at: usize,
}

impl Receiver {
    pub fn new(half: Half, drops: Drops, spans: bool) -> Self {
        let spill = vec![0; MOST].into_boxed_slice();
        Self { half, drops, spans, room: Room::default(), spill, frame: None, has_frames: true }
    }

    /// The port has become readable.
    pub fn readable(&mut self) {
        self.has_frames = true;
    }

    /// Takes frames from the port, as many as there are and the driver and the limits let through.
    ///
    /// # Errors
    /// The port has none for ever.
    pub fn run(&mut self, port: &mut dyn Port) -> io::Result<()> {
        let done = self.take_frames(port);
        self.half.queue.signal();
        done
    }

    fn take_frames(&mut self, port: &mut dyn Port) -> io::Result<()> {
        for _ in 0..GO {
            if self.frame.is_none() {
                self.frame = self.read(port)?;
            }
            let Some(frame) = self.frame else { return Ok(()) };
            if !self.has_room(frame) {
                if self.can_get_room() {
                    return Ok(());
                }
                self.drops.add(&format_args!("the guest has no room for its {} bytes", frame.len));
                self.frame = None;
            } else if self.half.passes(frame.len) {
                self.deliver(frame.len);
            } else {
                return Ok(());
            }
        }
        self.half.again();
        Ok(())
    }

    /// The next frame, if there is one and at least some room for it.
    fn read(&mut self, port: &mut dyn Port) -> io::Result<Option<Frame>> {
        if !self.has_frames {
            return Ok(None);
        }
        self.room.fill(&mut self.half.queue, self.spans);
        if self.room.is_empty() {
            return Ok(None);
        }
        match port.receive(&self.room, &mut self.spill) {
            Ok(len) => {
                let room = self.room.len();
                return Ok(Some(Frame { len, in_room: len.min(room), spill_at: room }));
            }
            Err(Trouble::Gone(error)) => return Err(error),
            Err(Trouble::Refused(error)) => self.drops.add(&error),
            Err(Trouble::Later) => {}
        }
        self.has_frames = false;
        Ok(None)
    }

    /// Whether all of the frame stands in the room, for which more is taken if it must.
    fn has_room(&mut self, mut frame: Frame) -> bool {
        if frame.in_room < frame.len && self.spans {
            self.room.fill(&mut self.half.queue, true);
            let rest = &self.spill[frame.in_room - frame.spill_at..frame.len - frame.spill_at];
            self.room.write_at(frame.in_room, rest);
            frame.in_room = frame.len.min(self.room.len());
            self.frame = Some(frame);
        }
        frame.in_room == frame.len
    }

    /// Whether the driver may yet give more room. When all that its queue can hold is here, it
    /// would wait for the frame as the frame waits for it.
    fn can_get_room(&self) -> bool {
        self.spans && self.room.pieces() < usize::from(self.half.queue.size())
    }

    fn deliver(&mut self, len: usize) {
        let chains = self.room.chains_of(len);
        self.room.write_at(NUM_BUFFERS, &chains.to_le_bytes());
        self.half.complete(&self.room.take(len));
        self.frame = None;
    }
}
