-- Bounds on what a caller can ask of the courier and of the chain, and what the courier needs to share its places.

ALTER TABLE webhooks
    -- whom it calls, without the port: several webhooks may lead to one machine
    ADD COLUMN host text GENERATED ALWAYS AS
        (lower(regexp_replace(substring(url FROM '^[A-Za-z]+://([^/?#]+)'), ':[0-9]*$', ''))) STORED,
    -- it is nobody's any more; what is left of it is cleared away a little at a time
    ADD COLUMN deleted_at timestamptz,
    ADD CHECK (deleted_at IS NULL OR state = 'disabled');
CREATE INDEX webhooks_disabled ON webhooks (id) WHERE state = 'disabled';

-- Somebody asked for it, by a test or a redelivery: of those only a few may wait.
ALTER TABLE deliveries ADD COLUMN asked boolean NOT NULL DEFAULT false;
CREATE INDEX deliveries_asked ON deliveries (webhook_id) WHERE state = 'pending' AND asked;
-- What is being tried now, in all: as many as there are places, however many wait.
CREATE INDEX deliveries_leased ON deliveries (leased_until) WHERE state = 'pending' AND leased_until IS NOT NULL;

CREATE INDEX rental_tokens_by_account ON rental_tokens (account_id);

-- How often the chain was asked about a contract wallet for this nonce.
ALTER TABLE sign_in_nonces ADD COLUMN asked integer NOT NULL DEFAULT 0 CHECK (asked >= 0);
