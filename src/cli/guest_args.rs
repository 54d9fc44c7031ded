//! The options that name a guest, the same for every command that takes one.

use std::path::PathBuf;

use clap::Args;

use crate::{
    config::{self, OneOff},
    vm::AxVMConfig,
};

/// Which guest: a file, or a kernel with a few options.
#[derive(Clone, Debug, Args)]
#[group(skip)]
pub struct GuestArgs {
    #[command(flatten)]
    pub which: Which,
    /// Its initial RAM disk
    #[arg(short, long, conflicts_with = "config")]
    pub initrd: Option<String>,
    /// Its command line
    #[arg(short, long, conflicts_with = "config", allow_hyphen_values = true)]
    pub cmdline: Option<String>,
    /// Its memory, such as 512M
    #[arg(short, long, value_name = "SIZE", conflicts_with = "config")]
    pub memory: Option<String>,
    /// How many vCPUs it gets
    #[arg(short = 'n', long, value_name = "N", conflicts_with = "config")]
    pub cpus: Option<u64>,
    /// Sets a key of the configuration, such as base.memory=1G; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub sets: Vec<String>,
}

/// One of the two.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Which {
    /// The guest's configuration
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// A kernel to run without a configuration
    #[arg(short, long)]
    pub kernel: Option<String>,
}

impl GuestArgs {
    /// Reads what they name.
    pub fn load(&self) -> Result<AxVMConfig, config::Error> {
        match (&self.which.config, &self.which.kernel) {
            (Some(path), _) => config::load(path, &self.sets),
            (None, kernel) => {
                let one_off = OneOff {
                    kernel: kernel.clone().unwrap_or_default(),
                    initrd: self.initrd.clone(),
                    cmdline: self.cmdline.clone(),
                    memory: self.memory.clone(),
                    cpus: self.cpus,
                };
                config::from_args(&one_off, &self.sets)
            }
        }
    }
}
