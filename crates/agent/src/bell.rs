//! Waits for orders beside the heartbeats, so that one is heard of at once and not with the next heartbeat.
//!
//! What comes this way is not carried out: it has the heartbeat sent at once, which brings the orders as they then are.
//! So every order comes by one way, in the order that the service gives them in, and one that was taken back meanwhile
//! does not come at all.
//!
//! Nothing is asked before a heartbeat has come through, after a start as after a fault: to a service that is back the
//! machines say first that they live, and then wait.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use domain::id::CommandId;
use tokio::{sync::watch, time::sleep};

use crate::{
    backoff::Backoff, condition::Condition, context::Context, http::CallError, wire::Waited,
};

/// How long the service is asked to wait.
const WAIT: Duration = Duration::from_secs(30);
/// Orders that it is told not to name again; it takes no longer list.
const KNOWN: usize = 64;
/// Between two questions, if the first was answered early: an order that waits for something is not asked for in a hurry.
const PAUSE: Duration = Duration::from_millis(500);
/// A service that cannot be asked is an older one: it may be a newer one some time.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(600);

/// Listens until the agent is told to stop.
pub(crate) async fn listen(context: Arc<Context>) {
    let mut known: VecDeque<CommandId> = VecDeque::new();
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
    let mut condition = Condition::new("waiting for orders");
    let mut beats = context.beats.subscribe();
    // the last heartbeat that does not count
    let mut before = Some(0);
    while !context.shutdown.is_cancelled() {
        if let Some(before) = before.take()
            && !beaten(&context, &mut beats, before).await
        {
            return;
        }
        let pause = match context.wait::<Waited>(&path(&known), WAIT).await {
            Ok(waited) => {
                backoff.worked();
                condition.well();
                let news =
                    waited.commands.iter().filter(|order| !known.contains(&order.id)).count();
                for order in waited.commands {
                    tracing::debug!(command.id = %order.id, "the bell rings");
                    known.retain(|id| *id != order.id);
                    known.push_back(order.id);
                }
                while known.len() > KNOWN {
                    known.pop_front();
                }
                if news > 0 {
                    context.hurry.notify_one();
                }
                PAUSE
            }
            Err(CallError::Stopping) => return,
            // nothing to be seen to: orders come with heartbeats as they did
            Err(CallError::Refused(problem)) if matches!(problem.status, 404 | 405) => {
                tracing::debug!("the service knows of no waiting for orders");
                ASK_AGAIN_AFTER
            }
            Err(error) => {
                condition.ill(error.kind(), &error);
                before = Some(*beats.borrow());
                backoff.failed()
            }
        };
        tokio::select! {
            () = context.shutdown.cancelled() => {}
            () = sleep(pause) => {}
        }
    }
}

/// Waits for a heartbeat after the one with this number. False if the agent is told to stop.
async fn beaten(context: &Context, beats: &mut watch::Receiver<u64>, before: u64) -> bool {
    let later = async { beats.wait_for(|beat| *beat != before).await.is_ok() };
    tokio::select! {
        () = context.shutdown.cancelled() => false,
        later = later => later,
    }
}

fn path(known: &VecDeque<CommandId>) -> String {
    let ids: Vec<String> = known.iter().map(ToString::to_string).collect();
    format!("v1/agent/commands?known={}", ids.join(","))
}
