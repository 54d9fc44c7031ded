//! A bug in axvmm: told as such, with the terminal as it was before.

use std::{panic, process};

use super::{console::terminal, failure, log_output};

/// Makes a panic on any thread the end of the process: a VM that has lost a thread must not hang.
pub fn install_hook() {
    panic::set_hook(Box::new(|info| {
        terminal::restore();
        let place = info.location().map(|at| format!(" at {at}")).unwrap_or_default();
        let payload = info.payload();
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let what = text.or(payload.downcast_ref::<&str>().copied()).unwrap_or("panic");
        log_output::tell(&format!(
            "internal error: {what}{place}\n  This is a bug in axvmm {}, please report it.",
            env!("CARGO_PKG_VERSION")
        ));
        log_output::flush();
        process::exit(failure::FAILED.into());
    }));
}
