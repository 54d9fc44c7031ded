//! The controller against a slow and obvious one, which follows the specification's sentences.

use std::cmp::Reverse;

use proptest::{collection, prelude::*};

use super::*;

const HARTS: usize = 3;

#[derive(Clone, Copy, Debug)]
enum Step {
    Line { source: u32, high: bool },
    Pulse { source: u32 },
    Priority { source: u32, value: u32 },
    Enable { hart: usize, source: u32, on: bool },
    Threshold { hart: usize, value: u32 },
    Claim { hart: usize },
    Complete { hart: usize, source: u32 },
}

/// Few sources, so that they meet; the first and the last of each register among them.
fn source() -> impl Strategy<Value = u32> {
    prop::sample::select(vec![1, 2, 31, 32, 63, 64, SOURCES])
}

fn step() -> impl Strategy<Value = Step> {
    let hart = || 0..HARTS;
    // Values above the range lose bits.
    let level = || 0..=MAX_PRIORITY + 3;
    prop_oneof![
        (source(), any::<bool>()).prop_map(|(source, high)| Step::Line { source, high }),
        source().prop_map(|source| Step::Pulse { source }),
        (source(), level()).prop_map(|(source, value)| Step::Priority { source, value }),
        (hart(), source(), prop::bool::weighted(0.7)).prop_map(|(hart, source, on)| Step::Enable {
            hart,
            source,
            on
        }),
        (hart(), level()).prop_map(|(hart, value)| Step::Threshold { hart, value }),
        hart().prop_map(|hart| Step::Claim { hart }),
        (hart(), source()).prop_map(|(hart, source)| Step::Complete { hart, source }),
    ]
}

#[derive(Clone, Copy, Default)]
struct Source {
    priority: u32,
    high: bool,
    pending: bool,
    in_service: bool,
    edge_meanwhile: bool,
    enabled: [bool; HARTS],
}

struct Model {
    sources: Vec<Source>,
    thresholds: [u32; HARTS],
}

impl Model {
    fn new() -> Self {
        Self { sources: vec![Source::default(); SOURCES as usize + 1], thresholds: [0; HARTS] }
    }

    fn gateway(&mut self, source: u32) {
        let source = &mut self.sources[source as usize];
        source.pending |= !source.in_service;
    }

    fn highest(&self, hart: usize) -> Option<(u32, u32)> {
        let all = self.sources.iter().enumerate();
        all.filter(|(_, s)| s.pending && s.enabled[hart] && s.priority > 0)
            .map(|(id, s)| (s.priority, Reverse(id as u32)))
            .max()
            .map(|(priority, Reverse(id))| (id, priority))
    }

    fn pins(&self) -> Vec<bool> {
        let above = |hart: usize| {
            self.highest(hart).is_some_and(|(_, priority)| priority > self.thresholds[hart])
        };
        (0..HARTS).map(above).collect()
    }

    /// What a claim returns, for a claim.
    fn step(&mut self, step: Step) -> Option<u32> {
        match step {
            Step::Line { source, high } => {
                self.sources[source as usize].high = high;
                if high {
                    self.gateway(source);
                }
            }
            Step::Pulse { source } => {
                let of = &mut self.sources[source as usize];
                of.high = false;
                of.edge_meanwhile |= of.in_service;
                self.gateway(source);
            }
            Step::Priority { source, value } => {
                self.sources[source as usize].priority = value % 8;
            }
            Step::Enable { hart, source, on } => self.sources[source as usize].enabled[hart] = on,
            Step::Threshold { hart, value } => self.thresholds[hart] = value % 8,
            Step::Claim { hart } => {
                let claimed = self.highest(hart).map_or(0, |(id, _)| id);
                if claimed != 0 {
                    let of = &mut self.sources[claimed as usize];
                    (of.pending, of.in_service) = (false, true);
                }
                return Some(claimed);
            }
            Step::Complete { hart, source } => {
                let of = &mut self.sources[source as usize];
                if of.enabled[hart] && of.in_service {
                    of.in_service = false;
                    of.pending = of.high || of.edge_meanwhile;
                    of.edge_meanwhile = false;
                }
            }
        }
        None
    }

    fn pending(&self, word: usize) -> u32 {
        let bits = self.sources.iter().skip(word * 32).take(32).enumerate();
        bits.fold(0, |word, (bit, source)| word | u32::from(source.pending) << bit)
    }
}

fn apply(plic: &Plic, step: Step) -> Option<u32> {
    match step {
        Step::Line { source, high } => plic.set_irq(source, high),
        Step::Pulse { source } => plic.pulse_irq(source),
        Step::Priority { source, value } => write32(plic, u64::from(source) * 4, value),
        Step::Enable { hart, source, on } => {
            let offset = enables(hart as u64) + u64::from(source) / 32 * 4;
            let bit = 1 << (source % 32);
            let others = read32(plic, offset) & !bit;
            write32(plic, offset, others | if on { bit } else { 0 });
        }
        Step::Threshold { hart, value } => write32(plic, threshold(hart as u64), value),
        Step::Claim { hart } => return Some(read32(plic, claim(hart as u64))),
        Step::Complete { hart, source } => write32(plic, claim(hart as u64), source),
    }
    None
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_does_as_the_specification_says(steps in collection::vec(step(), 1..200)) {
        let (plic, pins) = plic(HARTS);
        let mut model = Model::new();
        for (at, &step) in steps.iter().enumerate() {
            prop_assert_eq!(apply(&plic, step), model.step(step), "step {}: {:?}", at, step);
            prop_assert_eq!(pins.all(), model.pins(), "step {}: {:?}", at, step);
            for word in 0..3 {
                let pending = read32(&plic, PENDING + 4 * word as u64);
                prop_assert_eq!(pending, model.pending(word), "step {}: {:?}", at, step);
            }
        }
    }
}
