//! The other half of P2: how long a booking takes when the service is half busy, beside a TPC-B transaction when
//! PostgreSQL is.

use crate::{BenchError, Booking, Fact, Histogram, Plan, Scenario, Server, Tpcb, Verdict};

/// Begins every name.
pub(crate) const NAME: &str = "p2_booking_half_load";
/// Beside how much of what it could do at most a side is taken to reach half of TPC-B's rate.
const REACHES: f64 = 0.9;

/// Finds out what each side does at most, then lets both work at half of TPC-B's rate, in turns; bookings at half of their
/// own where they do not reach that.
///
/// # Errors
/// If a side cannot begin or go on, or a slice is void.
pub(crate) async fn half_load(
    server: &Server,
    tpcb: &mut Tpcb,
    plan: &Plan,
) -> Result<Vec<Fact>, BenchError> {
    let mut booking = Booking::spread(server, plan.clients, plan.seed).await?;
    let (mut most, mut most_tpcb) = (0.0_f64, 0.0_f64);
    for _ in 0..2 {
        booking.prepare(plan.span).await?;
        tpcb.prepare(plan.span).await?;
        let slice = booking.slice(plan.span).await?;
        sound(booking.verify(&slice).await?)?;
        most = slice.rate();
        let slice = tpcb.slice(plan.span).await?;
        sound(tpcb.verify(&slice).await?)?;
        most_tpcb = slice.rate();
    }
    let half = most_tpcb / 2.0;
    let reached = half <= most * REACHES;
    let rate = if reached { half } else { most / 2.0 };
    let (mut ours, mut theirs) = (Histogram::default(), Histogram::default());
    let (mut made, mut seconds) = (0_u64, 0.0);
    for number in 0..plan.pairs {
        booking.prepare(plan.span).await?;
        tpcb.prepare(plan.span).await?;
        let seed = plan.seed.wrapping_add(u64::from(number));
        let slice = booking.paced(plan.span, rate, seed).await?;
        sound(booking.verify(&slice).await?)?;
        made = made.saturating_add(slice.count);
        seconds += slice.elapsed.as_secs_f64();
        ours.merge(&slice.latency);
        let slice = tpcb.paced(plan.span, half, seed).await?;
        sound(tpcb.verify(&slice).await?)?;
        theirs.merge(&slice.latency);
    }
    let p99 = |side: &Histogram| side.percentile_ms(0.99).unwrap_or_default();
    let p50 = |side: &Histogram| side.percentile_ms(0.5).unwrap_or_default();
    Ok(vec![
        Fact::new("p2_booking_half_load_rate", made as f64 / f64::max(seconds, 1e-9), "1/s"),
        Fact::new("p2_booking_half_load_tpcb_rate", half, "1/s"),
        Fact::new("p2_booking_half_load_is_half_of_tpcb", f64::from(u8::from(reached)), ""),
        Fact::new("p2_booking_half_load_p50", p50(&ours), "ms"),
        Fact::new("p2_booking_half_load_p99", p99(&ours), "ms"),
        Fact::new("p2_booking_half_load_tpcb_p50", p50(&theirs), "ms"),
        Fact::new("p2_booking_half_load_tpcb_p99", p99(&theirs), "ms"),
        Fact::new("p2_booking_p99_half_load_ratio", p99(&ours) / p99(&theirs), ""),
    ])
}

fn sound(verdict: Verdict) -> Result<(), BenchError> {
    match verdict {
        Verdict::Sound => Ok(()),
        Verdict::Void(reason) => Err(BenchError::subject("work at half load")(reason)),
    }
}
