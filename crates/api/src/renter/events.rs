//! A rental as it happens: server-sent events that resume where they broke off.

use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};

use axum::{
    extract::State,
    http::HeaderMap,
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use domain::id::{AccountId, RentalId};
use futures_util::{StreamExt as _, stream};
use store::timeline;
use tokio::time::Instant;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::rentals::of_party;
use crate::{
    AppState, Code, Problem,
    extract::Id,
    feed::{Room, Snapshot, Told},
    identity::Wallet,
    streams::{Seat, come_again},
};

/// Comments keep connections open through proxies.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// The cost is told at most so often.
const COST_EVERY: Duration = Duration::from_secs(1);
/// Entries that are read at once.
const BATCH: i64 = 100;
/// After so long the reader has to come again, and sooner if the session, key or token ends sooner.
const LONGEST: Duration = Duration::from_secs(3_600);

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(follow))
}

/// Follows a rental. `state`, `tx` and `notice` (a maintenance window, or how far the deposit is used up) events carry the
/// ids of its timeline: send the last one as `Last-Event-ID` to go on after it. `again` comes first where that is an id of
/// another rental, or one that is not known any more: the whole timeline follows. `cost` comes while time is billed, whenever evidence has come, once a second at most. The stream ends
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
    let known = position == 0 || timeline::has(&mut connection, id, position).await?;
    drop(connection);
    let permit = app.streams.take(Some(account)).map_err(|_| {
        Problem::new(Code::Unavailable, "too many event streams are open; come again later")
    })?;
    let revoked = app.revoked.of(&app.store, wallet.credential());
    let room = app.feed.follow(id).await?;
    let left = wallet.expires_at.map(|end| end.saturating_since(app.now()));
    let longest = left.map_or(LONGEST, |left| LONGEST.min(Duration::from_secs(left.get().into())));
    let follower = Follower {
        app,
        room,
        seen: 0,
        position: if known { position } else { 0 },
        waiting: if known { VecDeque::new() } else { VecDeque::from([again()]) },
        cost_told: None,
        until: Instant::now().checked_add(longest),
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

/// What was sent as `Last-Event-ID` says nothing about this rental: it is told from the beginning.
fn again() -> Event {
    let data = r#"{"reason":"Last-Event-ID is no id of this rental's; its timeline follows from the beginning"}"#;
    Event::default().id("0").event("again").data(data)
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
    room: Arc<Room>,
    /// The version of the room that was told last.
    seen: u64,
    /// The last entry of the timeline that was told.
    position: i64,
    waiting: VecDeque<Event>,
    /// When the cost was told, and which.
    cost_told: Option<(Instant, Arc<str>)>,
    /// When it ends in any case.
    until: Option<Instant>,
    /// The reader was told to come again.
    farewell: bool,
    _permit: Seat<AccountId>,
}

impl Follower {
    /// The next event, or `None` at the end of the stream.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Some(event);
            }
            if self.farewell || self.until.is_some_and(|until| Instant::now() >= until) {
                return None;
            }
            if self.app.closing.is_cancelled() {
                self.farewell = true;
                return Some(come_again());
            }
            let shown = self.room.snapshot()?;
            match self.look(&shown).await {
                Ok(Outlook::News) => {}
                Ok(Outlook::Quiet(until)) => self.wait(until).await,
                Ok(Outlook::Over) => return None,
                Err(problem) => {
                    tracing::warn!(
                        rental.id = %self.room.rental(),
                        error.code = problem.code().as_str(),
                        "an event stream broke off"
                    );
                    return None;
                }
            }
        }
    }

    /// Takes from the room what is new to this reader.
    async fn look(&mut self, shown: &Snapshot) -> Result<Outlook, Problem> {
        if self.position < shown.since {
            // what lies before the room: at the beginning, after a pause, or in a flood
            // seldom, and large: it is not to lie in every stream that waits
            return Box::pin(self.catch_up()).await;
        }
        self.seen = shown.version;
        let position = self.position;
        for told in shown.recent.iter().filter(|told| told.id > position) {
            self.waiting.push_back(event_of(told));
        }
        if shown.last > position {
            self.position = shown.last;
            return Ok(Outlook::News);
        }
        if shown.over {
            return Ok(Outlook::Over);
        }
        let Some(cost) = shown.cost.as_ref().map(|cost| &cost.told) else {
            self.cost_told = None;
            return Ok(Outlook::Quiet(None));
        };
        match &self.cost_told {
            Some((_, told)) if Arc::ptr_eq(told, cost) => Ok(Outlook::Quiet(None)),
            Some((at, _)) if at.elapsed() < COST_EVERY => {
                Ok(Outlook::Quiet(at.checked_add(COST_EVERY)))
            }
            Some(_) | None => {
                self.waiting.push_back(Event::default().event("cost").data(&**cost));
                self.cost_told = Some((Instant::now(), cost.clone()));
                Ok(Outlook::News)
            }
        }
    }

    async fn catch_up(&mut self) -> Result<Outlook, Problem> {
        let mut connection = self.app.store.read().await?;
        let rental = self.room.rental();
        let entries = timeline::after(&mut connection, rental, self.position, BATCH).await?;
        if let Some(last) = entries.last() {
            self.position = last.id;
        }
        self.waiting.extend(entries.iter().filter_map(Told::of).map(|told| event_of(&told)));
        Ok(Outlook::News)
    }

    /// Waits until the room shows something new, or the service closes, or this long.
    async fn wait(&self, until: Option<Instant>) {
        let until = until.into_iter().chain(self.until).min();
        tokio::select! {
            () = self.app.closing.cancelled() => {}
            () = self.room.changed_from(self.seen) => {}
            () = sleep_until(until) => {}
        }
    }
}

async fn sleep_until(until: Option<Instant>) {
    if let Some(until) = until {
        tokio::time::sleep_until(until).await;
    }
}

/// What a look at the room found.
enum Outlook {
    /// Something to tell.
    News,
    /// Nothing, until the room changes or that time has come.
    Quiet(Option<Instant>),
    /// The rental has ended and everything is told.
    Over,
}

fn event_of(told: &Told) -> Event {
    Event::default().id(told.id.to_string()).event(told.name).data(&*told.data)
}
