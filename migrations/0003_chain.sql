-- What we want from the chain, what we sent, what we saw.

CREATE TABLE chain_signers (
    address     bytea PRIMARY KEY CHECK (octet_length(address) = 20),
    first_nonce bigint NOT NULL CHECK (first_nonce >= 0) -- the account's nonce when we took it over
);

-- One row per nonce, for ever. The nonce is given in the statement that makes the row.
CREATE TABLE chain_txs (
    id              uuid PRIMARY KEY,
    signer          bytea NOT NULL REFERENCES chain_signers,
    nonce           bigint NOT NULL CHECK (nonce >= 0),
    to_address      bytea NOT NULL CHECK (octet_length(to_address) = 20),
    calldata        bytea NOT NULL,
    gas_limit       bigint NOT NULL CHECK (gas_limit BETWEEN 21000 AND 16777216), -- EIP-7825
    state           text NOT NULL CHECK (state IN ('numbered', 'signed', 'flying', 'mined', 'final_ok', 'final_reverted', 'void', 'voided')),
    block_number    bigint,
    block_hash      bytea CHECK (octet_length(block_hash) = 32),
    mined_attempt   bytea CHECK (octet_length(mined_attempt) = 32),
    succeeded       boolean,
    gas_used        bigint CHECK (gas_used > 0),
    gas_price       numeric(39,0),
    next_send_at    timestamptz NOT NULL,
    created_at      timestamptz NOT NULL,
    updated_at      timestamptz NOT NULL,
    UNIQUE (signer, nonce),
    CHECK (state NOT IN ('mined', 'final_ok', 'final_reverted') OR block_hash IS NOT NULL),
    CHECK (state NOT IN ('numbered', 'signed', 'flying') OR block_hash IS NULL),
    CHECK (num_nulls(block_number, block_hash, mined_attempt, succeeded) IN (0, 4))
);
CREATE INDEX chain_txs_open ON chain_txs (signer, nonce) WHERE state NOT IN ('final_ok', 'final_reverted', 'voided');

-- Signed bytes, stored before they are broadcast. Never changed, never lost.
CREATE TABLE chain_tx_attempts (
    hash        bytea PRIMARY KEY CHECK (octet_length(hash) = 32),
    tx_id       uuid NOT NULL REFERENCES chain_txs,
    attempt     smallint NOT NULL CHECK (attempt >= 1),
    raw         bytea NOT NULL,
    max_fee     numeric(39,0) NOT NULL CHECK (max_fee > 0),
    tip         numeric(39,0) NOT NULL CHECK (tip >= 0),
    created_at  timestamptz NOT NULL,
    UNIQUE (tx_id, attempt)
);
CREATE TRIGGER chain_tx_attempts_immutable BEFORE UPDATE OR DELETE ON chain_tx_attempts
    FOR EACH ROW EXECUTE FUNCTION forbid_change();

-- Effects for the chain. Unique per (rental, purpose, sequence): asked twice is sent once.
CREATE TABLE chain_intents (
    id          uuid PRIMARY KEY,
    rental_id   uuid NOT NULL REFERENCES rentals,
    purpose     text NOT NULL CHECK (purpose IN ('start', 'close', 'cancel')),
    seq         integer NOT NULL CHECK (seq >= 1),
    args        jsonb NOT NULL,
    state       text NOT NULL CHECK (state IN ('queued', 'sent', 'done', 'refused')),
    tx_id       uuid REFERENCES chain_txs,
    not_before  timestamptz NOT NULL,
    last_error  text,
    created_at  timestamptz NOT NULL,
    UNIQUE (rental_id, purpose, seq),
    CHECK (state NOT IN ('sent', 'done') OR tx_id IS NOT NULL)
);
CREATE INDEX chain_intents_queued ON chain_intents (not_before) WHERE state = 'queued';
CREATE INDEX chain_intents_by_tx ON chain_intents (tx_id);

-- The canonical chain as we follow it. A reorganisation deletes rows from the fork on.
CREATE TABLE chain_blocks (
    number      bigint PRIMARY KEY CHECK (number >= 0),
    hash        bytea NOT NULL UNIQUE CHECK (octet_length(hash) = 32),
    parent_hash bytea NOT NULL CHECK (octet_length(parent_hash) = 32),
    timestamp   timestamptz NOT NULL,
    final       boolean NOT NULL DEFAULT false
);
CREATE INDEX chain_blocks_unfinal ON chain_blocks (number) WHERE NOT final;

CREATE TABLE chain_events (
    block_hash      bytea NOT NULL REFERENCES chain_blocks (hash) ON DELETE CASCADE,
    log_index       integer NOT NULL CHECK (log_index >= 0),
    block_number    bigint NOT NULL,
    tx_hash         bytea NOT NULL CHECK (octet_length(tx_hash) = 32),
    name            text NOT NULL,
    escrow_id       bytea CHECK (octet_length(escrow_id) = 32),
    body            jsonb NOT NULL,
    applied         boolean NOT NULL DEFAULT false, -- final, and its money is in the ledger
    PRIMARY KEY (block_hash, log_index)
);
CREATE INDEX chain_events_unapplied ON chain_events (block_number, log_index) WHERE NOT applied;
CREATE INDEX chain_events_by_escrow ON chain_events (escrow_id, block_number, log_index);
CREATE INDEX chain_events_by_name ON chain_events (name, block_number, log_index);
