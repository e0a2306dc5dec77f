//! Offers as they appear, change and vanish: server-sent events that resume where they broke off.

use std::{collections::VecDeque, convert::Infallible, time::Duration};

use axum::{
    extract::{Request, State},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures_util::stream;
use market::{Change, Concern, Index, Query};
use serde_json::json;
use tokio::{sync::watch, time::Instant};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{SearchParams, from_now::FromNow, refused, text::Id, view::FoundOffer};
use crate::{
    AppState, Code, Problem,
    extract::Params,
    problem::internal,
    streams::{Full, Seat, Seats, come_again},
};

/// Comments keep connections open through proxies.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// After so long the reader has to come again.
const LONGEST: Duration = Duration::from_secs(3_600);
/// Streams of the market that may be open at once in a process, in all and from one network: they need no session, so that
/// they are counted to nobody else.
const MOST_STREAMS: usize = 256;
const SHARE: usize = 16;
/// Changes that are looked at while the index waits, and before others have their turn.
const AT_ONCE: usize = 64;
/// The most events that wait for a slow reader.
const MOST_WAITING: usize = 1_000;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(follow))
}

/// Room for streams of the market, by network.
pub(crate) type MarketSeats = Seats<Vec<u8>>;

/// As much room as there is.
pub(crate) fn market_seats() -> MarketSeats {
    Seats::new(MOST_STREAMS, SHARE)
}

/// Follows what a search finds, for an hour at most. `begin` is the first event: search once after it, and what follows
/// tells how the answer changes. 16 may be open from one network (an IPv4 address or 48 bits of an IPv6 address). `offer` is
/// one that came into what the search finds, or changed in there (`change` says which); `gone` one that left: one that only
/// time takes out, as it ends too soon by then, is told so once anything about it changes. All have ids: send the last as `Last-Event-ID` to go on after it. `again` instead means
/// that what was missed is not known any more: search anew. The filters are those of `/v1/offers`, without order and pages.
#[utoipa::path(get, path = "/v1/offers/stream", tag = "market",
    params(SearchParams,
           ("Last-Event-ID" = Option<String>, Header, description = "the last id that was received")),
    responses((status = 200, content_type = "text/event-stream", body = String,
        example = "id: 5f3a-7\nevent: gone\ndata: {\"id\":\"ofr_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f\"}\n\n")))]
async fn follow(
    State(app): State<AppState>,
    Params(params): Params<SearchParams>,
    request: Request,
) -> Result<Response, Problem> {
    for (name, given) in [
        ("sort", params.sort.is_some()),
        ("limit", params.limit.is_some()),
        ("cursor", params.cursor.is_some()),
    ] {
        if given {
            return Err(refused(name, format!("a stream has no {name}")));
        }
    }
    let query = params.asked(&app)?;
    let from_now = params.counted_from_now();
    let mut earlier = query.clone();
    from_now.ask(&mut earlier, query.now.saturating_sub(REMEMBERED_S));
    if !app.market.is_built() {
        return Err(super::index::not_ready());
    }
    let seen =
        request.headers().get("last-event-id").map(|value| value.to_str().unwrap_or_default());
    let seen = seen.map(position).transpose()?;
    let network = app.limits.network(&request);
    let seat = app.market_seats.take(Some(network)).map_err(|full| {
        let detail = match full {
            Full::Share => {
                "as many streams of the market as a network may have are open from yours"
            }
            Full::All => "too many streams of the market are open; come again later",
        };
        Problem::new(Code::Unavailable, detail)
    })?;
    let mut follower = Follower {
        news: app.market.news(),
        app,
        query,
        earlier,
        from_now,
        epoch: 0,
        seen: 0,
        waiting: VecDeque::new(),
        begun: Instant::now(),
        farewell: false,
        _seat: seat,
    };
    follower.begin(seen);
    let events = stream::unfold(follower, |mut follower| async move {
        let event = follower.next().await?;
        Some((Ok::<_, Infallible>(event), follower))
    });
    let keep_alive = KeepAlive::new().interval(HEARTBEAT);
    Ok(Sse::new(events).keep_alive(keep_alive).into_response())
}

/// Epoch and number of an event's id.
fn position(text: &str) -> Result<(u64, u64), Problem> {
    let parts = text.trim().split_once('-');
    let read = |(epoch, last): (&str, &str)| {
        Some((u64::from_str_radix(epoch, 16).ok()?, last.parse::<u64>().ok()?))
    };
    parts.and_then(read).ok_or_else(|| {
        Problem::new(Code::InvalidRequest, "Last-Event-ID is not an id of this stream")
    })
}

/// How long before a stream its reader may have begun to follow: they come again, with what they were told before.
const REMEMBERED_S: u32 = 86_400;

