//! Freezing money, with a word and a metric for each freeze that is new.

use store::{
    Store, TxError,
    freezes::{self, NewFreeze},
};

use crate::EngineError;

/// Makes these freezes, each unless it is there.
///
/// # Errors
/// The database's; then none is made, and the next look makes them.
pub(crate) async fn freeze(store: &Store, wanted: Vec<NewFreeze>) -> Result<(), EngineError> {
    let now = store.now().seconds();
    let new = store
        .write("freeze money", move |tx| {
            let wanted = wanted.clone();
            Box::pin(async move {
                let mut new = Vec::new();
                for one in wanted {
                    if freezes::freeze(tx, &one, now).await? {
                        new.push(one);
                    }
                }
                Ok::<_, TxError<EngineError>>(new)
            })
        })
        .await?;
    for NewFreeze { scope, reason, detail, block } in new {
        let reason = reason.as_str();
        tracing::error!(
            %scope, reason, block.number = block, detail,
            "MONEY IS FROZEN; see the runbook"
        );
        metrics::counter!("weir_freezes_total", "reason" => reason).increment(1);
    }
    Ok(())
}
