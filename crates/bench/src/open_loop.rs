//! Requests that come when they come, however long the one before takes: what a service feels like below its limit.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Mutex, mpsc},
    task::JoinSet,
    time::Instant,
};

use crate::{
    BenchError, Slice,
    closed_loop::{Client, Step},
    rng::SplitMix64,
};

/// When the next request comes: at random moments, `rate` a second in the mean, as `pgbench --rate` has it.
struct Arrivals {
    rng: SplitMix64,
    next: Instant,
    mean: Duration,
}

impl Arrivals {
    fn next(&mut self) -> Instant {
        // from 2^-53 to 1, so that there is a logarithm
        let drawn = (self.rng.next() >> 11).saturating_add(1) as f64 / (1_u64 << 53) as f64;
        let after = self.mean.mul_f64(-drawn.ln());
        self.next = self.next.checked_add(after).unwrap_or(self.next);
        self.next
    }
}

/// Sends `rate` requests a second for `span`, each by the client that is free first. A request's latency begins when it
/// came, and not when a client was free for it; a timer that is late is not the service's, and does not count.
pub(crate) async fn pace<C: Client>(
    clients: Vec<C>,
    span: Duration,
    rate: f64,
    seed: u64,
) -> Result<(Vec<C>, Slice), BenchError> {
    let began = Instant::now();
    let (door, come) = mpsc::unbounded_channel();
    // a thread of its own: a runtime's timers tick once a millisecond, and all that came since would come at once
    let arriving = std::thread::Builder::new()
        .name("bench-arrivals".to_owned())
        .spawn(move || arrive(began, span, rate, seed, &door))
        .map_err(BenchError::io("start a thread"))?;
    let come = Arc::new(Mutex::new(come));
    let mut tasks = JoinSet::new();
    for mut client in clients {
        let come = come.clone();
        tasks.spawn(async move {
            let mut part = Slice::default();
            // bound first: the next one may wait while this one works
            while let Some(came) = { come.lock().await.recv().await } {
                match client.once().await? {
                    Step::Done(count) => part.count = part.count.saturating_add(count),
                    Step::Refused => part.refused = part.refused.saturating_add(1),
                    Step::Dry => {
                        part.ran_dry = true;
                        break;
                    }
                }
                part.latency.record(came.elapsed());
            }
            Ok::<_, BenchError>((client, part))
        });
    }
    let (mut clients, mut total) = (Vec::with_capacity(tasks.len()), Slice::default());
    while let Some(joined) = tasks.join_next().await {
        let (client, part) = joined.map_err(BenchError::subject("run a client"))??;
        total.add(&part);
        clients.push(client);
    }
    total.elapsed = began.elapsed();
    drop(come);
    arriving.join().map_err(|_| BenchError::subject("let requests come")("the thread died"))?;
    Ok((clients, total))
}

/// Says when each request comes, until `span` is over or nobody listens.
fn arrive(
    began: Instant,
    span: Duration,
    rate: f64,
    seed: u64,
    door: &mpsc::UnboundedSender<Instant>,
) {
    let mean = Duration::from_secs_f64(1.0 / rate.max(1.0));
    let mut arrivals = Arrivals { rng: SplitMix64::new(seed), next: began, mean };
    loop {
        let next = arrivals.next();
        if next.saturating_duration_since(began) >= span {
            return;
        }
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        if door.send(Instant::now()).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_come_at_their_rate() {
        let began = Instant::now();
        let mean = Duration::from_micros(100);
        let mut arrivals = Arrivals { rng: SplitMix64::new(1), next: began, mean };
        let last = (0..10_000).map(|_| arrivals.next()).last().unwrap();
        let passed = last.duration_since(began).as_secs_f64();
        assert!((0.95..1.05).contains(&passed), "{passed}");
    }
}
