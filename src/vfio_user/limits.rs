//! What the two sides can take: the text of VFIO_USER_VERSION.

use serde::{Deserialize, Serialize};

use super::wire::MOST_DATA;

/// The most files that Linux sends with a message (SCM_MAX_FD).
const MOST_FILES: usize = 253;

/// What a side can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// How many files with a message.
    pub max_msg_fds: usize,
    /// How many bytes of data in a message.
    pub max_data_xfer_size: usize,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Text {
    capabilities: Limits,
}

/// What is so if nothing is said.
impl Default for Limits {
    fn default() -> Self {
        Self { max_msg_fds: 1, max_data_xfer_size: MOST_DATA }
    }
}

impl Limits {
    /// What this end says: no server sends files that it wants, and some look for a number.
    pub fn ours() -> Vec<u8> {
        let text = Text { capabilities: Self { max_msg_fds: 8, ..Self::default() } };
        let mut text = serde_json::to_vec(&text).unwrap_or_default();
        text.push(0);
        text
    }

    /// What the other says, if it says anything.
    pub fn read(text: &[u8]) -> Result<Self, String> {
        let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
        if text.is_empty() {
            return Ok(Self::default());
        }
        let text: Text = serde_json::from_slice(text)
            .map_err(|error| format!("its capabilities cannot be read: {error}"))?;
        let Self { max_msg_fds, max_data_xfer_size } = text.capabilities;
        if max_msg_fds == 0 || max_data_xfer_size < size_of::<u64>() {
            return Err("it takes no files or no data".to_owned());
        }
        Ok(Self { max_msg_fds: max_msg_fds.min(MOST_FILES), max_data_xfer_size })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_is_as_the_protocol_has_it() {
        let usual = Limits { max_msg_fds: 1, max_data_xfer_size: 1 << 20 };
        for text in [&b""[..], b"\0", b"{}\0", b"{\"capabilities\": {\"migration\": {}}}\0"] {
            assert_eq!(Limits::read(text), Ok(usual), "{text:?}");
        }
        let more = b"{\"capabilities\":{\"max_msg_fds\":1000,\"max_data_xfer_size\":4096}}";
        let more = Limits::read(more).unwrap();
        assert_eq!(more, Limits { max_msg_fds: MOST_FILES, max_data_xfer_size: 4096 });
        assert_eq!(Limits::read(&Limits::ours()).unwrap().max_msg_fds, 8);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for text in [
            &b"{"[..],
            b"{\"capabilities\": 3}",
            b"{\"capabilities\": {\"max_msg_fds\": -1}}",
            b"{\"capabilities\": {\"max_msg_fds\": 0}}",
            b"{\"capabilities\": {\"max_data_xfer_size\": 7}}",
            b"\xff\xff",
        ] {
            Limits::read(text).unwrap_err();
        }
    }
}
