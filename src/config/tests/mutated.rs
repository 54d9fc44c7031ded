//! Files with random damage: whatever it is, there is an answer, and no panic.

use super::*;

const SEED_FILE: &str = r#"
[base]
id = 1
name = "gäst"
cpu_num = 2
phys_cpu_ids = [0, 1]
phys_cpu_sets = [0x1, 0b10]
[kernel]
kernel_path = "vmlinuz"
cmdline = '''a
b'''
modules = ["mod x", { path = "mod", cmdline = "y" }]
memory_regions = [[0, 0x1000_0000, 7, 1], { gpa = 0x2000_0000, size = "1M", flags = 3, map_type = 2 }]
[devices]
emu_devices = [["a", 0x1000, 0x1000, 5, 0x2, [1]]]
passthrough_devices = [["/"], ["uart", 0x2000, 0x2000, 0x1000, 40]]
passthrough_addresses = [[0x3000, 0x1000]]
excluded_devices = [["/x", "/y"]]
interrupt_mode = "pt"
debug_exit = [0xf4, 0x501]
"#;

/// Files of all generations.
const FILES: [&str; 4] = [
    SEED_FILE,
    include_str!("../../../tests/axvisor/resolved-0.8.toml"),
    include_str!("../../../tests/axvisor/extended-0.5.toml"),
    include_str!("../../../tests/axvisor/flat.toml"),
];

/// Pieces that mean something to a reader of TOML or of this schema.
const PIECES: [&str; 24] = [
    "[",
    "]",
    "[[",
    "{",
    "}",
    "=",
    ".",
    ",",
    "\"",
    "'''",
    "#",
    "\n",
    "\r",
    "\0",
    "\u{feff}",
    "ä",
    "-1",
    "0x",
    "18446744073709551615",
    "99999999999999999999999999999999999999999999",
    "true",
    "1979-05-27",
    "kernel",
    "1e999",
];

/// Marsaglia's xorshift64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}

/// Removes, doubles, moves or inserts something.
fn damage(text: &mut Vec<char>, random: &mut Random) {
    let at = random.below(text.len() + 1);
    let end = (at + random.below(12)).min(text.len());
    match random.below(4) {
        0 => drop(text.drain(at..end)),
        1 => {
            let piece: Vec<_> = text[at..end].to_vec();
            text.splice(at..at, piece);
        }
        2 => {
            let piece: Vec<_> = text.drain(at..end).collect();
            let to = random.below(text.len() + 1);
            text.splice(to..to, piece);
        }
        _ => drop(text.splice(at..at, PIECES[random.below(PIECES.len())].chars())),
    }
}

#[test]
fn damaged_files_are_answered() {
    let dir = files();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut accepted, mut refused) = (0, 0);
    for round in 0..4000 {
        // Those of other generations are refused whatever the damage, but for few.
        let file = if round % 4 == 0 { FILES[round / 4 % FILES.len()] } else { SEED_FILE };
        let mut text: Vec<char> = file.chars().collect();
        for _ in 0..=random.below(3) {
            damage(&mut text, &mut random);
        }
        let text: String = text.into_iter().collect();
        match parse(&text, "guest.toml", dir.path()) {
            Ok(config) => {
                assert!((1..=512).contains(&config.cpus.num));
                accepted += 1;
            }
            Err(error) => {
                check_places(&error, &text);
                refused += 1;
            }
        }
    }
    // The damage is neither always fatal nor always harmless.
    assert!(accepted > 100 && refused > 1000, "{accepted} {refused}");
}

/// Each problem is at a line that the text has, and its mark lies in the line that is shown.
fn check_places(error: &Error, text: &str) {
    assert!(!error.problems().is_empty());
    assert!(!error.to_string().contains('\u{1b}'));
    for problem in error.problems() {
        assert!(problem.line.unwrap_or(1) <= text.matches('\n').count() + 1, "{error}\n{text}");
        let Some(excerpt) = &problem.excerpt else { continue };
        let width = excerpt.text.chars().count();
        assert!(excerpt.before + excerpt.marked <= width + 1, "{error}\n{text}");
    }
}

#[test]
fn damaged_sets_are_answered() {
    let dir = files();
    let path = dir.path().join("guest.toml");
    fs::write(&path, SEED_FILE).unwrap();
    let seeds = ["kernel.cmdline=\"a b\"", "devices.debug_exit=[0xf4]", "base.phys_cpu_ids=[3, 4]"];
    let mut random = Random(42);
    for round in 0..1500 {
        let mut text: Vec<char> = seeds[round % seeds.len()].chars().collect();
        for _ in 0..=random.below(3) {
            damage(&mut text, &mut random);
        }
        let set = Setting::from(text.into_iter().collect::<String>());
        if let Err(error) = load(&path, std::slice::from_ref(&set)) {
            check_places(&error, SEED_FILE);
        }
    }
}
