//! The registers in GDB's words: its target description (GDB's manual, appendix G), and the bytes that
//! its packets have.

use std::{fmt::Write as _, num::NonZeroUsize};

use gdbstub::arch::{Arch, RegId, Registers};

use crate::hal::{DebugFeature, DebugModel, DebugRegister};

/// A guest of 64 bits; what its registers are is told by its description.
#[derive(Debug)]
pub enum Guest64 {}

impl Arch for Guest64 {
    type Usize = u64;
    type Registers = RegisterBytes;
    type BreakpointKind = usize;
    type RegId = RegisterNumber;
}

/// All registers as the `g` packet has them; `None`: not to be had.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegisterBytes(pub Vec<Option<u8>>);

impl Registers for RegisterBytes {
    type ProgramCounter = u64;

    /// Nobody asks: where a guest stopped is told by its registers.
    fn pc(&self) -> u64 {
        0
    }

    fn gdb_serialize(&self, write_byte: impl FnMut(Option<u8>)) {
        self.0.iter().copied().for_each(write_byte);
    }

    fn gdb_deserialize(&mut self, bytes: &[u8]) -> Result<(), ()> {
        self.0 = bytes.iter().copied().map(Some).collect();
        Ok(())
    }
}

impl RegisterBytes {
    /// The registers' values in their lengths.
    pub fn of(model: &DebugModel, values: &[Option<u128>]) -> Self {
        let bytes = model.registers().zip(values).flat_map(|(register, value)| {
            let bytes = value.unwrap_or_default().to_le_bytes();
            let is_known = value.is_some();
            (0..register.bytes()).map(move |at| is_known.then_some(bytes[at]))
        });
        Self(bytes.collect())
    }

    /// The values, as far as there are bytes for them.
    pub fn values(&self, model: &DebugModel) -> Vec<Option<u128>> {
        let mut rest = self.0.as_slice();
        let mut values = Vec::new();
        for register in model.registers() {
            let Some((bytes, after)) = rest.split_at_checked(register.bytes()) else { break };
            values.push(
                bytes
                    .iter()
                    .rev()
                    .try_fold(0, |value: u128, byte| Some(value << 8 | u128::from((*byte)?))),
            );
            rest = after;
        }
        values
    }
}

/// A register's number. Whether there is one is the guest's to say.
#[derive(Clone, Copy, Debug)]
pub struct RegisterNumber(pub usize);

impl RegId for RegisterNumber {
    fn from_raw_id(id: usize) -> Option<(Self, Option<NonZeroUsize>)> {
        Some((Self(id), None))
    }
}

/// The target description.
pub fn xml(model: &DebugModel) -> String {
    let mut xml =
        String::from("<?xml version=\"1.0\"?><!DOCTYPE target SYSTEM \"gdb-target.dtd\">");
    // Writing into a string cannot fail.
    let _ =
        write!(xml, "<target version=\"1.0\"><architecture>{}</architecture>", model.architecture);
    let mut number = 0;
    for DebugFeature { name, types, registers } in model.features {
        let _ = write!(xml, "<feature name=\"{name}\">{types}");
        for DebugRegister { name, bits, kind } in *registers {
            let _ = write!(
                xml,
                "<reg name=\"{name}\" bitsize=\"{bits}\" type=\"{kind}\" regnum=\"{number}\"/>"
            );
            number += 1;
        }
        xml.push_str("</feature>");
    }
    xml.push_str("</target>");
    xml
}

#[cfg(test)]
mod tests {
    use super::*;

    static MODEL: DebugModel = DebugModel {
        architecture: "test",
        features: &[
            DebugFeature {
                name: "a",
                types: "",
                registers: &[DebugRegister::int("x", 16), DebugRegister::int("y", 80)],
            },
            DebugFeature {
                name: "b",
                types: "<t/>",
                registers: &[DebugRegister::new("z", 32, "code_ptr")],
            },
        ],
        pc: 2,
        breakpoints: &[],
    };

    #[test]
    fn registers_are_numbered_through() {
        let xml = xml(&MODEL);
        assert!(xml.contains("<architecture>test</architecture>"), "{xml}");
        assert!(xml.contains("name=\"y\" bitsize=\"80\" type=\"int\" regnum=\"1\""), "{xml}");
        assert!(xml.contains("<t/><reg name=\"z\" bitsize=\"32\" type=\"code_ptr\" regnum=\"2\""));
    }

    #[test]
    fn bytes_are_values_and_back() {
        let values = [Some(0x1234), None, Some(0xdead_beef)];
        let bytes = RegisterBytes::of(&MODEL, &values);
        assert_eq!(bytes.0.len(), 2 + 10 + 4);
        assert_eq!((bytes.0[0], bytes.0[2], bytes.0[12]), (Some(0x34), None, Some(0xef)));
        assert_eq!(bytes.values(&MODEL), values);
        let short = RegisterBytes(bytes.0[..13].to_vec());
        assert_eq!(short.values(&MODEL), values[..2]);
    }
}
