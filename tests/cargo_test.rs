//! A kernel in Rust whose `cargo test` runs in guests (`examples/kernel`), in the emulated KVM host of
//! each architecture.

mod common;

use std::{fs, process::Command, time::Duration};

use common::{despite_svm, root, start};

/// For a host that comes up once for each program that cargo runs.
const PATIENCE: Duration = Duration::from_secs(600);

#[test]
fn x86_64() {
    check("x86_64", "x86_64-unknown-none", 3);
}

#[test]
fn aarch64() {
    check("aarch64", "aarch64-unknown-none", 32);
}

#[test]
fn riscv64() {
    check("riscv64", "riscv64gc-unknown-none-elf", 3);
}

/// `cargo run` and `cargo test` as they are, and with a test that fails, which is this status.
fn check(host: &str, target: &str, fails_with: i32) {
    let dir = tempfile::tempdir().unwrap();
    let kernel = root().join("examples/kernel");
    let copied = Command::new("cp").arg("-r").arg(&kernel).arg(dir.path()).status().unwrap();
    assert!(copied.success());
    let own = dir.path().join("kernel");
    let cargo = |what: &str| {
        let runner = format!("{} {host}", kernel.join("in-host").display());
        let variable = target.to_uppercase().replace('-', "_");
        let mut cargo = Command::new("cargo");
        cargo.args([what, "--target", target]).current_dir(&own);
        cargo.env(format!("CARGO_TARGET_{variable}_RUNNER"), runner);
        cargo.env("CARGO_TARGET_DIR", own.join("target")).env("AXVMM_PROFILE", "hosts");
        start(&mut cargo).within(PATIENCE).finish()
    };
    for (what, printed) in
        [("run", "Hello from a kernel in Rust"), ("test", "order_matters ... ok")]
    {
        despite_svm(host, || _ = cargo(what).assert(0, printed));
    }
    let tests = own.join("tests/arithmetic.rs");
    let broken = fs::read_to_string(&tests).unwrap().replace("assert_ne!", "assert_eq!");
    fs::write(&tests, broken).unwrap();
    despite_svm(host, || {
        let failed = cargo("test");
        failed.assert(fails_with, "panicked at tests/arithmetic.rs");
        failed.assert_tells(&["test failed, to rerun pass `--test arithmetic`"]);
    });
}
