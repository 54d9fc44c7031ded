//! The end when a file that is part of a guest's memory is shorter than it was, or its disk fails: the
//! process dies of SIGBUS wherever it looks there, and says why.

use std::mem::MaybeUninit;

use nix::libc;

use super::{console::terminal, failure};

const MESSAGE: &[u8] =
    b"axvmm: a file that is in the guest's memory (pmem, a kernel, an initrd) cannot be \
    read there any more: somebody has shortened it while the guest ran, or its disk fails\n";

/// Has the process say so.
pub fn install_handler() {
    // SAFETY: all-zero is a valid sigaction; the handler does async-signal-safe things only, and on the
    // alternate stack that Rust gives each thread.
    unsafe {
        let mut action = MaybeUninit::<libc::sigaction>::zeroed().assume_init();
        action.sa_sigaction = on_bus_error as Handler as usize;
        action.sa_flags = libc::SA_ONSTACK | libc::SA_SIGINFO;
        libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut());
    }
}

type Handler = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);

/// A signal that somebody has sent is what it always is.
extern "C" fn on_bus_error(signal: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    terminal::restore();
    // SAFETY: the kernel gives a valid siginfo; the message is read as far as it goes; the rest takes
    // numbers.
    unsafe {
        if (*info).si_code > 0 {
            libc::write(libc::STDERR_FILENO, MESSAGE.as_ptr().cast(), MESSAGE.len());
            libc::_exit(failure::FAILED.into());
        }
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
    }
}

#[cfg(test)]
mod tests {
    use std::{env, os::unix::process::ExitStatusExt, process::Command, sync::Arc};

    use vm_memory::{Bytes, FileOffset, MmapRegion, VolatileMemory};

    use super::*;

    const CHILD: &str = "AXVMM_TEST_MAPPED_FILES";

    #[test]
    fn a_file_that_becomes_shorter_in_memory_is_an_end_that_says_so() {
        match env::var(CHILD).as_deref() {
            Ok("cut") => {
                install_handler();
                let file = Arc::new(tempfile::tempfile().unwrap());
                file.set_len(4096).unwrap();
                let mapped = FileOffset::from_arc(file.clone(), 0);
                let memory = MmapRegion::<()>::from_file(mapped, 4096).unwrap();
                file.set_len(0).unwrap();
                let _ = memory.get_slice(0, 1).unwrap().read_obj::<u8>(0);
                panic!("it is still there");
            }
            Ok(_) => {
                install_handler();
                nix::sys::signal::raise(nix::sys::signal::Signal::SIGBUS).unwrap();
                panic!("it lives on");
            }
            Err(_) => {}
        }
        let child = |what: &str| {
            let this = "a_file_that_becomes_shorter_in_memory_is_an_end_that_says_so";
            let mut child = Command::new(env::current_exe().unwrap());
            child.args(["--nocapture", this]).env(CHILD, what).output().unwrap()
        };
        let cut = child("cut");
        let told = String::from_utf8_lossy(&cut.stderr).into_owned();
        assert_eq!(cut.status.code(), Some(1), "{told}");
        assert!(told.contains("axvmm: a file that is in the guest's memory (pmem"), "{told}");
        assert_eq!(child("sent").status.signal(), Some(libc::SIGBUS));
    }
}
