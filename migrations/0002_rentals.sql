-- Quotes, rentals, the GPUs they hold, and the evidence they are billed by.

-- The one chain and contract this database belongs to. A second row is impossible.
CREATE TABLE deployment (
    one             boolean PRIMARY KEY DEFAULT true CHECK (one),
    chain_id        bigint NOT NULL CHECK (chain_id > 0),
    genesis_hash    bytea NOT NULL CHECK (octet_length(genesis_hash) = 32),
    escrow          bytea NOT NULL CHECK (octet_length(escrow) = 20),
    code_hash       bytea NOT NULL CHECK (octet_length(code_hash) = 32),
    deployed_block  bigint NOT NULL CHECK (deployed_block >= 0)
);

CREATE TABLE tokens (
    address         bytea PRIMARY KEY CHECK (octet_length(address) = 20), -- zero address: the native coin
    symbol          text NOT NULL UNIQUE CHECK (length(symbol) BETWEEN 1 AND 16),
    decimals        smallint NOT NULL CHECK (decimals BETWEEN 0 AND 30),
    usd_micros      bigint NOT NULL CHECK (usd_micros > 0), -- price of one whole token
    price_source    text NOT NULL,
    priced_at       timestamptz NOT NULL,
    permit_name     text, -- EIP-712 domain name when the token has EIP-2612, read from the chain
    permit_version  text,
    listed          boolean NOT NULL DEFAULT true,
    CHECK ((permit_name IS NULL) = (permit_version IS NULL))
);

CREATE TABLE quotes (
    id                  uuid PRIMARY KEY,
    account_id          uuid NOT NULL REFERENCES accounts,
    offer_id            uuid NOT NULL,
    offer_version       integer NOT NULL,
    duration_s          bigint NOT NULL CHECK (duration_s >= 1),
    usd_micros_per_hour bigint NOT NULL CHECK (usd_micros_per_hour > 0), -- all GPUs together
    lines               jsonb NOT NULL,
    -- the signed terms: what the contract hashes into the escrow id
    renter              bytea NOT NULL CHECK (octet_length(renter) = 20),
    provider            bytea NOT NULL CHECK (octet_length(provider) = 20),
    token               bytea NOT NULL REFERENCES tokens,
    price_per_hour      numeric(39,0) NOT NULL CHECK (price_per_hour BETWEEN 1 AND 79228162514264337593543950335),
    fee_bps             smallint NOT NULL CHECK (fee_bps BETWEEN 1000 AND 1500),
    start_by            timestamptz NOT NULL,
    holdback_s          bigint NOT NULL CHECK (holdback_s >= 0),
    order_hash          bytea NOT NULL CHECK (octet_length(order_hash) = 32),
    escrow_id           bytea NOT NULL UNIQUE CHECK (octet_length(escrow_id) = 32),
    deposit             numeric(39,0) NOT NULL CHECK (deposit BETWEEN 1 AND 79228162514264337593543950335),
    created_at          timestamptz NOT NULL,
    expires_at          timestamptz NOT NULL,
    FOREIGN KEY (offer_id, offer_version) REFERENCES offer_versions,
    CHECK (renter <> provider),
    CHECK (expires_at > created_at),
    CHECK (start_by > expires_at)
);
CREATE TRIGGER quotes_immutable BEFORE UPDATE OR DELETE ON quotes
    FOR EACH ROW EXECUTE FUNCTION forbid_change();

CREATE TABLE rentals (
    id                  uuid PRIMARY KEY,
    quote_id            uuid NOT NULL UNIQUE REFERENCES quotes, -- a quote is booked once
    escrow_id           bytea NOT NULL UNIQUE REFERENCES quotes (escrow_id),
    renter_id           uuid NOT NULL REFERENCES accounts,
    provider_id         uuid NOT NULL REFERENCES accounts,
    machine_id          uuid NOT NULL REFERENCES machines,
    -- domain::rental::Progress, column by column
    state               text NOT NULL CHECK (state IN ('awaiting_funds', 'funded', 'provisioning', 'active',
                            'interrupted', 'stopping', 'settling', 'settled', 'expired', 'cancelled',
                            'start_failed', 'refunding', 'refunded', 'contested', 'resolved')),
    lock_status         text NOT NULL CHECK (lock_status IN ('none', 'included', 'final')),
    agent_status        text NOT NULL CHECK (agent_status IN ('idle', 'acked', 'ready', 'stopped')),
    start_status        text NOT NULL CHECK (start_status IN ('none', 'requested', 'final')),
    ready_at            timestamptz,
    started_at          timestamptz,
    interrupted_since   timestamptz,
    stopped_at          timestamptz,
    end_reason          text,
    -- money: locked follows final Locked and ToppedUp events, the rest final Released and Closed events
    locked              numeric(39,0) NOT NULL DEFAULT 0,
    paid_provider       numeric(39,0) NOT NULL DEFAULT 0,
    paid_fee            numeric(39,0) NOT NULL DEFAULT 0,
    paid_refund         numeric(39,0) NOT NULL DEFAULT 0,
    billed_s            bigint CHECK (billed_s >= 0), -- what the chain billed, once closed
    version             bigint NOT NULL DEFAULT 1,
    created_at          timestamptz NOT NULL,
    updated_at          timestamptz NOT NULL,
    CHECK (locked BETWEEN 0 AND 79228162514264337593543950335),
    CHECK (paid_provider >= 0 AND paid_fee >= 0 AND paid_refund >= 0),
    CHECK (paid_provider + paid_fee + paid_refund <= locked),
    -- conservation, to the base unit
    CHECK (state NOT IN ('settled', 'refunded') OR paid_provider + paid_fee + paid_refund = locked),
    -- nothing runs on money the chain has not made final
    CHECK (state NOT IN ('active', 'interrupted', 'settled') OR (lock_status = 'final' AND locked > 0)),
    CHECK (state <> 'active' OR started_at IS NOT NULL),
    CHECK (stopped_at IS NULL OR started_at IS NULL OR stopped_at >= started_at)
);
CREATE INDEX rentals_by_renter ON rentals (renter_id, id);
CREATE INDEX rentals_by_provider ON rentals (provider_id, id);
CREATE INDEX rentals_live_by_machine ON rentals (machine_id)
    WHERE state NOT IN ('settled', 'expired', 'cancelled', 'refunded', 'resolved');

