//! What the database and the chain say.

use alloy::{
    primitives::{Address, B256, Bytes},
    rpc::types::Log,
};
use domain::{
    ledger::LedgerAccount,
    rental::{Progress, RentalState},
};
use engine::Report;
use escrow::{EscrowEvent, bindings::Escrow};
use serde_json::json;
use store::{
    blocks::{self, SeenEvent},
    commands,
    intents::{self, ChainStep},
    ledger,
    rentals::{self, Rental},
    timeline,
};

use super::{Booked, Market};
use alloy::sol_types::SolCall as _;

impl Market {
    pub async fn rental(&self, rental: &Booked) -> Rental {
        let mut connection = self.store.read().await.unwrap();
        rentals::get(&mut connection, rental.id).await.unwrap().unwrap()
    }

    pub async fn progress(&self, rental: &Booked) -> Progress {
        self.rental(rental).await.progress
    }

    pub async fn state(&self, rental: &Booked) -> RentalState {
        self.progress(rental).await.state
    }

    /// What the platform wanted from the chain, and what became of it.
    pub async fn steps(&self, rental: &Booked) -> Vec<ChainStep> {
        let mut connection = self.store.read().await.unwrap();
        intents::for_rental(&mut connection, rental.id).await.unwrap()
    }

    /// True if the machine's newest order for the rental is to provision.
    pub async fn provisioned(&self, rental: &Booked) -> bool {
        let mut connection = self.store.read().await.unwrap();
        let open = commands::open(&mut connection, rental.machine, &[], 10).await.unwrap();
        open.last().is_some_and(|order| order.kind == commands::CommandKind::Provision)
    }

    /// What the engine has read so far about a rental, of one name.
    pub async fn seen(&self, rental: &Booked, name: &str) -> Vec<SeenEvent> {
        let mut connection = self.store.read().await.unwrap();
        let mut events =
            blocks::events_for(&mut connection, rental.escrow_id, 1_000).await.unwrap();
        events.retain(|event| event.name == name);
        events
    }

    /// The chain's own word on a rental, read past the engine; one name only.
    pub async fn told(&self, rental: &Booked, name: &str) -> Vec<EscrowEvent> {
        let filter = json!([{ "address": self.site.escrow, "fromBlock": "0x0" }]);
        let logs = self.chain.anvil().call("eth_getLogs", filter).await.unwrap();
        let logs: Vec<Log> = serde_json::from_value(logs).unwrap();
        logs.iter()
            .map(|log| escrow::decode_event(&log.inner.data).unwrap())
            .filter(|event| event.name() == name && event.rental() == Some(rental.escrow_id))
            .collect()
    }

    /// What the contract keeps for somebody.
    pub async fn kept(&self, token: Address, account: Address) -> u128 {
        let data = Escrow::balanceOfCall { account, token }.abi_encode();
        let answer = self.client.call(self.site.escrow, data).await.unwrap();
        Escrow::balanceOfCall::abi_decode_returns(&answer).unwrap().to::<u128>()
    }

    /// What the ledger says of an account.
    pub async fn booked(&self, account: LedgerAccount) -> u128 {
        let mut connection = self.store.read().await.unwrap();
        ledger::balance_of(&mut connection, &account).await.unwrap().get()
    }

    /// One number out of the database.
    pub async fn count(&self, query: &'static str) -> i64 {
        sqlx::query_scalar(query).fetch_one(self.store.pool()).await.unwrap()
    }

    /// Stored bytes of the transaction with this hash.
    pub async fn stored(&self, hash: B256) -> Bytes {
        let raw: Vec<u8> = sqlx::query_scalar("SELECT raw FROM chain_tx_attempts WHERE hash = $1")
            .bind(hash.to_vec())
            .fetch_one(self.store.pool())
            .await
            .unwrap();
        raw.into()
    }

    pub async fn alarms(&self, rental: &Booked) -> usize {
        let mut connection = self.store.read().await.unwrap();
        let entries = timeline::after(&mut connection, rental.id, 0, 500).await.unwrap();
        entries.iter().filter(|entry| entry.kind == "alarm").count()
    }

    pub async fn reconcile(&self) -> Report {
        self.engine.reconciler.tick().await.unwrap().expect("nothing waits to be applied")
    }

    pub async fn assert_reconciled(&self) {
        let report = self.reconcile().await;
        assert!(report.agrees(), "{report:?}");
        assert!(!report.tokens.is_empty());
    }

    /// The rental's money is divided once, to the unit, wherever one looks.
    pub async fn assert_divided(&self, rental: &Booked, parts: [u128; 3]) {
        let row = self.rental(rental).await;
        let paid =
            [row.paid_provider, row.paid_fee, row.paid_refund].map(domain::money::Amount::get);
        assert_eq!(paid, parts, "provider, fee, refund");
        assert_eq!(paid.iter().sum::<u128>(), row.locked.get());
        let deposit = LedgerAccount::renter_deposit(rental.escrow_id, rental.terms.token);
        assert_eq!(self.booked(deposit).await, 0, "the deposit is used up");
        let closings = self.told(rental, "closed").await;
        assert_eq!(closings.len(), 1, "closed once: {closings:?}");
        assert_eq!(self.alarms(rental).await, 0);
        self.assert_at_rest().await;
    }

    /// What must hold whenever nothing is under way: no effect is left open, no nonce is missing, the
    /// ledger sums to zero, and contract, events and ledger agree.
    pub async fn assert_at_rest(&self) {
        let open = [
            "SELECT count(*) FROM chain_intents WHERE state IN ('queued', 'sent')",
            "SELECT count(*) FROM chain_txs WHERE state NOT IN ('final_ok', 'final_reverted', 'voided')",
            "SELECT count(*) FROM chain_events e JOIN chain_blocks b ON b.hash = e.block_hash
             WHERE b.final AND NOT e.applied",
            "SELECT count(*) FROM jobs j JOIN rentals r ON r.id = j.rental_id WHERE j.done_at IS NULL
             AND r.state IN ('settled', 'refunded', 'expired', 'cancelled')",
            "SELECT count(*) FROM rental_gpus h JOIN rentals r ON r.id = h.rental_id
             WHERE upper_inf(h.during) AND r.state IN ('settled', 'refunded', 'expired', 'cancelled')",
            "SELECT count(*) FROM (SELECT token FROM ledger_entries GROUP BY token
                                   HAVING sum(amount) <> 0) AS unbalanced",
            "SELECT COALESCE(sum(gaps), 0)::bigint FROM (SELECT max(nonce) + 1 - min(nonce) - count(*) AS gaps
             FROM chain_txs GROUP BY signer) AS signers",
            "SELECT count(*) FROM chain_txs t WHERE t.state <> 'voided'
             AND NOT EXISTS (SELECT FROM chain_intents i WHERE i.tx_id = t.id)",
        ];
        for query in open {
            assert_eq!(self.count(query).await, 0, "{query}");
        }
        self.assert_reconciled().await;
    }

    /// Somebody with a hand in the database changes it.
    pub async fn tamper(&self, statement: &'static str) {
        sqlx::raw_sql(statement).execute(self.store.pool()).await.unwrap();
    }
}
