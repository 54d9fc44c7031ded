//! The commands of README.md, as they stand there. Over this machine's own KVM, with tiny guests.

use std::{fs, path::PathBuf};

mod common;

use common::{axvmm, guest, root, run};

/// The command lines for axvmm in the README's blocks, without the program's name and comments.
fn commands() -> Vec<String> {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let in_blocks = readme.lines().filter_map(|line| line.strip_prefix("    "));
    let program = |line: &str| {
        let rest = line.strip_prefix("target/release/").unwrap_or(line);
        rest.strip_prefix("axvmm ").map(str::to_owned)
    };
    in_blocks.filter_map(program).collect()
}

/// Runs a line as a shell would, with the files in it that only an example has replaced by ones
/// that there are.
fn run_line(line: &str, files: &[(&str, PathBuf)], dir: &std::path::Path) -> common::Finished {
    let mut line = line.to_owned();
    for (name, path) in files {
        line = line.replace(name, path.to_str().unwrap());
    }
    let program = axvmm().get_program().to_owned();
    let script = format!("exec \"$AXVMM_UNDER_TEST\" {line}");
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", &script]).env("AXVMM_UNDER_TEST", program).current_dir(dir);
    run(shell.stdin(std::process::Stdio::null()))
}

#[test]
fn every_command_does_what_it_says() {
    let scratch = tempfile::tempdir().unwrap();
    let initrd = scratch.path().join("initrd.img");
    fs::write(&initrd, "an initrd").unwrap();
    let files = [("bzImage", guest("hello-bzimage-x86_64.bin")), ("initrd.img", initrd)];
    let commands = commands();
    for (begins, stdout) in [
        ("doctor", "KVM"),
        ("run --config configs/hello-x86_64.toml", "Hello from axvmm's guest"),
        ("run --config configs/hello-x86_64.toml --config", "[smp] smp: "),
        ("check --config configs/hello-x86_64.toml", "com1"),
        ("run -k bzImage -i initrd.img", "Hello from a bzImage"),
    ] {
        let line = commands.iter().find(|line| line.starts_with(begins));
        let line = line.unwrap_or_else(|| panic!("no {begins:?} in README.md"));
        run_line(line, &files, &root()).assert(0, stdout);
    }
    // Where it leaves its logs.
    let config = |name| root().join("configs").canonicalize().unwrap().join(name);
    let files = ["hello-x86_64.toml", "smp-x86_64.toml"].map(|name| (name, config(name)));
    let files = files.each_ref().map(|(name, path)| (format!("configs/{name}"), path.clone()));
    let files: Vec<_> = files.iter().map(|(name, path)| (name.as_str(), path.clone())).collect();
    let line = commands.iter().find(|line| line.starts_with("test ")).expect("test in README.md");
    run_line(line, &files, scratch.path()).assert(0, "4 passed");
    let init = commands.iter().find(|line| line.starts_with("init ")).expect("init in README.md");
    run_line(init, &[], scratch.path()).assert(0, "");
    assert!(scratch.path().join("guest.toml").exists());
    // `device new` is in tests/devices.rs.
    let known =
        ["doctor", "run --config", "check", "run -k", "init ", "test ", "device new countdown"];
    let unknown = commands.iter().find(|line| !known.iter().any(|begins| line.starts_with(begins)));
    assert_eq!(unknown, None, "a command that nothing here runs");
}

#[test]
fn the_guest_toml_in_it_is_one() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let block = readme.split("### guest.toml").nth(1).unwrap();
    let lines = block.lines().skip_while(|line| !line.starts_with("    "));
    let toml: String = lines
        .take_while(|line| line.is_empty() || line.starts_with("    "))
        .map(|line| line.trim_start().to_owned() + "\n")
        .collect();
    let scratch = tempfile::tempdir().unwrap();
    for image in ["vmlinuz", "initrd.img"] {
        fs::write(scratch.path().join(image), "an image").unwrap();
    }
    let config = axvmm::config::parse(&toml, "README.md", scratch.path()).unwrap();
    assert_eq!((config.cpus.num, config.kernel.cmdline.as_deref()), (2, Some("console=ttyS0")));
}
