//! Where a webhook may point. Whoever names a URL that we then call would like it to be one of ours: so only public
//! addresses are called, and that is judged after the name was resolved, for each address that it has.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use thiserror::Error;
use url::Url;

/// The longest URL.
const MAX_URL: usize = 2_048;
/// Names that lead nowhere outside.
const INSIDE: [&str; 5] = ["localhost", "internal", "local", "lan", "home.arpa"];

/// Why a URL is not called.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TargetError {
    /// It is not a URL.
    #[error("it is not an absolute URL of at most {MAX_URL} characters")]
    NotAUrl,
    /// It is not encrypted.
    #[error("it must begin with https://")]
    NotHttps,
    /// It names a user.
    #[error("it must not hold a user name or a password: calls are signed instead")]
    Credentials,
    /// It has a fragment.
    #[error("it must not have a fragment (#): nobody is sent one")]
    Fragment,
    /// It does not lead outside.
    #[error("{0} is not a public address")]
    NotPublic(String),
}

/// What may be called beside the public internet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// This machine itself, without encryption too: for development.
    pub loopback: bool,
}

impl Rules {
    /// Whether an address may be called.
    #[must_use]
    pub fn admit(self, address: IpAddr) -> bool {
        is_public(address) || (self.loopback && address.is_loopback())
    }
}

/// How a target is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Encrypted.
    Https,
    /// Not: this machine only.
    Http,
}

/// A target's machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// A name to be resolved.
    Name(String),
    /// An address.
    Address(IpAddr),
}

/// A URL that may be called, as far as it tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// How.
    pub scheme: Scheme,
    /// Whom.
    pub host: Host,
    /// Where.
    pub port: u16,
    /// `host` and, where it is not the usual one, `port`, as the `Host` header has them.
    pub authority: String,
    /// Path and query.
    pub path: String,
    /// All of it, as it was understood: without what a parser drops, and with the rest escaped.
    pub url: String,
}

impl Target {
    /// Reads a URL. A host that is an address, however it is written, must be one that may be called; a name is judged
    /// when it is resolved.
    ///
    /// # Errors
    /// [`TargetError`].
    pub fn parse(text: &str, rules: Rules) -> Result<Self, TargetError> {
        if text.len() > MAX_URL {
            return Err(TargetError::NotAUrl);
        }
        let url = Url::parse(text).map_err(|_| TargetError::NotAUrl)?;
        if url.as_str().len() > MAX_URL {
            return Err(TargetError::NotAUrl);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(TargetError::Credentials);
        }
        if url.fragment().is_some() {
            return Err(TargetError::Fragment);
        }
        let host = match url.host() {
            Some(url::Host::Domain(name)) => Host::Name(name.trim_end_matches('.').to_owned()),
            Some(url::Host::Ipv4(four)) => Host::Address(four.into()),
            Some(url::Host::Ipv6(six)) => Host::Address(six.into()),
            None => return Err(TargetError::NotAUrl),
        };
        let here = match &host {
            Host::Name(name) => name == "localhost",
            Host::Address(address) => address.is_loopback(),
        };
        let scheme = match url.scheme() {
            "https" => Scheme::Https,
            "http" if here && rules.loopback => Scheme::Http,
            _ => return Err(TargetError::NotHttps),
        };
        let allowed = match &host {
            Host::Name(_) if here => rules.loopback,
            Host::Name(name) => !is_inside(name),
            Host::Address(address) => rules.admit(*address),
        };
        let shown = url.host_str().unwrap_or_default();
        if !allowed {
            return Err(TargetError::NotPublic(shown.to_owned()));
        }
        let port = url.port_or_known_default().ok_or(TargetError::NotAUrl)?;
        let authority = match url.port() {
            Some(port) => format!("{shown}:{port}"),
            None => shown.to_owned(),
        };
        let path = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        Ok(Self { scheme, host, port, authority, path, url: url.into() })
    }
}

/// A name without a full stop is one of the resolver's own network, or of its search list.
fn is_inside(name: &str) -> bool {
    let ends_in = |end: &str| {
        name.strip_suffix(end).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    !name.contains('.') || INSIDE.into_iter().any(ends_in)
}

/// Whether an address is one of the public internet (IANA's registries of special-purpose addresses). An IPv4 address
/// inside an IPv6 one is never: whoever means it can say so.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(four) => is_public_v4(four),
        IpAddr::V6(six) => is_public_v6(six),
    }
}

const fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !matches!(
        (a, b, c),
        (0 | 10 | 127, _, _)                // this network, private, loopback
            | (100, 64..=127, _)            // shared by carriers (CGNAT)
            | (169, 254, _)                 // link-local: clouds' metadata lives here
            | (172, 16..=31, _)             // private
            | (192, 0, 0 | 2)               // protocols, documentation
            | (192, 31, 196)                // AS112
            | (192, 52, 193)                // AMT
            | (192, 88, 99)                 // 6to4 relays
            | (192, 168, _)                 // private
            | (192, 175, 48)                // AS112
            | (198, 18 | 19, _)             // benchmarks
            | (198, 51, 100)                // documentation
            | (203, 0, 113)                 // documentation
            | (224..=255, _, _) // multicast, reserved, broadcast
    )
}

const fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, ..] = address.segments();
    // only 2000::/3 is given out at all: loopback, mapped, NAT64, unique local, link-local, multicast lie outside
    let global = a & 0xe000 == 0x2000;
    let special = matches!(
        (a, b),
        (0x2001, 0..=0x01ff)                // protocols, among them Teredo and ORCHID
            | (0x2001, 0x0db8)              // documentation
            | (0x2002, _)                   // 6to4: an IPv4 address inside
            | (0x2620, 0x004f)              // AS112
            | (0x3fff, 0..=0x0fff) // documentation
    );
    global && !special
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRICT: Rules = Rules { loopback: false };
    const LOCAL: Rules = Rules { loopback: true };

    #[test]
    fn public_addresses_are_called() {
        for text in [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.17.0.1",
            "198.20.0.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00:1450:4001::1",
            "2001:4860:4860::8888",
        ] {
            assert!(STRICT.admit(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn no_other_address_is() {
        for text in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "127.0.0.1",
            "127.255.255.254",
            "100.64.0.1",
            "100.127.255.255",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.250",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:8.8.8.8",
            "::ffff:127.0.0.1",
            "::8.8.8.8",
            "64:ff9b::808:808",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2001:10::1",
            "2002:7f00:1::",
            "3fff::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "5f00::1",
        ] {
            assert!(!STRICT.admit(text.parse().unwrap()), "{text}");
        }
        assert!(LOCAL.admit("127.0.0.1".parse().unwrap()) && LOCAL.admit("::1".parse().unwrap()));
        assert!(!LOCAL.admit("10.0.0.1".parse().unwrap()));
        assert!(!LOCAL.admit("::ffff:127.0.0.1".parse().unwrap()));
    }

    #[test]
    fn urls_are_read_strictly() {
        let target = Target::parse("https://Hooks.Example:8443/a/b?c=d", STRICT).unwrap();
        assert_eq!(target.host, Host::Name("hooks.example".to_owned()));
        assert_eq!((target.port, target.authority.as_str()), (8_443, "hooks.example:8443"));
        assert_eq!((target.scheme, target.path.as_str()), (Scheme::Https, "/a/b?c=d"));
        assert_eq!(Target::parse("https://example.com", STRICT).unwrap().path, "/");
        for (bad, why) in [
            ("", TargetError::NotAUrl),
            ("example.com", TargetError::NotAUrl),
            ("/path", TargetError::NotAUrl),
            ("http://example.com", TargetError::NotHttps),
            ("ftp://example.com", TargetError::NotHttps),
            ("file:///etc/passwd", TargetError::NotAUrl),
            ("https://me:secret@example.com", TargetError::Credentials),
            ("https://me@example.com", TargetError::Credentials),
            ("https://example.com/#x", TargetError::Fragment),
        ] {
            assert_eq!(Target::parse(bad, STRICT), Err(why), "{bad}");
        }
        assert_eq!(
            Target::parse(&format!("https://example.com/{}", "x".repeat(2_048)), STRICT),
            Err(TargetError::NotAUrl)
        );
    }

    #[test]
    fn an_address_is_seen_through_however_it_is_written() {
        for text in [
            "https://127.0.0.1/",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://017700000001/",
            "https://[::1]/",
            "https://[::ffff:127.0.0.1]/",
            "https://[::ffff:7f00:1]/",
            "https://169.254.169.254/latest/meta-data",
            "https://0/",
            "https://localhost/",
            "https://LOCALHOST./",
            "https://a.localhost/",
            "https://db.internal/",
            "https://printer.local/",
            "https://router.lan/",
            "https://postgres/",
            "https://mylan./",
            "https://１２７.0.0.1/",
        ] {
            assert!(
                matches!(Target::parse(text, STRICT), Err(TargetError::NotPublic(_))),
                "{text}"
            );
        }
        assert!(Target::parse("https://notlocalhost.example/", STRICT).is_ok());
        assert!(Target::parse("https://my.lanes/", STRICT).is_ok());
    }

    #[test]
    fn a_url_is_kept_as_it_is_understood() {
        let kept = |text: &str| Target::parse(text, STRICT).unwrap().url;
        assert_eq!(kept(" https://Hooks.Example/a\t\n?b\0c "), "https://hooks.example/a?b%00c");
        assert_eq!(kept("https://hooks.example/\0"), "https://hooks.example/");
        let long = format!("https://hooks.example/{}", "é".repeat(600));
        assert_eq!(Target::parse(&long, STRICT), Err(TargetError::NotAUrl), "escaped it is longer");
    }

    #[test]
    fn this_machine_may_be_called_where_that_is_allowed() {
        for text in [
            "http://127.0.0.1:9/x",
            "http://localhost:9/x",
            "http://[::1]:9/",
            "https://localhost/",
        ] {
            assert!(Target::parse(text, LOCAL).is_ok(), "{text}");
            assert!(Target::parse(text, STRICT).is_err(), "{text}");
        }
        assert_eq!(Target::parse("http://10.0.0.1/", LOCAL), Err(TargetError::NotHttps));
        assert_eq!(Target::parse("http://example.com/", LOCAL), Err(TargetError::NotHttps));
    }
}
