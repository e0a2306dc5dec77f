-- What an oracle said last, and whether what it says now is doubted: then nothing is quoted in its token.
ALTER TABLE price_feeds
    ADD COLUMN usd_micros bigint CHECK (usd_micros > 0), -- the newest answer that was taken
    ADD COLUMN doubted_at timestamptz; -- since when an answer is not taken because it is another price altogether
UPDATE price_feeds f SET usd_micros = t.usd_micros FROM tokens t WHERE t.address = f.token AND f.round IS NOT NULL;
