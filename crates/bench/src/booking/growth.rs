//! P7: what a booking takes in markets of different sizes.

use std::time::Duration;

use super::{Booking, Spread};
use crate::{
    BenchError, Fact, Histogram, Plan, Scenario, Server, Verdict,
    search::{Filler, SIZES, slope},
};

const DOING: &str = "book in a market that grows";
/// Slices in a market of one size.
const SLICES: usize = 5;
/// One client books so many in a second at most: what is made for it must not be a market of its own.
const AT_MOST: f64 = 1_000.0;
/// The longest slice.
const SPAN: Duration = Duration::from_millis(500);

/// Books one at a time while the market grows by what the filler stores.
///
/// # Errors
/// If the service does not start, the market cannot be filled, or a slice is void.
pub(crate) async fn growth(
    server: &Server,
    filler: &mut Filler,
    plan: &Plan,
) -> Result<Vec<Fact>, BenchError> {
    let span = plan.span.min(SPAN);
    let mut points = Vec::new();
    let mut facts = Vec::new();
    for size in SIZES.into_iter().filter(|size| *size <= plan.offers) {
        filler.up_to(size).await?;
        let mut booking =
            Booking::start(server, Booking::SPREAD, Spread::Own, 1, plan.seed).await?;
        booking.fastest = AT_MOST;
        let mut taken = Histogram::default();
        for _ in 0..SLICES {
            booking.prepare(span).await?;
            let slice = booking.slice(span).await?;
            match booking.verify(&slice).await? {
                Verdict::Sound => taken.merge(&slice.latency),
                Verdict::Void(reason) => return Err(BenchError::subject(DOING)(reason)),
            }
        }
        let millis = taken.percentile_ms(0.5).unwrap_or(f64::NAN);
        facts.push(Fact::new(&format!("p7_booking_p50_{size}"), millis, "ms"));
        points.push((f64::from(size), millis));
    }
    facts.push(Fact::new("p7_booking_slope", slope(&points), "log-log"));
    Ok(facts)
}
