//! What `resources/release.sh` makes, for this machine's architecture: the package is installed in a
//! root that has nothing else, and runs the README's guest there.

mod common;

use std::{
    env::consts::ARCH,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use common::{Finished, root, run};

/// How long it takes to build a release, with cargo-deb before it if there is none.
const BUILD: &str = "1800";

/// Where the release is; it is made once.
fn release() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let out = root().join("target/release-tested");
        // What an earlier one has left would pass for this one's.
        let _ = fs::remove_dir_all(&out);
        let script = root().join("resources/release.sh");
        let mut command = Command::new("timeout");
        command.arg(BUILD).arg(script).arg("--out").arg(&out).arg(ARCH).stdin(Stdio::null());
        assert!(command.status().unwrap().success(), "resources/release.sh failed");
        out
    })
}

/// The one file of the release whose name ends so.
fn made(end: &str) -> PathBuf {
    let files = fs::read_dir(release()).unwrap().map(|entry| entry.unwrap().path());
    let found: Vec<_> =
        files.filter(|path| path.to_str().is_some_and(|path| path.ends_with(end))).collect();
    assert_eq!(found.len(), 1, "{end}: {found:?}");
    found[0].clone()
}

/// A shell as root, or as one in a user namespace, whose mounts are its own.
fn as_root(script: &str, args: &[&Path]) -> Finished {
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-euc", script, "sh"]).args(args);
    run(command.stdin(Stdio::null()))
}

#[test]
fn the_checksums_are_those_of_all_files() {
    let dir = release();
    let sums = fs::read_to_string(dir.join("SHA256SUMS")).unwrap();
    assert_eq!(sums.lines().count(), fs::read_dir(dir).unwrap().count() - 1, "{sums}");
    let checked = run(Command::new("sha256sum").args(["-c", "SHA256SUMS"]).current_dir(dir));
    checked.assert(0, ".deb: OK").assert(0, "-linux: OK");
    let version = run(Command::new(made("-linux")).arg("--version"));
    version.assert(0, env!("CARGO_PKG_VERSION"));
}

#[test]
fn the_package_runs_the_readmes_guest_where_nothing_else_is() {
    let package = made(".deb");
    let clean = tempfile::tempdir().unwrap();
    let install = "mkdir -p \"$1/var/lib/dpkg\" \"$1/dev\"; touch \"$1/var/lib/dpkg/status\"; \
                   dpkg --root=\"$1\" --log=/dev/null --install \"$2\"";
    as_root(install, &[clean.path(), &package]).assert(0, "Setting up axvmm");
    for absent in ["lib", "lib64", "usr/lib", "bin/sh", "usr/bin/sh"] {
        assert!(!clean.path().join(absent).exists(), "{absent}");
    }
    // As the README has it, in the directory that the package has put it into.
    let readme = clean.path().join("usr/share/doc/axvmm/README.md");
    let command = format!("run --config configs/hello-{ARCH}.toml");
    if ARCH == "x86_64" {
        assert!(fs::read_to_string(readme).unwrap().contains(&command));
    }
    let guest = format!(
        "mount --rbind /dev \"$1/dev\"; \
         exec unshare --root=\"$1\" --wd=/usr/share/doc/axvmm /usr/bin/axvmm {command}"
    );
    as_root(&guest, &[clean.path()]).assert(0, "Hello from axvmm's guest");
}

#[test]
fn the_package_has_pages_completions_and_what_the_readme_names() {
    let package = made(".deb");
    let listed = run(Command::new("dpkg-deb").arg("--contents").arg(package));
    for path in [
        "usr/share/man/man1/axvmm.1.gz",
        "usr/share/man/man1/axvmm-run.1.gz",
        "usr/share/bash-completion/completions/axvmm",
        "usr/share/zsh/vendor-completions/_axvmm",
        "usr/share/fish/vendor_completions.d/axvmm.fish",
        "usr/share/doc/axvmm/README.md",
        "usr/share/doc/axvmm/copyright",
        "usr/share/doc/axvmm/resources/firecracker",
    ] {
        listed.assert(0, &format!(" ./{path}\n"));
    }
    // Links from the README stay links.
    for page in fs::read_dir(root().join("resources/guide")).unwrap() {
        let name = page.unwrap().file_name().into_string().unwrap();
        listed.assert(0, &format!(" ./usr/share/doc/axvmm/resources/guide/{name}\n"));
    }
}