/// One reader and how far they are.
struct Follower {
    app: AppState,
    news: watch::Receiver<u64>,
    query: Query,
    /// As the reader asked at the earliest.
    earlier: Query,
    from_now: FromNow,
    epoch: u64,
    /// The number of the last change that was looked at.
    seen: u64,
    waiting: VecDeque<Event>,
    begun: Instant,
    /// The reader was told to come again.
    farewell: bool,
    _seat: Seat<Vec<u8>>,
}

impl Follower {
    /// Goes on after `seen`, if that is still known; else begins now.
    fn begin(&mut self, seen: Option<(u64, u64)>) {
        let (epoch, last, known) = {
            let history = self.app.market.history();
            let known = seen
                .filter(|(epoch, last)| *epoch == history.epoch && history.after(*last).is_some());
            (history.epoch, history.last, known)
        };
        self.epoch = epoch;
        self.seen = known.map_or(last, |(_, last)| last);
        match (seen, known) {
            (_, Some(_)) => {}
            (Some(_), None) => self.again(),
            (None, None) => {
                let event = Event::default().id(self.id(last)).event("begin").data("{}");
                self.waiting.push_back(event);
            }
        }
    }

    fn id(&self, number: u64) -> String {
        format!("{:x}-{number}", self.epoch)
    }

    fn again(&mut self) {
        self.waiting.clear();
        let data = r#"{"reason":"what was missed is not known any more; search anew"}"#;
        let event = Event::default().id(self.id(self.seen)).event("again").data(data);
        self.waiting.push_back(event);
    }

    /// The next event, or `None` at the end of the stream.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Some(event);
            }
            if self.begun.elapsed() >= LONGEST || self.farewell {
                return None;
            }
            if self.app.closing.is_cancelled() {
                self.farewell = true;
                return Some(come_again());
            }
            self.news.mark_unchanged();
            if let Err(problem) = self.look().await {
                tracing::warn!(
                    error.code = problem.code().as_str(),
                    "a stream of the market broke off"
                );
                return None;
            }
            if self.waiting.is_empty() {
                let closing = self.app.closing.clone();
                let left = LONGEST.saturating_sub(self.begun.elapsed());
                tokio::select! {
                    () = closing.cancelled() => {}
                    () = tokio::time::sleep(left) => {}
                    changed = self.news.changed() => if changed.is_err() { return None },
                }
            }
        }
    }

    /// Looks at what changed since the last look.
    async fn look(&mut self) -> Result<(), Problem> {
        let (epoch, last, generation, changes) = {
            let history = self.app.market.history();
            let changes = (history.epoch == self.epoch).then(|| history.after(self.seen)).flatten();
            (history.epoch, history.last, history.generation, changes)
        };
        let first = self.seen.saturating_add(1);
        self.epoch = epoch;
        self.seen = last;
        let Some(changes) = changes else {
            self.again();
            return Ok(());
        };
        let now = u32::try_from(self.app.now().get()).map_err(internal)?;
        self.from_now.ask(&mut self.query, now);
        let mut numbered = (first..).zip(&changes);
        for some in changes.chunks(AT_ONCE) {
            let events = self.app.market.read_of(generation, |index| {
                let concerns = index.concerns(&self.query, &self.earlier, some);
                // the concerns first: their end takes no number
                let told = concerns.into_iter().zip(numbered.by_ref());
                let told = told.filter_map(|(concern, (number, change))| {
                    Some(self.event(index, number, change, concern?))
                });
                told.collect::<Result<Vec<Option<Event>>, Problem>>()
            })?;
            // of an index that was replaced meanwhile a new epoch tells
            let Some(events) = events else { return Ok(()) };
            self.waiting.extend(events?.into_iter().flatten());
            if self.waiting.len() > MOST_WAITING {
                self.again();
                return Ok(());
            }
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    fn event(
        &self,
        index: &Index,
        number: u64,
        change: &Change,
        concern: Concern,
    ) -> Result<Option<Event>, Problem> {
        let query = &self.query;
        let (change_name, gpus) = match concern {
            Concern::Gone => {
                let data = gone(change).map_err(internal)?;
                return Ok(Some(Event::default().id(self.id(number)).event("gone").data(data)));
            }
            Concern::Appeared(gpus) => ("appeared", gpus),
            Concern::Changed(gpus) => ("changed", gpus),
        };
        let Some(offer) = index.changed(change, query) else { return Ok(None) };
        let total = index.total_of_changed(query, change, gpus);
        let view = FoundOffer::of(&offer, query, gpus, total, 0);
        let mut view = serde_json::to_value(&view).map_err(internal)?;
        if let Some(members) = view.as_object_mut() {
            members.remove("rank_reason");
            members.insert("change".to_owned(), json!(change_name));
        }
        let event = Event::default().id(self.id(number)).event("offer").data(view.to_string());
        Ok(Some(event))
    }
}

fn gone(change: &Change) -> serde_json::Result<String> {
    serde_json::to_value(Id { prefix: "ofr", id: change.id() })
        .map(|id| json!({ "id": id }).to_string())
}
