//! `axvmm host`, and `--host` of other commands: guests in an emulated KVM host, where there is no KVM or
//! none of the architecture that is wanted.
//!
//! - `wish`: what `--host` asks for.
//! - `inside`: this command again, in such a host, with the files it names.
//! - `attend`: a command in a host, its streams and its end, as if it ran here.

mod attend;
mod inside;
mod wish;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use self::attend::{attend, terminal};
pub use self::{
    inside::{Along, run_inside},
    wish::HostWish,
};
use super::{
    Failure,
    failure::{FAILED, HOST, USAGE},
    log_output::tell,
    signals,
};
use crate::{
    config::parse_size,
    emulated::{Error, Item, Start, Up, Wish, agent, hosts},
};

/// Where commands work in a host, if they are not told.
const HOME: &str = "/root";
/// A host's memory, if nothing is said.
const MEMORY: &str = "2G";

#[derive(Debug, Args)]
pub struct HostArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Brings a host up that stays, for `axvmm host run`
    Up(UpArgs),
    /// Runs a command in a host: in one that is up, else in one of its own
    Run(RunArgs),
    /// Ends a host that is up
    Down {
        /// Which: x86_64, aarch64, riscv64, …
        #[arg(value_parser = host)]
        host: String,
    },
    /// Serves sessions; in the host
    #[command(hide = true)]
    Serve,
}

#[derive(Debug, Args)]
struct UpArgs {
    /// Which: x86_64, aarch64 (or aarch64-gicv2), riscv64 (or riscv64-aia, with that interrupt
    /// architecture)
    #[arg(value_parser = host)]
    host: String,
    #[command(flatten)]
    size: Size,
}

