//! Where a request comes from: the peer of its connection, or, where that is a proxy of ours, whom the proxy names.

use std::{
    net::{IpAddr, Ipv4Addr},
    str::FromStr,
};

use axum::http::HeaderMap;

const FORWARDED_FOR: &str = "x-forwarded-for";
/// Addresses of `X-Forwarded-For` that are looked at, from the last on.
const MOST_HOPS: usize = 16;

/// A network of addresses, such as `10.0.0.0/8`; without a length it is one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Net {
    address: IpAddr,
    length: u32,
}

/// A text that is no network.
#[derive(Debug, thiserror::Error)]
#[error("expected an address, or a network such as 10.0.0.0/8 or fd00::/8")]
pub struct NetError;

impl FromStr for Net {
    type Err = NetError;

    fn from_str(text: &str) -> Result<Self, NetError> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.trim().parse().map_err(|_| NetError)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let length = match length {
            Some(length) => length.trim().parse::<u32>().map_err(|_| NetError)?,
            None => most,
        };
        if length > most { Err(NetError) } else { Ok(Self { address, length }) }
    }
}

impl Net {
    /// Whether an address lies in it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let differ = |left: u128, right: u128, bits: u32| {
            // a shift by all bits leaves nothing to differ
            (left ^ right).checked_shr(bits.saturating_sub(self.length)).unwrap_or(0)
        };
        match (self.address, address) {
            (IpAddr::V4(net), IpAddr::V4(one)) => {
                differ(net.to_bits().into(), one.to_bits().into(), 32) == 0
            }
            (IpAddr::V6(net), IpAddr::V6(one)) => differ(net.to_bits(), one.to_bits(), 128) == 0,
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

/// Of whom what is kept for nobody in particular is counted: an IPv4 address, or the first 48 bits of an IPv6 address, as
/// many as one customer of a network has at most.
pub(crate) fn network_of(address: IpAddr) -> Vec<u8> {
    match address.to_canonical() {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().into_iter().take(6).collect(),
    }
}

/// The caller's address. `X-Forwarded-For` is read from its end, which our own proxies wrote, up to the first address
/// that is none of them; what stands before that anybody may have written.
pub(super) fn address(peer: Option<IpAddr>, headers: &HeaderMap, proxies: &[Net]) -> IpAddr {
    let mut nearest = peer.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)).to_canonical();
    let ours = |address: IpAddr| proxies.iter().any(|net| net.contains(address));
    let lines = headers.get_all(FORWARDED_FOR).iter().rev();
    let named = lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.rsplit(','));
    for name in named.take(MOST_HOPS) {
        if !ours(nearest) {
            break;
        }
        match name.trim().parse::<IpAddr>() {
            Ok(next) => nearest = next.to_canonical(),
            Err(_) => break,
        }
    }
    nearest
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn from(peer: &str, forwarded: &[&'static str], proxies: &[&str]) -> String {
        let lines = forwarded.iter().map(|line| {
            let name = axum::http::HeaderName::from_static(FORWARDED_FOR);
            (name, HeaderValue::from_static(line))
        });
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name, value);
        }
        let proxies: Vec<Net> = proxies.iter().map(|net| net.parse().unwrap()).collect();
        address(Some(peer.parse().unwrap()), &headers, &proxies).to_string()
    }

    #[test]
    fn only_proxies_of_ours_are_believed() {
        let ours = ["10.0.0.0/8", "fd00::/8"];
        assert_eq!(from("192.0.2.7", &["198.51.100.1"], &[]), "192.0.2.7");
        assert_eq!(from("192.0.2.7", &["198.51.100.1"], &ours), "192.0.2.7");
        assert_eq!(from("10.1.2.3", &["198.51.100.1"], &ours), "198.51.100.1");
        assert_eq!(from("10.1.2.3", &["1.1.1.1, 198.51.100.1"], &ours), "198.51.100.1");
        assert_eq!(from("10.1.2.3", &["1.1.1.1", "198.51.100.1, 10.9.9.9"], &ours), "198.51.100.1");
        assert_eq!(from("fd00::1", &["2001:db8::5"], &ours), "2001:db8::5");
        assert_eq!(from("::ffff:10.1.2.3", &["198.51.100.1"], &ours), "198.51.100.1");
        assert_eq!(from("10.1.2.3", &["nonsense"], &ours), "10.1.2.3");
        assert_eq!(from("10.1.2.3", &[], &ours), "10.1.2.3");
    }

    #[test]
    fn networks_are_read_strictly() {
        for bad in ["", "10.0.0.0/33", "::/129", "10.0.0/8", "x", "10.0.0.0/-1", "/8"] {
            assert!(bad.parse::<Net>().is_err(), "{bad}");
        }
        let all: Net = "0.0.0.0/0".parse().unwrap();
        assert!(all.contains("255.255.255.255".parse().unwrap()));
        let one: Net = "192.0.2.1".parse().unwrap();
        assert!(one.contains("192.0.2.1".parse().unwrap()));
        assert!(!one.contains("192.0.2.2".parse().unwrap()));
    }
}
