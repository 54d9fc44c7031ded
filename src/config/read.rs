//! Reading a configuration file, whatever stands under its name.

use std::{
    fs::{self, File, FileType, OpenOptions},
    io::{self, Read},
    os::unix::fs::{FileTypeExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use super::{
    error::{Error, Problem},
    source::{Origin, Place, Source},
};

/// No guest needs more; a larger file is another file.
pub const MAX_FILE_SIZE: u64 = 1 << 20;

/// What messages say of a language that configuration is written in.
pub(crate) struct Language {
    /// What it is called.
    pub name: &'static str,
    /// What a file in it may be called.
    pub example: &'static str,
    /// What to do about one that is not there.
    pub missing: Option<&'static str>,
}

const TOML: Language = Language {
    name: "TOML",
    example: "guest.toml",
    missing: Some("`axvmm init` writes one to begin with"),
};

/// The text of the file at `path`, without a byte order mark.
pub(super) fn read(path: &Path) -> Result<Source, Error> {
    let base_dir = path.parent().unwrap_or(Path::new("")).to_owned();
    let name = path.display().to_string();
    read_text(path, &TOML, |text| Source::new(Origin::File(name.clone()), text, base_dir.clone()))
}

/// As [`read`], of another program's file, whose paths are relative to the working directory.
pub(crate) fn read_foreign(path: &Path, language: &Language) -> Result<Source, Error> {
    let name = path.display().to_string();
    let origin = || Origin::Foreign(name.clone());
    read_text(path, language, |text| Source::new(origin(), text, PathBuf::new()))
}

fn read_text(
    path: &Path,
    language: &Language,
    source: impl Fn(String) -> Source,
) -> Result<Source, Error> {
    let name = path.display().to_string();
    let fail = |error: io::Error| {
        let problem = Problem::of_file(&name, format!("cannot read this file: {error}"));
        Error::from(match (error.kind(), language.missing) {
            (io::ErrorKind::NotFound, Some(help)) => problem.with_help(help),
            _ => problem,
        })
    };
    let bytes = match open_regular(path).map_err(fail)? {
        Ok(file) => {
            let mut bytes = Vec::new();
            file.take(MAX_FILE_SIZE + 1).read_to_end(&mut bytes).map_err(fail)?;
            bytes
        }
        Err(kind) => {
            return Err(Problem::of_file(&name, format!("is {kind}, not a file"))
                .with_help(format!("name a {} file, such as {}", language.name, language.example))
                .into());
        }
    };
    if bytes.len() as u64 > MAX_FILE_SIZE {
        return Err(Problem::of_file(&name, "is larger than 1 MiB")
            .with_help("this is no configuration file: is it an image?")
            .into());
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(source(without_mark(text))),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            // The text is the same up to this place, so it serves to show it.
            let source = source(String::from_utf8_lossy(error.as_bytes()).into_owned());
            let place = Place { source: 0, start: at, end: at };
            let problem = source.problem(place, "this byte is not valid UTF-8".into());
            let help = format!("{} files are UTF-8: save it in this encoding", language.name);
            Err(problem.with_help(help).into())
        }
    }
}

/// Some editors begin a file with a byte order mark, which is no part of the text.
pub(super) fn without_mark(text: String) -> String {
    match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    }
}

/// Opens a regular file, or tells what it is instead. Neither a FIFO with nobody at its other end
/// nor a device can make this wait.
fn open_regular(path: &Path) -> io::Result<Result<File, &'static str>> {
    // Opening some devices does things, so look first; and look again at what was opened.
    if let Some(kind) = irregular(fs::metadata(path)?.file_type()) {
        return Ok(Err(kind));
    }
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    Ok(match irregular(file.metadata()?.file_type()) {
        Some(kind) => Err(kind),
        None => Ok(file),
    })
}

/// What a file is, if not a regular one.
pub(super) fn irregular(kind: FileType) -> Option<&'static str> {
    if kind.is_file() {
        None
    } else if kind.is_dir() {
        Some("a directory")
    } else if kind.is_fifo() {
        Some("a pipe")
    } else if kind.is_socket() {
        Some("a socket")
    } else {
        Some("a device")
    }
}
