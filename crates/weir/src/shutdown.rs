//! When to stop: Ctrl-C, SIGTERM, or the death of the process that started us; and how long that may take.

use std::time::Duration;

use store::Store;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::failure::Failure;

const PARENT_CHECK: Duration = Duration::from_millis(250);

/// A token that is cancelled on the first Ctrl-C or SIGTERM and, if `WEIR_PARENT` names our parent's
/// process id, as soon as that process is gone. A second signal ends the process at once, with 128 and the
/// signal's number, as a shell would tell of one that was killed: what was not committed did not happen.
///
/// # Errors
/// If signals cannot be listened to.
pub(crate) fn token() -> Result<CancellationToken, Failure> {
    let token = CancellationToken::new();
    let mut terminate =
        signal(SignalKind::terminate()).map_err(Failure::during("signals cannot be heard"))?;
    let mut interrupt =
        signal(SignalKind::interrupt()).map_err(Failure::during("signals cannot be heard"))?;
    let parent = std::env::var("WEIR_PARENT").ok().and_then(|pid| pid.parse::<u32>().ok());
    let stop = token.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = orphaned(parent) => tracing::warn!("our parent process is gone; stopping"),
        }
        stop.cancel();
        let code = tokio::select! {
            _ = terminate.recv() => 128_i32.saturating_add(SignalKind::terminate().as_raw_value()),
            _ = interrupt.recv() => 128_i32.saturating_add(SignalKind::interrupt().as_raw_value()),
        };
        eprintln!("weir: told to stop twice; ending at once");
        std::process::exit(code);
    });
    Ok(token)
}

async fn orphaned(parent: Option<u32>) {
    let Some(parent) = parent else {
        return std::future::pending().await;
    };
    while std::os::unix::process::parent_id() == parent {
        tokio::time::sleep(PARENT_CHECK).await;
    }
}

/// Lets transactions that nobody waits for any more (their caller has hung up) come to their end, for a
/// while, and hands the connections back.
pub(crate) async fn close(store: &Store, within: Duration) {
    if tokio::time::timeout(within, store.close()).await.is_err() {
        tracing::warn!(
            "database connections were still in use at the end; what they began is rolled back"
        );
    }
}
