//! The options that name a guest, or several, the same for every command that takes them.

use std::path::PathBuf;

use clap::Args;

use super::in_root::{InRoot, root_as_set};
use crate::{
    config::{self, OneOff, Setting},
    devices::custom::Kinds,
    import::firecracker,
    vm::AxVMConfig,
};

/// Options that name a guest's file, which says all of it.
pub const FILES: [&str; 2] = ["config", "firecracker_config"];

/// Which guests: a file each, or one kernel with a few options.
#[derive(Clone, Debug, Args)]
#[group(skip)]
pub struct GuestArgs {
    /// The guest's file, or its kernel.
    #[command(flatten)]
    pub which: Which,
    /// Its initial RAM disk
    #[arg(short, long, conflicts_with_all = FILES)]
    pub initrd: Option<String>,
    /// Its command line
    #[arg(short, long, conflicts_with_all = FILES, allow_hyphen_values = true)]
    pub cmdline: Option<String>,
    /// Its memory, such as 512M
    #[arg(short, long, value_name = "SIZE", conflicts_with_all = FILES)]
    pub memory: Option<String>,
    /// How many vCPUs it gets
    #[arg(short = 'n', long, value_name = "N", conflicts_with_all = FILES)]
    pub cpus: Option<u64>,
    /// Adds a disk: an image, and keys of a block device, such as format=qcow2, readonly, root or
    /// serial=NAME. May be repeated
    #[arg(long = "disk", value_name = "FILE[,KEY=VALUE...]")]
    pub disks: Vec<String>,
    /// Shares a directory, which the guest mounts with `mount -t virtiofs TAG DIR`; TAG is the
    /// directory's own name if not given. With readonly the guest cannot change it, and with discard
    /// what it changes is gone at the end. May be repeated
    #[arg(long = "share", value_name = "DIR[,tag=TAG][,readonly][,discard]")]
    pub shares: Vec<String>,
    /// Adds a network card: "user", a network that needs no privilege, or the host's TAP interface;
    /// KEY is any of such a device's, such as ports. May be repeated
    #[arg(long = "net", value_name = "user|tap=NAME[,KEY=VALUE]…")]
    pub nets: Vec<String>,
    /// Sets a key of the configuration, such as base.memory=1G, or adds to a list with +=; may be
    /// repeated. Of several configurations, sets it in each
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub sets: Vec<String>,
    /// One command in a directory.
    #[command(flatten)]
    pub in_root: InRoot,
}

/// One of these.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Which {
    /// The guest's configuration; repeated, each is a guest of its own in one process. A guest
    /// whose file has no base.id gets the next free one; a file that is given again is another
    /// guest, named NAME-2
    #[arg(long, value_name = "FILE")]
    pub config: Vec<PathBuf>,
    /// A guest's configuration as Firecracker takes it (--config-file), whose paths are relative to
    /// the working directory. A guest that resets itself has ended, as there
    #[arg(long, value_name = "FILE")]
    pub firecracker_config: Option<PathBuf>,
    /// A kernel to run without a configuration
    #[arg(short, long)]
    pub kernel: Option<String>,
}

impl GuestArgs {
    /// Reads what they name, one or more, with devices of these kinds, each with what is wrong with
    /// it.
    pub fn load(&self, kinds: &Kinds) -> Vec<Result<AxVMConfig, config::Error>> {
        let disks = self.disks.iter().map(|disk| setting("--disk", disk, disk_as_set(disk)));
        let shares = self.shares.iter().map(|share| setting("--share", share, share_as_set(share)));
        let root = self
            .in_root
            .root
            .iter()
            .map(|dir| setting("--root", dir, root_as_set(dir, self.in_root.root_rw)));
        let nets = self.nets.iter().map(|net| setting("--net", net, net_as_set(net)));
        let rows = disks.chain(shares).chain(root).chain(nets);
        let sets: Vec<_> = self.sets.iter().map(Setting::from).chain(rows).collect();
        if let Some(path) = &self.which.firecracker_config {
            let guest = firecracker::import(path).and_then(|guest| guest.config(&sets, kinds));
            return vec![guest];
        }
        let Some(kernel) = &self.which.kernel else {
            return config::load_all(&self.which.config, &sets, kinds);
        };
        let one_off = OneOff {
            kernel: kernel.clone(),
            initrd: self.initrd.clone(),
            cmdline: self.cmdline.clone(),
            memory: self.memory.clone(),
            cpus: self.cpus,
        };
        vec![config::from_args_with(&one_off, &sets, kinds)]
    }
}

