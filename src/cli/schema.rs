//! `axvmm schema`: the keys of `guest.toml`, for editors.

use super::{
    Failure,
    check::{json, print},
};
use crate::config::json_schema;

/// Prints the schema.
pub fn schema() -> Result<u8, Failure> {
    print(&json(&json_schema())?)?;
    Ok(0)
}
