//! What a machine has shown, and the rows that anybody can compute it from.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{Request, State},
    http::HeaderMap,
    response::Response,
};
use domain::{
    id::MachineId,
    metering::Interval,
    reliability::{ENOUGH_STARTS, History},
    time::{Seconds, UnixSeconds},
};
use serde::{Deserialize, Serialize};
use store::{
    machines,
    reliability::{self, Shown},
};
use tokio::sync::Notify;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::cacheable;
use crate::{
    AppState, Code, Problem,
    extract::{Id, Parameters, Params},
    provider::time_of,
    streams::{Seat, Seats},
    views::Time,
};

/// Histories that are read at once: each is some seven looks through months of rows, and anybody may ask.
const AT_ONCE: usize = 4;
/// Those of them that are one network's: nobody waits because of one caller's many.
const SHARE: usize = 1;
/// How long one waits for its turn.
const PATIENCE: Duration = Duration::from_secs(1);
/// The longest time that one answer tells of.
const LONGEST: Seconds = Seconds(7 * 86_400);

/// Turns at the histories, by network.
#[derive(Clone)]
pub(crate) struct Turns {
    seats: Seats<Vec<u8>>,
    /// A turn was given back.
    freed: Arc<Notify>,
}

impl Default for Turns {
    fn default() -> Self {
        Self { seats: Seats::new(AT_ONCE, SHARE), freed: Arc::default() }
    }
}

/// A turn, which lasts until it is dropped.
struct Turn {
    seat: Option<Seat<Vec<u8>>>,
    freed: Arc<Notify>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        // it is free before those who wait for it look
        drop(self.seat.take());
        self.freed.notify_waiters();
    }
}

impl Turns {
    /// Waits for a turn of this network.
    async fn take(&self, network: Vec<u8>) -> Result<Turn, Problem> {
        let turn = async {
            loop {
                // one that is given back from here on is heard of
                let freed = self.freed.notified();
                if let Ok(seat) = self.seats.take(Some(network.clone())) {
                    return Turn { seat: Some(seat), freed: self.freed.clone() };
                }
                freed.await;
            }
        };
        tokio::time::timeout(PATIENCE, turn).await.map_err(|_| {
            let detail = "too many histories are being read, or one from your network already; \
                          come again later";
            Problem::new(Code::Unavailable, detail)
        })
    }
}

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(scores)).routes(routes!(rows))
}

/// What a machine has shown in a window of time.
#[derive(Serialize, ToSchema)]
pub(crate) struct WindowView {
    /// 7, 30 or 90.
    #[schema(example = 30)]
    days: u16,
    from: Time,
    /// Nothing about the time before can change any more, but that a rental's fee is paid. The rows of `inputs` end here.
    to: Time,
    /// Wilson's lower bound at 95 % of the good hours among the promised ones, in basis points.
    #[schema(example = 9_871)]
    score_bps: u32,
    /// False with fewer than 20 starts: then it says little.
    enough: bool,
    /// `idle_s` and twice `rented_s`.
    promised_s: u64,
    /// `idle_good_s` and twice `rented_good_s`.
    good_s: u64,
    /// Of the whole machine: its GPUs that nobody rented count by their share. Rounded up together with `rented_s`.
    idle_s: u64,
    /// Those in contact; what is missing is rounded up.
    idle_good_s: u64,
    /// Of the whole machine: a rental counts by its share of the GPUs. Rounded up.
    rented_s: u64,
    /// Those that readings cover; what is missing is rounded up.
    rented_good_s: u64,
    starts: u32,
    /// Starts that got ready.
    starts_ok: u32,
    ready_p50_ms: Option<u32>,
    ready_p95_ms: Option<u32>,
    interruptions: u32,
    disputes_lost: u32,
    computed_at: Time,
}

pub(crate) fn shown_view(shown: Shown) -> WindowView {
    let f = shown.figures;
    let window = reliability::window(shown.days, shown.as_of);
    WindowView {
        days: shown.days,
        from: Time(window.from),
        to: Time(window.to),
        score_bps: f.score_bps,
        enough: f.starts >= ENOUGH_STARTS,
        promised_s: f.promised_s,
        good_s: f.good_s,
        idle_s: f.idle_s,
        idle_good_s: f.idle_good_s,
        rented_s: f.rented_s,
        rented_good_s: f.rented_good_s,
        starts: f.starts,
        starts_ok: f.starts_ok,
        ready_p50_ms: f.ready_p50_ms,
        ready_p95_ms: f.ready_p95_ms,
        interruptions: f.interruptions,
        disputes_lost: f.disputes_lost,
        computed_at: Time(shown.computed_at),
    }
}

