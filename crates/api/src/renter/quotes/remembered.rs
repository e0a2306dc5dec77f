//! What a quote depends on, as it was seen last: the offer in the market that searches read, and the caller's session, the
//! token and the provider's wallet as some quote before found them. A quote that is made from it is stored only if all of it is
//! still so (`store::quotes::promise`), which takes one statement in place of two; if it is not, it is looked at. So nobody is
//! told anything that was not true when it was stored.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use alloy::primitives::Address;
use domain::{
    id::{AccountId, MachineId, OfferId},
    money::{Bps, UsdMicros},
    offer::{Isolation, OfferState, OfferTerms, Reserved},
    rate::UsdPerHour,
    time::{Seconds, UnixSeconds},
};
use market::Listing;
use store::{
    accounts::{Session, SessionOwner},
    offers::Offer,
    quotes::{Bounds, Ground, Remembered},
    sessions,
    tokens::Token,
};

use super::QuoteRequest;
use crate::AppState;

/// So many of each kind are remembered; with more, all are forgotten, and found again as they are needed.
const MOST: usize = 65_536;

/// What was seen last.
#[derive(Default)]
pub(super) struct Memory(Mutex<Seen>);

#[derive(Default)]
struct Seen {
    /// By the hash of its token.
    sessions: HashMap<[u8; 32], Session>,
    /// By its symbol.
    tokens: HashMap<String, (Token, Option<Bounds>)>,
    /// The wallet of each, which never changes.
    providers: HashMap<AccountId, Address>,
}

/// Whose request it is and what its quote depends on, if nothing has changed.
pub(super) struct Recalled {
    pub(super) session: Session,
    pub(super) ground: Ground,
    pub(super) remembered: Remembered,
}

impl Memory {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers what was found for somebody with this session who pays in a token of this symbol.
    pub(super) fn learn(&self, caller: [u8; 32], symbol: &str, ground: &Ground) {
        let mut seen = self.seen();
        match ground.session {
            Some(session) => drop(with_room(&mut seen.sessions).insert(caller, session)),
            None => drop(seen.sessions.remove(&caller)),
        }
        match &ground.token {
            Some(token) => {
                drop(with_room(&mut seen.tokens).insert(symbol.to_owned(), token.clone()))
            }
            None => drop(seen.tokens.remove(symbol)),
        }
        with_room(&mut seen.providers).insert(ground.offer.account, ground.provider);
    }

    /// Forgets a session, because something that was remembered is not so.
    pub(super) fn forget(&self, caller: &[u8; 32]) {
        self.seen().sessions.remove(caller);
    }

    /// What an order depends on, if all of it was seen and nothing of it needs another look.
    pub(super) fn recall(
        &self,
        app: &AppState,
        caller: [u8; 32],
        order: &QuoteRequest,
    ) -> Option<Recalled> {
        let named = !order.ssh_public_keys.is_empty() || order.label.is_some();
        if order.template.is_some() || named {
            return None;
        }
        let now = app.now();
        let (session, token) = {
            let seen = self.seen();
            (*seen.sessions.get(&caller)?, seen.tokens.get(&order.token)?.clone())
        };
        // what was not used in this hour is noted to be used, which takes a look
        let is_current =
            session.expires_at > now && session.last_used_at == Some(sessions::hour(now));
        let is_known = matches!(session.owner, SessionOwner::Account(_)) && is_current;
        let max_age = match token.1 {
            Some(Bounds { doubted_since: Some(_), .. }) => return None,
            Some(Bounds { max_age, doubted_since: None }) => Some(max_age),
            None if token.0.fixed => None,
            None => return None,
        };
        let found = app.market.read(|index| {
            let listing = index.get(order.offer_id.uuid()).filter(|listing| listing.open)?;
            let model = index.models().iter().find(|model| model.slug == listing.model)?;
            offer(listing, model.vram_gb)
        });
        let offer = found.ok().flatten().filter(|_| is_known)?;
        let provider = *self.seen().providers.get(&offer.account)?;
        let remembered = Remembered {
            caller,
            listed: offer.terms.price,
            gpus_all: offer.gpus_all,
            symbol: token.0.symbol.clone(),
            decimals: token.0.decimals,
            max_age,
        };
        // a machine that runs no templates can be rented without one
        let (templates, obstacle) = (false, None);
        let (token, session) = (Some(token), Some(session));
        let ground = Ground { offer, provider, templates, obstacle, token, session };
        Some(Recalled { session: session?, ground, remembered })
    }
}

fn with_room<K, V>(kind: &mut HashMap<K, V>) -> &mut HashMap<K, V> {
    if kind.len() >= MOST {
        kind.clear();
    }
    kind
}

/// An offer as it is listed.
fn offer(listing: Listing, vram_gb: u32) -> Option<Offer> {
    let dollars = |micros: u32| UsdMicros::new(micros.into());
    let reserved = listing.reserved.iter().map(|step| {
        let discount_bps = Bps::new(step.discount_bps).ok()?;
        Some(Reserved { min_duration: Seconds(step.min_duration_s), discount_bps })
    });
    let terms = OfferTerms {
        price: UsdPerHour(dollars(listing.price_micros)),
        gpu_count: listing.gpu_count,
        chunks: match listing.chunks {
            chunks if chunks.is_empty() => vec![listing.gpu_count],
            chunks => chunks,
        },
        min_duration: Seconds(listing.min_duration_s),
        max_duration: Seconds(listing.max_duration_s),
        reserved: reserved.collect::<Option<_>>()?,
        disk_price: dollars(listing.disk_price_micros),
        disk_gb: listing.disk_gb,
        up_price: dollars(listing.up_price_micros),
        down_price: dollars(listing.down_price_micros),
        notice: Seconds(listing.notice_s),
        isolation: match listing.isolation {
            market::Isolation::Machine => Isolation::Machine,
            market::Isolation::Gpu => Isolation::Gpu,
            market::Isolation::Mig => Isolation::Mig,
        },
        available_until: listing.available_until.map(second),
    };
    Some(Offer {
        id: OfferId::from_uuid(listing.id),
        machine: MachineId::from_uuid(listing.machine),
        account: AccountId::from_uuid(listing.provider),
        state: OfferState::Listed,
        version: listing.version,
        model: listing.model,
        terms,
        region: listing.region,
        vram_gb,
        gpus_free: listing.gpus_free.into(),
        gpus_all: listing.gpus_in_machine.into(),
        last_heartbeat_at: Some(second(listing.heard_at)),
        open: listing.open,
        // a listing ends with whatever comes first
        closed_from: None,
        created_at: second(listing.created_at),
        updated_at: second(listing.updated_at),
    })
}

fn second(at: u32) -> UnixSeconds {
    UnixSeconds(at.into())
}
