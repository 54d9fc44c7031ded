//! `--gdb`: the server for GDB.

use crate::{
    cli::{Failure, log_output::tell},
    gdb::{Endpoint, Server},
    kvm::KvmHal,
};

/// Listens for GDB, if that is wanted, and says what to type there.
pub fn begin(
    endpoint: Option<&Endpoint>,
    waits: bool,
    guests: usize,
) -> Result<Option<Server<KvmHal>>, Failure> {
    let Some(endpoint) = endpoint else { return Ok(None) };
    if guests > 1 {
        return Err(Failure::usage(format!(
            "--gdb {endpoint} is for one guest, and these are {guests}: run the one to be debugged \
             by itself"
        )));
    }
    let server = Server::start(endpoint, waits).map_err(|error| {
        Failure::usage(format!("--gdb {endpoint}: cannot listen there: {error}"))
    })?;
    let address = server.address();
    tell(&match waits {
        true => format!("the guest waits for GDB: target remote {address}"),
        false => format!("GDB can attach: target remote {address}"),
    });
    Ok(Some(server))
}