/// What a machine has shown.
#[derive(Serialize, ToSchema)]
pub(crate) struct ReliabilityView {
    #[schema(value_type = String, example = "mch_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")]
    machine_id: MachineId,
    /// Empty until it was computed for the first time.
    windows: Vec<WindowView>,
    /// The rows that it is computed from.
    #[schema(example = "/v1/machines/mch_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f/history")]
    inputs: String,
}

/// What a machine has shown in the last 7, 30 and 90 days. The formula is in docs/MARKET.md; the rows that it goes by
/// are at `inputs`, so that anybody can compute it anew.
#[utoipa::path(get, path = "/v1/machines/{id}/reliability", tag = "market",
    params(("id" = String, Path, example = "mch_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f"),
           ("If-None-Match" = Option<String>, Header)),
    responses((status = 200, body = ReliabilityView, headers(("ETag", description = "for If-None-Match"))),
              (status = 304, description = "Unchanged since the tag of `If-None-Match`.")))]
async fn scores(
    State(app): State<AppState>,
    Id(id): Id<MachineId>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let mut connection = app.store.read().await?;
    if machines::get(&mut connection, id).await?.is_none() {
        return Err(Problem::not_found("machine"));
    }
    let windows = reliability::of(&mut connection, id).await?.into_iter().map(shown_view).collect();
    let inputs = format!("/v1/machines/{id}/history");
    cacheable(&ReliabilityView { machine_id: id, windows, inputs }, 60, &headers)
}

/// Which time.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct SpanParams {
    /// RFC 3339; seven days before `to` if left out.
    from: Option<String>,
    /// RFC 3339, at most seven days after `from`; where the machine's past is settled if left out or later.
    to: Option<String>,
}

impl Parameters for SpanParams {
    const NAMES: &'static [&'static str] = &["from", "to"];
}

/// A stretch of time.
#[derive(Serialize, ToSchema)]
pub(crate) struct SpanView {
    from: Time,
    /// The second after the last.
    to: Time,
}

/// A rental's time on the machine, clipped to what was asked for.
#[derive(Serialize, ToSchema)]
pub(crate) struct RentedView {
    /// How many of the machine's GPUs it has: its seconds count `gpus` of the machine's `gpus`.
    gpus: u32,
    /// Of a rental that has paid no fee, only what no reading covers.
    promised: Vec<SpanView>,
    /// What its readings cover.
    covered: Vec<SpanView>,
}

/// A start that was tried.
#[derive(Serialize, ToSchema)]
pub(crate) struct StartView {
    /// When it was known how it went.
    at: Time,
    /// From the order to ready; null if the machine failed.
    ready_ms: Option<u32>,
}

/// What a machine did.
#[derive(Serialize, ToSchema)]
pub(crate) struct HistoryView {
    #[schema(value_type = String, example = "mch_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")]
    machine_id: MachineId,
    from: Time,
    /// Where the rows end: earlier than asked for where less is settled, and the same as `from` where nothing of it is.
    to: Time,
    /// GPUs of the machine.
    gpus: u32,
    /// When an offer of it was listed and it took rentals.
    listed: Vec<SpanView>,
    /// When its agent was heard of without a silence longer than the evidence timeout.
    contact: Vec<SpanView>,
    /// Maintenance that was announced a day before.
    maintenance: Vec<SpanView>,
    rentals: Vec<RentedView>,
    starts: Vec<StartView>,
    interruptions: Vec<Time>,
    disputes_lost: Vec<Time>,
}

fn spans(parts: Vec<Interval>) -> Vec<SpanView> {
    parts.into_iter().map(|part| SpanView { from: Time(part.from), to: Time(part.to) }).collect()
}

/// What was asked for, as far as it was said.
struct Asked {
    from: Option<UnixSeconds>,
    to: Option<UnixSeconds>,
}

impl Asked {
    fn read(params: &SpanParams) -> Result<Self, Problem> {
        let time = |text: &Option<String>, name: &str| match text {
            None => Ok(None),
            Some(text) => time_of(text).map(Some).ok_or_else(|| {
                let detail = format!("{name} must be a time such as 2027-02-01T02:00:00Z");
                Problem::new(Code::InvalidRequest, detail.clone()).at(format!("?{name}"), detail)
            }),
        };
        let (from, to) = (time(&params.from, "from")?, time(&params.to, "to")?);
        if from.zip(to).is_some_and(|(from, to)| from > to) {
            let detail = "from must not be after to";
            return Err(Problem::new(Code::InvalidRequest, detail).at("?from", detail));
        }
        Ok(Self { from, to })
    }

