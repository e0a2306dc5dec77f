-- One sender per key, batches, raised fees, numbers given up, several keys.

-- Who numbers for this key. `run_lease` grows with every taking: what a former holder wants to number is refused. A
-- lease ends when its time is over, or when the session is gone whose advisory lock has the holder's number.
ALTER TABLE chain_signers
    ADD COLUMN run_lease    bigint NOT NULL DEFAULT 0 CHECK (run_lease >= 0),
    ADD COLUMN holder       bigint,
    ADD COLUMN leased_until timestamptz,
    ADD CONSTRAINT chain_signers_leased CHECK ((holder IS NULL) = (leased_until IS NULL));

-- The number of a transaction that is given up goes to a no-op: an attempt of the same row.
ALTER TABLE chain_tx_attempts ADD COLUMN noop boolean NOT NULL DEFAULT false;
-- What the node said last, if it refused.
ALTER TABLE chain_txs ADD COLUMN refusal text;

-- An intent is handed to the lane of one key for a while. `batch_cap` is the most items of a batch that it may go in:
-- halved whenever one that carried it came to nothing.
ALTER TABLE chain_intents
    ADD COLUMN claimed_by    bytea CHECK (octet_length(claimed_by) = 20),
    ADD COLUMN claimed_until timestamptz,
    ADD COLUMN batch_cap     integer CHECK (batch_cap >= 1),
    -- since when, or until when again, the state machine has to be asked what follows from a call that came to nothing
    ADD COLUMN anew_at       timestamptz,
    ADD CONSTRAINT chain_intents_claimed CHECK ((claimed_by IS NULL) = (claimed_until IS NULL)),
    ADD CONSTRAINT chain_intents_anew CHECK (anew_at IS NULL OR state = 'refused');
CREATE INDEX chain_intents_anew ON chain_intents (anew_at) WHERE anew_at IS NOT NULL;
CREATE INDEX chain_intents_held ON chain_intents (claimed_by) WHERE state = 'queued' AND claimed_by IS NOT NULL;
