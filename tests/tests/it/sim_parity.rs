//! The simulated contract and the compiled one are the same: random calls at the same times, on the model and on
//! a real chain, give the same successes, the same events to the byte and the same balances.

use alloy::{
    primitives::{Address, B256, LogData, U256, Uint, hex},
    signers::local::PrivateKeySigner,
    sol_types::SolCall,
};
use domain::{
    money::Amount,
    time::{Seconds, UnixSeconds},
};
use escrow::{
    Terms,
    bindings::Escrow::{self, CloseItem, EndSignatures, StartItem},
    calldata, signed,
};
use serde_json::json;
use testkit::DEV_KEYS;
use tests::{
    market::{Market, POL, people},
    random::Random,
    sim::{
        contract::{self, Deployed, Running},
        state::State,
    },
};

const CALLS: usize = 260;
const RENTALS: usize = 6;
const PURSE: u128 = 1_000_000_000_000;

/// The model beside the real thing.
struct Twins {
    market: Market,
    at: Deployed,
    state: State,
    random: Random,
    terms: Vec<Terms>,
    now: u64,
    made: u64,
    succeeded: usize,
}

impl Twins {
    async fn new() -> Self {
        let market = Market::new().await;
        let (escrow, token) = (market.site.escrow, market.usdc);
        let chain_id = market.site.chain_id;
        let at = Deployed {
            escrow,
            token,
            token_domain: signed::token_domain("USD Coin", "1", chain_id, token),
            domain: market.site.domain.clone(),
            operators: vec![people::operator()],
            treasury: people::treasury(),
        };
        let approve = calldata::approve(escrow, Amount::new(PURSE).unwrap());
        market.send(people::renter(), token, approve).await;
        let mut state = State::default();
        for who in [people::renter(), people::provider(), people::operator(), people::stranger()] {
            // more than the real accounts have: gas is not part of the model
            state.coins.insert(who, u128::MAX / 8);
        }
        state.tokens.insert(people::renter(), PURSE);
        state.allowances.insert((people::renter(), escrow), PURSE);
        let now = market.client.head().await.unwrap().timestamp.get();
        let mut twins = Self {
            market,
            at,
            state,
            random: Random(20_27),
            terms: Vec::new(),
            now,
            made: 0,
            succeeded: 0,
        };
        for _ in 0..RENTALS {
            let terms = twins.fresh();
            twins.terms.push(terms);
        }
        twins
    }

    fn fresh(&mut self) -> Terms {
        self.made += 1;
        let in_token = self.random.below(2) == 0;
        Terms {
            renter: people::renter(),
            provider: people::provider(),
            token: if in_token { self.at.token } else { POL },
            pricePerHour: Uint::from(1 + self.random.below(5_000_003)),
            feeBps: u16::try_from(self.random.below(1_501)).unwrap(),
            startBy: Uint::from(self.now + self.random.below(4_000)),
            holdback: [0, 0, 30, 300][usize::try_from(self.random.below(4)).unwrap()],
            orderHash: B256::from(U256::from(self.made)),
        }
    }

    fn moment(&mut self) -> u64 {
        self.now + 5 - self.random.below(700)
    }

    fn signatures(&mut self, terms: &Terms, stopped_at: u64, credit: u32) -> EndSignatures {
        let id = escrow::terms_hash(terms, &self.at.domain);
        let end = signed::end(id, UnixSeconds(stopped_at), Seconds(credit));
        let mut by = |key: &str| match self.random.below(5) {
            0 | 1 => {
                let key: PrivateKeySigner = key.parse().unwrap();
                signed::sign(&end, &key, &self.at.domain).unwrap().to_vec().into()
            }
            2 if self.made.is_multiple_of(2) => vec![7; 65].into(),
            _ => alloy::primitives::Bytes::new(),
        };
        EndSignatures { renter: by(DEV_KEYS[4]), provider: by(DEV_KEYS[5]) }
    }