    /// The part of it that is settled; nothing, from where it was to begin, if that is later.
    fn settled(&self, settled: UnixSeconds) -> Result<Interval, Problem> {
        let to = self.to.unwrap_or(settled).min(settled);
        let from = self.from.unwrap_or_else(|| to.saturating_minus(LONGEST));
        if to > from.saturating_plus(LONGEST) {
            let detail = "from must be at most seven days before to";
            return Err(Problem::new(Code::InvalidRequest, detail).at("?from", detail));
        }
        Ok(Interval::new(from, to.max(from)))
    }
}

/// What a machine did in a time that is settled: the rows that its reliability is computed from. They end where its
/// windows do (`to` at `/v1/machines/{id}/reliability`), whatever is asked for, so that no row changes afterwards, but that a
/// rental's fee is paid. A machine that was never assessed has none.
#[utoipa::path(get, path = "/v1/machines/{id}/history", tag = "market",
    params(("id" = String, Path, example = "mch_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f"), SpanParams,
           ("If-None-Match" = Option<String>, Header)),
    responses((status = 200, body = HistoryView, headers(("ETag", description = "for If-None-Match"))),
              (status = 304, description = "Unchanged since the tag of `If-None-Match`."),
              (status = 503, description = "Four are being read already, or one for the same network: come again after `Retry-After`.")))]
async fn rows(
    State(app): State<AppState>,
    Id(id): Id<MachineId>,
    Params(params): Params<SpanParams>,
    request: Request,
) -> Result<Response, Problem> {
    let asked = Asked::read(&params)?;
    let network = app.limits.network(&request);
    let headers = request.into_parts().0.headers;
    let turn = app.histories.take(network).await?;
    let mut connection = app.store.read().await?;
    let Some(machine) = machines::get(&mut connection, id).await? else {
        return Err(Problem::not_found("machine"));
    };
    // of one that was never looked at no more is settled than that it did nothing before it was registered
    let looked_at = reliability::looked_at_until(&mut connection, id).await?;
    let settled = reliability::settled_until(app.store.policy(), app.now());
    let window = asked.settled(looked_at.unwrap_or(machine.created_at).min(settled))?;
    let found = reliability::history(&mut connection, id, window).await?;
    drop(connection);
    drop(turn);
    let History {
        gpus,
        listed,
        contact,
        maintenance,
        rentals,
        starts,
        interruptions,
        disputes_lost,
    } = found.ok_or_else(|| {
        let detail = format!("more than {} rows: ask for a shorter time", reliability::MAX_ROWS);
        Problem::new(Code::InvalidRequest, detail.clone()).at("?from", detail)
    })?;
    let times = |times: Vec<UnixSeconds>| times.into_iter().map(Time).collect();
    let view = HistoryView {
        machine_id: id,
        from: Time(window.from),
        to: Time(window.to),
        gpus,
        listed: spans(listed),
        contact: spans(contact),
        maintenance: spans(maintenance),
        rentals: rentals
            .into_iter()
            .map(|rental| RentedView {
                gpus: rental.gpus,
                promised: spans(rental.promised),
                covered: spans(rental.covered),
            })
            .collect(),
        starts: starts
            .into_iter()
            .map(|start| StartView { at: Time(start.at), ready_ms: start.ready_ms })
            .collect(),
        interruptions: times(interruptions),
        disputes_lost: times(disputes_lost),
    };
    cacheable(&view, 60, &headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_fifth_reader_waits_a_second_and_is_told_to_come_again() {
        let turns = Turns::default();
        let mut held = Vec::new();
        for network in 1..=4 {
            held.push(turns.take(vec![network]).await.unwrap());
        }
        let refused = turns.take(vec![5]).await.map(drop).unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable);
        held.pop();
        assert!(turns.take(vec![5]).await.is_ok());
    }

    #[tokio::test]
    async fn a_network_has_one_turn_at_a_time() {
        let turns = Turns::default();
        let first = turns.take(vec![1]).await.unwrap();
        let refused = turns.take(vec![1]).await.map(drop).unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable);
        assert!(turns.take(vec![2]).await.is_ok(), "others have theirs");
        // who waits has it once it is free
        let (second, ()) = tokio::join!(turns.take(vec![1]), async { drop(first) });
        assert!(second.is_ok());
    }
}
