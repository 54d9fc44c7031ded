//! Ports of the host's that lead to ports of the guest's.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    str::FromStr,
};

use serde::{Serialize, Serializer};

/// TCP or UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is what it is called")]
pub enum Protocol {
    Tcp,
    Udp,
}

/// One or several ports in a row, of an address of the host's or of all, that lead to as many of the
/// guest's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forward {
    /// Which ports.
    pub protocol: Protocol,
    /// The host's address; `None`: all.
    pub address: Option<IpAddr>,
    /// The host's first port.
    pub host: u16,
    /// The guest's first port.
    pub guest: u16,
    /// How many ports beside the first.
    pub more: u16,
}

impl Forward {
    /// As passt's options `-t` and `-u` have it.
    pub fn passt(&self) -> String {
        let address = self.address.map_or(String::new(), |address| format!("{address}/"));
        let Self { host, guest, more, .. } = *self;
        match more {
            0 => format!("{address}{host}:{guest}"),
            more => format!("{address}{host}-{}:{guest}-{}", host + more, guest + more),
        }
    }

    /// Whether all of the host's ports can be had: passt is content with some.
    ///
    /// # Errors
    /// Which one cannot, and why.
    pub fn check(&self) -> Result<(), String> {
        let address = self.address.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
        for port in self.host..=self.host + self.more {
            let at = SocketAddr::new(address, port);
            let bound = match self.protocol {
                Protocol::Tcp => TcpListener::bind(at).map(drop),
                Protocol::Udp => UdpSocket::bind(at).map(drop),
            };
            bound.map_err(|error| {
                let advice = match error.kind() {
                    io::ErrorKind::AddrInUse => "; it is in use: forward another one",
                    io::ErrorKind::PermissionDenied => {
                        "; ports below 1024 are for root alone: forward another one"
                    }
                    io::ErrorKind::AddrNotAvailable => "; it is no address of this host's",
                    _ => "",
                };
                format!("port {port} of {address} cannot be forwarded: {error}{advice}")
            })?;
        }
        Ok(())
    }
}

impl FromStr for Forward {
    type Err = String;

    /// `[tcp:|udp:][ADDRESS/]HOST[-LAST][:GUEST[-LAST]]`
    fn from_str(text: &str) -> Result<Self, String> {
        let no_port = |part: &str| format!("{part:?} is no port from 1 to 65535");
        let port = |part: &str| match part.parse::<u16>() {
            Ok(port @ 1..) if !part.starts_with('+') => Ok(port),
            _ => Err(no_port(part)),
        };
        let ports = |part: &str| match part.split_once('-') {
            None => port(part).map(|port| (port, port)),
            Some((first, last)) => Ok((port(first)?, port(last)?)),
        };
        let (protocol, rest) = match text.split_once(':') {
            Some(("tcp", rest)) => (Protocol::Tcp, rest),
            Some(("udp", rest)) => (Protocol::Udp, rest),
            _ => (Protocol::Tcp, text),
        };
        let (address, rest) = match rest.split_once('/') {
            None => (None, rest),
            Some((address, rest)) => {
                let parsed = address.trim_start_matches('[').trim_end_matches(']').parse();
                (Some(parsed.map_err(|_| format!("{address:?} is no IP address"))?), rest)
            }
        };
        let (host, guest) = rest.split_once(':').unwrap_or((rest, rest));
        let ((host, host_last), (guest, guest_last)) = (ports(host)?, ports(guest)?);
        let count = |first: u16, last: u16| {
            last.checked_sub(first).ok_or_else(|| format!("{first}-{last} are no ports in a row"))
        };
        let (more, guest_more) = (count(host, host_last)?, count(guest, guest_last)?);
        if more != guest_more {
            let (host, guest) = (u32::from(more) + 1, u32::from(guest_more) + 1);
            return Err(format!(
                "{host} ports of the host's cannot lead to {guest} of the guest's"
            ));
        }
        Ok(Self { protocol, address, host, guest, more })
    }
}

impl fmt::Display for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        write!(f, "{protocol}:{}", self.passt())
    }
}

impl Serialize for Forward {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, told: &str) {
        let read = text.parse::<Forward>().map(|forward| forward.to_string());
        assert_eq!(read.unwrap_or_else(|problem| problem), told);
    }

    #[test]
    fn ports_are_read() {
        check("8080:80", "tcp:8080:80");
        check("22", "tcp:22:22");
        check("tcp:8080:80", "tcp:8080:80");
        check("udp:5353:53", "udp:5353:53");
        check("127.0.0.1/2222:22", "tcp:127.0.0.1/2222:22");
        check("udp:::1/5353:53", "udp:::1/5353:53");
        check("udp:[::1]/5353:53", "udp:::1/5353:53");
        check("8000-8010:9000-9010", "tcp:8000-8010:9000-9010");
        check("1-65535", "tcp:1-65535:1-65535");
    }

    #[test]
    fn what_is_no_port_is_told() {
        check("", "\"\" is no port from 1 to 65535");
        check("0:80", "\"0\" is no port from 1 to 65535");
        check("80:65536", "\"65536\" is no port from 1 to 65535");
        check("+80", "\"+80\" is no port from 1 to 65535");
        check("sctp:80:80", "\"sctp\" is no port from 1 to 65535");
        check("localhost/80:80", "\"localhost\" is no IP address");
        check("90-80:90-80", "90-80 are no ports in a row");
        check("80-90:80", "11 ports of the host's cannot lead to 1 of the guest's");
    }

    #[test]
    fn a_port_that_is_taken_is_told_before_anything_starts() {
        let taken = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let forward: Forward = format!("{port}:80").parse().unwrap();
        let problem = forward.check().unwrap_err();
        assert!(problem.contains(&format!("port {port} ")), "{problem}");
        assert!(problem.contains("in use"), "{problem}");
        drop(taken);
        assert_eq!(forward.check(), Ok(()));
        let elsewhere: Forward = "192.0.2.99/8080:80".parse().unwrap();
        assert!(elsewhere.check().unwrap_err().contains("no address of this host's"));
    }
}