/// What `option` with this value stands for.
fn setting(option: &str, value: &str, text: String) -> Setting {
    Setting { text, option: Some(format!("{option} {value}")) }
}

/// The `--set` that a `--share` stands for. A directory's name may have commas in it.
fn share_as_set(share: &str) -> String {
    let (mut path, mut keys) = (share, String::new());
    while let Some((rest, option)) = path.rsplit_once(',') {
        match option.split_once('=') {
            Some(("tag", tag)) => keys.push_str(&format!(", tag = {}", quoted(tag))),
            None if ["readonly", "discard"].contains(&option) => {
                keys.push_str(&format!(", {option} = true"));
            }
            _ => break,
        }
        path = rest;
    }
    format!("devices.virtio+={{kind = \"fs\", path = {}{keys}}}", quoted(path))
}

/// The `--set` that a `--disk` stands for. A file's name may have commas in it, but no `=` behind
/// one.
fn disk_as_set(disk: &str) -> String {
    let (mut path, mut keys) = (disk, String::new());
    while let Some((rest, option)) = path.rsplit_once(',') {
        let (key, value) = match option.split_once('=') {
            Some((key, value)) if is_plain(value) => (key, value.to_owned()),
            Some((key, value)) => (key, quoted(value)),
            None if ["readonly", "root", "direct"].contains(&option) => (option, "true".to_owned()),
            None => break,
        };
        keys.insert_str(0, &format!(", {key} = {value}"));
        path = rest;
    }
    format!("devices.virtio+={{kind = \"block\", path = {}{keys}}}", quoted(path))
}

/// Whether TOML has the value without quotes: a number, or one of two words.
fn is_plain(value: &str) -> bool {
    matches!(value, "true" | "false") || value.parse::<u64>().is_ok()
}

/// The `--set` that a `--net` stands for.
fn net_as_set(net: &str) -> String {
    let (mut keys, mut ports) = (String::new(), Vec::new());
    for option in net.split(',') {
        match option.split_once('=') {
            Some(("ports", port)) => ports.push(quoted(port)),
            Some((key, value)) if is_plain(value) => {
                keys.push_str(&format!(", {} = {value}", quoted(key)));
            }
            Some((key, text)) => keys.push_str(&format!(", {} = {}", quoted(key), quoted(text))),
            None => keys.push_str(&format!(", net = {}", quoted(option))),
        }
    }
    if !ports.is_empty() {
        keys.push_str(&format!(", ports = [{}]", ports.join(", ")));
    }
    format!("devices.virtio+={{kind = \"net\"{keys}}}")
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_a_row_of_the_configuration() {
        let row = |rest: &str| format!("devices.virtio+={{kind = \"block\", path = {rest}}}");
        assert_eq!(disk_as_set("a.img"), row("\"a.img\""));
        assert_eq!(disk_as_set("a,b.img,readonly"), row("\"a,b.img\", readonly = true"));
        let all = "x,format=qcow2,queues=2,backing=true,rate.bandwidth=10M,root";
        let keys = "format = \"qcow2\", queues = 2, backing = true, rate.bandwidth = \"10M\", \
                    root = true";
        assert_eq!(disk_as_set(all), row(&format!("\"x\", {keys}")));
    }

    #[test]
    fn a_share_is_a_row_of_the_configuration() {
        let row = |rest: &str| format!("devices.virtio+={{kind = \"fs\", path = {rest}}}");
        assert_eq!(share_as_set("/srv"), row("\"/srv\""));
        assert_eq!(share_as_set("a,b,readonly"), row("\"a,b\", readonly = true"));
        let both = row("\"x\", readonly = true, tag = \"t\"");
        assert_eq!(share_as_set("x,tag=t,readonly"), both);
        assert_eq!(share_as_set("x,tg=t"), row("\"x,tg=t\""));
    }

    #[test]
    fn a_card_is_a_row_of_the_configuration() {
        let row = |rest: &str| format!("devices.virtio+={{kind = \"net\", {rest}}}");
        assert_eq!(net_as_set("user"), row("net = \"user\""));
        let ports = "net = \"user\", ports = [\"8080:80\", \"udp:53\"]";
        assert_eq!(net_as_set("user,ports=8080:80,ports=udp:53"), row(ports));
        let tap = "\"tap\" = \"tap0\", \"queues\" = 2, \"mac\" = \"02:00:00:00:00:01\"";
        assert_eq!(net_as_set("tap=tap0,queues=2,mac=02:00:00:00:00:01"), row(tap));
    }
}
