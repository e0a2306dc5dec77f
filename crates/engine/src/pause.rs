//! Fail points: places where a test stops the process to kill it there. Debug builds only.

/// Waits for ever if `WEIR_PAUSE_AT` names this place. A release build never looks.
pub(crate) async fn at(place: &str) {
    #[cfg(debug_assertions)]
    if std::env::var("WEIR_PAUSE_AT").is_ok_and(|wanted| wanted == place) {
        tracing::warn!(place, "paused here, as WEIR_PAUSE_AT asks");
        std::future::pending::<()>().await;
    }
    #[cfg(not(debug_assertions))]
    let _: &str = place;
}
