-- What anybody can do to others' payments and receipts has bounds, and who paid by x402 gets in.

-- Anybody can have the contract say that a call about any rental was skipped. What it says of the rental itself is found
-- without reading those.
CREATE INDEX chain_events_of_rental ON chain_events (escrow_id, block_number, log_index) WHERE name <> 'skipped';

-- From where a price was asked for: an IPv4 address, or the first 48 bits of an IPv6 address. Each has its share.
ALTER TABLE payment_offers
    ADD COLUMN network bytea NOT NULL DEFAULT '\x' CHECK (octet_length(network) <= 6);
CREATE INDEX payment_offers_by_network ON payment_offers (network, expires_at);

-- Who lost an answer repeats the request, and is given another token; those from before stay good.
ALTER TABLE rental_tokens DROP CONSTRAINT rental_tokens_rental_id_key;
CREATE INDEX rental_tokens_by_rental ON rental_tokens (rental_id);

-- A key that was given with one rental opens that rental; it is in nobody's list, and goes when it opens nothing.
ALTER TABLE ssh_keys ADD COLUMN rental_id uuid REFERENCES rentals;
DROP INDEX ssh_keys_once;
CREATE UNIQUE INDEX ssh_keys_once ON ssh_keys (account_id, fingerprint)
    WHERE deleted_at IS NULL AND rental_id IS NULL;
CREATE UNIQUE INDEX ssh_keys_of_rental ON ssh_keys (rental_id, fingerprint) WHERE rental_id IS NOT NULL;
