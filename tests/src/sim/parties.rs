//! What renters, providers and their machines do: through the store's functions as the API does, and with their
//! own wallets on the chain.

use alloy::primitives::Address;
use domain::{
    money::Amount,
    rental::{LockStatus, Party as Who, RentalEvent, RentalState},
    time::Seconds,
};
use escrow::{calldata, signed};
use store::{
    StoreError, TxError,
    advance::{self, AdvanceError},
    ends::{self, Side},
    intents::{self, Call},
    readings,
    rentals::{self, Rental},
};
use uuid::Uuid;

use super::world::{TOKEN, World};
use crate::booking::{self, Booked, Ids, Order, POL, RATE, USDC_RATE};

/// How the renter means to pay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Funding {
    OwnTransaction,
    Authorization,
    TooLittle,
    Never,
}

/// A rental with what its parties are up to.
pub struct Tenancy {
    pub booked: Booked,
    pub renter: usize,
    pub provider: usize,
    pub funding: Funding,
    pub funded: bool,
    /// The machine sends nothing until then.
    pub silent_until: u64,
    /// The machine never gets ready.
    pub broken: bool,
    /// Whether the two sides sign ends.
    pub agreeable: bool,
}

impl World {
    /// What the database says of a rental.
    pub async fn rental(&self, at: usize) -> Rental {
        let mut connection = self.store.read().await.unwrap();
        rentals::get(&mut connection, self.rentals[at].booked.id).await.unwrap().unwrap()
    }

    pub async fn book(&mut self) {
        let (renter, provider) = (self.pick(self.renters.len()), self.pick(self.providers.len()));
        let in_token = self.chance(50);
        let duration = Seconds(u32::try_from(120 + self.below(1_200)).unwrap());
        let holdback = Seconds([0, 60, 100, 100][self.pick(4)]);
        let funding = match self.below(100) {
            0..8 => Funding::Never,
            8..15 => Funding::TooLittle,
            15..40 if in_token => Funding::Authorization,
            _ => Funding::OwnTransaction,
        };
        let order = Order {
            renter: self.renters[renter].address(),
            provider: self.providers[provider].address(),
            token: if in_token { TOKEN } else { POL },
            rate: if in_token { USDC_RATE } else { RATE },
            holdback,
            now: self.now(),
            domain: self.site.domain.clone(),
        };
        let random = &mut self.random;
        let ids = Ids::from(|| Uuid::from_bytes(random.bytes()));
        let booked = booking::book_as(&self.store, &order, ids, duration).await;
        let (broken, agreeable) = (self.chance(8), self.chance(85));
        self.trace.say(format!(
            "  r{} is booked by {} of {}: {duration} s, {funding:?}, holdback {holdback}{}{}",
            self.rentals.len(),
            self.renters[renter].name,
            self.providers[provider].name,
            if in_token { ", in tokens" } else { "" },
            if broken { ", broken" } else { "" },
        ));
        self.rentals.push(Tenancy {
            booked,
            renter,
            provider,
            funding,
            funded: false,
            silent_until: 0,
            broken,
            agreeable,
        });
    }

    /// The rental's state machine hears of something; what it refuses is an answer that the API gives.
    pub(super) async fn hear(&self, at: usize, event: RentalEvent) {
        let (id, now, policy) =
            (self.rentals[at].booked.id, self.now(), self.store.policy().clone());
        let heard = self
            .store
            .write("hear", move |tx| {
                let policy = policy.clone();
                Box::pin(async move {
                    match advance::apply(tx, &policy, id, &event, now).await {
                        Ok(applied) => Ok(applied.rental.progress.state.as_str().to_owned()),
                        Err(AdvanceError::Illegal(error)) => Ok(error.to_string()),
                        Err(AdvanceError::Missing) => Ok("missing".to_owned()),
                        Err(AdvanceError::Store(error)) => Err(TxError::<StoreError>::Store(error)),
                    }
                })
            })
            .await
            .unwrap();
        self.trace.say(format!("  r{at} hears {}: {heard}", event.name()));
    }

    /// Somebody who has to do with the rental does what comes next, or what nobody expects.
    pub async fn act(&mut self, at: usize) {
        let rental = self.rental(at).await;
        match rental.progress.state {
            RentalState::AwaitingFunds if rental.progress.lock == LockStatus::None => {
                self.fund(at).await;
            }
            RentalState::AwaitingFunds | RentalState::Funded | RentalState::Provisioning => {
                self.prepare(at).await;
            }
            RentalState::Active | RentalState::Interrupted => self.run(at, &rental).await,
            RentalState::Stopping => {
                if self.chance(60) {
                    self.read(at, &rental).await;
                }
                if self.chance(60) {
                    self.hear(at, RentalEvent::AgentStopped).await;
                }
            }
            RentalState::Settling => self.sign_end(at).await,
            RentalState::Contested => self.argue(at),
            RentalState::Settled | RentalState::Resolved | RentalState::Refunded => {
                let provider = self.providers[self.rentals[at].provider].address();
                let token = self.rentals[at].booked.terms.token;
                let data = calldata::withdraw(token, provider, Amount::ZERO);
                self.submit(provider, data, 0);
                self.trace.say(format!("  the provider of r{at} withdraws"));
            }
            RentalState::Expired
            | RentalState::Cancelled
            | RentalState::StartFailed
            | RentalState::Refunding => {
                if self.chance(30) {
                    let renter = self.renters[self.rentals[at].renter].address();
                    self.submit(renter, calldata::reclaim(&self.rentals[at].booked.terms), 0);
                    self.trace.say(format!("  the renter of r{at} reclaims"));
                }
            }
        }
    }

