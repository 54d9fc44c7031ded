//! Network cards.

use super::{rate::RateKeys, table::virtio_table};
use crate::{
    config::{
        node::{Node, Table, Value},
        report::Report,
        schema::{FromNode, Key, Shape, words},
        source::{At, Place},
        values::Integer,
    },
    virtio::net::{MOST_PAIRS, Mac, NetConfig, Network},
};

words! {
    /// A network that needs nothing of the host's.
    pub enum NetWord {
        /// The user's own.
        User = "user",
    }
}

virtio_table! {
    /// A network card.
    pub struct NetKeys {
        /// `"user"`: a network that needs no privilege, done by the program passt. The guest gets its
        /// address by DHCP, reaches what the host reaches, and the host itself at the gateway's
        /// address.
        net: NetWord,
        /// The host's TAP interface to plug it into, by name. One that is not there is made, if
        /// axvmm may do that.
        tap: String,
        /// The same, by a file descriptor that axvmm is started with.
        tap_fd: Integer<0, 0x7fff_ffff>,
        /// For a user network: ports of the host's that lead into the guest, each
        /// `[tcp:|udp:][ADDRESS/]HOST[-LAST][:GUEST[-LAST]]`, such as `"8080:80"` or
        /// `"udp:127.0.0.1/5353:53"`.
        ports: Vec<At<String>>,
        /// The card's address. Default: one that depends on the VM's name and the card's.
        mac: String,
        /// The largest packet that the guest is to send, in bytes. Default: the TAP interface's; 65520
        /// for a user network.
        mtu: Integer<68, 65520>,
        /// How many queue pairs; more than one for a TAP interface made with `multi_queue`. Default: 1.
        queues: Integer<1, 16>,
        /// What the guest receives at most; an operation is a packet.
        receive_rate: RateKeys,
        /// What the guest transmits at most, likewise.
        transmit_rate: RateKeys,
        /// Whether the host's kernel moves the frames of a TAP interface (vhost-net). Default: where
        /// `/dev/vhost-net` can be opened, and no rate is limited.
        vhost: bool,
    }
}

const _: () = assert!(MOST_PAIRS == 16);

impl NetKeys {
    /// The card that is meant, which stands at `key`.
    pub(super) fn resolve(&self, key: &str, report: &mut Report) -> Option<NetConfig> {
        let network = self.network(key, report);
        let mac = match &self.mac {
            Some(mac) => Some(parsed::<Mac>(mac, &format!("{key}.mac"), report)?),
            None => None,
        };
        let queues = self.queues(key, report)?;
        let mtu = self.mtu.as_ref().map(|mtu| mtu.value.0 as u16);
        let receive = RateKeys::resolve(self.receive_rate.as_ref());
        let transmit = RateKeys::resolve(self.transmit_rate.as_ref());
        let vhost = self.vhost(key, report)?;
        Some(NetConfig { network: network?, mac, mtu, queues, receive, transmit, vhost })
    }

    /// Whether the kernel is to move the frames; it knows TAP interfaces, and no limits.
    #[allow(clippy::option_option, reason = "`None` is a report; the user may have said nothing")]
    fn vhost(&self, key: &str, report: &mut Report) -> Option<Option<bool>> {
        let Some(vhost) = &self.vhost else { return Some(None) };
        let problem = match vhost.value {
            true if self.net.is_some() => "vhost-net is for TAP interfaces",
            true if self.receive_rate.is_some() || self.transmit_rate.is_some() => {
                "vhost-net knows no rates"
            }
            value => return Some(Some(value)),
        };
        let problem = report.problem_of(&format!("{key}.vhost"), vhost.place, problem);
        problem.help("leave the key out");
        None
    }

    fn network(&self, key: &str, report: &mut Report) -> Option<Network> {
        let (net, tap, fd) = (self.net.as_ref(), self.tap.as_ref(), self.tap_fd.as_ref());
        let said = [
            net.map(|net| ("net", net.place)),
            tap.map(|tap| ("tap", tap.place)),
            fd.map(|fd| ("tap_fd", fd.place)),
        ];
        let said: Vec<(&str, Place)> = said.into_iter().flatten().collect();
        if let [(one, _), (other, place), ..] = said[..] {
            let problem = format!("the card is plugged into {one} already");
            report.problem_of(&format!("{key}.{other}"), place, problem).help("choose one of them");
            return None;
        }
        if let (Some(ports), None) = (&self.ports, net) {
            let problem = "only a user network forwards ports; a TAP interface leads to the guest";
            report.problem_of(&format!("{key}.ports"), ports.place, problem);
            return None;
        }
        if let Some(tap) = tap {
            return Some(Network::Tap(tap.value.clone()));
        }
        if let Some(fd) = fd {
            return Some(Network::TapFd(fd.value.0 as i32));
        }
        if ["net", "tap", "tap_fd"].iter().any(|other| report.is_bad(&format!("{key}.{other}"))) {
            return None;
        }
        if net.is_none() {
            let place = self.kind.as_ref()?.place;
            let help = "write net = \"user\", which needs no privilege, or tap = \"tap0\"";
            report.problem_of(key, place, "this card is plugged into nothing").help(help);
            return None;
        }
        let ports = self.ports.iter().flat_map(|ports| &ports.value).enumerate();
        let ports: Vec<_> = ports
            .map(|(index, port)| parsed(port, &format!("{key}.ports[{index}]"), report))
            .collect();
        Some(Network::User { ports: ports.into_iter().collect::<Option<_>>()? })
    }

    fn queues(&self, key: &str, report: &mut Report) -> Option<u16> {
        let Some(queues) = &self.queues else { return Some(1) };
        if queues.value.0 > 1 && self.tap.is_none() {
            let problem = "only a TAP interface that is named has several queues";
            report.problem_of(&format!("{key}.queues"), queues.place, problem);
            return None;
        }
        Some(queues.value.0 as u16)
    }
}

/// What a text means; `None` after a report that it means nothing.
fn parsed<T: std::str::FromStr<Err = String>>(
    text: &At<String>,
    key: &str,
    report: &mut Report,
) -> Option<T> {
    let parsed = text.value.parse();
    parsed.map_err(|problem| _ = report.problem_of(key, text.place, problem)).ok()
}
