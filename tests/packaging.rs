//! What packages have beside the program: manual pages and completions, by the command line's own
//! definition.

mod common;

use std::{collections::BTreeSet, fs, process::Command};

use common::{axvmm, run};

/// The long options in a command's help, without their dashes.
fn options(command: &str) -> BTreeSet<String> {
    let help = run(axvmm().args([command, "--help"]));
    let text = help.assert(0, "Options:").stdout.split("Options:").nth(1).unwrap();
    let words = text.split_whitespace().filter_map(|word| word.strip_prefix("--"));
    let names = words.map(|word| word.trim_end_matches([',', '.', ';', ')']).to_owned());
    names.filter(|name| !name.is_empty()).collect()
}

/// The commands in axvmm's own help.
fn commands() -> BTreeSet<String> {
    let help = run(axvmm().arg("--help"));
    let text = help.stdout.split("Commands:").nth(1).unwrap().lines().skip(1).map(str::to_owned);
    let lines = text.take_while(|line| !line.is_empty());
    let names = lines.filter_map(|line| {
        let name = line.strip_prefix("  ").filter(|rest| !rest.starts_with(' '))?;
        name.split_whitespace().next().map(str::to_owned)
    });
    names.filter(|name| name != "help").collect()
}

#[test]
fn each_command_has_a_page_with_all_its_options() {
    let dir = tempfile::tempdir().unwrap();
    let pages = dir.path().join("new/man1");
    run(axvmm().arg("man").arg(&pages)).assert(0, "");
    let page = |name: &str| fs::read_to_string(pages.join(name)).expect(name).replace('\\', "");
    let commands = commands();
    assert!(commands.contains("run") && commands.contains("man"), "{commands:?}");
    for command in &commands {
        let page = page(&format!("axvmm-{command}.1"));
        assert!(page.contains(&format!(".TH axvmm-{command} 1")), "{page}");
        for option in options(command) {
            assert!(page.contains(&format!("--{option}")), "{option}: {page}");
        }
    }
    assert!(page("axvmm-device-new.1").contains("axvmm device new"));
    let own = run(axvmm().arg("man"));
    assert_eq!(own.assert(0, ".TH axvmm 1").stdout.replace('\\', ""), page("axvmm.1"));
    assert!(own.stdout.contains("Exit status"), "{own:?}");
}

#[test]
fn pages_that_cannot_be_written_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    run(axvmm().arg("man").arg(file.join("man"))).assert(35, "").assert_tells(&["Failed to write"]);
}

#[test]
fn a_shell_completes_command_lines() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("axvmm.bash");
    fs::write(&script, run(axvmm().args(["completions", "bash"])).assert(0, "").stdout.clone())
        .unwrap();
    let completed = |words: &str, last: &str, at: u32| {
        let text = format!(
            "source {}; COMP_WORDS=({words}); COMP_CWORD={at}; _axvmm axvmm '{last}' ''; \
             echo \"${{COMPREPLY[@]}}\"",
            script.display()
        );
        run(Command::new("bash").args(["-c", &text])).stdout
    };
    assert_eq!(completed("axvmm doc", "doc", 1).trim(), "doctor");
    assert!(completed("axvmm run --firec", "--firec", 2).contains("--firecracker-config"));
    for (shell, part) in [("zsh", "#compdef axvmm"), ("fish", "complete -c axvmm")] {
        let made = run(axvmm().args(["completions", shell]));
        made.assert(0, part).assert(0, "firecracker-config");
    }
    run(axvmm().args(["completions", "csh"])).assert(35, "").assert_tells(&["bash", "zsh"]);
}
