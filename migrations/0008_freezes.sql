-- Money that waits for an answer: while a row is open, no final event of its scope is posted and no call that pays
-- is handed to the lane. Everything else goes on.
CREATE TABLE freezes (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    scope       text NOT NULL CHECK (scope IN ('all', 'token', 'rental')),
    -- the token's address, or the rental's id on the chain; so that locks which are none of ours freeze too
    subject     bytea,
    reason      text NOT NULL CHECK (reason IN ('finality_missing', 'finality_backwards', 'final_block_gone',
                                                'contract_drift', 'ledger_drift', 'rental_drift')),
    detail      text NOT NULL,
    block       bigint NOT NULL CHECK (block >= 0), -- the newest final block at the time
    frozen_at   timestamptz NOT NULL,
    lifted_at   timestamptz,
    lifted_by   text CHECK (length(lifted_by) BETWEEN 1 AND 500), -- who looked, and what was found
    CHECK (CASE scope
               WHEN 'all' THEN subject IS NULL
               WHEN 'token' THEN subject IS NOT NULL AND octet_length(subject) = 20
               ELSE subject IS NOT NULL AND octet_length(subject) = 32
           END),
    CHECK ((lifted_at IS NULL) = (lifted_by IS NULL)),
    CHECK (lifted_at >= frozen_at)
);
-- Found again at every block, it is one freeze.
CREATE UNIQUE INDEX freezes_one_open ON freezes (scope, COALESCE(subject, ''::bytea), reason)
    WHERE lifted_at IS NULL;
