//! What people do on the chain themselves: anvil holds their keys.

use std::time::Duration;

use alloy::{
    primitives::{Address, B256, Bytes, U256},
    rpc::types::TransactionReceipt,
};
use domain::money::Amount;
use escrow::calldata;
use serde_json::{Value, json};
use testkit::TestChain;

use super::{Booked, Market, POL};

/// Enough for every call here; given, so that a call that reverts is mined as well.
const GAS: &str = "0x1e8480";
const DEPLOYMENT_GAS: &str = "0x989680";

/// Anvil's development accounts, by the part they play.
pub mod people {
    use alloy::primitives::Address;
    use testkit::DEV_ADDRESSES;

    macro_rules! people {
        ($($name:ident = $at:literal),+ $(,)?) => {$(
            #[must_use]
            pub fn $name() -> Address {
                DEV_ADDRESSES[$at].parse().unwrap()
            }
        )+};
    }
    people! {
        owner = 0,
        operator = 1,
        treasury = 2,
        guardian = 3,
        renter = 4,
        provider = 5,
        next_treasury = 6,
        arbiter = 7,
        stranger = 9,
    }
}

impl Market {
    /// A call of the escrow that must succeed.
    pub async fn call(&self, from: Address, data: Vec<u8>) -> B256 {
        self.send(from, self.site.escrow, data).await
    }

    /// A call of any contract that must succeed.
    pub async fn send(&self, from: Address, to: Address, data: Vec<u8>) -> B256 {
        self.pay(from, to, data, 0).await
    }

    /// Deploys a contract from the owner's account.
    pub async fn deploy(&self, code: Vec<u8>) -> Address {
        create(&self.chain, code).await
    }

    /// A call of the escrow that must be mined and revert.
    pub async fn call_refused(&self, from: Address, data: Vec<u8>, value: u128) {
        let receipt = self.mined(from, self.site.escrow, data, value).await;
        assert!(!receipt.status(), "it was not refused");
    }

    async fn pay(&self, from: Address, to: Address, data: Vec<u8>, value: u128) -> B256 {
        let receipt = self.mined(from, to, data, value).await;
        assert!(receipt.status(), "it reverted");
        receipt.transaction_hash
    }

    /// A call that is mined, whether or not it succeeds.
    pub async fn mined(
        &self,
        from: Address,
        to: Address,
        data: Vec<u8>,
        value: u128,
    ) -> TransactionReceipt {
        let request = json!({
            "from": from, "to": to, "data": Bytes::from(data), "value": U256::from(value), "gas": GAS,
        });
        let receipt = mined(&self.chain, request).await;
        let fee = u128::from(receipt.gas_used) * receipt.effective_gas_price;
        *self.gas.lock().unwrap().entry(from).or_default() += fee;
        receipt
    }

    /// What an account has of a token, its own gas not counted.
    pub async fn purse(&self, token: Address, owner: Address) -> u128 {
        let at = alloy::eips::BlockId::latest();
        let balance = self.client.token_balance(token, owner, at).await.unwrap().to::<u128>();
        let gas = self.gas.lock().unwrap().get(&owner).copied().unwrap_or_default();
        if token == POL { balance + gas } else { balance }
    }

    /// The renter locks; returns the raw bytes of the transaction.
    pub async fn lock(&self, rental: &Booked, deposit: Amount) -> Bytes {
        let value = self.approve(people::renter(), rental, deposit).await;
        let data = calldata::lock(&rental.terms, deposit);
        let hash = self.pay(people::renter(), self.site.escrow, data, value).await;
        self.raw(hash).await
    }

    /// Somebody adds to the deposit.
    pub async fn top_up(&self, from: Address, rental: &Booked, amount: Amount) {
        let value = self.approve(from, rental, amount).await;
        let data = calldata::top_up(&rental.terms, amount);
        self.pay(from, self.site.escrow, data, value).await;
    }

    /// What has to be sent along; a token is approved instead.
    async fn approve(&self, from: Address, rental: &Booked, amount: Amount) -> u128 {
        if rental.terms.token == POL {
            return amount.get();
        }
        let approval = calldata::approve(self.site.escrow, amount);
        self.send(from, rental.terms.token, approval).await;
        0
    }

    /// The signed bytes of a mined transaction.
    pub async fn raw(&self, hash: B256) -> Bytes {
        let raw = self.chain.anvil().call("eth_getRawTransactionByHash", json!([hash])).await;
        serde_json::from_value(raw.unwrap()).unwrap()
    }

    /// Somebody's node sends bytes that were on the chain before.
    pub async fn send_raw(&self, raw: &Bytes) {
        let hash = self.chain.anvil().call("eth_sendRawTransaction", json!([raw])).await.unwrap();
        assert!(receipt(&self.chain, &hash).await.status());
    }
}

/// Deploys from the owner's account.
pub(super) async fn create(chain: &TestChain, code: Vec<u8>) -> Address {
    let request =
        json!({ "from": people::owner(), "data": Bytes::from(code), "gas": DEPLOYMENT_GAS });
    mined(chain, request).await.contract_address.unwrap()
}

async fn mined(chain: &TestChain, request: Value) -> TransactionReceipt {
    let hash = chain.anvil().call("eth_sendTransaction", json!([request])).await.unwrap();
    receipt(chain, &hash).await
}

/// Anvil mines at once, but answers a moment before.
async fn receipt(chain: &TestChain, hash: &Value) -> TransactionReceipt {
    for _ in 0..2_000 {
        let found = chain.anvil().call("eth_getTransactionReceipt", json!([hash])).await.unwrap();
        if !found.is_null() {
            return serde_json::from_value(found).unwrap();
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("{hash} was not mined");
}
