//! Which run is meant.

use std::{
    fs, io,
    os::unix::fs::FileTypeExt,
    time::{Duration, Instant},
};

use super::{
    link::{Heard, Link},
    sample::Sample,
};
use crate::cli::{
    Failure,
    columns::lay_out,
    control::{Address, NAMES, Request},
};

/// Where the system lists its sockets (proc_net(5)).
const SOCKETS: &str = "/proc/net/unix";
/// What is set in the fourth column of one that listens (`__SO_ACCEPTCON` of linux/net.h).
const LISTENS: u32 = 1 << 16;
/// How long the runs, which may not be the one that is meant, have for their answers.
const PATIENCE: Duration = Duration::from_secs(1);

/// A run that may be asked, and what it says.
struct Run {
    pid: u32,
    link: Link,
    /// `None`: it says nothing.
    said: Option<Sample>,
}

/// A connection to the run that `which` names, or to the only one there is.
pub fn find(which: Option<&str>) -> Result<Link, Failure> {
    match which {
        None => the_one_of(runs()?, |_| true, "no run of yours is there"),
        Some(which) if is_path(which) => {
            let refused = |error| Failure::usage(cannot(which, &error));
            Link::connect(Address::File(which.into())).map_err(refused)
        }
        Some(which) => match which.parse().map(|pid| Link::connect(Address::OfProcess(pid))) {
            Ok(Ok(link)) => Ok(link),
            Ok(Err(error)) if error.kind() != io::ErrorKind::ConnectionRefused => {
                Err(Failure::usage(cannot(&format!("process {which}"), &error)))
            }
            _ => named(which),
        },
    }
}

fn is_path(which: &str) -> bool {
    let is_socket = |meta: fs::Metadata| meta.file_type().is_socket();
    which.contains('/') || fs::metadata(which).is_ok_and(is_socket)
}

/// The run with a guest of this name, of which only that guest is meant.
fn named(name: &str) -> Result<Link, Failure> {
    let has_it =
        |said: Option<&Sample>| said.is_some_and(|said| said.vms.iter().any(|vm| vm.name == name));
    let none = format!("no run of yours is process {name} or has a guest of this name");
    let mut link = the_one_of(runs()?, has_it, &none)?;
    link.only = Some(name.to_owned());
    Ok(link)
}

/// The only one that is wanted; if there is none or more, those that there are are told.
fn the_one_of(
    runs: Vec<Run>,
    is_wanted: impl Fn(Option<&Sample>) -> bool,
    none: &str,
) -> Result<Link, Failure> {
    let is_wanted = |run: &Run| is_wanted(run.said.as_ref());
    let (mut wanted, others): (Vec<_>, Vec<_>) = runs.into_iter().partition(is_wanted);
    match wanted.len() {
        1 => Ok(wanted.remove(0).link),
        0 if others.is_empty() => Err(Failure::failed(format!(
            "{none}; `axvmm run` starts one, and one with --control FILE is found by that file"
        ))),
        0 => Err(Failure::usage(format!("{none}; there are:\n{}", list(&others)))),
        _ => Err(Failure::usage(format!(
            "say which run, by its process: axvmm top PID; there are:\n{}",
            list(&wanted)
        ))),
    }
}

fn list(runs: &[Run]) -> String {
    let head = ["pid", "seconds", "exits", "guests"].map(str::to_owned).to_vec();
    let row = |run: &Run| match &run.said {
        Some(said) => {
            let exits: u64 = said.vms.iter().flat_map(|vm| &vm.exits).map(|it| it.total).sum();
            let names: Vec<_> = said.vms.iter().map(|vm| vm.name.as_str()).collect();
            let seconds = format!("{:.1}", said.time);
            vec![run.pid.to_string(), seconds, exits.to_string(), names.join(", ")]
        }
        None => vec![run.pid.to_string(), String::new(), String::new(), "(no answer)".to_owned()],
    };
    let rows: Vec<_> = std::iter::once(head).chain(runs.iter().map(row)).collect();
    let mut text = String::new();
    lay_out(&mut text, &rows);
    text.trim_end().to_owned()
}

/// All that may be asked.
fn runs() -> Result<Vec<Run>, Failure> {
    let sockets = fs::read(SOCKETS).map_err(|error| {
        let told = format!("{SOCKETS}: {error}; say which run, by its process: axvmm top PID");
        Failure::failed(told)
    })?;
    let connect = |pid| Some((pid, Link::connect(Address::OfProcess(pid)).ok()?));
    let mut links: Vec<_> =
        listed(&String::from_utf8_lossy(&sockets)).filter_map(connect).collect();
    // All are asked before the first answer is waited for.
    links.iter_mut().for_each(|(_, link)| link.ask(Request::Counts));
    let until = Instant::now() + PATIENCE;
    let run = |(pid, mut link): (u32, Link)| {
        let left = until.saturating_duration_since(Instant::now());
        let said = match link.hear_within(left).ok()? {
            Some(Heard::Sample(said)) => Some(said),
            Some(_) => return None,
            None => None,
        };
        Some(Run { pid, link, said })
    };
    Ok(links.into_iter().filter_map(run).collect())
}

/// The processes whose sockets are in this list.
fn listed(sockets: &str) -> impl Iterator<Item = u32> {
    sockets.lines().filter_map(|line| {
        let mut fields = line.split_whitespace();
        let flags = u32::from_str_radix(fields.nth(3)?, 16).ok()?;
        let name = fields.nth(3)?.strip_prefix('@')?.strip_prefix(NAMES)?;
        (flags & LISTENS != 0).then(|| name.parse().ok()).flatten()
    })
}

fn cannot(path: &str, error: &io::Error) -> String {
    let hint = match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            "; nobody listens there any more: its run was killed, and the next takes its place"
        }
        io::ErrorKind::WouldBlock => "; many others wait for it: is it stopped?",
        io::ErrorKind::NotFound => "; `axvmm run --control` makes one",
        _ => "",
    };
    format!("{path}: {error}{hint}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_that_listen_are_found_by_their_names() {
        let list = "Num       RefCount Protocol Flags    Type St Inode Path
00000000e660c0e0: 00000003 00000000 00000000 0001 03  1057
000000005ab45c00: 00000002 00000000 00010000 0001 01 44188 @axvmm/12
000000005ab45c01: 00000003 00000000 00000000 0001 03 44189 @axvmm/12
000000005ab45c02: 00000002 00000000 00010000 0001 01 44190 @axvmm/x
000000005ab45c03: 00000002 00000000 00010000 0001 01 44191 /run/axvmm/13
000000005ab45c04: 00000002 00000000 00010000 0001 01 44192 @axvmm/4294967295
";
        assert_eq!(listed(list).collect::<Vec<_>>(), [12, u32::MAX]);
    }
}
