//! Each listed token: what it says of itself beside what the database says of it.

use ::chain::{ChainError, ReadClient};
use alloy::{primitives::Bytes, sol_types::SolCall};
use escrow::{
    bindings::{Escrow, TestUSDC},
    signed,
};
use store::{deployment::Deployment, feeds::Feed, tokens::Token};

use super::{
    chain::unanswered,
    database::Known,
    finding::{Finding, Report},
};

const RENEW: &str =
    "correct the row in `tokens`, or take the token off the market (listed = false)";

/// Looks at every listed token.
pub(super) async fn examine(
    client: &ReadClient,
    deployment: &Deployment,
    known: &Known,
    report: &mut Report,
) {
    for token in &known.tokens {
        report.add(taken(client, deployment, token).await);
        report.add(price(token, &known.feeds));
        // the native coin has no contract to ask
        if !token.address.is_zero() {
            report.add(symbol(client, token).await);
            report.add(decimals(client, token).await);
            report.add(domain(client, deployment, token).await);
        }
    }
}

fn id(token: &Token, what: &str) -> String {
    format!("token.{}.{what}", token.symbol)
}

async fn ask(client: &ReadClient, token: &Token, call: Vec<u8>) -> Result<Bytes, ChainError> {
    client.call(token.address, call).await
}

/// Whether the contract takes the token.
async fn taken(client: &ReadClient, deployment: &Deployment, token: &Token) -> Finding {
    let id = id(token, "listed");
    let call = Escrow::tokenStateCall { token: token.address }.abi_encode();
    match client.call(deployment.escrow, call).await {
        Ok(answer) => {
            let state = Escrow::tokenStateCall::abi_decode_returns(&answer);
            let found = state.as_ref().map_or("the contract does not say".to_owned(), |state| {
                format!("listed: {}, paused: {}", state.listed, state.paused)
            });
            Finding::new(
                id,
                state.is_ok_and(|state| state.listed && !state.paused),
                found,
                "listed by the contract and not paused",
                "list or unpause it on the contract (deploy/README.md), or take it off the market",
            )
        }
        Err(error) => unanswered(id, &error),
    }
}

/// Whether anybody vouches for the token's price. How old the last answer is, the worker's metrics tell.
fn price(token: &Token, feeds: &[Feed]) -> Finding {
    let feed = feeds.iter().find(|feed| feed.token == token.address);
    let found = match (feed, token.fixed) {
        (Some(feed), _) => format!("the feed {}, at most {} old", feed.feed, feed.max_age),
        (None, true) => "a definition".to_owned(),
        (None, false) => "no feed".to_owned(),
    };
    Finding::new(
        id(token, "price"),
        feed.is_some() || token.fixed,
        found,
        "a price feed, or a price that is a definition",
        "nothing is quoted in it: name its feed in WEIR_PRICE_FEEDS and start the worker anew, or take the token off the \
         market (listed = false)",
    )
}

async fn symbol(client: &ReadClient, token: &Token) -> Finding {
    let id = id(token, "symbol");
    match ask(client, token, TestUSDC::symbolCall {}.abi_encode()).await {
        Ok(answer) => {
            let said = TestUSDC::symbolCall::abi_decode_returns(&answer).ok();
            let good = said.as_deref() == Some(token.symbol.as_str());
            let found = said.unwrap_or_else(|| "it does not say".to_owned());
            Finding::new(id, good, found, token.symbol.clone(), RENEW)
        }
        Err(error) => unanswered(id, &error),
    }
}

async fn decimals(client: &ReadClient, token: &Token) -> Finding {
    let id = id(token, "decimals");
    match ask(client, token, TestUSDC::decimalsCall {}.abi_encode()).await {
        Ok(answer) => {
            let said = TestUSDC::decimalsCall::abi_decode_returns(&answer).ok();
            let required = token.decimals.get();
            let found = said.map_or("it does not say".to_owned(), |places| places.to_string());
            Finding::new(id, said == Some(required), found, required.to_string(), RENEW)
        }
        Err(error) => unanswered(id, &error),
    }
}

/// Whether permits and authorizations that we have wallets sign would be taken.
async fn domain(client: &ReadClient, deployment: &Deployment, token: &Token) -> Finding {
    let id = id(token, "domain");
    let Some((name, version)) = &token.permit else {
        return Finding::skipped(id, "it is listed without permits");
    };
    let stored = signed::token_domain(name, version, deployment.chain_id, token.address);
    match ask(client, token, TestUSDC::DOMAIN_SEPARATORCall {}.abi_encode()).await {
        Ok(answer) => {
            let said = TestUSDC::DOMAIN_SEPARATORCall::abi_decode_returns(&answer).ok();
            let found = said.map_or("it has none".to_owned(), |hash| hash.to_string());
            Finding::new(
                id,
                said == Some(stored.separator()),
                found,
                format!("{} of {name:?} version {version:?}", stored.separator()),
                "correct permit_name and permit_version in `tokens`: signatures in this domain are worth nothing",
            )
        }
        Err(error) => unanswered(id, &error),
    }
}
