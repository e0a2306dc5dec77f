//! Clients that each do one thing after the other, as fast as they are answered.

use std::{future::Future, time::Duration};

use tokio::{task::JoinSet, time::Instant};

use crate::{BenchError, Slice};

/// What came of one request.
pub(crate) enum Step {
    /// So many operations were done.
    Done(u64),
    /// It was rightly refused.
    Refused,
    /// There was nothing left to ask for.
    Dry,
}

/// One client.
pub(crate) trait Client: Send + 'static {
    /// Sends one request and waits for its answer.
    fn once(&mut self) -> impl Future<Output = Result<Step, BenchError>> + Send;
}

/// Lets all clients work for `span`, and waits until each has finished what it began. Returns them
/// with what they did together.
pub(crate) async fn drive<C: Client>(
    clients: Vec<C>,
    span: Duration,
) -> Result<(Vec<C>, Slice), BenchError> {
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for client in clients {
        tasks.spawn(work(client, began, span));
    }
    let mut clients = Vec::with_capacity(tasks.len());
    let mut total = Slice::default();
    while let Some(joined) = tasks.join_next().await {
        let (client, part) = joined.map_err(BenchError::subject("run a client"))??;
        total.add(&part);
        clients.push(client);
    }
    total.elapsed = began.elapsed();
    Ok((clients, total))
}

async fn work<C: Client>(
    mut client: C,
    began: Instant,
    span: Duration,
) -> Result<(C, Slice), BenchError> {
    let mut part = Slice::default();
    while began.elapsed() < span {
        let sent = Instant::now();
        match client.once().await? {
            Step::Done(count) => part.count = part.count.saturating_add(count),
            Step::Refused => part.refused = part.refused.saturating_add(1),
            Step::Dry => {
                part.ran_dry = true;
                break;
            }
        }
        part.latency.record(sent.elapsed());
    }
    Ok((client, part))
}
