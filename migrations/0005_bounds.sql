-- What keeps the engine's work bounded, however long the history and whatever strangers send.

-- A final event that cannot be applied: why, and when it is tried again. It holds back later events of
-- its own rental only.
ALTER TABLE chain_events
    ADD COLUMN failure  text,
    ADD COLUMN retry_at timestamptz,
    ADD CONSTRAINT chain_events_failed_or_applied CHECK (failure IS NULL OR NOT applied),
    ADD CONSTRAINT chain_events_retried CHECK ((failure IS NULL) = (retry_at IS NULL));
CREATE INDEX chain_events_failed ON chain_events (escrow_id, block_number, log_index) WHERE failure IS NOT NULL;
-- The lock is found without a look at the top-ups that anybody can add.
CREATE INDEX chain_events_locks ON chain_events (escrow_id) WHERE name = 'locked';

-- Rentals with money in the contract, however many are over.
CREATE INDEX rentals_holding_money ON rentals (quote_id)
    WHERE locked <> paid_provider + paid_fee + paid_refund;
CREATE INDEX rentals_unfunded ON rentals (renter_id) WHERE state = 'awaiting_funds' AND lock_status = 'none';

-- Balances are sums over transfers. The sums up to `ledger_folded.through` are kept, so that only the
-- transfers after it are added up when a balance is read; the transfers themselves stay for ever.
ALTER TABLE ledger_transfers ADD COLUMN seq bigint GENERATED ALWAYS AS IDENTITY;
CREATE UNIQUE INDEX ledger_transfers_by_seq ON ledger_transfers (seq);
DROP INDEX ledger_transfers_by_debit, ledger_transfers_by_credit;
CREATE INDEX ledger_transfers_by_debit ON ledger_transfers (debit_id, seq) INCLUDE (amount);
CREATE INDEX ledger_transfers_by_credit ON ledger_transfers (credit_id, seq) INCLUDE (amount);

CREATE TABLE ledger_folded (
    one     boolean PRIMARY KEY DEFAULT true CHECK (one),
    through bigint NOT NULL CHECK (through >= 0)
);
INSERT INTO ledger_folded (through) VALUES (0);

CREATE TABLE ledger_balances (
    account_id  bigint PRIMARY KEY REFERENCES ledger_accounts,
    balance     numeric(78,0) NOT NULL
);
CREATE INDEX ledger_balances_below_zero ON ledger_balances (account_id) WHERE balance < 0;

CREATE TABLE ledger_totals (
    token   bytea NOT NULL CHECK (octet_length(token) = 20),
    kind    text NOT NULL,
    total   numeric(78,0) NOT NULL,
    PRIMARY KEY (token, kind)
);

CREATE VIEW ledger_account_balances AS
    SELECT a.id, a.kind, a.owner, a.escrow_id, a.token,
           COALESCE((SELECT balance FROM ledger_balances b WHERE b.account_id = a.id), 0)
         + COALESCE((SELECT sum(amount) FROM ledger_transfers t WHERE t.credit_id = a.id AND t.seq > f.through), 0)
         - COALESCE((SELECT sum(amount) FROM ledger_transfers t WHERE t.debit_id = a.id AND t.seq > f.through), 0)
           AS balance
    FROM ledger_accounts a CROSS JOIN ledger_folded f;

-- The most that the contract was ever seen to hold above what its events say: gifts. It never falls.
CREATE TABLE surpluses (
    token   bytea PRIMARY KEY CHECK (octet_length(token) = 20),
    surplus numeric(78,0) NOT NULL CHECK (surplus > 0)
);
