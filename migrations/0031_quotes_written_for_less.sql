-- A quote is written for less (docs/adr/0019). What it refers to was looked at a moment before, or is in the statement that
-- writes it, and is never deleted: offers' versions and accounts refuse that already.
-- The one that somebody may read for long comes first, so that nothing is held while it is waited for.
LOCK TABLE offer_versions, tokens, accounts, quotes IN ACCESS EXCLUSIVE MODE;
ALTER TABLE quotes
    DROP CONSTRAINT quotes_account_id_fkey,
    DROP CONSTRAINT quotes_offer_id_offer_version_fkey,
    DROP CONSTRAINT quotes_token_fkey;
CREATE TRIGGER tokens_kept BEFORE DELETE OR TRUNCATE OR UPDATE OF address ON tokens
    FOR EACH STATEMENT EXECUTE FUNCTION forbid_change();
CREATE TRIGGER offer_versions_kept BEFORE TRUNCATE ON offer_versions FOR EACH STATEMENT EXECUTE FUNCTION forbid_change();

-- As in 0019, for all quotes of a statement at once.
DROP TRIGGER quotes_hooked ON quotes;
CREATE OR REPLACE FUNCTION note_quote_hooks() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO quote_expiries (quote_id, expires_at) SELECT q.id, q.expires_at FROM fresh q WHERE is_told(q.account_id);
    RETURN NULL;
END $$;
CREATE TRIGGER quotes_hooked AFTER INSERT ON quotes REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION note_quote_hooks();