    async fn fund(&mut self, at: usize) {
        if self.chance(10) {
            let stop = RentalEvent::StopRequested { by: Who::Renter, now: self.now() };
            self.hear(at, stop).await;
            return;
        }
        // a wallet tries again once in a while: its transaction may have got lost
        if self.rentals[at].funded && !self.chance(15) {
            return;
        }
        let tenancy = &self.rentals[at];
        let (terms, deposit) = (tenancy.booked.terms.clone(), tenancy.booked.deposit);
        let renter = self.renters[tenancy.renter].address();
        match tenancy.funding {
            Funding::Never => return,
            Funding::OwnTransaction => {
                self.lock(renter, &terms, deposit);
            }
            Funding::TooLittle => {
                let less = Amount::new(deposit.get() - 1).unwrap();
                self.lock(renter, &terms, less);
            }
            Funding::Authorization => self.authorize(at).await,
        }
        let funding = self.rentals[at].funding;
        self.trace.say(format!("  the renter of r{at} locks: {funding:?}"));
        self.rentals[at].funded = true;
    }

    fn lock(&self, renter: Address, terms: &escrow::Terms, deposit: Amount) {
        let value = if terms.token == POL { deposit.get() } else { 0 };
        self.submit(renter, calldata::lock(terms, deposit), value);
    }

    /// The renter signs, and the platform is to send it: as the API queues it.
    async fn authorize(&self, at: usize) {
        let tenancy = &self.rentals[at];
        let (booked, now) = (&tenancy.booked, self.now());
        let valid = (now.saturating_minus(Seconds(60)), now.saturating_plus(Seconds(600)));
        let message = signed::authorization(
            &booked.terms,
            booked.escrow_id,
            self.site.escrow,
            booked.deposit,
            valid,
        );
        let domain = &super::world::deployed().token_domain;
        let by_renter = signed::sign(&message, &self.renters[tenancy.renter].key, domain).unwrap();
        let call = Call::Lock {
            deposit: booked.deposit,
            valid_after: valid.0,
            valid_before: valid.1,
            signature: by_renter.into(),
        };
        let id = booked.id;
        self.store
            .write("authorize", move |tx| {
                let call = call.clone();
                Box::pin(async move {
                    readings::lock_rental(tx, id).await?;
                    if !intents::is_open(tx, id, call.purpose()).await? {
                        intents::queue(tx, id, &call, now, now).await?;
                    }
                    Ok::<_, TxError<StoreError>>(())
                })
            })
            .await
            .unwrap();
    }

    /// Both sides sign the end that waits to be told.
    async fn sign_end(&mut self, at: usize) {
        let tenancy = &self.rentals[at];
        if !tenancy.agreeable {
            return;
        }
        let (id, escrow_id, now) = (tenancy.booked.id, tenancy.booked.escrow_id, self.now());
        let keys = [
            (Side::Renter, self.renters[tenancy.renter].key.clone()),
            (Side::Provider, self.providers[tenancy.provider].key.clone()),
        ];
        let domain = self.site.domain.clone();
        let signed = self
            .store
            .write("sign end", move |tx| {
                let (keys, domain) = (keys.clone(), domain.clone());
                Box::pin(async move {
                    let Some((end, _)) = ends::open(tx, id).await? else { return Ok(false) };
                    let told = signed::end(escrow_id, end.stopped_at, end.credit);
                    for (side, key) in &keys {
                        let signature = signed::sign(&told, key, &domain).unwrap();
                        ends::sign(tx, id, *side, end, &signature, now).await?;
                    }
                    intents::hasten_close(tx, id, now).await?;
                    Ok::<_, TxError<StoreError>>(true)
                })
            })
            .await
            .unwrap();
        if signed {
            self.trace.say(format!("  the end of r{at} is signed"));
        }
    }

    fn argue(&mut self, at: usize) {
        let (renter, provider) = (
            self.renters[self.rentals[at].renter].address(),
            self.providers[self.rentals[at].provider].address(),
        );
        let terms = self.rentals[at].booked.terms.clone();
        let (what, by, data) = match self.below(12) {
            0 => ("the renter disputes", renter, calldata::dispute(&terms)),
            1 => ("the provider disputes", provider, calldata::dispute(&terms)),
            2 => ("the renter concedes", renter, calldata::concede(&terms)),
            3 => ("the provider concedes", provider, calldata::concede(&terms)),
            _ => return,
        };
        self.submit(by, data, 0);
        self.trace.say(format!("  {what} r{at}"));
    }
}
