//! A rental as it happens: server-sent events that resume where they broke off.

use std::{collections::VecDeque, convert::Infallible, time::Duration};

use axum::{
    extract::State,
    http::HeaderMap,
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use domain::{
    id::{AccountId, RentalId},
    rental::RentalState,
    time::UnixSeconds,
};
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};
use store::timeline::{self, Heard, TimelineEntry};
use tokio::{sync::broadcast, time::Instant};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{cost::cost, quotes::unit_of, rentals::of_party};
use crate::{
    AppState, Code, Problem,
    extract::Id,
    identity::Wallet,
    streams::StreamPermit,
    views::{Time, json_of},
};

/// Comments keep connections open through proxies.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// The cost is told at most so often.
const COST_EVERY: Duration = Duration::from_secs(1);
/// The timeline is read so often even without news, should the listening connection be down.
const READ_EVERY: Duration = Duration::from_secs(5);
/// Readers that are sent away come again after this and up to two seconds more.
const RECONNECT_AFTER: Duration = Duration::from_millis(500);
/// Entries that are read at once.
const BATCH: i64 = 100;
/// After so long the reader has to come again, with a session that is still good.
const LONGEST: Duration = Duration::from_secs(3_600);

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(follow))
}

/// Follows a rental. `state` and `tx` events carry the ids of its timeline: send the last one as
/// `Last-Event-ID` to go on after it. `cost` comes once a second while time is billed. The stream ends
/// when the rental has. `reconnect` is the last event of a stream that the service ends because it stops: come
/// again, to another instance, after the time that its `retry` tells.
#[utoipa::path(get, path = "/v1/rentals/{id}/events", tag = "renter", security(("bearer" = [])),
    params(("id" = String, Path, example = "rnt_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f"),
           ("Last-Event-ID" = Option<String>, Header, description = "the last id that was received")),
    responses((status = 200, content_type = "text/event-stream", body = String,
        example = "id: 7\nevent: state\ndata: {\"state\":\"active\"}\n\n")))]
async fn follow(
    State(app): State<AppState>,
    wallet: Wallet,
    Id(id): Id<RentalId>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let position = last_event_id(&headers)?;
    let account = wallet.account.id;
    let mut connection = app.store.read().await?;
    of_party(&mut connection, account, id).await?;
    drop(connection);
    let permit = app.streams.open(account).ok_or_else(|| {
        Problem::new(Code::Unavailable, "too many event streams are open; come again later")
    })?;
    let revoked = app.revoked.of(&app.store, wallet.credential());
    let follower = Follower {
        news: app.feed.subscribe(),
        app,
        account,
        id,
        position,
        waiting: VecDeque::new(),
        cost_told: None,
        begun: Instant::now(),
        farewell: false,
        _permit: permit,
    };
    let events = stream::unfold(follower, |mut follower| async move {
        let event = follower.next().await?;
        Some((Ok::<_, Infallible>(event), follower))
    });
    let events = events.take_until(Box::pin(revoked));
    let keep_alive = KeepAlive::new().interval(HEARTBEAT);
    Ok(Sse::new(events).keep_alive(keep_alive).into_response())
}

fn last_event_id(headers: &HeaderMap) -> Result<i64, Problem> {
    let Some(value) = headers.get("last-event-id") else {
        return Ok(0);
    };
    let id = value.to_str().ok().and_then(|text| text.trim().parse::<i64>().ok());
    id.filter(|id| *id >= 0).ok_or_else(|| {
        Problem::new(Code::InvalidRequest, "Last-Event-ID is not an id of this stream")
    })
}

/// One reader and how far they are.
struct Follower {
    app: AppState,
    news: broadcast::Receiver<Heard>,
    account: AccountId,
    id: RentalId,
    /// The last entry of the timeline that was told.
    position: i64,
    waiting: VecDeque<Event>,
    cost_told: Option<Instant>,
    begun: Instant,
    /// The reader was told to come again.
    farewell: bool,
    _permit: StreamPermit,
}

