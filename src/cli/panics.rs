//! A bug in axvmm: told as such, with the terminal as it was before.

use std::{panic, process, time::Duration};

use super::{console::terminal, failure, log_output};

/// How long a stderr that nobody reads is waited for.
const PATIENCE: Duration = Duration::from_millis(200);

/// How the message of a panic begins.
pub const INTERNAL: &str = "internal error: ";

/// Makes a panic on any thread the end of the process: a VM that has lost a thread must not hang.
/// With devices of the program's own it may be one of these.
pub fn install_hook(has_own_devices: bool) {
    panic::set_hook(Box::new(move |info| {
        terminal::restore();
        let place = info.location().map(|at| format!(" at {at}")).unwrap_or_default();
        let payload = info.payload();
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let what = text.or(payload.downcast_ref::<&str>().copied()).unwrap_or("panic");
        log_output::tell(&format!(
            "{INTERNAL}{what}{place}\n  This is a bug in {}axvmm {}, please report it.",
            if has_own_devices { "a device of this program's, or in " } else { "" },
            env!("CARGO_PKG_VERSION")
        ));
        log_output::flush(PATIENCE);
        process::exit(failure::FAILED.into());
    }));
}

#[cfg(test)]
mod tests {
    use std::{env, process::Command};

    use nix::{pty::openpty, sys::termios::tcgetattr};

    use super::{super::console::Input, *};

    const CHILD: &str = "AXVMM_TEST_PANICS";

    #[test]
    fn a_panic_ends_the_process_with_a_message_and_the_terminal_as_it_was() {
        if env::var_os(CHILD).is_some() {
            install_hook(false);
            let _raw = Input::open(1);
            // On a thread that nobody waits for.
            std::thread::spawn(|| panic!("on {}", "purpose"));
            std::thread::park();
        }
        let pty = openpty(None, None).unwrap();
        let before = tcgetattr(&pty.slave).unwrap();
        let this =
            "cli::panics::tests::a_panic_ends_the_process_with_a_message_and_the_terminal_as";
        let mut child = Command::new(env::current_exe().unwrap());
        child.args(["--nocapture", this]).env(CHILD, "1").stdin(pty.slave.try_clone().unwrap());
        let output = child.output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(told.contains("axvmm: internal error: on purpose at src/cli/panics.rs:"), "{told}");
        assert_eq!(tcgetattr(&pty.slave).unwrap(), before);
    }
}
