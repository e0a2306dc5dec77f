-- Seconds that the contract holds, ends that both sides sign, deposits that a relayer locks.

ALTER TABLE rentals
    ADD COLUMN held_until timestamptz,
    ADD CHECK ((state = 'contested') = (held_until IS NOT NULL)),
    ADD CHECK (state <> 'resolved' OR paid_provider + paid_fee + paid_refund = locked),
    ADD CHECK (state NOT IN ('contested', 'resolved') OR (lock_status = 'final' AND locked > 0));

ALTER TABLE chain_intents
    DROP CONSTRAINT chain_intents_purpose_check,
    ADD CONSTRAINT chain_intents_purpose_check
        CHECK (purpose IN ('start', 'close', 'cancel', 'finalize', 'lock')),
    ADD COLUMN deferrals integer NOT NULL DEFAULT 0 CHECK (deferrals >= 0); -- how often it was put off

ALTER TABLE ledger_postings
    DROP CONSTRAINT ledger_postings_kind_check,
    ADD CONSTRAINT ledger_postings_kind_check
        CHECK (kind IN ('lock', 'top_up', 'release', 'contest', 'close', 'prepay', 'withdraw'));

ALTER TABLE agent_commands
    DROP CONSTRAINT agent_commands_kind_check,
    ADD CONSTRAINT agent_commands_kind_check CHECK (kind IN ('provision', 'deprovision', 'sign_end'));

-- What a side signed of an end, as the close that carries it tells the end. A signature that the contract
-- does not take is refused and never sent again.
CREATE TABLE end_signatures (
    rental_id   uuid NOT NULL REFERENCES rentals,
    side        text NOT NULL CHECK (side IN ('renter', 'provider')),
    stopped_at  timestamptz NOT NULL,
    credit_s    bigint NOT NULL CHECK (credit_s >= 0),
    signature   bytea NOT NULL CHECK (octet_length(signature) BETWEEN 1 AND 4096),
    signed_at   timestamptz NOT NULL,
    refused     boolean NOT NULL DEFAULT false,
    PRIMARY KEY (rental_id, side, stopped_at, credit_s)
);

-- Whose agent signs for whom: the newest word of the chain.
CREATE INDEX chain_events_agents ON chain_events ((body ->> 'account'), block_number, log_index)
    WHERE name = 'agent_set';