-- A GPU cannot be rented twice at once: two ranges of one GPU may not overlap.
CREATE TABLE rental_gpus (
    rental_id   uuid NOT NULL REFERENCES rentals,
    gpu_id      uuid NOT NULL REFERENCES gpus,
    during      tstzrange NOT NULL CHECK (NOT isempty(during)),
    PRIMARY KEY (rental_id, gpu_id),
    CONSTRAINT gpu_rented_once EXCLUDE USING gist (gpu_id WITH =, during WITH &&)
);

-- The timeline a person reads and the SSE stream resumes from. `id` grows with time within a rental.
CREATE TABLE rental_events (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    rental_id   uuid NOT NULL REFERENCES rentals,
    at          timestamptz NOT NULL,
    kind        text NOT NULL,
    detail      jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX rental_events_by_rental ON rental_events (rental_id, id);
CREATE TRIGGER rental_events_immutable BEFORE UPDATE OR DELETE ON rental_events
    FOR EACH ROW EXECUTE FUNCTION forbid_change();

-- The evidence: signed by the agent's key, each naming the hash of the one before.
CREATE TABLE readings (
    rental_id   uuid NOT NULL REFERENCES rentals,
    seq         bigint NOT NULL CHECK (seq >= 1),
    from_at     timestamptz NOT NULL,
    to_at       timestamptz NOT NULL,
    detail      jsonb NOT NULL,
    prev_hash   bytea NOT NULL CHECK (octet_length(prev_hash) = 32),
    hash        bytea NOT NULL UNIQUE CHECK (octet_length(hash) = 32),
    signature   bytea NOT NULL CHECK (octet_length(signature) = 65),
    received_at timestamptz NOT NULL,
    -- seconds that this reading and all before it cover: the running cost without reading the chain
    covered_s   bigint NOT NULL CHECK (covered_s >= 1),
    PRIMARY KEY (rental_id, seq),
    CHECK (to_at > from_at),
    CONSTRAINT readings_disjoint EXCLUDE USING gist (rental_id WITH =, tstzrange(from_at, to_at) WITH &&)
);
CREATE TRIGGER readings_immutable BEFORE UPDATE OR DELETE ON readings
    FOR EACH ROW EXECUTE FUNCTION forbid_change();

-- Effects for the provider's machine; delivered until acknowledged.
CREATE TABLE agent_commands (
    id          uuid PRIMARY KEY,
    machine_id  uuid NOT NULL REFERENCES machines,
    rental_id   uuid NOT NULL REFERENCES rentals,
    kind        text NOT NULL CHECK (kind IN ('provision', 'deprovision')),
    payload     jsonb NOT NULL,
    created_at  timestamptz NOT NULL,
    acked_at    timestamptz
);
CREATE INDEX agent_commands_open ON agent_commands (machine_id, id) WHERE acked_at IS NULL;

-- Money-moving requests act once: the answer is stored in the transaction of the effect.
CREATE TABLE idempotency_keys (
    account_id      uuid NOT NULL REFERENCES accounts,
    key             text NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
    request_hash    bytea NOT NULL CHECK (octet_length(request_hash) = 32),
    status          smallint NOT NULL CHECK (status BETWEEN 200 AND 599),
    response        jsonb NOT NULL,
    created_at      timestamptz NOT NULL,
    PRIMARY KEY (account_id, key)
);
CREATE INDEX idempotency_keys_age ON idempotency_keys (created_at);
