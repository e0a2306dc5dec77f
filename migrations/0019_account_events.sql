-- What happens to an account, for its event stream, and more events for streams and webhooks alike.
--
-- Events are kept only for accounts that have opened a stream in the last week: nobody else pays for them but a look at
-- `account_streams`. A row names the transaction that wrote it; readers take rows in the order of (xid, id), and only
-- those below every transaction that goes on, so that nothing is missed that commits out of order.
CREATE TABLE account_streams (
    account_id  uuid PRIMARY KEY REFERENCES accounts,
    opened_at   timestamptz NOT NULL DEFAULT now() -- the server's: only rows' ages are made of it
);
CREATE TABLE account_events (
    xid         xid8 NOT NULL DEFAULT pg_current_xact_id(),
    id          bigint GENERATED ALWAYS AS IDENTITY,
    account_id  uuid NOT NULL REFERENCES accounts,
    kind        text NOT NULL CHECK (length(kind) BETWEEN 3 AND 64),
    at          timestamptz NOT NULL,
    data        jsonb NOT NULL,
    kept_at     timestamptz NOT NULL DEFAULT now(), -- the server's
    PRIMARY KEY (account_id, xid, id)
);
CREATE INDEX account_events_age ON account_events (kept_at);

-- Quotes of accounts that are to be told when one expires; a row goes with being told.
CREATE TABLE quote_expiries (
    quote_id    uuid PRIMARY KEY REFERENCES quotes,
    expires_at  timestamptz NOT NULL
);
CREATE INDEX quote_expiries_due ON quote_expiries (expires_at);

-- Whether anybody is to be told what happens to an account.
CREATE FUNCTION is_told(account uuid) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT FROM webhooks w WHERE w.account_id = $1 AND w.state = 'active')
        OR EXISTS (SELECT FROM account_streams s WHERE s.account_id = $1)
$$;

-- An event for an account, if one of its webhooks asks for it, and for its stream, if it has one.
CREATE OR REPLACE FUNCTION hook(account uuid, kind text, at timestamptz, data jsonb) RETURNS void LANGUAGE sql AS $$
    INSERT INTO hook_events (account_id, kind, at, data)
    SELECT $1, $2, $3, $4
    WHERE EXISTS (SELECT FROM webhooks w
                  WHERE w.account_id = $1 AND w.state = 'active' AND w.events && ARRAY[$2, '*']);
    WITH told AS (
        INSERT INTO account_events (account_id, kind, at, data)
        SELECT $1, $2, $3, $4
        WHERE EXISTS (SELECT FROM account_streams s WHERE s.account_id = $1)
        RETURNING account_id)
    SELECT pg_notify('weir_accounts', account_id::text) FROM told;
$$;

CREATE FUNCTION public_id(prefix text, id uuid) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT $1 || '_' || replace($2::text, '-', '')
$$;

-- As in 0014, for streams too, and with the offer that is rented once the deposit is final.
CREATE OR REPLACE FUNCTION note_rental_hooks() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    r record;
    name text;
    said jsonb;
