//! All that happens to an account, as it happens: server-sent events that resume where they broke off.

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
    id::AccountId,
    scope::Scope,
    time::{Seconds, UnixSeconds},
};
use futures_util::{StreamExt as _, stream};
use serde_json::json;
use store::account_events::{self, AccountEvent, Horizon, Position};
use tokio::time::Instant;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    AppState, Code, Problem,
    access::scope_of_event,
    identity::Wallet,
    problem::internal,
    revoked::AccountNews,
    streams::{Seat, come_again},
    views::Time,
};

/// Comments keep connections open through proxies.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Events that are read at once.
const BATCH: i64 = 100;
/// Events whose place is not certain yet are looked at again after this, and each further time after twice as long, up to
/// the other: a long transaction, of whatever kind, holds up every stream that has news.
const SETTLED_AFTER: Duration = Duration::from_millis(50);
const SETTLED_AT_MOST: Duration = Duration::from_secs(2);
/// After so long the reader has to come again, and sooner if the session or key ends sooner.
const LONGEST: Duration = Duration::from_secs(3_600);
/// What was missed can be asked for until so long after the last event that was seen was written. It is kept for a day
/// longer, and streams last for an hour.
const RESUMED_WITHIN: Seconds = Seconds(6 * 86_400);

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(follow))
}

/// Follows all of the caller's rentals, machines, offers, quotes, disputes and payouts. Events have the names and the
/// contents of webhooks' (docs/WEBHOOKS.md), and each an id: send the last one as `Last-Event-ID` to go on after it, for
/// six days. `begin` is the first event of a new stream: look at what there is after it, and the stream tells what changes.
/// `again` is the same where what was missed is not known any more. A key sees what its scopes let it read:
/// `machines:read` adds machines and offers, `billing:read` payouts. The stream lasts an hour at most; `reconnect` means that
/// the service stops: come again, to another instance, after the time that its `retry` tells.
#[utoipa::path(get, path = "/v1/events", tag = "webhooks", security(("bearer" = [])),
    params(("Last-Event-ID" = Option<String>, Header, description = "the last id that was received")),
    responses((status = 200, content_type = "text/event-stream", body = String,
        example = "id: 2f1-7-1800000000\nevent: rental.ready\ndata: {\"type\":\"rental.ready\"}\n\n")))]
async fn follow(
    State(app): State<AppState>,
    wallet: Wallet,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let seen = headers.get("last-event-id").map(|value| value.to_str().unwrap_or_default());
    let seen = seen.map(place).transpose()?;
    let account = wallet.account.id;
    let permit = app.streams.take(Some(account)).map_err(|_| {
        Problem::new(Code::Unavailable, "too many event streams are open; come again later")
    })?;
    let revoked = app.revoked.of(&app.store, wallet.credential());
    // before the first look: what comes in between is seen twice rather than not at all
    let news = app.revoked.news_of(&app.store, account);
    let left = wallet.expires_at.map(|end| end.saturating_since(app.now()));
    let longest = left.map_or(LONGEST, |left| LONGEST.min(Duration::from_secs(left.get().into())));
    let mut follower = Follower {
        account,
        sees: Sees::of(&wallet),
        news,
        position: Position { xid: 0, id: 0 },
        begins: None,
        waiting: VecDeque::new(),
        again_after: SETTLED_AFTER,
        until: Instant::now().checked_add(longest),
        farewell: false,
        app,
        _permit: permit,
    };
    follower.begin(seen).await?;
    let events = stream::unfold(follower, |mut follower| async move {
        let event = follower.next().await?;
        Some((Ok::<_, Infallible>(event), follower))
    });
    let events = events.take_until(Box::pin(revoked));
    let keep_alive = KeepAlive::new().interval(HEARTBEAT);
    Ok(Sse::new(events).keep_alive(keep_alive).into_response())
}

/// Where in the stream an id is, and from when.
fn place(id: &str) -> Result<(Position, UnixSeconds), Problem> {
    let mut parts = id.trim().split('-');
    let mut read = || {
        let xid = u64::from_str_radix(parts.next()?, 16).ok()?;
        let id = parts.next()?.parse::<i64>().ok().filter(|id| *id >= 0)?;
        let at = parts.next()?.parse().ok()?;
        parts.next().is_none().then_some((Position { xid, id }, UnixSeconds(at)))
    };
    read().ok_or_else(|| {
        Problem::new(Code::InvalidRequest, "Last-Event-ID is not an id of this stream")
    })
}

/// Which events a key may see; a wallet that signed in sees all.
#[derive(Clone, Copy)]
struct Sees {
    machines: bool,
    money: bool,
}

impl Sees {
    fn of(wallet: &Wallet) -> Self {
        let may = |scope| wallet.key().is_none_or(|key| key.scopes.contains(&scope));
        Self { machines: may(Scope::MachinesRead), money: may(Scope::BillingRead) }
    }

    fn takes(self, kind: &str) -> bool {
        // the others are what the route itself needs
        let scope = scope_of_event(kind);
        (scope != Scope::MachinesRead || self.machines)
            && (scope != Scope::BillingRead || self.money)
    }
}

