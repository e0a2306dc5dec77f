-- What changed about listed offers, for the search index that each API process keeps (docs/adr/0012).
--
-- A row says that an offer has to be read again. It names the transaction that wrote it: a reader that remembers the
-- snapshot of its last look asks for what was not visible in that one, and so misses nothing that commits out of order.
-- Rows are kept for a quarter of an hour; who was away for longer reads everything again.
CREATE TABLE listing_changes (
    xid         xid8 NOT NULL DEFAULT pg_current_xact_id(),
    offer_id    uuid NOT NULL,
    at          timestamptz NOT NULL DEFAULT now() -- the server's: only rows' ages are made of it
);
CREATE INDEX listing_changes_by_xid ON listing_changes (xid);

CREATE FUNCTION note_offers() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO listing_changes (offer_id) SELECT id FROM changed;
    RETURN NULL;
END $$;
CREATE TRIGGER offers_noted_new AFTER INSERT ON offers
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION note_offers();
CREATE TRIGGER offers_noted AFTER UPDATE ON offers
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION note_offers();

-- The offers of one machine.
CREATE FUNCTION note_machine() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    changed_row jsonb := CASE TG_OP WHEN 'DELETE' THEN to_jsonb(OLD) ELSE to_jsonb(NEW) END;
    machine uuid := changed_row ->> CASE TG_TABLE_NAME WHEN 'machines' THEN 'id' ELSE 'machine_id' END;
BEGIN
    INSERT INTO listing_changes (offer_id)
    SELECT id FROM offers WHERE machine_id = machine AND state <> 'withdrawn';
    RETURN NULL;
END $$;
-- A heartbeat is no change, unless it ends a silence: from 15 s on, well below what makes a machine offline.
CREATE TRIGGER machines_noted AFTER UPDATE ON machines FOR EACH ROW
    WHEN (OLD.contact_since IS DISTINCT FROM NEW.contact_since
          OR NEW.last_heartbeat_at >= OLD.last_heartbeat_at + interval '15 seconds'
          OR (OLD.region, OLD.cpu_cores, OLD.ram_gb, OLD.cuda_version, OLD.inet_up_mbps, OLD.inet_down_mbps,
              OLD.disk_mb_s, OLD.pcie_mb_s, OLD.ports, OLD.static_ip, OLD.verification, OLD.datacenter, OLD.service)
             IS DISTINCT FROM
             (NEW.region, NEW.cpu_cores, NEW.ram_gb, NEW.cuda_version, NEW.inet_up_mbps, NEW.inet_down_mbps,
              NEW.disk_mb_s, NEW.pcie_mb_s, NEW.ports, NEW.static_ip, NEW.verification, NEW.datacenter, NEW.service))
    EXECUTE FUNCTION note_machine();
CREATE TRIGGER maintenance_windows_noted AFTER INSERT OR UPDATE ON maintenance_windows FOR EACH ROW
    EXECUTE FUNCTION note_machine();
CREATE TRIGGER machine_reliability_noted_new AFTER INSERT ON machine_reliability FOR EACH ROW
    WHEN (NEW.window_days = 30) EXECUTE FUNCTION note_machine();
CREATE TRIGGER machine_reliability_noted_gone AFTER DELETE ON machine_reliability FOR EACH ROW
    WHEN (OLD.window_days = 30) EXECUTE FUNCTION note_machine();
CREATE TRIGGER machine_reliability_noted AFTER UPDATE ON machine_reliability FOR EACH ROW
    WHEN (NEW.window_days = 30
          AND (OLD.score_bps, OLD.ready_p95_ms) IS DISTINCT FROM (NEW.score_bps, NEW.ready_p95_ms))
    EXECUTE FUNCTION note_machine();

-- GPUs that are taken or given back. Only transactions that do that pay for it.
CREATE FUNCTION note_held_gpus() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO listing_changes (offer_id)
    SELECT DISTINCT o.id FROM changed c JOIN gpus g ON g.id = c.gpu_id
    JOIN offers o ON o.machine_id = g.machine_id AND o.state <> 'withdrawn';
    RETURN NULL;
END $$;
CREATE TRIGGER rental_gpus_noted_new AFTER INSERT ON rental_gpus
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION note_held_gpus();
CREATE TRIGGER rental_gpus_noted AFTER UPDATE ON rental_gpus
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION note_held_gpus();

CREATE FUNCTION note_gpus() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO listing_changes (offer_id)
    SELECT DISTINCT o.id FROM changed c
    JOIN offers o ON o.machine_id = c.machine_id AND o.state <> 'withdrawn';
    RETURN NULL;
END $$;
CREATE TRIGGER gpus_noted_new AFTER INSERT ON gpus
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION note_gpus();
CREATE TRIGGER gpus_noted AFTER UPDATE ON gpus
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION note_gpus();

-- What cursors are sealed with: one for all API processes, so that a page of one can be continued by another.
CREATE TABLE cursor_seals (
    one     boolean PRIMARY KEY DEFAULT true CHECK (one),
    secret  bytea NOT NULL CHECK (octet_length(secret) = 32)
);
INSERT INTO cursor_seals (secret)
VALUES (sha256(convert_to(gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8')));
