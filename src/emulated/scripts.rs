//! The scripts that bring a host up, as they were when this program was built: written into the cache,
//! beside which they keep what they make.

use std::{
    env, fs,
    hash::{DefaultHasher, Hash, Hasher},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
};

use super::Error;

/// Where they are in the directory that they take for theirs.
const PLACE: &str = "tests/hosts";

macro_rules! scripts {
    ($($name:literal)*) => {
        &[$(($name, include_str!(concat!("../../tests/hosts/", $name)))),*]
    };
}

const SCRIPTS: &[(&str, &str)] = scripts! {
    "host" "setup" "init"
    "lib/common.sh" "lib/debian.sh" "lib/initramfs.sh"
    "arch/x86_64.sh"
    "arch/aarch64.sh" "arch/aarch64-gicv2.sh"
    "arch/riscv64.sh" "arch/riscv64-aia.sh"
};

/// The hosts that there are.
pub fn hosts() -> impl Iterator<Item = &'static str> {
    SCRIPTS.iter().filter_map(|(name, _)| name.strip_prefix("arch/")?.strip_suffix(".sh"))
}

/// The architecture of one of them.
pub fn architecture_of(host: &str) -> &str {
    host.split('-').next().unwrap_or(host)
}

/// Where all is kept that was downloaded, and made of that.
///
/// # Errors
/// If neither `XDG_CACHE_HOME` nor `HOME` is set.
pub fn cache() -> Result<PathBuf, Error> {
    let set = |name| env::var_os(name).filter(|it| !it.is_empty()).map(PathBuf::from);
    let caches = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    let caches = caches.filter(|it| it.is_absolute()).ok_or_else(|| {
        Error::Usage("no place for what is downloaded: set HOME, or XDG_CACHE_HOME".into())
    })?;
    Ok(caches.join("axvmm"))
}

/// Writes the scripts, if they are not there yet; the directory with `host` and `setup` in it.
pub fn write() -> Result<PathBuf, Error> {
    let mut hasher = DefaultHasher::new();
    SCRIPTS.hash(&mut hasher);
    let all = cache()?.join("emulated");
    let dir = all.join(format!("{:016x}", hasher.finish()));
    let place = dir.join(PLACE);
    if place.join("host").exists() {
        return Ok(place);
    }
    let failed = |what: &PathBuf| Error::call(format!("write {}", what.display()));
    fs::create_dir_all(&all).map_err(failed(&all))?;
    // Whole or not at all, whoever else does the same now.
    let new = all.join(format!("new.{}", std::process::id()));
    for (name, text) in SCRIPTS {
        let path = new.join(PLACE).join(name);
        let parent = path.parent().map_or(Ok(()), fs::create_dir_all);
        let mode = fs::Permissions::from_mode(0o755);
        parent
            .and_then(|()| fs::write(&path, text))
            .and_then(|()| fs::set_permissions(&path, mode))
            .map_err(failed(&path))?;
    }
    if let Err(error) = fs::rename(&new, &dir) {
        let _ = fs::remove_dir_all(&new);
        if !place.join("host").exists() {
            return Err(failed(&dir)(error));
        }
    }
    Ok(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_host_of_each_architecture() {
        let all: Vec<_> = hosts().collect();
        assert_eq!(all, ["x86_64", "aarch64", "aarch64-gicv2", "riscv64", "riscv64-aia"]);
        let of: Vec<_> = all.iter().map(|host| architecture_of(host)).collect();
        assert_eq!(of, ["x86_64", "aarch64", "aarch64", "riscv64", "riscv64"]);
    }
}
