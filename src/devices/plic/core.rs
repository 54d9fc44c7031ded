//! The controller itself: gateways, priorities, contexts, claims. Registers in, pins out; what
//! changes a pin is told by a closure, and only what changes.

use super::{MAX_PRIORITY, SOURCES};

/// A bit a source; bit 0 is never set.
type Set = u128;

const ALL: Set = (1 << (SOURCES + 1)) - 2;

/// Of the sources that are not there, nothing is kept.
fn bit(source: usize) -> Set {
    if source <= SOURCES as usize { (1 << source) & ALL } else { 0 }
}

/// The 32 sources of a register.
fn word(set: Set, word: usize) -> u32 {
    set.checked_shr(32 * word as u32).unwrap_or(0) as u32
}

/// The supervisor mode of a hart.
#[derive(Clone, Debug, Default)]
struct Context {
    enabled: Set,
    threshold: u8,
    /// What the hart was told last.
    pin: bool,
}

#[derive(Debug)]
pub struct Core {
    priorities: [u8; SOURCES as usize + 1],
    /// What the devices' lines are like now.
    high: Set,
    /// Forwarded by the gateway, claimed by nobody.
    pending: Set,
    /// Claimed and not completed: the gateway forwards nothing.
    served: Set,
    /// Edges that came meanwhile.
    again: Set,
    contexts: Vec<Context>,
}

impl Core {
    pub fn new(contexts: usize) -> Self {
        Self {
            priorities: [0; SOURCES as usize + 1],
            high: 0,
            pending: 0,
            served: 0,
            again: 0,
            contexts: vec![Context::default(); contexts],
        }
    }

    pub fn priority(&self, source: usize) -> u32 {
        self.priorities.get(source).copied().unwrap_or(0).into()
    }

    pub fn pending(&self, at: usize) -> u32 {
        word(self.pending, at)
    }

    pub fn enables(&self, context: usize, at: usize) -> u32 {
        word(self.contexts[context].enabled, at)
    }

    pub fn threshold(&self, context: usize) -> u32 {
        self.contexts[context].threshold.into()
    }

    pub fn set_priority(&mut self, source: usize, value: u32, pin: &mut dyn FnMut(usize, bool)) {
        if bit(source) != 0 {
            self.priorities[source] = (value & MAX_PRIORITY) as u8;
            self.update_all(bit(source), pin);
        }
    }

    pub fn set_enables(
        &mut self,
        context: usize,
        at: usize,
        value: u32,
        pin: &mut dyn FnMut(usize, bool),
    ) {
        let shift = 32 * at as u32;
        let mask = Set::from(u32::MAX).checked_shl(shift).unwrap_or(0) & ALL;
        let new = Set::from(value).checked_shl(shift).unwrap_or(0) & mask;
        let enabled = &mut self.contexts[context].enabled;
        *enabled = (*enabled & !mask) | new;
        self.update(context, pin);
    }

    pub fn set_threshold(&mut self, context: usize, value: u32, pin: &mut dyn FnMut(usize, bool)) {
        self.contexts[context].threshold = (value & MAX_PRIORITY) as u8;
        self.update(context, pin);
    }

    /// A device drives its line; `source` is one that is there. What is pending stays so when the
    /// line falls.
    pub fn set_level(&mut self, source: usize, high: bool, pin: &mut dyn FnMut(usize, bool)) {
        let bit = bit(source);
        if high {
            self.high |= bit;
            self.forward(bit, pin);
        } else {
            self.high &= !bit;
        }
    }

    /// The line rises and falls at once.
    pub fn pulse(&mut self, source: usize, pin: &mut dyn FnMut(usize, bool)) {
        let bit = bit(source);
        self.high &= !bit;
        self.again |= bit & self.served;
        self.forward(bit, pin);
    }

    /// The source that `context` is to serve, which is no longer pending; 0: none. The threshold
    /// does not matter here ("Interrupt Claim Process").
    pub fn claim(&mut self, context: usize, pin: &mut dyn FnMut(usize, bool)) -> u32 {
        let (source, _) = self.best(context);
        let bit = bit(source as usize);
        self.pending &= !bit;
        self.served |= bit;
        self.update_all(bit, pin);
        source
    }

    /// `source` has been served. From a context that has it not enabled, this is ignored; which
    /// context has claimed it does not matter ("Interrupt Completion").
    pub fn complete(&mut self, context: usize, source: u32, pin: &mut dyn FnMut(usize, bool)) {
        let bit = bit(source as usize) & self.contexts[context].enabled & self.served;
        self.served &= !bit;
        let next = bit & (self.high | self.again);
        self.again &= !bit;
        self.forward(next, pin);
    }

    /// The gateway forwards a request, if none of its is on the way.
    fn forward(&mut self, bit: Set, pin: &mut dyn FnMut(usize, bool)) {
        let new = bit & !(self.pending | self.served);
        self.pending |= new;
        self.update_all(new, pin);
    }

    /// The pending source that `context` serves first, with its priority: the highest priority, and
    /// of these the lowest number. Priority 0 never interrupts.
    fn best(&self, context: usize) -> (u32, u8) {
        let mut left = self.pending & self.contexts[context].enabled;
        let mut best = (0, 0);
        while left != 0 {
            let source = left.trailing_zeros();
            left &= left - 1;
            let priority = self.priorities[source as usize];
            if priority > best.1 {
                best = (source, priority);
            }
        }
        best
    }

    /// Brings the pins of all contexts up to date that look at one of `changed`.
    fn update_all(&mut self, changed: Set, pin: &mut dyn FnMut(usize, bool)) {
        if changed == 0 {
            return;
        }
        for context in 0..self.contexts.len() {
            if self.contexts[context].enabled & changed != 0 {
                self.update(context, pin);
            }
        }
    }

    fn update(&mut self, context: usize, pin: &mut dyn FnMut(usize, bool)) {
        let (_, priority) = self.best(context);
        let of = &mut self.contexts[context];
        let high = priority > of.threshold;
        if of.pin != high {
            of.pin = high;
            pin(context, high);
        }
    }
}
