//! A request for a quote. Who asks and what the quote depends on are read in one look, because a quote is asked for often
//! and is a small thing: a look costs more than what it looks for.

use axum::extract::{FromRequest, FromRequestParts as _, Request};
use store::quotes::Ground;

use super::{QuoteRequest, check_symbol, last_second, together::Question};
use crate::{
    AppState, Problem,
    extract::Body,
    identity::{Wallet, session_hash},
    renter::Ahead,
};

/// Who asks, and for what.
pub(super) struct Asked {
    pub(super) wallet: Wallet,
    pub(super) request: QuoteRequest,
    /// What was found already.
    pub(super) ground: Option<Ground>,
}

impl FromRequest<AppState> for Asked {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &AppState) -> Result<Self, Problem> {
        let (mut parts, body) = request.into_parts();
        let Some(hash) = session_hash(&parts.headers) else {
            // nothing to look up ahead: who asks comes before what is asked
            let wallet = Wallet::from_request_parts(&mut parts, app).await?;
            let Body(request) = Body::from_request(Request::from_parts(parts, body), app).await?;
            return Ok(Self { wallet, request, ground: None });
        };
        let order = Request::from_parts(parts.clone(), body);
        let order = Body::<QuoteRequest>::from_request(order, app).await;
        let mut ground = None;
        if let Ok(Body(order)) = &order
            && check_symbol(&order.token).is_ok()
        {
            let question = Question {
                offer: order.offer_id,
                token: order.token.clone(),
                to: last_second(app, order),
                caller: hash,
            };
            ground = app.quoting.look(question).await;
            if let Some(ground) = &ground {
                parts.extensions.insert(Ahead::of(hash, ground.session));
            }
        }
        // who may not ask is not told what is wrong with the question
        let wallet = Wallet::from_request_parts(&mut parts, app).await?;
        let Body(request) = order?;
        Ok(Self { wallet, request, ground })
    }
}
