//! The split in Rust and the split in Solidity are the same function: compared on 100,000 inputs through
//! real calls of the contract's own library on a real chain.

use alloy::{
    primitives::Uint,
    providers::{DynProvider, Provider, ProviderBuilder},
};
use domain::{
    billing::{auto_stop_second, closing_between, settlement_seconds},
    money::{Amount, FeeBps},
    rate::TokenRate,
    time::Seconds,
};
use escrow::bindings::SplitBatch;
use testkit::{DEV_KEYS, TestChain};
use tests::random::Random;

const RANDOM: usize = 100_000;
const PER_CALL: usize = 400;
const MAX: u128 = (1 << 96) - 1;

#[derive(Clone, Copy, Debug)]
struct Case {
    deposit: Amount,
    rate: TokenRate,
    bps: FeeBps,
    settled: Seconds,
    secs: Seconds,
}

impl Case {
    fn new(deposit: u128, rate: u128, bps: u16, settled: u32, secs: u32) -> Self {
        let deposit = Amount::new(deposit).unwrap();
        let rate = TokenRate::new(Amount::new(rate).unwrap()).unwrap();
        // more than is funded cannot have been settled
        let settled = Seconds(settled).min(auto_stop_second(deposit, rate));
        Self { deposit, rate, bps: FeeBps::new(bps).unwrap(), settled, secs: Seconds(secs) }
    }

    fn random(random: &mut Random) -> Self {
        let (deposit, rate) = (random.amount(), random.amount());
        let bps = u16::try_from(random.below(1_501)).unwrap();
        let bits = random.below(33);
        let secs = u32::try_from(random.below(1 << bits)).unwrap();
        let settled =
            if random.below(2) == 0 { 0 } else { u32::try_from(random.below(1 << bits)).unwrap() };
        Self::new(deposit, rate, bps, settled, secs)
    }

    fn input(&self) -> SplitBatch::Input {
        SplitBatch::Input {
            deposit: uint96(self.deposit),
            pricePerHour: uint96(self.rate.amount()),
            feeBps: self.bps.get(),
            settledSecs: self.settled.get(),
            secs: self.secs.get(),
        }
    }

    /// What Rust says.
    fn output(&self) -> [u128; 5] {
        let billed = settlement_seconds(self.deposit, self.rate, self.settled, self.secs);
        let closing =
            closing_between(self.rate, self.bps, self.deposit, self.settled, billed).unwrap();
        [
            u128::from(auto_stop_second(self.deposit, self.rate).get()),
            u128::from(billed.get()),
            closing.net.get(),
            closing.fee.get(),
            closing.refund.get(),
        ]
    }
}

fn uint96(amount: Amount) -> Uint<96, 2> {
    Uint::<96, 2>::from(amount.get())
}

/// Every combination of values at which something changes.
fn edges() -> Vec<Case> {
    let amounts = [1, 2, 179, 180, 181, 3_599, 3_600, 3_601, 650_000, MAX / 3_600, MAX - 1, MAX];
    let seconds = [0, 1, 2, 3_599, 3_600, 3_601, u32::MAX - 1, u32::MAX];
    let mut cases = Vec::new();
    for deposit in amounts {
        for rate in amounts {
            for bps in [0, 1, 999, 1_000, 1_500] {
                for secs in seconds {
                    for settled in [0, 1, 3_600, u32::MAX] {
                        cases.push(Case::new(deposit, rate, bps, settled, secs));
                    }
                }
            }
        }
    }
    cases
}

#[tokio::test]
async fn rust_and_solidity_split_alike() {
    let chain = TestChain::start().await.unwrap();
    let key: alloy::signers::local::PrivateKeySigner = DEV_KEYS[0].parse().unwrap();
    let provider: DynProvider = ProviderBuilder::new()
        .wallet(key)
        .connect_provider(chain::provider(chain.url()).unwrap())
        .erased();
    let contract = SplitBatch::deploy(provider).await.unwrap();

    let mut random = Random(20_261_121);
    let mut cases = edges();
    cases.extend((0..RANDOM).map(|_| Case::random(&mut random)));
    let mut compared = 0;
    for batch in cases.chunks(PER_CALL) {
        let inputs = batch.iter().map(Case::input).collect();
        let outputs = contract.run(inputs).call().await.unwrap();
        assert_eq!(outputs.len(), batch.len());
        for (case, told) in batch.iter().zip(outputs) {
            let solidity = [
                u128::from(told.fundedSecs),
                u128::from(told.billedSecs),
                told.net.to::<u128>(),
                told.fee.to::<u128>(),
                told.refund.to::<u128>(),
            ];
            assert_eq!(case.output(), solidity, "{case:?}");
            let paid = solidity[2] + solidity[3] + solidity[4];
            assert!(paid <= case.deposit.get(), "{case:?}");
            if case.settled == Seconds::ZERO {
                assert_eq!(paid, case.deposit.get(), "{case:?}");
            }
            compared += 1;
        }
    }
    assert_eq!(compared, edges().len() + RANDOM);
}
