//! `[[devices.custom]]`: kinds that the program has, and what is said of others.

use serde::Deserialize;

use super::*;
use crate::devices::{
    Effect,
    custom::{Device, Kinds, NoKeys, Parts, Register},
};

struct Plain;
struct Bell;

#[derive(Deserialize)]
struct BellKeys {
    #[expect(dead_code, reason = "it is there to be read")]
    rings: u8,
    #[expect(dead_code, reason = "it is there to be read")]
    tones: Option<Vec<u64>>,
}

macro_rules! device {
    ($name:ident, $kind:literal, $keys:ty, $interrupt:literal) => {
        impl Device for $name {
            const KIND: &'static str = $kind;
            const REGISTERS: &'static [Register] = &[Register::dword("A", 0)];
            const HAS_INTERRUPT: bool = $interrupt;
            type Keys = $keys;

            fn new(_: $keys, _: Parts) -> Result<Self, String> {
                Ok(Self)
            }

            fn read(&self, _: u64) -> u64 {
                0
            }

            fn write(&self, _: u64, _: u64) -> Effect {
                Effect::None
            }
        }
    };
}

device!(Plain, "plain", NoKeys, false);
device!(Bell, "bell", BellKeys, true);

fn read(rows: &str) -> Result<AxVMConfig, Error> {
    let files = files();
    let path = files.path().join("guest.toml");
    fs::write(&path, format!("[kernel]\nkernel_path = \"vmlinuz\"\n{rows}")).unwrap();
    let kinds = Kinds::new().with::<Plain>().with::<Bell>();
    load_all(&[path], &[], &kinds).remove(0)
}

#[test]
fn rows_are_devices_of_the_programs_kinds() {
    let rows = "[[devices.custom]]\nkind = \"plain\"\n[[devices.custom]]\nkind = \"plain\"\n\
        [[devices.custom]]\nkind = \"bell\"\nname = \"door\"\nat = 0xd000_0000\nirq = 17\n\
        rings = 3\ntones = [0xffff_ffff_ffff_ffff, 0]\n";
    let devices = read(rows).unwrap().devices.custom;
    let told: Vec<_> = devices
        .iter()
        .map(|it| (it.name.as_str(), it.recipe.about.kind, it.place.map(|at| at.0), it.irq))
        .collect();
    let expect = [
        ("plain", "plain", None, None),
        ("plain2", "plain", None, None),
        ("door", "bell", Some(0xd000_0000), Some(17)),
    ];
    assert_eq!(told, expect);
    assert_eq!(devices[2].at.line, Some(7));
}

/// Each: the lines behind `[[devices.custom]]`, where the problem is, and words of what is said.
#[test]
fn what_is_wrong_is_told_with_its_place() {
    for (lines, at, told) in [
        ("", "3:1", "this device has no kind; write kind = \"plain\" or \"bell\""),
        ("kind = \"bel\"", "4:8", "there is no kind of device \"bel\"; did you mean \"bell\"?"),
        ("kind = \"bell\"", "3:1", "devices.custom[0]: missing field `rings`"),
        ("kind = \"bell\"\nrings = 256", "5:9", "devices.custom[0].rings: invalid value"),
        ("kind = \"bell\"\nrings = \"x\"", "5:9", "invalid type: string \"x\", expected u8"),
        (
            "kind = \"bell\"\nrings = 1\ntones = [1, 2.5]",
            "6:13",
            "devices.custom[0].tones[1]: invalid type",
        ),
        ("kind = \"bell\"\nrings = 1\nrigns = 1", "6:1", "devices.custom[0].rigns: unknown key"),
        ("kind = \"plain\"\nx = { y = 1 }", "5:1", "devices.custom[0].x: unknown key"),
        ("kind = \"plain\"\nirq = 17", "5:7", "a plain has no interrupt"),
        ("kind = \"plain\"\nname = \"\"", "5:8", "a name has at least one character"),
        ("kind = \"plain\"\nat = -1", "5:6", "expected an integer, 0 or more"),
        ("kind = 3", "4:8", "expected a string"),
        (
            "kind = \"plain\"\nname = \"a\"\n[[devices.custom]]\nkind = \"plain\"\nname = \"a\"",
            "8:8",
            "another device has this name",
        ),
    ] {
        let error = read(&format!("[[devices.custom]]\n{lines}\n")).unwrap_err();
        let [problem] = error.problems() else { panic!("{lines}: {error}") };
        let found = format!("{}:{}", problem.line.unwrap(), problem.column.unwrap());
        let help = problem.help.as_deref().unwrap_or_default();
        let said = format!("{}; {help}", problem.message);
        assert!(found == at && said.contains(told), "{lines}: {found}: {said}");
    }
}

#[test]
fn a_program_without_kinds_says_how_to_get_one() {
    let told = problem("[kernel]\nkernel_path = \"vmlinuz\"\n[[devices.custom]]\nkind = \"x\"\n");
    assert!(told.contains("axvmm device new"), "{told}");
}
