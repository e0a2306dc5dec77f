//! What the escrow's rules allow, told from raw balances and plain arithmetic.

use std::collections::BTreeMap;

use alloy::primitives::Address;
use escrow::EscrowEvent;
use tests::market::{Booked, Market, POL, people};

use super::thief::thief;

/// What everybody has of a token: in the wallet, and in the contract's keeping.
pub struct Purses(BTreeMap<(Address, Address), (u128, u128)>);

fn everybody() -> [Address; 7] {
    [
        people::renter(),
        people::provider(),
        people::treasury(),
        people::operator(),
        people::owner(),
        people::stranger(),
        thief(),
    ]
}

impl Purses {
    pub async fn read(market: &Market) -> Self {
        let mut purses = BTreeMap::new();
        for token in [POL, market.usdc] {
            for who in everybody() {
                let has = (market.purse(token, who).await, market.kept(token, who).await);
                purses.insert((token, who), has);
            }
            let escrow = market.site.escrow;
            purses.insert((token, escrow), (market.purse(token, escrow).await, 0));
        }
        Self(purses)
    }

    fn of(&self, token: Address, who: Address) -> u128 {
        let (wallet, kept) = self.0[&(token, who)];
        wallet + kept
    }

    fn escrow(&self, market: &Market, token: Address) -> u128 {
        self.of(token, market.site.escrow)
    }
}

/// What a rental may have come to by now, to the unit: nothing before it was started; after that, the seconds since the
/// start that the chain took, at the signed rate, and no more than the deposit.
async fn most(market: &Market, rental: &Booked) -> [u128; 2] {
    let started = market.told(rental, "started").await;
    let Some(EscrowEvent::Started { started_at, .. }) = started.first() else { return [0, 0] };
    let head = market.client.head().await.unwrap().timestamp;
    let elapsed = u128::from(head.get() - started_at.get());
    let [net, fee, _] = rental.parts(rental.deposit, elapsed);
    [net, fee]
}

/// Holds all that happened since `before` against the rules, with all rentals that were locked since.
pub async fn assert_kept(market: &Market, before: &Purses, rentals: &[&Booked]) {
    let now = Purses::read(market).await;
    for token in [POL, market.usdc] {
        let mut bound = [0, 0];
        for rental in rentals.iter().filter(|rental| rental.terms.token == token) {
            let [net, fee] = most(market, rental).await;
            bound = [bound[0] + net, bound[1] + fee];
        }
        let gained = |who: Address| now.of(token, who).saturating_sub(before.of(token, who));
        assert!(gained(people::provider()) <= bound[0], "the provider has too much of {token}");
        assert!(gained(people::treasury()) <= bound[1], "the treasury has too much of {token}");
        for nobody in [people::renter(), people::owner(), people::stranger(), thief()] {
            assert_eq!(gained(nobody), 0, "{nobody} gained {token}");
        }
        // the operator's own gas is not what it has less of: nothing else may be, and it gains nothing
        assert_eq!(gained(people::operator()), 0, "the operator gained {token}");
        // what left the renter is in the escrow, or with the two who are paid; nothing was made or lost
        let paid: u128 = [people::renter(), people::provider(), people::treasury()]
            .iter()
            .map(|who| now.0[&(token, *who)].0)
            .sum::<u128>()
            + now.escrow(market, token);
        let had: u128 = [people::renter(), people::provider(), people::treasury()]
            .iter()
            .map(|who| before.0[&(token, *who)].0)
            .sum::<u128>()
            + before.escrow(market, token);
        assert_eq!(paid, had, "deposits of {token} are conserved");
    }
}

/// How many events the contract ever emitted.
pub async fn events(market: &Market) -> usize {
    let filter = serde_json::json!([{ "address": market.site.escrow, "fromBlock": "0x0" }]);
    let logs = market.chain.anvil().call("eth_getLogs", filter).await.unwrap();
    logs.as_array().unwrap().len()
}