    fn close_item(&mut self, terms: &Terms) -> CloseItem {
        let (stopped_at, credit) = (self.moment(), u32::try_from(self.random.below(200)).unwrap());
        let credit = if credit > 120 { 0 } else { credit };
        CloseItem { terms: terms.clone(), stoppedAt: Uint::from(stopped_at), creditSecs: credit }
    }

    /// Who calls what with what value.
    fn call(&mut self) -> (&'static str, Address, Vec<u8>, u128) {
        let at = usize::try_from(self.random.below(6)).unwrap();
        if self.random.below(12) == 0 {
            self.terms[at] = self.fresh();
        }
        let t = self.terms[at].clone();
        let (renter, provider, operator, stranger) =
            (people::renter(), people::provider(), people::operator(), people::stranger());
        let side = [renter, provider, stranger][usize::try_from(self.random.below(3)).unwrap()];
        let deposit = Amount::new(u128::from(1 + self.random.below(3_000_000))).unwrap();
        let value = if t.token == POL { deposit.get() } else { 0 };
        let by_operator = if self.random.below(12) == 0 { stranger } else { operator };
        match self.random.below(24) {
            0..6 => ("lock", renter, calldata::lock(&t, deposit), value),
            6 => self.authorized(&t, deposit),
            7..10 => {
                let started = self.now + 3 - self.random.below(60);
                ("start", by_operator, calldata::start(&t, UnixSeconds(started)), 0)
            }
            10 => {
                let all = self.terms.clone();
                let items = all.into_iter().map(|terms| StartItem {
                    startedAt: Uint::from(self.now - self.random.below(20)),
                    terms,
                });
                let items = items.collect();
                ("startBatch", operator, Escrow::startBatchCall { items }.abi_encode(), 0)
            }
            11 => ("cancel", side, calldata::cancel(&t), 0),
            12 => ("reclaim", side, calldata::reclaim(&t), 0),
            13 => ("release", side, Escrow::releaseCall { t }.abi_encode(), 0),
            14 => {
                let items = self.terms.clone();
                ("releaseBatch", side, Escrow::releaseBatchCall { items }.abi_encode(), 0)
            }
            15 => ("stop", side, calldata::stop(&t), 0),
            16 => ("contest", renter, calldata::contest(&t, Seconds(20)), 0),
            17 | 18 => {
                let item = self.close_item(&t);
                let stopped_at = item.stoppedAt.to::<u64>();
                let signatures = self.signatures(&t, stopped_at, item.creditSecs);
                let (stopped_at, credit) = (UnixSeconds(stopped_at), Seconds(item.creditSecs));
                ("close", by_operator, calldata::close(&t, stopped_at, credit, &signatures), 0)
            }
            19 => {
                let all = self.terms[..3].to_vec();
                let items: Vec<CloseItem> = all.iter().map(|t| self.close_item(t)).collect();
                let mut signatures = Vec::new();
                if self.random.below(2) == 0 {
                    for item in &items {
                        let (terms, at) = (item.terms.clone(), item.stoppedAt.to());
                        signatures.push(self.signatures(&terms, at, item.creditSecs));
                    }
                }
                let call = Escrow::closeBatchCall { items, signatures };
                ("closeBatch", by_operator, call.abi_encode(), 0)
            }
            20 => ("top up", side, calldata::top_up(&t, deposit), value),
            21 if self.random.below(2) == 0 => ("dispute", side, calldata::dispute(&t), 0),
            21 => ("concede", side, calldata::concede(&t), 0),
            22 if self.random.below(2) == 0 => ("finalize", side, calldata::finalize(&t), 0),
            22 => {
                let items = self.terms.clone();
                ("finalizeBatch", side, Escrow::finalizeBatchCall { items }.abi_encode(), 0)
            }
            _ => {
                let who = if self.random.below(2) == 0 { provider } else { people::treasury() };
                ("withdraw", who, calldata::withdraw(t.token, stranger, Amount::ZERO), 0)
            }
        }
    }