impl Follower {
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
            match self.look().await {
                Ok(Outlook::News) => {}
                Ok(Outlook::Quiet { runs }) => {
                    let patience = if runs { COST_EVERY } else { READ_EVERY };
                    if !self.wait(patience).await {
                        return None;
                    }
                }
                Ok(Outlook::Over) => return None,
                Err(problem) => {
                    tracing::warn!(
                        rental.id = %self.id,
                        error.code = problem.code().as_str(),
                        "an event stream broke off"
                    );
                    return None;
                }
            }
        }
    }

    /// Reads what is new.
    async fn look(&mut self) -> Result<Outlook, Problem> {
        let mut connection = self.app.store.read().await?;
        // the rental before its timeline: an end that is seen here is in the timeline already
        let (rental, quote) = of_party(&mut connection, self.account, self.id).await?;
        let entries = timeline::after(&mut connection, self.id, self.position, BATCH).await?;
        if let Some(last) = entries.last() {
            self.position = last.id;
            self.waiting.extend(entries.iter().filter_map(event_of));
            return Ok(Outlook::News);
        }
        if rental.progress.state.is_terminal() {
            return Ok(Outlook::Over);
        }
        let runs = rental.progress.state == RentalState::Active;
        if runs && self.cost_told.is_none_or(|told| told.elapsed() >= COST_EVERY) {
            let chain_id = self.app.config.chain_id;
            let unit = unit_of(&mut connection, quote.token, chain_id).await?;
            let now: UnixSeconds = self.app.now();
            let view = cost(&mut connection, &rental, &quote, &unit, now).await?;
            let event = Event::default().event("cost").data(json_of(&view)?.to_string());
            self.cost_told = Some(Instant::now());
            self.waiting.push_back(event);
            return Ok(Outlook::News);
        }
        Ok(Outlook::Quiet { runs })
    }

    /// Waits for news of this rental, for `patience`, or until the service closes. False if there will be no news.
    async fn wait(&mut self, patience: Duration) -> bool {
        let until = Instant::now().checked_add(patience);
        let closing = self.app.closing.clone();
        loop {
            let heard = tokio::select! {
                () = closing.cancelled() => return true,
                () = sleep_until(until) => return true,
                heard = self.news.recv() => heard,
            };
            match heard {
                Ok(Heard::Rental(id)) if id != self.id => {}
                Ok(Heard::Rental(_) | Heard::Gap) | Err(broadcast::error::RecvError::Lagged(_)) => {
                    return true;
                }
                Err(broadcast::error::RecvError::Closed) => return false,
            }
        }
    }
}

async fn sleep_until(until: Option<Instant>) {
    if let Some(until) = until {
        tokio::time::sleep_until(until).await;
    }
}

/// The last event of a stream that the service ends: not all readers at the same moment.
fn come_again() -> Event {
    let spread = u64::from(rand::random::<u8>()).saturating_mul(8);
    let after = RECONNECT_AFTER.saturating_add(Duration::from_millis(spread));
    Event::default().event("reconnect").retry(after).data(r#"{"reason":"the service stops"}"#)
}

/// What a look at a rental found.
enum Outlook {
    /// Something to tell.
    News,
    /// Nothing; `runs` says whether time is billed.
    Quiet { runs: bool },
    /// The rental has ended and everything is told.
    Over,
}

/// An entry as an event: `tx` if it is about a transaction, else `state`.
fn event_of(entry: &TimelineEntry) -> Option<Event> {
    let name = if entry.kind.starts_with("tx") { "tx" } else { "state" };
    let mut data = json!({"at": Time(entry.at).text()?, "kind": entry.kind});
    if let (Some(members), Value::Object(detail)) = (data.as_object_mut(), &entry.detail) {
        members.extend(detail.clone());
    }
    Some(Event::default().id(entry.id.to_string()).event(name).data(data.to_string()))
}