BEGIN
    SELECT rentals.*, quotes.token, quotes.offer_id INTO r FROM rentals JOIN quotes ON quotes.id = rentals.quote_id
    WHERE rentals.id = NEW.rental_id
      AND (EXISTS (SELECT FROM webhooks w
                   WHERE w.account_id IN (rentals.renter_id, rentals.provider_id) AND w.state = 'active')
           OR EXISTS (SELECT FROM account_streams s
                      WHERE s.account_id IN (rentals.renter_id, rentals.provider_id)));
    IF NOT FOUND THEN RETURN NULL; END IF;
    FOREACH name IN ARRAY rental_hooks(NEW.kind, NEW.detail) LOOP
        said := jsonb_build_object(
            'rental_id', public_id('rnt', r.id), 'machine_id', public_id('mch', r.machine_id),
            'state', r.state, 'end_reason', r.end_reason, 'cause', NEW.detail ->> 'event', 'timeline_id', NEW.id);
        IF name IN ('rental.notice', 'rental.funding_refused', 'rental.lock_too_small', 'rental.alarm') THEN
            said := said || jsonb_build_object('detail', NEW.detail);
        ELSIF name = 'rental.held' THEN
            said := said || jsonb_build_object('held_until',
                to_char(r.held_until AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'));
        ELSIF name = 'settlement.final' THEN
            -- base units of the token, as everywhere: text, never a number
            said := said || jsonb_build_object('token', '0x' || encode(r.token, 'hex'), 'locked', r.locked::text,
                'provider', r.paid_provider::text, 'fee', r.paid_fee::text, 'refund', r.paid_refund::text,
                'seconds_billed', r.billed_s);
        END IF;
        PERFORM hook(r.renter_id, name, NEW.at, said || '{"role": "renter"}');
        PERFORM hook(r.provider_id, name, NEW.at, said || '{"role": "provider"}');
        IF name = 'rental.funded' THEN
            PERFORM hook(r.provider_id, 'offer.rented', NEW.at,
                said || jsonb_build_object('offer_id', public_id('ofr', r.offer_id), 'role', 'provider'));
        END IF;
    END LOOP;
    RETURN NULL;
END $$;

-- A case about a rental, for both sides.
CREATE FUNCTION dispute_hook(dispute uuid, name text, at timestamptz, more jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    d record;
    said jsonb;
BEGIN
    SELECT c.id, c.rental_id, c.code, c.opened_by, c.state, r.renter_id, r.provider_id INTO d
    FROM disputes c JOIN rentals r ON r.id = c.rental_id
    WHERE c.id = dispute AND (is_told(r.renter_id) OR is_told(r.provider_id));
    IF NOT FOUND THEN RETURN; END IF;
    said := more || jsonb_build_object('dispute_id', public_id('dsp', d.id), 'rental_id', public_id('rnt', d.rental_id),
        'code', d.code, 'opened_by', d.opened_by, 'case_state', d.state);
    PERFORM hook(d.renter_id, name, at, said || '{"role": "renter"}');
    PERFORM hook(d.provider_id, name, at, said || '{"role": "provider"}');
END $$;

CREATE FUNCTION note_dispute_hooks() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM dispute_hook(NEW.id, 'dispute.filed', NEW.created_at, '{}');
    ELSIF NEW.state = 'withdrawn' THEN
        PERFORM dispute_hook(NEW.id, 'dispute.withdrawn', NEW.updated_at, '{}');
    ELSIF NEW.state = 'closed' THEN
        PERFORM dispute_hook(NEW.id, 'dispute.closed', NEW.updated_at, jsonb_build_object('outcome', NEW.outcome));
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER disputes_hooked_new AFTER INSERT ON disputes FOR EACH ROW EXECUTE FUNCTION note_dispute_hooks();
CREATE TRIGGER disputes_hooked AFTER UPDATE ON disputes FOR EACH ROW
    WHEN (OLD.state IS DISTINCT FROM NEW.state) EXECUTE FUNCTION note_dispute_hooks();

CREATE FUNCTION note_evidence_hooks() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM dispute_hook(NEW.dispute_id, 'dispute.evidence', NEW.created_at,
        jsonb_build_object('seq', NEW.seq, 'side', NEW.side, 'sha256', encode(NEW.sha256, 'hex')));
    RETURN NULL;
END $$;
CREATE TRIGGER dispute_evidence_hooked AFTER INSERT ON dispute_evidence
    FOR EACH ROW EXECUTE FUNCTION note_evidence_hooks();

CREATE FUNCTION note_proposal_hooks() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM dispute_hook(NEW.dispute_id, 'dispute.proposed', NEW.created_at,
            jsonb_build_object('seq', NEW.seq, 'side', NEW.side, 'billed_s', NEW.billed_s));
    ELSE
        PERFORM dispute_hook(NEW.dispute_id, 'dispute.accepted',
            now(), -- the row has no time of it
            jsonb_build_object('seq', NEW.seq, 'side', NEW.side, 'billed_s', NEW.billed_s));
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER dispute_proposals_hooked_new AFTER INSERT ON dispute_proposals
    FOR EACH ROW EXECUTE FUNCTION note_proposal_hooks();
CREATE TRIGGER dispute_proposals_hooked AFTER UPDATE OF accepted ON dispute_proposals FOR EACH ROW
    WHEN (OLD.accepted IS NULL AND NEW.accepted IS NOT NULL) EXECUTE FUNCTION note_proposal_hooks();

-- Offers as their owner puts them. One statement may list a hundred thousand: only those of accounts that are told are
-- looked at singly.
CREATE FUNCTION note_new_offer_hooks() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM hook(c.account_id, 'offer.changed', c.updated_at, jsonb_build_object('offer_id', public_id('ofr', c.id),
        'machine_id', public_id('mch', c.machine_id), 'state', c.state, 'version', c.version))
    FROM changed c
    WHERE c.account_id IN (SELECT a.account_id FROM (SELECT DISTINCT account_id FROM changed) a
                           WHERE is_told(a.account_id));
    RETURN NULL;
END $$;
CREATE TRIGGER offers_hooked_new AFTER INSERT ON offers
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION note_new_offer_hooks();

CREATE FUNCTION note_offer_hooks() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM hook(NEW.account_id, 'offer.changed', NEW.updated_at, jsonb_build_object(
        'offer_id', public_id('ofr', NEW.id), 'machine_id', public_id('mch', NEW.machine_id),
        'state', NEW.state, 'version', NEW.version));
    RETURN NULL;
END $$;
CREATE TRIGGER offers_hooked AFTER UPDATE ON offers FOR EACH ROW
    WHEN ((OLD.state, OLD.version) IS DISTINCT FROM (NEW.state, NEW.version)) EXECUTE FUNCTION note_offer_hooks();

-- A withdrawal that is final, for the account whose balance it was.
CREATE FUNCTION note_payout_hooks() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM hook(a.id, 'payout.paid', b.timestamp, jsonb_build_object('token', NEW.body ->> 'token',
        'to', NEW.body ->> 'to', 'amount', NEW.body ->> 'amount', 'tx_hash', '0x' || encode(NEW.tx_hash, 'hex')))
    FROM accounts a, chain_blocks b
    WHERE a.address = decode(substr(NEW.body ->> 'account', 3), 'hex') AND b.hash = NEW.block_hash;
    RETURN NULL;
END $$;
CREATE TRIGGER chain_events_hooked AFTER UPDATE OF applied ON chain_events FOR EACH ROW
    WHEN (NEW.name = 'withdrawn' AND NEW.applied AND NOT OLD.applied) EXECUTE FUNCTION note_payout_hooks();

CREATE FUNCTION note_quote_hooks() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO quote_expiries (quote_id, expires_at) SELECT NEW.id, NEW.expires_at WHERE is_told(NEW.account_id);
    RETURN NULL;
END $$;
CREATE TRIGGER quotes_hooked AFTER INSERT ON quotes FOR EACH ROW EXECUTE FUNCTION note_quote_hooks();
