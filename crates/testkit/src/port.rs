//! TCP ports on 127.0.0.1.

use std::hash::{BuildHasher as _, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;
use std::{fs, io};

use tokio::time::{Instant, sleep};

/// How long a port that was asked for by number may stay taken. The server of an owner that was
/// killed a moment ago is still being stopped by its watchdog.
const HANDOVER: Duration = Duration::from_secs(3);

/// The lowest port that is given out: those below are where services that stay are usually found.
const LOWEST: u16 = 10_000;
/// The fewest ports worth drawing from: with fewer, two callers would soon draw the same.
const FEWEST: usize = 1_000;
/// How many ports are looked at before the system is asked for one of its own.
const LOOKS: u32 = 100;
/// Where the system says which ports it gives to connections that name none: two numbers.
const EPHEMERAL: &str = "/proc/sys/net/ipv4/ip_local_port_range";

/// A port that was free a moment ago, for a server that is told its port, perhaps more than once.
///
/// Where there are enough others, it is none of those that the system gives out by itself: any
/// connection that is made while the server is not there could take one of those. Another caller
/// of this function may still take it first.
///
/// # Errors
/// When the system has no free port.
pub fn free_port() -> io::Result<u16> {
    let ports = fs::read_to_string(EPHEMERAL).map(|text| outside(&text)).unwrap_or_default();
    let chance = RandomState::new();
    let drawn = (0..LOOKS).filter_map(|look| {
        let at = chance.hash_one(look).checked_rem(u64::try_from(ports.len()).ok()?)?;
        ports.get(usize::try_from(at).ok()?).copied()
    });
    for port in drawn.chain([0]) {
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(listener) => return Ok(listener.local_addr()?.port()),
            Err(error) if port == 0 => return Err(error),
            Err(_) => {}
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}

/// The ports that are not in the `range` that the system gives out, if they are enough.
fn outside(range: &str) -> Vec<u16> {
    let mut ends = range.split_whitespace().map(str::parse::<u16>);
    let (Some(Ok(low)), Some(Ok(high))) = (ends.next(), ends.next()) else { return Vec::new() };
    let ports: Vec<_> = (LOWEST..=u16::MAX).filter(|port| *port < low || *port > high).collect();
    if ports.len() < FEWEST { Vec::new() } else { ports }
}

/// Whether `port` can be listened on, after waiting up to three seconds for it.
pub(crate) async fn becomes_free(port: u16) -> bool {
    let began = Instant::now();
    loop {
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return true;
        }
        if began.elapsed() >= HANDOVER {
            return false;
        }
        sleep(Duration::from_millis(50)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_none_that_a_connection_could_take() {
        let ports = outside("32768\t60999\n");
        assert_eq!((ports.first(), ports.last()), (Some(&10_000), Some(&65_535)));
        assert!(ports.contains(&32_767) && ports.contains(&61_000));
        assert!(!ports.contains(&32_768) && !ports.contains(&60_999));
        // next to nothing is left, or nothing is known: the system chooses
        for none in ["10000 65000", "1024 65535", "", "many", "-1 70000", "5"] {
            assert!(outside(none).is_empty(), "{none}");
        }
        let ports = fs::read_to_string(EPHEMERAL).map(|text| outside(&text)).unwrap_or_default();
        for _ in 0..10 {
            let port = free_port().unwrap();
            assert!(ports.is_empty() || ports.contains(&port), "{port}");
        }
    }
}
