//! An interrupt line, as a device holds it.

use std::{fmt, sync::Arc};

use crate::hal::IrqSink;

/// One line of the interrupt controller. Cheap to clone; any thread may drive it.
#[derive(Clone)]
pub struct IrqLine {
    sink: Option<Arc<dyn IrqSink>>,
    irq: u32,
}

impl IrqLine {
    /// The line `irq` of `sink`.
    pub fn new(sink: Arc<dyn IrqSink>, irq: u32) -> Self {
        Self { sink: Some(sink), irq }
    }

    /// A line that leads nowhere.
    pub fn unconnected() -> Self {
        Self { sink: None, irq: 0 }
    }

    /// Drives the line: for level-triggered interrupts.
    pub fn set(&self, high: bool) {
        if let Some(sink) = &self.sink {
            sink.set_irq(self.irq, high);
        }
    }

    /// Up and down again: for edge-triggered interrupts.
    pub fn pulse(&self) {
        if let Some(sink) = &self.sink {
            sink.pulse_irq(self.irq);
        }
    }
}

/// A level-triggered line that remembers its level, so that only changes reach the controller. It
/// stands inside of the lock of its device's state: what two threads do comes out in that order.
#[derive(Debug)]
pub struct LevelIrq {
    line: IrqLine,
    high: bool,
}

impl LevelIrq {
    /// `line`, which is low.
    pub fn new(line: IrqLine) -> Self {
        Self { line, high: false }
    }

    /// Drives the line, if that changes it.
    pub fn set(&mut self, high: bool) {
        if self.high != high {
            self.high = high;
            self.line.set(high);
        }
    }
}

impl fmt::Debug for IrqLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.sink {
            Some(_) => write!(f, "IrqLine({})", self.irq),
            None => write!(f, "IrqLine(unconnected)"),
        }
    }
}
