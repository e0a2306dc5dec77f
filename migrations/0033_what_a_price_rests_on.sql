-- A token is quoted at its oracle's price. One that has no oracle is quoted only if its price is a definition, as a dollar's
-- is; until now any price that somebody once wrote down would do.
ALTER TABLE tokens ADD COLUMN fixed boolean NOT NULL DEFAULT false;
UPDATE tokens SET fixed = true WHERE price_source = 'a US dollar by definition';

-- What is promised about outages, as it was when the quote was given; quotes from before have neither.
ALTER TABLE quotes
    ADD COLUMN evidence_s integer,
    ADD COLUMN max_outage_s integer;
CREATE OR REPLACE FUNCTION is_sound(q quotes) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    -- NULL, as in a CHECK, breaks no rule
    RETURN q.duration_s >= 1
        AND q.gpu_count BETWEEN 1 AND 1024 AND q.disk_gb >= 0 AND q.up_gb >= 0 AND q.down_gb >= 0
        AND q.usd_micros_per_hour > 0
        AND q.price_per_hour BETWEEN 1 AND 79228162514264337593543950335
        AND q.deposit BETWEEN 1 AND 79228162514264337593543950335
        AND q.fee_bps BETWEEN 1000 AND 1500
        AND q.holdback_s >= 0 AND q.ready_s > 0 AND q.notice_s >= 0
        AND q.evidence_s > 0 AND q.max_outage_s >= 0
        AND octet_length(q.renter) = 20 AND octet_length(q.provider) = 20 AND q.renter <> q.provider
        AND octet_length(q.order_hash) = 32 AND octet_length(q.escrow_id) = 32
        AND octet_length(q.signer) = 20 AND octet_length(q.signature) = 65
        AND (q.signer IS NULL) = (q.signature IS NULL)
        AND q.usd_micros_per_token > 0
        AND num_nulls(q.usd_micros_per_token, q.priced_by, q.priced_at) IN (0, 3)
        AND q.expires_at > q.created_at AND q.start_by > q.expires_at;
END $$;
