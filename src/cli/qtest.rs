//! `axvmm qtest`: a machine with no guest, driven through its devices' registers by the commands of
//! QEMU's qtest protocol.

mod server;

use std::{
    fs,
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use clap::Args;

pub use self::server::NO_RESET;
use self::server::Server;
use super::{
    Failure,
    bare::{Bare, Nowhere, with_aia},
    check,
};
use crate::{
    config::{self, OneOff, Setting},
    devices::{console::ConsoleOut, custom::Kinds},
    hal::{Arch, Platform},
    vm::AxVMConfig,
};

/// The longest command, in bytes.
const LONGEST: u64 = 256 << 20;

#[derive(Debug, Args)]
pub struct QtestArgs {
    /// What the machine has, as of a guest's configuration; its kernel means nothing here. Default:
    /// what the board always has
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Its memory, such as 64M
    #[arg(short, long, value_name = "SIZE")]
    memory: Option<String>,
    /// Sets a key of the configuration, such as devices.custom=[{kind="mine"}]; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// The machine's architecture, where it is not this host's
    #[arg(long, value_parser = check::arch)]
    arch: Option<Arch>,
    /// Connects to the client's socket, as QEMU does. Default: commands come on stdin
    #[arg(long, value_name = "SOCKET", conflicts_with = "listen")]
    connect: Option<PathBuf>,
    /// Listens for one client there
    #[arg(long, value_name = "SOCKET")]
    listen: Option<PathBuf>,
}

/// Serves one client until it has no more commands.
pub fn qtest(args: &QtestArgs, kinds: &Kinds) -> Result<u8, Failure> {
    let config = config(args.config.as_deref(), args.memory.as_deref(), &args.sets, kinds)?;
    let arch = args.arch.or(Arch::host()).unwrap_or(Arch::X86_64);
    let platform = platform(arch);
    let began = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let has_socket = args.connect.is_some() || args.listen.is_some();
    let build = || {
        let console: Arc<dyn ConsoleOut> =
            if has_socket { Arc::new(io::stdout()) } else { Arc::new(Nowhere) };
        Bare::build(&config, &platform, began, console)
    };
    let server = Server::new(build)?;
    match (&args.connect, &args.listen) {
        (Some(path), _) => {
            let (from, to) = both_ways(path, UnixStream::connect(path))?;
            serve(server, from, to)
        }
        (_, Some(path)) => {
            let accepted = UnixListener::bind(path).and_then(|it| Ok(it.accept()?.0));
            let (from, to) = both_ways(path, accepted)?;
            // Nobody else is listened to.
            let _ = fs::remove_file(path);
            serve(server, from, to)
        }
        _ => serve(server, io::stdin(), io::stdout()),
    }
}

/// The configuration of a machine without a guest.
pub fn config(
    file: Option<&Path>,
    memory: Option<&str>,
    sets: &[String],
    kinds: &Kinds,
) -> Result<AxVMConfig, Failure> {
    let memory_set = memory.map(|size| Setting {
        text: format!("base.memory={}", toml::Value::String(size.to_owned())),
        option: Some(format!("--memory {size}")),
    });
    let sets: Vec<_> = sets.iter().map(Setting::from).chain(memory_set).collect();
    Ok(match file {
        Some(file) => config::load_all(&[file.to_owned()], &sets, kinds).remove(0)?,
        None => {
            // There has to be a file, and nobody reads it.
            let kernel = "/proc/self/exe".to_owned();
            let nothing = OneOff { kernel, ..OneOff::default() };
            config::from_args_with(&nothing, &sets, kinds)?
        }
    })
}

/// The host that a machine without a guest is planned for.
pub fn platform(arch: Arch) -> Platform {
    // Where the interrupt controller is a device, lines end in it.
    with_aia(Platform::usual(arch))
}

fn both_ways(
    path: &Path,
    stream: io::Result<UnixStream>,
) -> Result<(UnixStream, UnixStream), Failure> {
    let failed = |error| Failure::usage(format!("{}: {error}", path.display()));
    let stream = stream.map_err(failed)?;
    Ok((stream.try_clone().map_err(failed)?, stream))
}

fn serve(
    mut server: Server<impl FnMut() -> Result<Bare, Failure>>,
    from: impl Read,
    mut to: impl Write,
) -> Result<u8, Failure> {
    let failed = |error| Failure::call("talk to the client", error);
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    loop {
        line.clear();
        from.by_ref().take(LONGEST).read_until(b'\n', &mut line).map_err(failed)?;
        if line.is_empty() {
            return Ok(0);
        }
        let (next, answer) = server.command(&String::from_utf8_lossy(&line))?;
        server = next;
        match to.write_all(answer.text.as_bytes()).and_then(|()| to.flush()) {
            // It wants no more.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(0),
            written => written.map_err(failed)?,
        }
        if let Some(status) = answer.ends {
            return Ok(status);
        }
    }
}
