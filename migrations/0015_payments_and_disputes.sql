-- Renting by x402 (docs/adr/0015), and disputes (docs/DISPUTES.md).

-- A price that was given to somebody unknown with the answer 402, until it is paid or forgotten. The quote has everything
-- but its renter, and so neither the rental's id nor a signature yet.
CREATE TABLE payment_offers (
    id            uuid PRIMARY KEY, -- the quote's
    request_hash  bytea NOT NULL CHECK (octet_length(request_hash) = 32),
    quote         jsonb NOT NULL CHECK (jsonb_typeof(quote) = 'object'),
    created_at    timestamptz NOT NULL,
    expires_at    timestamptz NOT NULL,
    CHECK (expires_at > created_at)
);
CREATE INDEX payment_offers_expiry ON payment_offers (expires_at);

-- What a payer got with the rental: good for that rental and nothing else. A payment's signature is public once it is
-- mined, so that it opens nothing by itself.
CREATE TABLE rental_tokens (
    token_hash  bytea PRIMARY KEY CHECK (octet_length(token_hash) = 32),
    rental_id   uuid NOT NULL UNIQUE REFERENCES rentals,
    account_id  uuid NOT NULL REFERENCES accounts,
    created_at  timestamptz NOT NULL,
    expires_at  timestamptz NOT NULL,
    CHECK (expires_at > created_at)
);
CREATE INDEX rental_tokens_expiry ON rental_tokens (expires_at);

-- A case about the seconds of one rental that the contract holds or may yet hold.
CREATE TABLE disputes (
    id          uuid PRIMARY KEY,
    rental_id   uuid NOT NULL REFERENCES rentals,
    opened_by   text NOT NULL CHECK (opened_by IN ('renter', 'provider')),
    code        text NOT NULL CHECK (code IN ('wrong_hardware', 'not_reachable', 'underperforming',
                                              'data_loss', 'billing', 'abuse')),
    statement   text NOT NULL CHECK (octet_length(statement) <= 4096),
    from_at     timestamptz,
    to_at       timestamptz,
    state       text NOT NULL CHECK (state IN ('open', 'disputed', 'closed', 'withdrawn')),
    renter_disputes    boolean NOT NULL,
    provider_disputes  boolean NOT NULL,
    outcome     text CHECK ((outcome IS NOT NULL) = (state = 'closed')),
    version     integer NOT NULL CHECK (version > 0),
    created_at  timestamptz NOT NULL,
    updated_at  timestamptz NOT NULL,
    CHECK ((from_at IS NULL) = (to_at IS NULL) AND from_at < to_at),
    CHECK ((state = 'disputed') <= (renter_disputes OR provider_disputes))
);
CREATE UNIQUE INDEX disputes_one_live ON disputes (rental_id) WHERE state IN ('open', 'disputed');
CREATE INDEX disputes_by_rental ON disputes (rental_id, id);

-- What a side shows: a file's hash and where it is. The platform keeps the hash, not the file.
CREATE TABLE dispute_evidence (
    dispute_id  uuid NOT NULL REFERENCES disputes,
    seq         integer NOT NULL CHECK (seq BETWEEN 1 AND 64),
    side        text NOT NULL CHECK (side IN ('renter', 'provider')),
    sha256      bytea NOT NULL CHECK (octet_length(sha256) = 32),
    uri         text NOT NULL CHECK (octet_length(uri) BETWEEN 1 AND 1024),
    created_at  timestamptz NOT NULL,
    PRIMARY KEY (dispute_id, seq)
);
CREATE TRIGGER dispute_evidence_immutable BEFORE UPDATE OR DELETE ON dispute_evidence
    FOR EACH ROW EXECUTE FUNCTION forbid_change();

-- Billed seconds that a side signed (the contract's AgreedEnd), and the other side's signature once it agrees.
CREATE TABLE dispute_proposals (
    dispute_id   uuid NOT NULL REFERENCES disputes,
    seq          integer NOT NULL CHECK (seq BETWEEN 1 AND 32),
    side         text NOT NULL CHECK (side IN ('renter', 'provider')),
    billed_s     bigint NOT NULL CHECK (billed_s BETWEEN 0 AND 4294967295),
    valid_until  timestamptz NOT NULL,
    signature    bytea NOT NULL CHECK (octet_length(signature) BETWEEN 1 AND 4096),
    accepted     bytea CHECK (octet_length(accepted) BETWEEN 1 AND 4096),
    created_at   timestamptz NOT NULL,
    PRIMARY KEY (dispute_id, seq)
);
