//! The options that name a guest, or several, the same for every command that takes them.

use std::path::PathBuf;

use clap::Args;

use crate::{
    config::{self, OneOff},
    vm::AxVMConfig,
};

/// Which guests: a file each, or one kernel with a few options.
#[derive(Clone, Debug, Args)]
#[group(skip)]
pub struct GuestArgs {
    /// The guest's file, or its kernel.
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
    /// Sets a key of the configuration, such as base.memory=1G; may be repeated. Of several
    /// configurations, sets it in each
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub sets: Vec<String>,
}

/// One of the two.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Which {
    /// The guest's configuration; repeated, each is a guest of its own in one process. A guest
    /// whose file has no base.id gets the next free one; a file that is given again is another
    /// guest, named NAME-2
    #[arg(long, value_name = "FILE")]
    pub config: Vec<PathBuf>,
    /// A kernel to run without a configuration
    #[arg(short, long)]
    pub kernel: Option<String>,
}

impl GuestArgs {
    /// Reads what they name, one or more, each with what is wrong with it.
    pub fn load(&self) -> Vec<Result<AxVMConfig, config::Error>> {
        let Some(kernel) = &self.which.kernel else {
            return config::load_all(&self.which.config, &self.sets);
        };
        let one_off = OneOff {
            kernel: kernel.clone(),
            initrd: self.initrd.clone(),
            cmdline: self.cmdline.clone(),
            memory: self.memory.clone(),
            cpus: self.cpus,
        };
        vec![config::from_args(&one_off, &self.sets)]
    }
}