#[derive(Debug, Args, PartialEq, Eq)]
struct Size {
    /// How many CPUs it has
    #[arg(long, value_name = "N", default_value_t = wish::CPUS,
        value_parser = clap::value_parser!(u32).range(1..=64))]
    cpus: u32,
    /// How much memory it has, which all its files are in as well
    #[arg(long, value_name = "SIZE", default_value = MEMORY, value_parser = parse_size)]
    memory: u64,
    /// The axvmm for it, which needs no libraries [default: this one; else that of a release which
    /// is beside this one or in the cache]
    #[arg(long, value_name = "FILE")]
    axvmm: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct RunArgs {
    #[command(flatten)]
    up: UpArgs,
    /// Puts a file or a directory into the working directory, as NAME; may be repeated
    #[arg(long, value_name = "FILE[:NAME]")]
    with: Vec<String>,
    /// The command [default: a shell]
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl Default for Size {
    fn default() -> Self {
        let memory = parse_size(MEMORY).unwrap_or_default();
        Self { cpus: wish::CPUS, memory, axvmm: None }
    }
}

impl UpArgs {
    fn wish(&self) -> Wish {
        let Size { cpus, memory, axvmm } = &self.size;
        Wish { host: self.host.clone(), cpus: *cpus, memory: *memory, axvmm: axvmm.clone() }
    }
}

/// Brings hosts up and down, and runs commands in them; the result is the process's exit status.
pub fn host_command(args: &HostArgs) -> Result<u8, Failure> {
    match &args.command {
        Command::Up(args) => {
            unless_ended(|ended| Up::to_stay(&args.wish(), ended))?;
            let host = &args.host;
            log::info!("the {host} host is up: axvmm host run {host}, axvmm host down {host}");
            Ok(0)
        }
        Command::Run(args) => run(args),
        Command::Down { host } => {
            if !Up::end(host)? {
                tell(&format!("the {host} host is not up"));
                return Ok(FAILED);
            }
            Ok(0)
        }
        Command::Serve => {
            agent::serve().map_err(|error| Failure::call("serve sessions", error))?;
            Ok(0)
        }
    }
}

fn run(args: &RunArgs) -> Result<u8, Failure> {
    let items = args.with.iter().map(|with| item(with)).collect::<Result<Vec<_>, _>>()?;
    let mut command = args.command.clone();
    if command.is_empty() {
        command.push("sh".into());
    }
    let up = match Up::found(&args.up.host)? {
        Some(up) => {
            if args.up.size != Size::default() {
                let host = &args.up.host;
                tell(&format!(
                    "note: the {host} host is up, and stays as it is: with its own size"
                ));
            }
            up
        }
        None => for_now(&args.up.wish())?,
    };
    let mut session = up.session()?;
    session.send(&items)?;
    let start = Start { command, directory: HOME.into(), directories: vec![], tty: terminal() };
    attend(&mut session, &start)
}

/// A host for this command alone.
fn for_now(wish: &Wish) -> Result<Up, Failure> {
    unless_ended(|ended| Up::for_now(wish, ended))
}

/// Brings a host up, unless a signal comes that ends this process: then nothing is left behind. From
/// then on signals are blocked.
fn unless_ended<T>(
    bring_up: impl FnOnce(&mut dyn FnMut() -> bool) -> Result<T, Error>,
) -> Result<T, Failure> {
    let signals =
        signals::block().map_err(|errno| Failure::call("receive signals (signalfd)", errno))?;
    let mut came = None;
    let brought = bring_up(&mut || {
        let mut ending = std::iter::from_fn(|| signals::next(&signals)).filter(signals::is_ending);
        came = came.or_else(|| ending.next());
        came.is_some()
    });
    match (brought, came) {
        (Err(Error::Unwanted), Some(signal)) => {
            let message = format!("{signal} came while the host was brought up");
            Err(Failure { status: 128 + signal as u8, message })
        }
        (brought, _) => Ok(brought?),
    }
}

/// What `--with` names. A file's name may have colons in it.
fn item(with: &str) -> Result<Item, Failure> {
    let (from, name) = match with.rsplit_once(':') {
        Some((from, name)) if !Path::new(with).exists() => (Path::new(from), Some(name)),
        _ => (Path::new(with), None),
    };
    let wrong = |what: String| Failure::usage(format!("--with {with}: {what}"));
    let metadata = from.metadata().map_err(|error| wrong(error.to_string()))?;
    if !metadata.is_file() && !metadata.is_dir() {
        return Err(wrong("neither a file nor a directory".into()));
    }
    let name = name.map_or_else(|| from.file_name().map(Path::new), |name| Some(Path::new(name)));
    let is_name = |name: &&Path| {
        use std::path::Component;
        name.components().all(|it| matches!(it, Component::Normal(_)))
            && name.components().next().is_some()
    };
    let name = name.filter(is_name).ok_or_else(|| {
        wrong("it has no name for the working directory; give one: FILE:NAME".into())
    })?;
    Ok(Item { from: from.to_owned(), to: Path::new(HOME).join(name) })
}

/// One of the hosts that there are.
fn host(text: &str) -> Result<String, String> {
    if hosts().any(|it| it == text) {
        return Ok(text.to_owned());
    }
    Err(format!("there are {}", hosts().collect::<Vec<_>>().join(", ")))
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let status = match error {
            Error::Usage(_) => USAGE,
            Error::Host(_) => HOST,
            Error::Unwanted | Error::Call(..) => FAILED,
        };
        Self { status, message: error.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_brought_along_is_in_the_working_directory() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a:b");
        std::fs::write(&file, "").unwrap();
        let to = |with: String| item(&with).map(|it| it.to);
        let name = file.display();
        assert_eq!(to(format!("{name}")).unwrap(), Path::new("/root/a:b"));
        assert_eq!(to(format!("{name}:c/d")).unwrap(), Path::new("/root/c/d"));
        for wrong in ["/nonexistent".into(), format!("{name}:../x"), format!("{name}:"), "/".into()]
        {
            assert_eq!(to(wrong.clone()).unwrap_err().status, USAGE, "{wrong}");
        }
    }
}
