//! Messages and the log, on stderr. A guest can make axvmm log, so that a stderr that nobody reads
//! must not hold a vCPU: all goes through a [`Sink`].

use std::{
    io::{self, IsTerminal, Write},
    os::fd::AsFd,
    sync::{Arc, OnceLock},
    time::Duration,
};

use clap::{Args, builder::PossibleValuesParser};
use env_logger::{Builder, Env, Target, WriteStyle};
use log::{Level, LevelFilter};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{eventfd::EventFd, stat::fstat},
};

use super::{
    about::subject,
    sink::{Settings, Sink},
};

/// The environment variables that set what is logged; the first has precedence.
const VARIABLES: [&str; 2] = ["AXVMM_LOG", "RUST_LOG"];
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
const DEFAULT_LEVEL: &str = "info";

/// What to log.
#[derive(Clone, Debug, Args)]
pub struct LogArgs {
    /// How much to tell on stderr [default: info, or what AXVMM_LOG or RUST_LOG say]
    #[arg(long, global = true, value_name = "LEVEL", value_parser = PossibleValuesParser::new(LEVELS))]
    log_level: Option<String>,
    /// Tells errors only: --log-level error
    #[arg(short, long, global = true, conflicts_with = "log_level")]
    quiet: bool,
}

impl LogArgs {
    /// Makes `log` write to stderr, one short line a record.
    pub fn install(&self) {
        let set = VARIABLES.into_iter().find(|name| std::env::var_os(name).is_some());
        let env = Env::default().filter_or(set.unwrap_or(VARIABLES[0]), DEFAULT_LEVEL);
        let mut builder = match (&self.log_level, self.quiet) {
            (None, false) => Builder::from_env(env),
            (level, _) => {
                let mut builder = Builder::new();
                builder.parse_filters(level.as_deref().unwrap_or("error"));
                builder
            }
        };
        // What a client of its sends that it does not know is no news to users.
        builder.filter_module("gdbstub", LevelFilter::Off);
        let style = if colourful(&io::stderr()) { WriteStyle::Always } else { WriteStyle::Never };
        builder.write_style(style).target(Target::Pipe(Box::new(ToSink))).format(|to, record| {
            let level = record.level();
            let style = to.default_level_style(level);
            let word = match level {
                Level::Error => "error",
                Level::Warn => "warning",
                Level::Info => return writeln!(to, "axvmm: {}{}", subject(), record.args()),
                Level::Debug => "debug",
                Level::Trace => "trace",
            };
            writeln!(to, "axvmm: {}{style}{word}{style:#}: {}", subject(), record.args())
        });
        // A program that uses the library may have set up its own log, which is fine.
        let _ = builder.try_init();
    }
}

/// Whether colours are wanted there.
pub fn colourful(to: &impl IsTerminal) -> bool {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    to.is_terminal() && !unwanted && !dumb
}

/// Tells the user something that is no log record.
pub fn tell(message: &str) {
    tell_raw(&format!("axvmm: {}{message}\n", subject()));
}

/// Puts a text on stderr as it is.
pub fn tell_raw(text: &str) {
    put(text.as_bytes());
}

/// From now on messages go the way of the guest's output if that is where stderr goes, too: in
/// order with it, and each on a line of its own.
pub fn join(output: &Arc<Sink>) {
    let same = || {
        let (out, err) = (fstat(io::stdout()).ok()?, fstat(io::stderr()).ok()?);
        Some((out.st_dev, out.st_ino) == (err.st_dev, err.st_ino))
    };
    if same() == Some(true) {
        JOINED.get_or_init(|| output.clone());
    }
}

/// Waits until all is written, but not longer than this.
pub fn flush(patience: Duration) {
    SINK.get()
        .into_iter()
        .chain(JOINED.get().map(|joined| &**joined))
        .for_each(|sink| flush_one(sink, patience));
}

/// The same for a sink of somebody else's.
pub fn flush_one(sink: &Sink, patience: Duration) {
    let Ok(done) = EventFd::new().map(Arc::new) else { return };
    sink.drain(done.clone());
    // Whatever comes of it, the end has come.
    let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::ZERO);
    let _ = poll(&mut [PollFd::new(done.as_fd(), PollFlags::POLLIN)], timeout);
}

static SINK: OnceLock<Sink> = OnceLock::new();
static JOINED: OnceLock<Arc<Sink>> = OnceLock::new();

fn put(bytes: &[u8]) {
    if let Some(joined) = JOINED.get() {
        return joined.put_line(bytes);
    }
    // There is nobody to complain to about a stderr that takes nothing.
    let settings = Settings { name: "log", patience: Duration::ZERO, report: |_| {} };
    SINK.get_or_init(|| Sink::new(io::stderr(), settings)).put(bytes);
}

/// Gives what is written to the sink.
struct ToSink;

impl Write for ToSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        put(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
