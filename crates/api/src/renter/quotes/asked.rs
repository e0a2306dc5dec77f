//! A request for a quote. Who asks and what the quote depends on are read in one look, because a quote is asked for often
//! and is a small thing: a look costs more than what it looks for. Often none is needed at all.

use std::sync::Arc;

use axum::{
    extract::{FromRequest as _, FromRequestParts as _, Request},
    http::request::Parts,
};
use store::{
    Store, StoreError,
    deployment::Deployment,
    quotes::{self, Ground, Quote},
    tokens::Token,
};

use super::{
    Draft, QuoteRequest, check_symbol, draft, give, last_second,
    remembered::{Memory, Recalled},
    together::{Question, Together},
};
use crate::{
    ApiConfig, AppState, Problem,
    extract::Body,
    identity::{Wallet, session_hash},
    limits::Whose,
    renter::Ahead,
};

/// Makes quotes.
pub(crate) struct Quoting {
    together: Together,
    memory: Memory,
    store: Store,
}

impl Quoting {
    /// Begins, until this is dropped. Must be called inside a tokio runtime.
    pub(crate) fn start(store: Store, config: &ApiConfig) -> Self {
        let (together, memory) = (Together::start(&store, config), Memory::default());
        Self { together, memory, store }
    }

    /// Stores a quote with an id of its own.
    ///
    /// # Errors
    /// As [`quotes::insert`].
    async fn promise(&self, quote: &Arc<Quote>) -> Result<(), StoreError> {
        if self.together.promise(quote.clone(), None).await == Some(true) {
            return Ok(());
        }
        let mut connection = self.store.borrow().await?;
        match quotes::insert(&mut connection, quote).await {
            // it was stored with the others, and only not said: its terms hold its id
            Err(error)
                if error.is_conflict_on("quotes_pkey")
                    || error.is_conflict_on("quotes_escrow_id_key") => {}
            done => done?,
        }
        self.store.keep(connection);
        Ok(())
    }
}

/// Who asks, and for what.
pub(super) struct Asked {
    parts: Parts,
    order: Result<QuoteRequest, Problem>,
    /// The hash of the token of what may be a session.
    caller: Option<[u8; 32]>,
    /// Who asks, if it is no session.
    wallet: Option<Wallet>,
}

/// A quote with what its answer needs.
pub(super) struct Given {
    pub(super) quote: Arc<Quote>,
    pub(super) token: Token,
    pub(super) contract: Deployment,
}

impl Asked {
    /// Reads a request.
    ///
    /// # Errors
    /// Of somebody who may not ask.
    pub(super) async fn read(request: Request, app: &AppState) -> Result<Self, Problem> {
        let (mut parts, body) = request.into_parts();
        let caller = session_hash(&parts.headers);
        // nothing to look up ahead: who asks comes before what is asked
        let wallet = match caller {
            Some(_) => None,
            None => Some(Wallet::from_request_parts(&mut parts, app).await?),
        };
        let order = Request::from_parts(parts.clone(), body);
        let order = Body::<QuoteRequest>::from_request(order, app).await;
        Ok(Self { parts, order: order.map(|Body(order)| order), caller, wallet })
    }

    /// The quote, from what is remembered; nothing if it takes a look to know.
    pub(super) async fn recall(&self, app: &AppState) -> Option<Given> {
        let (order, caller) = (self.order.as_ref().ok()?, self.caller?);
        let Recalled { session, ground, remembered } =
            app.quoting.memory.recall(app, caller, order)?;
        let wallet = Wallet::of(session)?;
        let given = given(app, &wallet, order.clone(), Some(ground)).await.ok()?;
        let stored = app.quoting.together.promise(given.quote.clone(), Some(remembered)).await;
        match stored {
            Some(true) => {
                app.limits.vouch(&caller, Whose::Account(wallet.account.id));
                Some(given)
            }
            Some(false) => {
                app.quoting.memory.forget(&caller);
                None
            }
            None => None,
        }
    }

    /// The quote.
    ///
    /// # Errors
    /// What stands against it.
    pub(super) async fn look(mut self, app: &AppState) -> Result<Given, Problem> {
        let mut ground = None;
        if let Some(caller) = self.caller
            && let Ok(order) = &self.order
            && check_symbol(&order.token).is_ok()
        {
            let (offer, token) = (order.offer_id, order.token.clone());
            let question = Question { offer, token, to: last_second(app, order), caller };
            ground = app.quoting.together.look(question).await;
            if let Some(ground) = &ground {
                app.quoting.memory.learn(caller, &order.token, ground);
                self.parts.extensions.insert(Ahead::of(caller, ground.session));
            }
        }
        // who may not ask is not told what is wrong with the question
        let wallet = match self.wallet {
            Some(wallet) => wallet,
            None => Wallet::from_request_parts(&mut self.parts, app).await?,
        };
        let order = self.order?;
        if !order.ssh_public_keys.is_empty() {
            let message = "a quote lets nobody in; name keys of yours when you book it";
            return Err(Problem::invalid("/ssh_public_keys", message));
        }
        if order.label.is_some() {
            return Err(Problem::invalid("/label", "a quote has no name; name the rental"));
        }
        let given = given(app, &wallet, order, ground).await?;
        app.quoting.promise(&given.quote).await?;
        Ok(given)
    }
}

/// Makes a quote that is somebody's, and not stored yet.
async fn given(
    app: &AppState,
    wallet: &Wallet,
    order: QuoteRequest,
    ground: Option<Ground>,
) -> Result<Given, Problem> {
    let mut connection = app.store.borrow().await?;
    let drafted = draft(app, &mut connection, Some(wallet), order, ground).await?;
    app.store.keep(connection);
    let Draft { mut quote, token, contract } = drafted;
    give(app, &mut quote, &wallet.account, &contract)?;
    Ok(Given { quote: Arc::new(quote), token, contract })
}