/// One reader and how far they are.
struct Follower {
    app: AppState,
    account: AccountId,
    sees: Sees,
    news: AccountNews,
    /// The last event that was looked at.
    position: Position,
    /// The stream begins, with an event of this name, once all transactions below this one are over.
    begins: Option<(&'static str, u64)>,
    waiting: VecDeque<Event>,
    /// How long to wait for what is not certain.
    again_after: Duration,
    /// When it ends in any case.
    until: Option<Instant>,
    /// The reader was told to come again.
    farewell: bool,
    _permit: Seat<AccountId>,
}

/// What a look found.
enum Outlook {
    /// Something to tell.
    News,
    /// Something that cannot be told yet.
    Unsettled,
    /// Nothing, until there is news.
    Quiet,
}

impl Follower {
    /// Has the account's events kept, and goes on after `seen` if what came after it was.
    async fn begin(&mut self, seen: Option<(Position, UnixSeconds)>) -> Result<(), Problem> {
        let (app, account) = (self.app.clone(), self.account);
        let fresh = app
            .store
            .write::<bool, Problem, _>("account_events.keep", move |tx| {
                Box::pin(async move { Ok(account_events::keep(tx, account).await?) })
            })
            .await?;
        let horizon = self.horizon().await?;
        let known = seen.filter(|(position, at)| {
            let young = horizon.now.saturating_since(*at) < RESUMED_WITHIN;
            !fresh && young && position.xid < horizon.next
        });
        if let Some((position, _)) = known {
            self.position = position;
            return Ok(());
        }
        // whoever wrote when the account's first stream was opened did not know yet that events are kept
        let whole_from = app
            .store
            .write::<u64, Problem, _>("account_events.whole_from", move |tx| {
                Box::pin(async move { Ok(account_events::whole_from(tx, account).await?) })
            })
            .await?;
        self.begins = Some((if seen.is_some() { "again" } else { "begin" }, whole_from));
        Ok(())
    }

    async fn horizon(&self) -> Result<Horizon, Problem> {
        let mut connection = self.app.store.read().await?;
        Ok(account_events::horizon(&mut connection).await?)
    }

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
            // what is told from here on may come too late for this look
            self.news.clear();
            match self.look().await {
                Ok(Outlook::News) => self.again_after = SETTLED_AFTER,
                Ok(Outlook::Unsettled) => {
                    self.wait(Instant::now().checked_add(self.again_after)).await;
                    self.again_after = self.again_after.saturating_mul(2).min(SETTLED_AT_MOST);
                }
                Ok(Outlook::Quiet) => self.wait(None).await,
                Err(problem) => {
                    tracing::warn!(
                        account.id = %self.account,
                        error.code = problem.code().as_str(),
                        "the event stream of an account broke off"
                    );
                    return None;
                }
            }
        }
    }

    async fn look(&mut self) -> Result<Outlook, Problem> {
        if let Some((name, after)) = self.begins {
            let horizon = self.horizon().await?;
            // a number that nobody has had yet is of the database that this one was copied from
            if horizon.oldest < after && after < horizon.next {
                return Ok(Outlook::Unsettled);
            }
            self.position = Position { xid: horizon.oldest, id: 0 };
            self.begins = None;
            let id = id_of(self.position, horizon.now);
            self.waiting.push_back(Event::default().id(id).event(name).data("{}"));
            return Ok(Outlook::News);
        }
        let mut connection = self.app.store.read().await?;
        let page =
            account_events::after(&mut connection, self.account, self.position, BATCH).await?;
        drop(connection);
        let Some(last) = page.events.last() else {
            return Ok(if page.unsettled { Outlook::Unsettled } else { Outlook::Quiet });
        };
        self.position = last.position;
        for event in page.events.iter().filter(|event| self.sees.takes(&event.kind)) {
            self.waiting.push_back(event_of(event)?);
        }
        Ok(Outlook::News)
    }

    /// Waits until there is news of the account, or the service closes, or this long.
    async fn wait(&mut self, until: Option<Instant>) {
        let until = until.into_iter().chain(self.until).min();
        let closing = self.app.closing.clone();
        let late = async {
            match until {
                Some(until) => tokio::time::sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = closing.cancelled() => {}
            () = self.news.heard() => {}
            () = late => {}
        }
    }
}

/// `at` says, by the database's clock, how old what comes after this place may be: of an event, when it was written.
fn id_of(position: Position, at: UnixSeconds) -> String {
    format!("{:x}-{}-{}", position.xid, position.id, at.get())
}

fn event_of(event: &AccountEvent) -> Result<Event, Problem> {
    let at = Time(event.at).text().ok_or_else(|| internal("a time that cannot be written"))?;
    let body = json!({"type": event.kind, "timestamp": at, "data": event.data});
    let told = Event::default().id(id_of(event.position, event.kept_at)).event(&event.kind);
    Ok(told.data(body.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_was_written_and_nothing_else_is() {
        let position = Position { xid: 0x2f1, id: 7 };
        let written = id_of(position, UnixSeconds(1_800_000_000));
        assert_eq!(written, "2f1-7-1800000000");
        assert_eq!(place(&written).unwrap(), (position, UnixSeconds(1_800_000_000)));
        for bad in ["", "7", "2f1-7", "2f1--7-1", "x-7-1", "2f1-7-1-1", "2f1-7-x", "-1-7-1"] {
            assert!(place(bad).is_err(), "{bad}");
        }
    }
}