    fn authorized(&mut self, t: &Terms, deposit: Amount) -> (&'static str, Address, Vec<u8>, u128) {
        let key: PrivateKeySigner = DEV_KEYS[4].parse().unwrap();
        let id = escrow::terms_hash(t, &self.at.domain);
        let valid =
            (UnixSeconds(self.now - 60), UnixSeconds(self.now + 300 - self.random.below(400)));
        let message = signed::authorization(t, id, self.at.escrow, deposit, valid);
        let signature = signed::sign(&message, &key, &self.at.token_domain).unwrap();
        let data = calldata::lock_with_authorization(t, deposit, valid, &signature.to_vec().into());
        ("lockWithAuthorization", people::operator(), data, 0)
    }

    async fn play(&mut self, number: usize) {
        let pause = if self.random.below(25) == 0 { 90_000 } else { 1 + self.random.below(200) };
        let (name, from, data, value) = self.call();
        self.now += pause;
        self.market.at(self.now).await;
        let receipt = self.market.mined(from, self.at.escrow, data.clone(), value).await;
        let mined = self.market.client.head().await.unwrap();
        assert_eq!(mined.timestamp.get(), self.now);
        let real: Vec<LogData> = receipt
            .inner
            .logs()
            .iter()
            .filter(|log| log.address() == self.at.escrow)
            .map(|log| log.inner.data.clone())
            .collect();
        let mut state = self.state.clone();
        let mut running = Running {
            at: &self.at,
            state: &mut state,
            sender: from,
            value,
            now: self.now,
            logs: Vec::new(),
        };
        let done = contract::run(&mut running, self.at.escrow, &data);
        let logs: Vec<LogData> = running.logs.into_iter().map(|log| log.data).collect();
        let what = format!("call {number}, {name}: the model says {:?}", done.map_err(escrow_name));
        assert_eq!(receipt.status(), done.is_ok(), "{what}");
        if let Err(refusal) = done {
            self.same_refusal(from, data, value, refusal, &what).await;
            return;
        }
        assert_eq!(real, logs, "{what}");
        self.state = state;
        self.succeeded += 1;
    }

    /// The contract gives the same reason, in the state and at the time of the block.
    async fn same_refusal(
        &self,
        from: Address,
        data: Vec<u8>,
        value: u128,
        refusal: [u8; 4],
        what: &str,
    ) {
        if refusal == [0; 4] {
            return; // the token's own reason, which nobody reads
        }
        let call = json!([{ "from": from, "to": self.at.escrow, "value": U256::from(value),
                            "data": format!("0x{}", hex::encode(data)) }, "latest"]);
        let error = self.market.chain.anvil().call("eth_call", call).await.unwrap_err();
        let error = format!("{error:?}");
        assert!(error.contains(&hex::encode(refusal)), "{what}; the contract says {error}");
    }

    async fn assert_same_balances(&self) {
        for token in [POL, self.at.token] {
            for who in [people::renter(), people::provider(), people::treasury()] {
                let model = self.state.balances.get(&(who, token)).copied().unwrap_or_default();
                assert_eq!(self.market.kept(token, who).await, model, "{who} of {token}");
            }
            let holds = self.market.purse(token, self.at.escrow).await;
            assert_eq!(holds, self.state.purse(token, self.at.escrow), "the escrow of {token}");
            assert_eq!(holds, self.state.owed(token), "what the escrow owes of {token}");
        }
        let renter = self.market.purse(self.at.token, people::renter()).await;
        assert_eq!(renter, self.state.purse(self.at.token, people::renter()), "the renter");
    }
}

fn escrow_name(refusal: [u8; 4]) -> String {
    escrow::Refusal::decode(&refusal.to_vec().into()).to_string()
}

#[tokio::test]
async fn the_simulated_contract_does_what_the_compiled_one_does() {
    let mut twins = Twins::new().await;
    for number in 0..CALLS {
        twins.play(number).await;
        if number.is_multiple_of(20) {
            twins.assert_same_balances().await;
        }
    }
    twins.assert_same_balances().await;
    assert!(twins.succeeded > CALLS / 5, "only {} of {CALLS} calls did anything", twins.succeeded);
}
