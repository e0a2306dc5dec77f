//! Work that goes on when whoever asked for it has gone.

use tracing::Instrument as _;

use crate::{Problem, problem::internal};

/// Runs `work` to its end in a task of its own, and answers what it comes to. A handler is dropped with its client's
/// connection, between any two of its steps; what moves money is not to stop there, half done.
///
/// # Errors
/// Those of the work; [`Code::Internal`](crate::Code::Internal) if it panicked.
pub(crate) async fn detached<T: Send + 'static>(
    work: impl Future<Output = Result<T, Problem>> + Send + 'static,
) -> Result<T, Problem> {
    tokio::spawn(work.in_current_span()).await.map_err(internal)?
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Semaphore;

    use super::*;
    use crate::Code;

    #[tokio::test]
    async fn it_ends_though_nobody_waits_and_a_panic_is_an_internal_error() {
        let (go, done) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let (gate, end) = (go.clone(), done.clone());
        let asked = detached(async move {
            gate.acquire().await.map_err(internal)?.forget();
            end.add_permits(1);
            Ok(())
        });
        let gone = tokio::time::timeout(std::time::Duration::from_millis(10), asked).await;
        assert!(gone.is_err());
        go.add_permits(1);
        let end = tokio::time::timeout(std::time::Duration::from_secs(10), done.acquire()).await;
        end.unwrap().unwrap().forget();

        let broken = detached::<()>(async { panic!("secret") }).await.unwrap_err();
        assert_eq!(broken.code(), Code::Internal);
        assert!(!broken.body("/x", "r").to_string().contains("secret"));
    }
}
