-- A booking writes less (docs/adr/0018).

-- The answer to a plain booking is made anew of the rental when it is asked for again; NULL says so.
ALTER TABLE idempotency_keys ALTER COLUMN response DROP NOT NULL;

-- What a rental's own transaction writes beside it refers to it without being looked up again for each row, and so does what
-- is copied from the quote. No account and no rental is ever deleted; that was a habit, and is a rule now.
ALTER TABLE rental_events DROP CONSTRAINT rental_events_rental_id_fkey;
ALTER TABLE rental_gpus DROP CONSTRAINT rental_gpus_rental_id_fkey;
ALTER TABLE jobs DROP CONSTRAINT jobs_rental_id_fkey;
ALTER TABLE idempotency_keys DROP CONSTRAINT idempotency_keys_account_id_fkey;
ALTER TABLE rentals DROP CONSTRAINT rentals_escrow_id_fkey;
CREATE TRIGGER rentals_kept BEFORE DELETE ON rentals FOR EACH STATEMENT EXECUTE FUNCTION forbid_change();
CREATE TRIGGER accounts_kept BEFORE DELETE ON accounts FOR EACH STATEMENT EXECUTE FUNCTION forbid_change();

-- As in 0019, with the figures of a deposit; how much of it is spent is told to the renter alone. And looked up step by step: in one
-- statement, planned while the tables were all but empty, it read them whole for every entry, until they were analyzed.
CREATE OR REPLACE FUNCTION note_rental_hooks() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    r record;
    name text;
    said jsonb;
BEGIN
    SELECT * INTO r FROM rentals WHERE id = NEW.rental_id;
    IF NOT FOUND OR NOT (
        EXISTS (SELECT FROM webhooks w WHERE w.account_id IN (r.renter_id, r.provider_id) AND w.state = 'active')
        OR EXISTS (SELECT FROM account_streams s WHERE s.account_id IN (r.renter_id, r.provider_id)))
    THEN RETURN NULL; END IF;
    FOREACH name IN ARRAY rental_hooks(NEW.kind, NEW.detail) LOOP
        said := jsonb_build_object(
            'rental_id', public_id('rnt', r.id), 'machine_id', public_id('mch', r.machine_id),
            'state', r.state, 'end_reason', r.end_reason, 'cause', NEW.detail ->> 'event', 'timeline_id', NEW.id);
        IF name IN ('rental.notice', 'rental.funding_refused', 'rental.lock_too_small', 'rental.alarm',
                    'rental.expiring', 'rental.budget_50', 'rental.budget_80') THEN
            said := said || jsonb_build_object('detail', NEW.detail);
        ELSIF name = 'rental.held' THEN
            said := said || jsonb_build_object('held_until',
                to_char(r.held_until AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'));
        ELSIF name = 'settlement.final' THEN
            -- base units of the token, as everywhere: text, never a number
            said := said || jsonb_build_object(
                'token', (SELECT '0x' || encode(q.token, 'hex') FROM quotes q WHERE q.id = r.quote_id),
                'locked', r.locked::text, 'provider', r.paid_provider::text, 'fee', r.paid_fee::text,
                'refund', r.paid_refund::text, 'seconds_billed', r.billed_s);
        END IF;
        PERFORM hook(r.renter_id, name, NEW.at, said || '{"role": "renter"}');
        IF name NOT IN ('rental.budget_50', 'rental.budget_80', 'rental.budget_100') THEN
            PERFORM hook(r.provider_id, name, NEW.at, said || '{"role": "provider"}');
        END IF;
        IF name = 'rental.funded' THEN
            PERFORM hook(r.provider_id, 'offer.rented', NEW.at, said || jsonb_build_object('role', 'provider',
                'offer_id', (SELECT public_id('ofr', q.offer_id) FROM quotes q WHERE q.id = r.quote_id)));
        END IF;
    END LOOP;
    RETURN NULL;
END $$;
