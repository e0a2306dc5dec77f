//! TCP ports on 127.0.0.1.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// How long a port that was asked for by number may stay taken. The server of an owner that was
/// killed a moment ago is still being stopped by its watchdog.
const HANDOVER: Duration = Duration::from_secs(3);

/// A port that was free a moment ago. Another process may take it before the caller does.
///
/// # Errors
/// When the system has no free port.
pub fn free_port() -> io::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.port())
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
