//! Where a rented machine is reached: what its provider tells the renter.

use std::{
    collections::BTreeSet,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use thiserror::Error;

use crate::template::{MAX_PORTS, is_port_name};

/// The longest name of the DNS, and of a part of one.
const MAX_NAME: usize = 253;
const MAX_PART: usize = 63;

/// What is no place where a machine is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ReachError {
    /// Neither a name nor an address, or one that leads to no other machine.
    #[error(
        "a DNS name or an IP address by which others reach the machine, such as gpu1.example.com or 203.0.113.7"
    )]
    Host,
    /// Too many.
    #[error("at most {MAX_PORTS} ports")]
    TooMany,
    /// A port's name.
    #[error("a name of 1 to 32 of a-z, 0-9 and -, each once")]
    Name,
    /// A port's number.
    #[error("a port from 1 to 65535")]
    Port,
}

/// A DNS name in small letters, or an IP address: nothing that a shell or a terminal could take for something else.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Host(String);

impl Host {
    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it means the machine that asks, whichever that is.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        match self.0.parse::<IpAddr>() {
            Ok(address) => address.is_loopback(),
            Err(_) => self.0 == "localhost" || self.0.ends_with(".localhost"),
        }
    }
}

impl FromStr for Host {
    type Err = ReachError;

    fn from_str(text: &str) -> Result<Self, ReachError> {
        if let Ok(address) = text.parse::<IpAddr>() {
            let address = address.to_canonical();
            return if leads_somewhere(address) {
                Ok(Self(address.to_string()))
            } else {
                Err(ReachError::Host)
            };
        }
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let parts = || name.split('.');
        // 127.1 and 0x7f000001 are addresses to some: the last part of a name begins with a letter
        let last = parts().next_back().unwrap_or_default();
        let named = last.starts_with(|c: char| c.is_ascii_lowercase());
        if name.len() <= MAX_NAME && named && parts().all(is_part) {
            Ok(Self(name))
        } else {
            Err(ReachError::Host)
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Host {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

fn is_part(part: &str) -> bool {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=MAX_PART).contains(&part.len())
        && part.bytes().all(good)
        && !part.starts_with('-')
        && !part.ends_with('-')
}

/// Not those that are nobody's, everybody's, or one's own cable's only. Private ones lead somewhere: renter and provider may
/// share a network.
fn leads_somewhere(address: IpAddr) -> bool {
    let nobodys = address.is_unspecified() || address.is_multicast();
    let narrow = match address {
        IpAddr::V4(four) => {
            four.is_link_local() || four.octets()[0] == 0 || four == Ipv4Addr::BROADCAST
        }
        IpAddr::V6(six) => is_link_local(six),
    };
    !nobodys && !narrow
}

fn is_link_local(address: Ipv6Addr) -> bool {
    address.segments()[0] & 0xffc0 == 0xfe80
}

/// A port at which something of the rental is reached from outside.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenPort {
    /// What listens there, as the template names it, such as `ssh`.
    pub name: String,
    /// 1 to 65535: that of the host, not the container's own.
    pub port: u16,
}

/// Checks ports and brings them into the order of their names.
///
/// # Errors
/// [`ReachError`], with the place of what is wrong, if it is one of them.
pub fn open_ports(mut ports: Vec<OpenPort>) -> Result<Vec<OpenPort>, (Option<usize>, ReachError)> {
    if ports.len() > MAX_PORTS {
        return Err((None, ReachError::TooMany));
    }
    let mut seen = BTreeSet::new();
    for (place, open) in ports.iter().enumerate() {
        if !is_port_name(&open.name) || !seen.insert(open.name.as_str()) {
            return Err((Some(place), ReachError::Name));
        }
        if open.port == 0 {
            return Err((Some(place), ReachError::Port));
        }
    }
    ports.sort();
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_and_addresses_that_lead_somewhere() {
        for (text, host) in [
            ("GPU1.Example.com.", "gpu1.example.com"),
            ("gpu1", "gpu1"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("203.0.113.7", "203.0.113.7"),
            ("10.0.0.8", "10.0.0.8"),
            ("2001:DB8:0::1", "2001:db8::1"),
            ("::ffff:192.168.1.2", "192.168.1.2"),
            ("127.0.0.1", "127.0.0.1"),
        ] {
            assert_eq!(text.parse::<Host>().unwrap().as_str(), host);
        }
        let (long, part) = (format!("{}com", "abcdefg.".repeat(32)), "a".repeat(64));
        for bad in [
            "",
            ".",
            "a..b",
            "-oProxyCommand=x",
            "a b",
            "a\n.b",
            "a;reboot",
            "$(x).b",
            "büro.de",
            "a_b.c",
            "a-.b",
            "127.1",
            "2130706433",
            "0x7f000001",
            "1.2.3",
            "1.2.3.4:22",
            "[::1]",
            "fe80::1%eth0",
            "fe80::1",
            "::",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "224.0.0.1",
            "255.255.255.255",
            "ff02::1",
            "http://a.b",
            &long,
            &part,
        ] {
            assert_eq!(bad.parse::<Host>(), Err(ReachError::Host), "{bad:?}");
        }
        assert!(serde_json::from_str::<Host>("\"a b\"").is_err());
    }

    #[test]
    fn loopback_is_known_however_it_is_written() {
        for text in
            ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "LOCALHOST", "a.localhost."]
        {
            assert!(text.parse::<Host>().unwrap().is_loopback(), "{text}");
        }
        for text in ["localhost.example.com", "10.0.0.1", "::2"] {
            assert!(!text.parse::<Host>().unwrap().is_loopback(), "{text}");
        }
    }

    #[test]
    fn ports_are_bounded_and_named_once() {
        let open = |name: &str, port| OpenPort { name: name.to_owned(), port };
        let sorted = open_ports(vec![open("ssh", 65_535), open("http", 1)]).unwrap();
        assert_eq!(sorted, [open("http", 1), open("ssh", 65_535)]);
        for (bad, error) in [
            (open("SSH", 1), ReachError::Name),
            (open("", 1), ReachError::Name),
            (open(&"a".repeat(33), 1), ReachError::Name),
            (open("http", 1), ReachError::Name),
            (open("ssh", 0), ReachError::Port),
        ] {
            assert_eq!(open_ports(vec![open("http", 1), bad]), Err((Some(1), error)));
        }
        let many = |n: usize| (0..n).map(|n| open(&format!("p{n}"), 1)).collect::<Vec<_>>();
        assert!(open_ports(many(64)).is_ok());
        assert_eq!(open_ports(many(65)), Err((None, ReachError::TooMany)));
    }
}
